"""Every scenario of the replay, from end to end on real sales, in its short form.

Three at each push, the other four each night; what each of the seven changes
and calls right is tested in `test_replay` at each push.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest
from conftest import wait_for
from made_once import MANY_SIGNS
from small_house import environment, loopbook, make_project

from loopbook.project.contract import read_contract
from loopbook.project.paths import Project
from loopbook.registry import reader

pytestmark = pytest.mark.slow
TWO, THREE = "2014-11-25", "2014-12-20"  # after so many months a turn is taken
CANDIDATES = "baseline,hist_gradient_boosting"


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A project in which replays share their first version."""
    folder = tmp_path_factory.mktemp("replays") / MANY_SIGNS
    return make_project(folder, bootstrap_resamples="500", monitor_report="false")


def words(name: str, until: str) -> list[str]:
    return ["replay", name, "--step", "month", "--until", until, "--candidates", CANDIDATES]


def result(house: Path, name: str) -> dict:
    return json.loads((house / "var" / "replay" / f"{name}-month" / "result.json").read_text())


@pytest.mark.parametrize(
    ("name", "until", "outcomes"),
    [
        # what follows the first turn is by calibration or a new version: `right` says
        ("concept", THREE, ["nothing"]),
        ("bad-champion", TWO, ["nothing", "rolled back"]),
        pytest.param("broken-unit", TWO, ["nothing", "investigate"], marks=pytest.mark.nightly),
        pytest.param("late-labels", TWO, ["nothing", "nothing"], marks=pytest.mark.nightly),
        pytest.param("bad-candidate", TWO, ["refused", "nothing"], marks=pytest.mark.nightly),
        pytest.param("storm", THREE, None, marks=pytest.mark.nightly),
    ],
)
def test_the_loop_does_what_is_right_and_no_request_fails(house, name, until, outcomes):
    done = loopbook(house, *words(name, until))
    assert done.returncode == 0, done.stdout + done.stderr
    replay = result(house, name)
    assert replay["right"], done.stdout
    assert f"expected    {replay['expected']}" in done.stdout
    assert replay["failed"] == 0
    assert replay["requests"] > 2_500
    if outcomes:
        assert [turn["outcome"] for turn in replay["turns"]][: len(outcomes)] == outcomes


def test_every_version_of_a_replay_is_built_again_bit_for_bit(house):
    """One of them learned from a source that is another one by now, and from served rows."""
    assert loopbook(house, *words("bad-champion", TWO)).returncode == 0
    lane = house / "var" / "replay" / "bad-champion-month" / "loop"
    registry = reader.connect(Project(lane).environment()["MLFLOW_TRACKING_URI"])
    versions = registry.versions(read_contract(lane / "contract.yaml").name)
    assert len(versions) > 1
    for version in versions:
        done = loopbook(lane, "reproduce", version.number, "--quick", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["outcome"]) == (0, "identical"), told


def processes_in(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cwd"]) if str(folder) in (p.info["cwd"] or "")]


def what_happened(result: dict) -> dict:
    """What a replay decided and measured, as one flat table.

    Left out are this machine's clock, ids by chance, and the ends of intervals:
    they are drawn from the log in its order, and requests are sent four at a time.
    """
    facts = {n: result[n] for n in ("retrains", "requests", "failed", "right", "expected")}
    for month in result["months"]:
        facts |= {f"{month['month']} {n}": v for n, v in month.items()}
    for turn in result["turns"]:
        kept = {n: turn[n] for n in ("turn", "as_of", "verdict", "outcome", "champion")}
        kept |= {n: v for n, v in turn["numbers"].items() if not n.endswith(("_low", "_high"))}
        facts |= {f"turn {turn['turn']} {n}": v for n, v in kept.items()}
    return facts


def test_a_replay_from_the_shared_first_step_ends_as_one_that_takes_its_own(house):
    assert loopbook(house, *words("late-labels", TWO)).returncode == 0
    shared = result(house, "late-labels")
    replays = house / "var" / "replay"
    own = json.loads((replays / "late-labels-month/loop/var/replay.json").read_text())
    shutil.rmtree(replays / "late-labels-month")
    first = [f.parent for f in replays.glob("first/*/start.json")]
    assert len(first) == 1
    shutil.copytree(first[0], replays / "late-labels-month/loop", symlinks=True)
    done = loopbook(house, *words("late-labels", TWO))
    assert done.returncode == 0, done.stdout + done.stderr
    alone = result(house, "late-labels")
    theirs = what_happened(shared)
    assert len(theirs) > 30
    for name, value in what_happened(alone).items():
        is_number = isinstance(value, float)
        expected = pytest.approx(theirs.pop(name), rel=1e-9) if is_number else theirs.pop(name)
        assert value == expected, name
    assert not theirs
    assert alone["turns"][0]["began_at"] > shared["turns"][-1]["began_at"]  # it took that step
    assert json.loads((replays / "late-labels-month/loop/var/replay.json").read_text()) == own


def test_a_replay_that_is_killed_leaves_nothing_running_and_goes_on_where_it_stopped(house):
    """In the harmless scenario: other houses are asked about, and nothing is retrained."""
    folder = house / "var" / "replay" / "covariate-month"
    command = [sys.executable, "-m", "loopbook"]
    running = subprocess.Popen(
        [*command, *words("covariate", TWO)], cwd=house, env=environment(house)
    )
    state = folder / "loop" / "var" / "replay.json"
    wait_for(
        lambda: state.exists() and json.loads(state.read_text()).get("done") == 1, "a step", 300
    )
    # the first step may be another scenario's, so the kill has to meet this one's service
    wait_for(lambda: len(processes_in(folder)) > 1, "a service", 60)
    running.send_signal(signal.SIGTERM)
    assert running.wait(120) != 0
    # a kernel looks every second
    assert not psutil.wait_procs(processes_in(folder), timeout=30)[1]
    done = loopbook(house, *words("covariate", TWO))
    assert done.returncode == 0, done.stdout + done.stderr
    replay = result(house, "covariate")
    assert replay["right"], done.stdout
    assert [turn["outcome"] for turn in replay["turns"]] == ["nothing", "nothing"]
    sent = pl.read_parquet(folder / "rows.parquet", glob=False).height
    assert 0.5 * sent < replay["requests"] < sent  # of the smaller houses every fourth, each once
