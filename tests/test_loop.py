"""The loop, turn by turn, on a project whose first version is out of date: through a real gate."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from served import answer, sales
from small_house import Running, environment, give, loopbook, make_project

from loopbook import champions, loop, loop_records, project, tracking
from loopbook.errors import LoopError

pytestmark = pytest.mark.slow
NOW = datetime(2015, 4, 6, tzinfo=UTC)
AS_OF = ["--as-of", "2015-04-06"]
ONCE = ["loop", "--once", "--set", "loop_confirm_s=20"]


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A champion that predicts too little: what was sold for is told 30 % higher."""
    folder = make_project(tmp_path / "a house", serve_watch_s="0.3", bootstrap_resamples="200")
    graph = folder / "pipeline.yaml"
    names = "names: [baseline, hist_gradient_boosting]"
    graph.write_text(re.sub(r"names: \[[^]]*\]", names, graph.read_text()))
    give(folder, 1, tracking.CHAMPION, "ridge")
    monkeypatch.chdir(folder)
    for name, value in project.Project(folder).environment().items():
        monkeypatch.setenv(name, value)
    answer(sales(NOW - timedelta(days=28), NOW), truth=lambda observed: observed * 1.3, keyed=True)
    return project.Project(folder)


def turns(house) -> list[dict]:
    return loop_records.listed(house)


def champion(house) -> str:
    return tracking.holder(tracking.connect(house), "house-prices", tracking.CHAMPION).number


def kill_at(house, is_there) -> None:
    """Begin a turn, and kill it and its kernels when something is there."""
    words = [sys.executable, "-c", "from loopbook.cli import main; main()", *ONCE, *AS_OF]
    running = subprocess.Popen(
        words,
        cwd=house.root,
        env=environment(house.root),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not is_there():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(30)


def is_at(house, stage: str) -> bool:
    return (loop_records.open_turn(house) or {}).get("stage") == stage


def test_a_killed_turn_is_gone_on_with_and_ends_with_one_champion_that_really_answers(house):
    kill_at(house, partial(is_at, house, "monitor"))
    kill_at(house, partial(is_at, house, "build"))
    kill_at(house, (house.var / "build" / "evidence.json").exists)
    assert champion(house) == "1"
    assert "go on with it" in loopbook(house.root, "status").stdout
    before = (house.var / "build" / "ingest.ipynb").stat().st_mtime_ns
    with Running(house.root) as service:
        address = f"loop_service={service.address}"
        done = loopbook(house.root, *ONCE, *AS_OF, "--set", address)
        assert done.returncode == 10, done.stdout + done.stderr
        assert service.http.get("/metadata").json()["version"] == "2"
        assert service.http.get("/metadata").json()["predecessor_version"] == "1"
        sold = {"size": 1800, "rooms": 3, "neighbourhood": "98115"}
        assert service.http.post("/predict", json=sold).json()["version"] == "2"
        key = loopbook(house.root, "keys", "create", "ana", "--scope", "admin").stdout.split()[0]
        ask = {"url": "/admin/retrain", "headers": {"X-API-Key": key}}
        assert service.http.post(**ask, json={}).status_code == 422
        assert service.http.post("/admin/retrain", json={"reason": "x"}).status_code == 401
        assert service.http.post(**ask, json={"reason": "a new source"}).status_code == 202
        assert loop_records.asked(house)["reason"] == "a new source"
        assert "a new source" in loopbook(house.root, "status").stdout
        loop_records.forget_asked(house)
        (told,) = turns(house)
        assert told["confirmed"].startswith("the service answers with v2")
    assert (house.var / "build" / "ingest.ipynb").stat().st_mtime_ns == before
    assert told["resumed"] == 3
    assert told["outcome"] == "promoted"
    assert told["numbers"]["labels"] > 200
    ledger = champions.reigns(tracking.connect(house), "house-prices")
    assert [(r.version, r.kind) for r in ledger][-1] == ("2", "gate")
    assert len(ledger) == 2
    client = tracking.connect(house)
    assert len(tracking.versions(client, "house-prices")) == 2
    run = client.get_run(turns(house)[0]["mlflow_run_id"])
    assert run.data.tags["outcome"] == "promoted"
    again = loopbook(house.root, *ONCE, "--as-of", "2015-04-07")
    assert again.returncode == 0, again.stdout + again.stderr
    listed = loopbook(house.root, "history").stdout
    assert "promoted" in listed
    assert "nothing" in listed


def test_two_loops_a_clock_set_back_and_a_registry_that_is_away_change_nothing(house, monkeypatch):
    loop_records.keep(
        house, {"turn": 1, "as_of": NOW.isoformat(), "outcome": "nothing", "reason": ""}
    )
    with pytest.raises(LoopError, match="Nothing was changed"):
        loop.turn(house, as_of=NOW - timedelta(hours=1))
    assert loop_records.open_turn(house) is None
    away = loopbook(house.root, *ONCE, *AS_OF, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert away.returncode == 1
    assert turns(house)[-1]["outcome"] == "error"
    with loop.pipeline.only_run(house, "loop"):
        second = loopbook(house.root, *ONCE, *AS_OF)
    assert second.returncode == 1
    assert "another loop runs" in second.stderr
    assert champion(house) == "1"


def test_a_build_that_fails_leaves_all_as_it_was_and_is_not_tried_again_at_once(house):
    train = house.root / "notebooks" / "05_train.ipynb"
    whole = train.read_text()
    broken = json.loads(whole)
    broken["cells"][2]["source"] += ["\nraise RuntimeError('the lights went out')"]
    log = (house.var / "predictions.db").stat().st_size
    train.write_text(json.dumps(broken))
    failed = loopbook(house.root, *ONCE, *AS_OF)
    assert failed.returncode == 1
    assert "the lights went out" in failed.stdout
    assert champion(house) == "1"
    assert (house.var / "predictions.db").stat().st_size == log
    train.write_text(whole)
    soon = loopbook(house.root, *ONCE, "--as-of", "2015-04-06T00:30:00Z")
    assert soon.returncode == 0
    assert "the last 1 retrainings failed" in soon.stdout
    later = loopbook(house.root, *ONCE, "--as-of", "2015-04-06T01:30:00Z")
    assert later.returncode == 10, later.stdout + later.stderr
    assert "no service is reached" in later.stdout
