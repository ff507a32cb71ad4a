"""A team's machine, as deploy/compose.yaml says it."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import program
from small_house import ROOT

SECRETS = ("POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "JUPYTER_TOKEN")
FILE, SETTINGS = ROOT / "deploy/compose.yaml", ROOT / "deploy/.env.example"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|TOKEN|_KEY$")


def compose() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_each_setting_of_the_compose_file_is_in_the_example_with_its_default():
    """Secrets stand empty and uncommented, for a person to fill in; all else is shown."""
    used = {
        name: (how, given)
        for name, how, given in VARIABLE.findall(re.sub(r"(?m)^ *#.*$", "", FILE.read_text()))
    }
    shown = re.findall(r"(?m)^(#?)(\w+)=(.*)$", SETTINGS.read_text())
    assert {name for _, name, _ in shown} == set(used)
    for comment, name, value in shown:
        how, given = used[name]
        assert (how == "?") == (not comment), name
        assert value == (given if how == "-" else ""), name


def test_no_secret_stands_in_the_file_and_each_is_asked_for_by_name():
    secrets = {n: how for n, how, _ in VARIABLE.findall(FILE.read_text()) if SECRET.search(n)}
    assert set(secrets) >= {"POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "JUPYTER_TOKEN"}
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert re.fullmatch(r"\$\{\w+:[-?][^}]*\}", value), name
                assert not value.endswith(":-}") or name == "LOOPBOOK_SERVICE_KEY", name
    assert not re.findall(r"://\w+:(?!\$\{)[^@/]+@", FILE.read_text())


def test_a_compose_that_lacks_a_secret_says_which_and_where_to_set_it(tmp_path):
    """Nothing has started then; with all three the file is whole."""
    program("podman", "podman")
    shutil.copy(FILE, tmp_path)
    command = [sys.executable, "-m", "podman_compose", "--file", tmp_path / FILE.name, "config"]
    for lacking in (*SECRETS, None):
        lines = [f"{name}=of-{name.lower()}\n" for name in SECRETS if name != lacking]
        (tmp_path / ".env").write_text("".join(lines))
        done = subprocess.run(command, capture_output=True, text=True)
        if lacking:
            assert done.returncode
            assert f"{lacking} is missing a value: set it in deploy/.env" in done.stderr
    assert done.returncode == 0, done.stderr
    assert all(f"of-{name.lower()}" in done.stdout for name in SECRETS)


def test_every_port_is_this_machines_own_until_somebody_says_otherwise():
    ports = [p for s in compose()["services"].values() for p in s.get("ports", [])]
    assert len(ports) == 6
    assert all(port.startswith("${LOOPBOOK_ADDRESS:-127.0.0.1}:") for port in ports)


def test_our_containers_have_no_capability_and_share_one_volume():
    """What the loop writes is what the service and the pages tell."""
    services = compose()["services"]
    ours = {n: s for n, s in services.items() if "build" in s}
    assert set(ours) == {"mlflow", "service", "loop", "reports", "lab"}
    for name, service in ours.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        volume = "mlflow" if name == "mlflow" else "var"
        assert service["volumes"] == [f"{volume}:/project/var"], name
    assert services["service"]["read_only"]


# MLflow warns of its own annotations, where it is imported first
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
def test_mlflows_server_hands_out_artifacts_and_tells_no_folder_of_its_own(monkeypatch):
    """In a project's folder its environment names one, which no other machine would see."""
    from mlflow.cli import server

    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "file:///project/var/mlflow/artifacts")
    program_name, name, *words = compose()["services"]["mlflow"]["command"]
    assert (program_name, name) == ("mlflow", "server")
    told = server.make_context(name, words).params
    assert told["default_artifact_root"] == "mlflow-artifacts:/"
    assert told["serve_artifacts"]
    assert told["host"] == "0.0.0.0"
