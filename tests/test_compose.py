"""A team's machine: deploy/compose.yaml, read, and brought up in containers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import polars as pl
import pytest
import yaml
from composed import Team, stand_ins
from conftest import program
from small_house import ROOT, set_knobs

from loopbook.backups import stores
from loopbook.project.template import with_knobs

KEYS = ("python", "-m", "loopbook", "keys", "create")
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


@pytest.mark.medium
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


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_every_store_of_a_team_is_on_its_servers(where):
    """A key that one service makes or revokes is so for all of them."""
    if where == "compose":
        services = compose()["services"]
        named = [services[n]["environment"] for n in ("service", "loop", "reports", "lab")]
    else:
        example = ROOT / "deploy/kubernetes/overlays/team/backends.env.example"
        lines = example.read_text().splitlines()
        named = [dict(line.split("=", 1) for line in lines)]
    for variables in named:
        assert set(stores.VARIABLES.values()) <= set(variables)
        assert not any("sqlite" in value for value in variables.values())


@pytest.mark.medium
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


def penguins(folder: Path) -> Path:
    """This repository as a project of the smallest example, of which images can be made."""
    ignored = shutil.ignore_patterns(".git", ".venv*", "var", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=ignored)
    example = ROOT / "examples/penguins"
    shutil.copy(example / "contract.yaml", folder)
    shutil.copy(example / "data/penguins.csv", folder / "data")
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (example / "env.yaml").read_text())
    (folder / "env.yaml").write_text(knobs)
    set_knobs(folder, bootstrap_resamples="200", monitor_report="false")
    graph = folder / "pipeline.yaml"
    graph.write_text(re.sub(r"names: \[[^]]*\]", "names: [baseline, ridge]", graph.read_text()))
    return folder


@pytest.fixture(scope="module")
def team(containers, tmp_path_factory):
    """All but Grafana, and a champion that was built outside of the containers."""
    folder = penguins(tmp_path_factory.mktemp("team") / "project")
    settings = stand_ins(containers, folder / "servers") | dict.fromkeys(SECRETS, "secret1")
    for target in ("service", "workbench"):
        settings[f"LOOPBOOK_{target.upper()}_IMAGE"] = containers.build(target, folder)
    team = Team(containers, folder, settings)
    try:
        team.up("postgres", "mlflow", "service", "prometheus")
        team.from_outside("build")
        scopes = ("--scope", "admin", "--scope", "predict", "--scope", "feedback")
        team.key = team.said("service", *KEYS, "ana", *scopes).strip()
        address, headers = team.address("service"), {"X-API-Key": team.key}
        with httpx.Client(base_url=address, timeout=30, headers=headers) as team.http:
            ready = lambda: team.http.get("/health/ready").status_code == 200  # noqa: E731
            team.wait_for(ready, "the champion")
            yield team
    finally:
        team.down()


@pytest.mark.slow
def test_a_build_from_outside_is_what_the_service_answers_with(team):
    rows = penguin_rows(team).head(2).drop("species")
    answer = team.http.post("/predict/batch", json={"rows": rows.to_dicts()})
    assert answer.status_code == 200, answer.text
    assert {a["version"] for a in answer.json()["predictions"]} == {"1"}
    assert httpx.post(team.address("service") + "/predict", json={}).status_code == 401
    kept = team.said("service", "python", "-c", "import os; print(os.listdir('/project/var'))")
    assert not [name for name in kept.split("'") if name.endswith(".db")]


@pytest.mark.slow
def test_prometheus_sees_the_service_as_soon_as_the_key_is_there(team):
    """The command of the page, whose output is the file: no line beside the key."""
    up = 'up{job="loopbook"}'
    assert team.wait_for(lambda: team.measured(up), "a scrape") == [0]
    key = team.said("service", *KEYS, "prometheus", "--scope", "metrics")
    (team.file.parent / "secrets/prometheus.key").write_text(key)
    team.wait_for(lambda: team.measured(up) == [1], "the service in Prometheus")
    assert team.measured(panels()["Since the last verdict"]) == []  # there is none yet


@pytest.mark.slow
def test_broken_inputs_go_from_a_caller_through_the_loop_to_an_alert(team):
    """Weights in kilograms: answered and logged, judged by a turn, told by the service."""
    rows = penguin_rows(team).with_columns(pl.col("body_mass_g") / 1000)
    told = team.http.post("/predict/batch", json={"rows": rows.drop("species").to_dicts()}).json()
    named = [answer["prediction_id"] for answer in told["predictions"]]
    truths = [
        {"prediction_id": name, "observed": species}
        for name, species in zip(named, rows["species"], strict=True)
    ]
    assert team.http.post("/feedback", json={"truths": truths}).json()["accepted"] == len(truths)
    team.up("loop")
    alert = 'ALERTS{alertname="VerdictInvestigate", alertstate="firing"}'
    team.wait_for(lambda: team.measured(alert), "the alert")
    outcome = 'loopbook_loop_outcome{outcome="investigate"}'  # told when the turn has ended
    team.wait_for(lambda: team.measured(outcome) == [1], "the end of the turn")
    assert "WARNING" not in team.logs("loop")
    shown = {title: team.measured(query) for title, query in panels().items()}
    assert shown["Verdict"] == [1]
    assert shown["Since the last verdict"][0] < 3600


@pytest.mark.slow
def test_a_promotion_is_followed_and_a_rollback_takes_it_back(team):
    """Each in the running service; the second version has the files of the first."""
    from mlflow import MlflowClient

    registry = MlflowClient(team.address("mlflow"))
    first = registry.get_model_version("penguins", "1")
    model = first.source.removeprefix("models:/")
    registry.create_model_version(
        "penguins", first.source, first.run_id, tags=first.tags, model_id=model
    )
    team.from_outside("promote", "2", "--reason", "a test")
    serving = lambda: team.http.get("/metadata").json()["version"]  # noqa: E731
    team.wait_for(lambda: serving() == "2", "the second version")
    assert team.http.post("/admin/rollback", json={"reason": "a test"}).status_code == 200
    assert serving() == "1"


@pytest.mark.slow
def test_the_pages_and_jupyterlab_answer_and_lab_wants_its_token(team):
    team.up("reports", "lab")
    pages, lab = team.address("reports"), team.address("lab") + "/api/contents"
    team.wait_for(lambda: team.status(pages) == 200, "the pages")
    team.wait_for(lambda: team.status(lab, Authorization="token secret1") == 200, "JupyterLab")
    assert team.status(lab) == 403


def panels() -> dict[str, str]:
    """The query of each panel of Grafana's dashboard."""
    told = json.loads((FILE.parent / "grafana/dashboards/loopbook.json").read_text())
    return {panel["title"]: panel["targets"][0]["expr"] for panel in told["panels"]}


def penguin_rows(team: Team) -> pl.DataFrame:
    """The rows of the table that have every value."""
    path = team.file.parents[1] / "data/penguins.csv"
    return pl.read_csv(path, null_values="NA").drop_nulls().gather_every(4)
