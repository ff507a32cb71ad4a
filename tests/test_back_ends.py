"""A team's back ends: the same verdicts and answers as on the embedded defaults, for all at once."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import new_database, new_prefix, wait_for
from made_once import copied
from out_of_date import AS_OF, ONCE, begin, heal, inside, prepare, wait_while
from small_house import FULL, ROOT, Running, environment, give, loopbook, make_project, set_knobs

from loopbook.data import prediction_log
from loopbook.loop import alone
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopError, PredictionLogError
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.serving import api_keys

MATERIALIZE = ("features", "materialize", "--as-of", "2015-03-01")


def variables(server: str, redis: str, artifacts: Path) -> dict[str, str]:
    """Every store of a project in new places of two servers, the features in Redis."""
    tracking, database = new_database(server), new_database(server)
    return {
        "MLFLOW_TRACKING_URI": tracking.replace("postgresql://", "postgresql+psycopg://"),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts.as_uri(),
        "LOOPBOOK_PREDICTION_LOG": database,
        "LOOPBOOK_KEY_STORE": database,
        "LOOPBOOK_FEATURE_STORE": new_prefix(redis),
    }


@contextmanager
def standing_in(folder: Path, named: dict[str, str]) -> Iterator[Project]:
    with inside(folder) as project, pytest.MonkeyPatch.context() as patch:
        for name, value in named.items():
            patch.setenv(name, value)
        yield project


@pytest.fixture(scope="module")
def team(postgresql_server, redis_server, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A project on servers, with a champion that is out of date and the answers that show it."""
    place = tmp_path_factory.mktemp("team")
    named = variables(postgresql_server, redis_server, place / "artifacts")
    folder = make_project(place / "house")
    give(folder, 1, "champion", "ridge", **named)
    done = loopbook(folder, *MATERIALIZE, **named)
    assert done.returncode == 0, done.stderr
    return prepare(folder, named), named


def said(record: dict) -> dict:
    """What a turn found and decided, without its clocks."""
    kept = ("verdict", "verdict_reasons", "numbers", "outcome", "champion", "attempt", "measure")
    return {name: record.get(name) for name in kept}


@pytest.mark.slow
def test_a_turn_finds_and_promotes_the_same_on_servers_as_below_var_and_one_loop_wins(
    team, line, tmp_path
):
    """Real requests of four weeks, monitored, retrained and gated; a second loop is told."""
    folder, named = team
    other = tmp_path / "another machine"
    shutil.copytree(folder, other, symlinks=True)
    running = begin(Project(folder), "--set", "loop_confirm_s=1", **named)
    database = named["LOOPBOOK_PREDICTION_LOG"]
    with psycopg.connect(database, autocommit=True) as asked:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        wait_while(running, lambda: asked.execute(held).fetchone()[0] == 1)
        second = loopbook(other, *ONCE, *AS_OF, **named)
    assert second.returncode == 1
    assert "another loop takes a turn of 'house-prices' just now" in second.stderr
    out, err = running.communicate(timeout=600)
    assert running.returncode == 10, out + err
    embedded = copied(line, tmp_path / "embedded")
    assert loopbook(embedded, *MATERIALIZE).returncode == 0
    heal(Project(prepare(embedded)), "--set", "loop_confirm_s=1")
    (there,), (here,) = (turn_records.listed(Project(one)) for one in (folder, embedded))
    assert said(there) == said(here)
    gates = [
        json.loads((one / "var/build/decision.json").read_text()) for one in (folder, embedded)
    ]
    assert gates[0]["promoted"] == gates[1]["promoted"]


@pytest.mark.slow
def test_two_services_share_keys_answers_and_ground_truth(team, tmp_path):
    folder, named = team
    other = tmp_path / "another machine"
    shutil.copytree(folder, other, symlinks=True)
    with standing_in(folder, named) as project:
        secret, key = api_keys.connect(project).create("a team", frozenset({"predict", "feedback"}))
    words = ("--require-keys",)
    with Running(folder, *words, **named) as one, Running(other, *words, **named) as two:
        for service in (one, two):
            service.http.headers["X-API-Key"] = secret
            wait_until_ready(service)
        first, second = (s.http.get("/predict", params=FULL).json() for s in (one, two))
        assert first["predicted_price"] == second["predicted_price"]
        assert first["prediction_id"] != second["prediction_id"]
        told = {"prediction_id": first["prediction_id"], "observed": 500_000}
        answered = two.http.post("/feedback", json=told)
        assert answered.json()["accepted"] == 1, answered.text
        with standing_in(folder, named) as project:
            api_keys.connect(project).revoke(key.id)
        wait_for(lambda: two.http.get("/predict", params=FULL).status_code == 401, "the revocation")


def wait_until_ready(service: Running) -> None:
    wait_for(lambda: service.http.get("/health/ready").status_code == 200, "the service")


def replayed(folder: Path, *words: str, **named: str) -> tuple[dict, list[str]]:
    """A short replay's record, and the lines of its table."""
    short = ("--step", "month", "--until", "2014-11-01", "--candidates", "baseline,ridge")
    done = loopbook(folder, "replay", *short, *words, **named)
    assert done.returncode == 0, done.stdout + done.stderr
    name = "year-month-servers" if words else "year-month"
    record = json.loads((folder / "var/replay" / name / "result.json").read_text())
    lines = [line for line in done.stdout.splitlines() if not line.startswith("record")]
    return record, lines


def assert_close(one: dict, other: dict) -> None:
    """The same values, and floats but for their last bits.

    Ends of intervals are left out: a bootstrap draws rows by their place in the
    log, and requests go four at a time.
    """
    floats = [name for name, value in other.items() if isinstance(value, float)]
    exact = other.keys() - floats
    assert {name: one[name] for name in exact} == {name: other[name] for name in exact}
    for name in floats:
        if not name.endswith(("_low", "_high")):
            assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-7), name


@pytest.mark.slow
@pytest.mark.nightly
def test_a_replay_on_servers_ends_with_the_table_of_one_below_var(
    postgresql_server, redis_server, tmp_path
):
    """Five policies over a month with a turn and a build each; the team's own databases stay as they were.

    A service answers the requests of a moment together, so that the last bits of an
    answer depend on its company, in each replay anew.
    """
    folder = make_project(tmp_path / "house", bootstrap_resamples="200", monitor_report="false")
    named = variables(postgresql_server, redis_server, tmp_path / "artifacts")
    there, table_there = replayed(folder, "--servers", **named)
    assert there["servers"] == ["features", "keys", "log", "registry"]
    assert not list((folder / "var/replay").glob("year-*/*/var/**/*.db"))
    here, table_here = replayed(folder)
    assert len({row["policy"] for row in here["months"]}) == 5
    assert there["requests"] == here["requests"] > 5_000
    assert there["failed"] == here["failed"] == 0
    assert table_there == table_here
    for part in ("retrains", "schedules"):
        assert there[part] == here[part], part
    for one, other in zip(there["months"], here["months"], strict=True):
        assert_close(one, other)
    for one, other in zip(map(said, there["turns"]), map(said, here["turns"]), strict=True):
        assert_close(one.pop("numbers"), other.pop("numbers"))
        assert one == other
    with psycopg.connect(named["LOOPBOOK_PREDICTION_LOG"]) as own:
        asked = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert own.execute(asked).fetchone() == (0,)


WRONG = {
    "LOOPBOOK_PREDICTION_LOG": "postgresql://nobody@127.0.0.1:9/none",
    "LOOPBOOK_FEATURE_STORE": "redis://127.0.0.1:9/0",
    "MLFLOW_TRACKING_URI": "postgresql+psycopg://nobody@127.0.0.1:9/none",
}


@pytest.mark.slow
@pytest.mark.parametrize("variable", WRONG)
def test_a_store_that_is_away_is_told_before_anything_runs(variable, line, tmp_path):
    folder = set_knobs(copied(line, tmp_path / "house"), bootstrap_resamples="200")
    done = loopbook(folder, "build", **{variable: WRONG[variable]})
    assert done.returncode == 1
    assert variable in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "var").glob("build/**/*.ipynb"))


BEGIN = """
import sys
from loopbook.registry import tracking
print("ready", flush=True)
sys.stdin.readline()
tracking.connect_to(sys.argv[1]).search_experiments()
"""


@pytest.mark.medium
def test_an_empty_tracking_database_is_made_once_by_all_who_begin_with_it(postgresql, tmp_path):
    """A first build trains its candidates side by side."""
    address = postgresql.replace("postgresql://", "postgresql+psycopg://")
    command = [sys.executable, "-c", BEGIN, address]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    begun = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(ROOT), text=True, **pipes)
        for _ in range(4)
    ]
    for one in begun:
        assert one.stdout.readline() == "ready\n"
    for one in begun:
        one.stdin.write("\n")
        one.stdin.flush()
    ends = [(one.communicate(timeout=300)[1], one.returncode) for one in begun]
    assert [code for _, code in ends] == [0] * 4, ends


@pytest.mark.medium
def test_a_turn_is_taken_by_one_connection_to_the_log_at_a_time(postgresql, monkeypatch):
    monkeypatch.setenv("LOOPBOOK_PREDICTION_LOG", postgresql)
    contract = read_contract(ROOT / "contract.yaml")
    told = "another loop takes a turn of 'house-prices'"
    with alone.only_turn(contract), pytest.raises(LoopError, match=told):
        alone.only_turn(contract).__enter__()
    with alone.only_turn(contract):
        pass


@pytest.mark.medium
def test_keys_in_postgresql_are_the_keys_of_every_service(postgresql, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOPBOOK_KEY_STORE", postgresql)
    secret, key = api_keys.connect(Project(tmp_path / "one")).create("x", frozenset({"predict"}))
    other = api_keys.connect(Project(tmp_path / "two"))
    assert other.scopes(secret) == (key.id, frozenset({"predict"}))
    other.revoke(key.id)
    assert api_keys.connect(Project(tmp_path / "one")).scopes(secret) is None
    assert not (tmp_path / "one").exists()


@pytest.mark.medium
def test_a_log_in_mlflows_database_is_refused_with_what_to_make(postgresql, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOPBOOK_PREDICTION_LOG", postgresql)
    with psycopg.connect(postgresql, autocommit=True) as server:
        server.execute("CREATE TABLE inputs (input_uuid TEXT, destination_id TEXT)")
    with pytest.raises(PredictionLogError, match=r"is MLflow's database.*CREATE DATABASE loopbook"):
        prediction_log.connect(Project(tmp_path), read_contract(ROOT / "contract.yaml"))
