"""A project whose champion is out of date, and turns of its loop: begun, watched, ended."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import psutil
import pytest
from served import answer, sales
from small_house import environment, loopbook, set_knobs

from loopbook.data import prediction_log, served_rows
from loopbook.project import clock, contract
from loopbook.project.paths import Project
from loopbook.records import roles
from loopbook.records import turns as turn_records
from loopbook.registry import champions, tracking

NAME = "house-prices"
IN_A_CELL_S = 0.3  # of processor time: more than a kernel needs to start
NOW = datetime(2015, 4, 6, tzinfo=UTC)
AS_OF = ["--as-of", "2015-04-06"]
ONCE = ["loop", "--once", "--set", "loop_confirm_s=20"]


@contextmanager
def inside(folder: Path) -> Iterator[Project]:
    """Stand in a project, with its settings and none of another's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in Project(folder).environment().items():
            patch.setenv(name, value)
        yield Project(folder)


def answer_a_month() -> int:
    """Four weeks of answers; what was sold for is told 30 % higher than it was."""
    asked = sales(NOW - timedelta(days=28), NOW)
    return answer(asked, truth=lambda observed: observed * 1.3, keyed=True)


def prepare(folder: Path, variables: Mapping[str, str] | None = None) -> Path:
    """Of a project with a champion: one that predicts too little, and the answers that show it.

    The graph has one candidate beside the baseline and few resamples: a turn
    is about what happens around the models.
    """
    set_knobs(folder, serve_watch_s="0.3", bootstrap_resamples="200", monitor_report="false")
    graph = folder / "pipeline.yaml"
    graph.write_text(re.sub(r"names: \[[^]]*\]", "names: [baseline, ridge]", graph.read_text()))
    with inside(folder), pytest.MonkeyPatch.context() as patch:
        for name, value in (variables or {}).items():
            patch.setenv(name, value)
        answer_a_month()
    return folder


def begin(house: Project, *words: str, **variables: str) -> subprocess.Popen:
    """A turn in the background, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "loopbook", *ONCE, *AS_OF, *words],
        cwd=house.root,
        env=environment(house.root, **variables),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_while(running: subprocess.Popen, is_there: Callable[[], bool]) -> None:
    """Let a turn go on until something is there."""
    deadline = time.monotonic() + 180
    while not is_there():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_at(house: Project, is_there: Callable[[], bool]) -> None:
    """Begin a turn, and kill it and its kernels when something is there."""
    running = begin(house)
    wait_while(running, is_there)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)


def is_at(house: Project, stage: str) -> bool:
    return (turn_records.open_turn(house) or {}).get("stage") == stage


def kernels(running: subprocess.Popen) -> list[psutil.Process]:
    """The kernels of a turn that are past their start: in a cell of a notebook."""
    in_a_cell = []
    for child in psutil.Process(running.pid).children(recursive=True):
        try:
            times, words = child.cpu_times(), " ".join(child.cmdline())
            is_forked = "loopbook.pipeline.kernels" in words and child.ppid() != running.pid
            is_kernel = is_forked or "ipykernel_launcher" in words
            if is_kernel and times.user + times.system > IN_A_CELL_S:
                in_a_cell.append(child)
        except psutil.Error:  # it ended meanwhile
            continue
    return in_a_cell


def in_a_notebook(house: Project, running: subprocess.Popen, stage: str) -> bool:
    return is_at(house, stage) and bool(kernels(running))


def ended(running: subprocess.Popen) -> str:
    """What a turn printed, once it has ended in an error that a person can read."""
    out, err = running.communicate(timeout=180)
    assert running.returncode == 1, out + err
    assert "Traceback" not in out + err, out + err
    return out + err


def heal(house: Project, *words: str, **variables: str) -> str:
    """One more turn, which promotes; what it printed.

    It does not rest after a failure, which has a test of its own: so it is as
    of the same moment, and what was built stays built.
    """
    rest = ["--set", "loop_backoff_minutes=0"]
    done = loopbook(house.root, *ONCE, *AS_OF, *rest, *words, **variables)
    assert done.returncode == 10, done.stdout + done.stderr
    return done.stdout


def half_build(folder: Path) -> Path:
    """Leave a turn that was killed while at monitor, while at build and in the middle of `evaluate`."""
    with inside(prepare(folder)) as house:
        kill_at(house, partial(is_at, house, "monitor"))
        kill_at(house, partial(is_at, house, "build"))
        kill_at(house, (house.var / "build" / "evidence.json").exists)
    return folder


def forget_open_turn(house: Project) -> None:
    """The next turn begins anew; what the one before has built stays built."""
    (turn_records.folder(house) / "open.json").unlink()


def logged(house: Project) -> pl.DataFrame:
    """What clients were answered, with the ground truth."""
    table = contract.read_contract(house.contract)
    log = prediction_log.connect(house, table)
    try:
        rows = pl.concat(log.rows(), how="diagonal")
    finally:
        log.close()
    return rows.filter(pl.col("role") != roles.SHADOW)


def all_is_right(house: Project, *, champion: str, answers: int, labels: int) -> None:
    """One champion, in the ledger too; every answer and label once; no turn left open."""
    client = tracking.connect(house)
    numbers = [version.number for version in tracking.versions(client, NAME)]
    held = [n for n in numbers if tracking.CHAMPION in client.get_model_version(NAME, n).aliases]
    assert held == [champion]
    assert [reign.version for reign in champions.reigns(client, NAME)] == sorted({"1", champion})
    assert sorted(numbers) == sorted({"1", champion})
    rows = logged(house)
    assert (rows.height, rows["id"].n_unique()) == (answers, answers)
    assert (rows["observed"].is_not_null().sum(), rows["corrections"].sum()) == (labels, 0)
    table = contract.read_contract(house.contract)
    served = served_rows.collect(house, table, None, now=clock.utc_now())
    assert served.rows.select(table.key).is_unique().all()
    assert served.rows.height + sum(served.left_out.values()) == labels
    assert turn_records.open_turn(house) is None
    turns = [record["turn"] for record in turn_records.listed(house)]
    assert turns == list(range(1, len(turns) + 1))
