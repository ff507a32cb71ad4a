"""A team's machine: deploy/compose.yaml, read, and brought up in containers."""

import re
import subprocess
import sys
from pathlib import Path

import yaml
from small_house import ROOT

FILE, SETTINGS = ROOT / "deploy/compose.yaml", ROOT / "deploy/.env.example"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|TOKEN|_KEY$")


def compose() -> dict:
    return yaml.safe_load(FILE.read_text())


def composed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """What podman-compose says to a copy of the file."""
    command = [sys.executable, "-m", "podman_compose", "--podman-path", "true", *words]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True)


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
