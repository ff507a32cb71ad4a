"""Weights & Biases: told of each run by one setting, and of none without it."""

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from small_house import environment, give, make_project

from loopbook.project.addresses import sqlite_address
from loopbook.project.errors import RegistryError
from loopbook.project.paths import Project
from loopbook.registry import reader
from loopbook.registry import weights_and_biases as mirror


@pytest.fixture(autouse=True)
def nobody_set_it(monkeypatch, tmp_path):
    for name in (mirror.SETTING, "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def refusal(mode: str, monkeypatch) -> str:
    monkeypatch.setenv(mirror.SETTING, mode)
    with pytest.raises(RegistryError) as refused:
        mirror.refuse_unusable()
    return str(refused.value)


@pytest.mark.parametrize("mode", ["", "off", "OFF"])
def test_without_the_setting_nothing_is_imported_or_written(mode, monkeypatch, tmp_path):
    monkeypatch.setenv(mirror.SETTING, mode)
    monkeypatch.setitem(sys.modules, "wandb", None)
    mirror.refuse_unusable()
    mirror.tell(Project(tmp_path), None, "1", {})
    assert not list(tmp_path.iterdir())


def test_a_setting_by_which_nobody_could_be_told_is_refused_with_what_to_do(monkeypatch):
    assert "is no mode, so nothing was run. Expected offline, online" in refusal("on", monkeypatch)
    monkeypatch.setattr(mirror, "find_spec", lambda name: None)
    assert "pip install 'loopbook[wandb]'" in refusal("offline", monkeypatch)
    monkeypatch.setattr(mirror, "find_spec", lambda name: True)
    assert "there is no key for https://api.wandb.ai" in refusal("online", monkeypatch)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    mirror.refuse_unusable()


@pytest.mark.slow
def test_a_build_is_refused_before_anything_trains(tmp_path):
    house = make_project(tmp_path / "house")
    words = [sys.executable, "-m", "loopbook", "build"]
    told = environment(house, LOOPBOOK_WANDB="everywhere")
    done = subprocess.run(words, cwd=house, env=told, text=True, capture_output=True)
    assert done.returncode == 1
    assert "LOOPBOOK_WANDB=everywhere: is no mode" in done.stderr
    assert not (house / "var/build/train").exists()


def test_a_run_that_cannot_be_told_is_a_warning_and_stops_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv(mirror.SETTING, "offline")
    monkeypatch.setitem(sys.modules, "wandb", None)
    some = SimpleNamespace(name="ridge")
    with pytest.warns(UserWarning, match="was not told of ridge .* MLflow has the run 7"):
        mirror.tell(Project(tmp_path), some, "7", {})


@pytest.fixture
def installed():
    if find_spec("wandb") is None:
        pytest.skip("Weights & Biases is not here; type: make wandb")


TELL = """
from types import SimpleNamespace

from matplotlib.figure import Figure

from loopbook.project.paths import current
from loopbook.registry import weights_and_biases

figure = Figure()
figure.add_subplot().plot([1, 2])
run = SimpleNamespace(
    name="ridge", card={"contract": {"name": "rents"}}, params={"alpha": 0.625},
    metrics={"validation_loss": 0.125}, figures={"errors": figure},
)
weights_and_biases.tell(current(), run, "run7", {"git_commit": "abc123"})
"""


@pytest.mark.slow
def test_offline_a_run_is_written_for_a_later_sync_and_nothing_at_home(tmp_path, installed):
    """Its file holds text as it is: name, project, parameters, tags, metrics; the figure beside it."""
    folder = tmp_path / "rents"
    folder.mkdir()
    for name in ("contract.yaml", "pipeline.yaml"):
        (folder / name).touch()
    home = tmp_path / "home"
    home.mkdir()
    outside = environment(folder, LOOPBOOK_WANDB="offline", HOME=str(home))
    words = [sys.executable, "-W", "error::UserWarning", "-c", TELL]
    done = subprocess.run(words, cwd=folder, env=outside, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (file,) = folder.glob("var/wandb/wandb/offline-run-*/run-run7.wandb")
    content = file.read_bytes()
    for text in (b"ridge", b"rents", b"0.625", b"abc123", b"validation_loss", b"0.125"):
        assert text in content, text
    assert list(file.parent.glob("files/media/images/errors_*.png"))
    assert not list(home.rglob("*wandb*"))


@pytest.mark.slow
def test_a_candidates_run_has_the_id_that_it_has_in_mlflow(tmp_path, installed):
    house = make_project(tmp_path / "house")
    give(house, 1, "champion", "ridge", LOOPBOOK_WANDB="offline", HOME=str(tmp_path))
    (file,) = house.glob("var/wandb/wandb/offline-run-*/run-*.wandb")
    held = reader.connect(sqlite_address(house / "var/mlflow/mlflow.db"))
    version = held.held("house-prices", "champion")
    assert file.name == f"run-{version.run_id}.wandb"
