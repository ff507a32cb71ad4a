"""The loop, turn by turn, on a project whose first version is out of date: through a real gate."""

import json
from datetime import timedelta

import pytest
from out_of_date import AS_OF, NOW, ONCE, all_is_right, logged
from small_house import Running, loopbook

from loopbook.loop import turn as loops
from loopbook.project.errors import LoopError
from loopbook.records import turns as turn_records
from loopbook.registry import tracking

pytestmark = pytest.mark.slow


def test_a_killed_turn_is_gone_on_with_and_ends_with_one_champion_that_really_answers(house):
    """Killed while at monitor, while at build and in the middle of `evaluate`: see `out_of_date`."""
    count = logged(house).height
    assert tracking.holder(tracking.connect(house), "house-prices", "champion").number == "1"
    assert "go on with it" in loopbook(house.root, "status").stdout
    before = (house.var / "build" / "ingest.ipynb").stat().st_mtime_ns
    with Running(house.root) as service:
        done = loopbook(house.root, *ONCE, *AS_OF, "--set", f"loop_service={service.address}")
        assert done.returncode == 10, done.stdout + done.stderr
        metadata = service.http.get("/metadata").json()
        assert (metadata["version"], metadata["predecessor_version"]) == ("2", "1")
    assert (house.var / "build" / "ingest.ipynb").stat().st_mtime_ns == before
    (told,) = turn_records.listed(house)
    assert told["confirmed"].startswith("the service answers with v2")
    assert (told["resumed"], told["outcome"]) == (3, "promoted")
    assert told["numbers"]["labels"] > 200
    report = house.var / "monitor" / "report.html"  # the project's knob monitor_report is false
    assert "It is switched off" in report.read_text()
    run = tracking.connect(house).get_run(told["mlflow_run_id"])
    assert run.data.tags["outcome"] == "promoted"
    again = loopbook(house.root, *ONCE, "--as-of", "2015-04-07")
    assert again.returncode == 0, again.stdout + again.stderr
    history = loopbook(house.root, "history").stdout
    assert history.index("promoted") < history.index("nothing")
    all_is_right(house, champion="2", answers=count, labels=count)


def test_an_administrator_asks_for_a_retraining_with_a_reason(house):
    with Running(house.root, "--quiet") as service:
        made = loopbook(house.root, "keys", "create", "ana", "--scope", "admin")
        ask = {"url": "/admin/retrain", "headers": {"X-API-Key": made.stdout.split()[0]}}
        assert service.http.post(**ask, json={}).status_code == 422
        assert service.http.post("/admin/retrain", json={"reason": "x"}).status_code == 401
        assert service.http.post(**ask, json={"reason": "a new source"}).status_code == 202
    assert turn_records.asked(house)["reason"] == "a new source"
    assert "a new source" in loopbook(house.root, "status").stdout


def test_two_loops_and_a_clock_set_back_change_nothing(house):
    count, left = logged(house).height, turn_records.open_turn(house)
    with loops.runs.only_run(house, "loop"):
        second = loopbook(house.root, *ONCE, *AS_OF)
    assert second.returncode == 1
    assert "another loop runs" in second.stderr
    assert turn_records.open_turn(house) == left
    turn_records.keep(house, left | {"outcome": "nothing", "reason": ""})
    with pytest.raises(LoopError, match="Nothing was changed"):
        loops.turn(house, as_of=NOW - timedelta(hours=1))
    all_is_right(house, champion="1", answers=count, labels=count)


def test_a_build_that_fails_leaves_all_as_it_was_and_is_not_tried_again_at_once(house):
    evaluate = house.root / "notebooks" / "06_evaluate.ipynb"
    whole, count = evaluate.read_text(), logged(house).height
    broken = json.loads(whole)
    broken["cells"][2]["source"] += ["\nraise RuntimeError('the lights ' + 'went out')"]
    evaluate.write_text(json.dumps(broken))
    failed = loopbook(house.root, *ONCE, *AS_OF)
    assert failed.returncode == 1
    assert "RuntimeError: the lights went out" in failed.stdout
    all_is_right(house, champion="1", answers=count, labels=count)
    evaluate.write_text(whole)
    soon = loopbook(house.root, *ONCE, "--as-of", "2015-04-06T00:30:00Z")
    assert soon.returncode == 0, soon.stdout + soon.stderr
    assert "the last 1 retrainings failed; it is tried again after 2015-04-06 01:00" in soon.stdout
    later = loopbook(house.root, *ONCE, "--as-of", "2015-04-06T01:00:00Z")
    assert later.returncode == 10, later.stdout + later.stderr
    assert "no service is reached" in later.stdout
    all_is_right(house, champion="2", answers=count, labels=count)
