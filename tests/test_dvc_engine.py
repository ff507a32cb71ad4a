"""The graph under DVC: the same models, decisions and reruns as under `loopbook build`."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from made_once import copied, made_once
from small_house import ROOT, environment, set_knobs

from loopbook.pipeline import graph, task_inputs, tasks
from loopbook.project.paths import Project
from loopbook.project.template import with_knobs

pytestmark = pytest.mark.slow

COPIED = ("notebooks", "src", "pipeline.yaml", "requirements.lock", "candidates.py")
TASKS = [
    *("ingest", "validate", "build_features", "split"),
    *("train-baseline", "train-ridge", "evaluate", "promote"),
]


def make_project(folder: Path) -> Path:
    """The smallest example, with two candidates and the library in it."""
    folder.mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "examples/penguins", folder, dirs_exist_ok=True)
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (folder / "env.yaml").read_text())
    (folder / "env.yaml").write_text(knobs)
    set_knobs(folder, bootstrap_resamples="300")
    _replace(folder / "pipeline.yaml", r"names: \[[^]]*\]", "names: [baseline, ridge]")
    return folder


def _replace(path: Path, pattern: str, text: str) -> None:
    after, places = re.subn(pattern, text, path.read_text(), count=1)
    assert places == 1, (path, pattern)
    path.write_text(after)


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A command of the environment, typed in a project, where Ploomber is not to be had by DVC."""
    variables = environment(folder) | {"PYTHONPATH": str(folder / "src")}
    if words[0] == "dvc" or words[:2] == ("loopbook", "export"):
        blocked = folder / "blocked" / "ploomber"
        blocked.mkdir(parents=True, exist_ok=True)
        (blocked / "__init__.py").write_text("raise ModuleNotFoundError('ploomber')")
        variables["PYTHONPATH"] += f"{os.pathsep}{blocked.parent}"
    here = Path(sys.executable).parent
    variables["PATH"] = f"{here}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        [here / words[0], *words[1:]], cwd=folder, env=variables, text=True, capture_output=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


def by_dvc(folder: Path) -> None:
    make_project(folder)
    typed(folder, "dvc", "init", "--no-scm", "--quiet")
    typed(folder, "loopbook", "export", "dvc")
    typed(folder, "dvc", "repro")


@pytest.fixture(scope="module")
def under_ploomber(tmp_path_factory) -> Path:
    """The project as `loopbook build` leaves it."""
    make = lambda folder: typed(make_project(folder), "loopbook", "build")  # noqa: E731
    return made_once(tmp_path_factory, "penguins under ploomber", make)


@pytest.fixture(scope="module")
def under_dvc(tmp_path_factory) -> Path:
    """The project as `dvc repro` leaves it, in whose processes Ploomber cannot be imported."""
    if find_spec("dvc") is None:
        pytest.skip("dvc is not here; make dvc")
    return made_once(tmp_path_factory, "penguins under dvc", by_dvc)


@contextmanager
def _as_typed_in(folder: Path) -> Iterator[Project]:
    """With the environment of somebody who stands in a project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOOPBOOK_PROJECT", raising=False)
        for name, value in Project(folder).environment().items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield Project(folder)


def ploomber_would_run(folder: Path) -> set[str]:
    with _as_typed_in(folder) as project, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ploomber's, that a product is gone whose stamp is there
        return set(graph.stale_tasks(project))


def dvc_would_run(folder: Path) -> set[str]:
    """The stages that have changed and all that come after them, once their inputs are written."""
    from dvc.repo import Repo

    with _as_typed_in(folder) as project:
        task_inputs.write(project, project.var / "plan")
        with closing(Repo(str(folder))) as repository:
            changed = set(repository.status()) - {"plan"}
        for task in tasks.resolve(project, only=""):
            if task.needs.keys() & changed:
                changed.add(task.name)
    return changed


def _cell(kind: str, notebook: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "notebooks" / notebook
        content = json.loads(path.read_text())
        cell = [c for c in content["cells"] if c["cell_type"] == kind][-1]
        cell["source"] = [*cell["source"], "\n# a word more"]
        path.write_text(json.dumps(content))

    return edit


def _text(file: str, pattern: str, text: str) -> Callable[[Path], None]:
    return lambda folder: _replace(folder / file, pattern, text)


def _more(file: str, text: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / file
        path.write_text(path.read_text() + text)

    return edit


def _delete(folder: Path) -> None:
    (folder / "var/build/features.parquet").unlink()


FROM_SPLIT = set(TASKS[3:])
# each edit with the tasks that have to run again, where the test knows them
EDITS: dict[str, tuple[Callable[[Path], None], set[str] | None]] = {
    "nothing": (lambda folder: None, set()),
    "a file touched": (lambda folder: (folder / "contract.yaml").touch(), set()),
    "a cell": (_cell("code", "04_split.ipynb"), FROM_SPLIT),
    "prose": (_cell("markdown", "06_evaluate.ipynb"), set()),
    "a knob of one task": (_text("env.yaml", "gate_latency_ms: 10", "gate_latency_ms: 11"), {"promote"}),
    "a knob of no task": (_text("env.yaml", "serve_batch_rows: 1000", "serve_batch_rows: 999"), set()),
    "a module": (_more("src/loopbook/data/splits.py", "\nSPARE = 1\n"), None),
    "a comment in a module": (_more("src/loopbook/data/splits.py", "\n# a word more\n"), set()),
    "the contract": (_text("contract.yaml", "meaning: ", "meaning: In short, "), None),
    "a row of the table": (_more("data/penguins.csv", "Gentoo,Biscoe,49.9,16.1,213,5400,male,2009\n"), set(TASKS)),
    "the lock": (_more("requirements.lock", "\n# another\n"), set(TASKS)),
    "a product deleted": (_delete, {"build_features", *FROM_SPLIT}),
}  # fmt: skip


@contextmanager
def _edited(folder: Path, edit: Callable[[Path], None]) -> Iterator[None]:
    """With an edit in a project, which is as it was afterwards."""
    kept = folder.with_name(f"{folder.name} before an edit")
    products = ("var/build/features.parquet", "var/build/split.json")
    names = [*COPIED, "env.yaml", "contract.yaml", "data", *products]
    for name in names:
        copy = shutil.copytree if (folder / name).is_dir() else shutil.copy2
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        copy(folder / name, kept / name)
    try:
        edit(folder)
        yield
    finally:
        for name in names:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            shutil.move(kept / name, folder / name)
        shutil.rmtree(kept)


@pytest.fixture(scope="module")
def both(under_ploomber, under_dvc, tmp_path_factory) -> tuple[Path, Path]:
    """Copies of both projects, to edit; DVC's products keep their times, which its status reads."""
    folder = tmp_path_factory.mktemp("both")
    return copied(under_ploomber, folder / "ploomber"), copied(under_dvc, folder / "dvc")


def test_dvc_trains_the_same_models_byte_for_byte_and_decides_the_same(under_ploomber, under_dvc):
    builds = [folder / "var/build" for folder in (under_ploomber, under_dvc)]
    ours, theirs = ({m.name: m.read_bytes() for m in b.glob("train/*.onnx")} for b in builds)
    assert len(ours) == 2
    assert ours == theirs
    decisions = [json.loads((build / "decision.json").read_text()) for build in builds]
    for key in ("promoted", "sentence", "errors", "rows", "snapshot_sha256"):
        assert decisions[0][key] == decisions[1][key]
    assert decisions[0]["promoted"]


@pytest.mark.parametrize("name", EDITS)
def test_after_an_edit_dvc_runs_what_a_build_would_run(name, both):
    edit, expected = EDITS[name]
    would = []
    for folder, asked in zip(both, (ploomber_would_run, dvc_would_run), strict=True):
        with _edited(folder, edit):
            would.append(asked(folder))
    assert would[0] == would[1]
    assert expected in (None, would[1])
    assert would[1] or expected == set()


def test_dvc_also_sees_a_product_that_somebody_changed(both):
    with _edited(both[1], _more("var/build/split.json", " ")):
        assert dvc_would_run(both[1]) == FROM_SPLIT


def test_a_registry_that_lost_the_version_makes_both_train_again(both):
    for folder, asked in zip(both, (ploomber_would_run, dvc_would_run), strict=True):
        shutil.move(folder / "var/mlflow", folder / "var/away")
        assert asked(folder) == set(TASKS[4:])


def test_after_an_edit_both_run_the_one_task_and_decide_the_same(
    under_ploomber, under_dvc, tmp_path
):
    """A stricter gate: what is judged is the same, the decision is made anew."""
    decisions = []
    for source, words in ((under_ploomber, ("loopbook", "build")), (under_dvc, ("dvc", "repro"))):
        folder = copied(source, tmp_path / words[0])
        set_knobs(folder, gate_latency_ms="9")
        done = typed(folder, *words)
        told = done.stdout + done.stderr  # progress is on stderr
        assert re.findall(r"^ +1/1 (\S+) +done", told, re.MULTILINE) == ["promote"]
        decisions.append(json.loads((folder / "var/build/decision.json").read_text()))
    for key in ("promoted", "sentence", "errors", "rows"):
        assert decisions[0][key] == decisions[1][key]
