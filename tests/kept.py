"""A project in which one of every kept kind lies, made by those who write them, without a build."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from loopbook.data import prediction_log, quarantine, snapshots
from loopbook.data.aside_rows import Row
from loopbook.data.log_tables import Entry
from loopbook.data.truths import Truth
from loopbook.models.calibration_states import State
from loopbook.project.clock import to_micros
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project
from loopbook.provenance import kept_rows, kept_stores, kept_versions
from loopbook.records import builds, seals, turns, windows
from loopbook.registry import champions, tracking
from loopbook.registry.champions import Change
from loopbook.registry.state_store import StateStore

NAME = "house-prices"
START = datetime(2015, 3, 2, tzinfo=UTC)
ANSWERS = 2_500  # three parts of a stretch
TURN = {"as_of": START.isoformat(), "began_at": START.isoformat(), "outcome": "nothing"}
VERDICT = {"level": "healthy", "reasons": ["it is"], "sentence": "It is."}


def entry(number: int) -> Entry:
    at = to_micros(START) + number * 1_000_000
    return Entry(
        id=f"{number:032x}", received_us=at, as_of_us=at, model=NAME, version="1",
        role="champion", shadow_of=None, route="predict", key=f"house-{number}",
        request={"size": 1800 + number, "neighbourhood": "Ünter"},
        features=np.array([1800 + number, np.nan], np.float32), inputs="layout", notes={},
        answer=500_000.0 + number, latency_us=900, raw=499_000.0, shift=np.array([0.25]),
        state_us=at, low=1.0, high=2.0,
    )  # fmt: skip


def answers(project: Project, numbers: range) -> None:
    """Log answers with their ground truth."""
    log = prediction_log.connect(project, read_contract(project.contract))
    log.know_inputs("layout", ["size", "rooms"])
    log.append([entry(number) for number in numbers])
    known = to_micros(START)
    log.tell([Truth(f"{n:032x}", None, 510_000.0 + n, known, known) for n in numbers[:200]])
    log.prune(START - timedelta(days=9))  # nothing is so old; that it was asked for is kept
    log.close()


def seal_log(project: Project) -> int:
    log = prediction_log.connect(project, read_contract(project.contract))
    try:
        return kept_rows.seal(project, log, until=datetime.now(UTC) + timedelta(days=1))
    finally:
        log.close()


def fill(project: Project) -> None:
    """Everything that is kept, beside the champion that is there; the working directory is it."""
    client = tracking.connect(project)
    version = tracking.holder(client, NAME, tracking.CHAMPION)
    champions.promote(client, version, Change("gate", "a test", START, None))
    notebook = _file(project.var / "build" / "evaluate.ipynb", '{"cells": []}')
    tracking.log_files(client, version.run_id, [notebook], "notebooks")
    tracking.log_files(
        client, version.run_id, [_file(notebook.with_name("decision.json"))], "decision"
    )
    seals.keep(notebook)
    tracking.log_figures(client, version.run_id, {"importance": Figure()})
    tracking.log_metrics(client, version.run_id, {"test_mae": 1.5})
    made = snapshots.write_snapshot(
        pl.DataFrame({"id": [1, 2]}), project.snapshots, None, now=START
    )
    tracking.set_version_tag(client, version, "snapshot_sha256", made.sha256)
    record = {"as_of": START.isoformat(), "verdict": VERDICT, "numbers": {}, "champion": {}}
    windows.keep(project, record, [], {"columns.svg": Figure()})
    tracking.log_window(client, NAME, record, [])
    turns.keep(project, TURN | {"turn": 1, "reason": "it is", "verdict": "healthy"})
    tracking.log_turn(client, NAME, TURN | {"reason": "it is"})
    builds.remember(project, failed=False)
    answers(project, range(ANSWERS))
    _stores(project)
    seal_log(project)
    kept_stores.seal(project, read_contract(project.contract))
    kept_versions.tell_head(project, client, NAME)


def _stores(project: Project) -> None:
    contract = read_contract(project.contract)
    log = prediction_log.connect(project, contract)
    state = State(START, (0.25,), 40, (), (-1.0,), (1.0,), None, "40 truths", False, False, "abc")
    StateStore(log.database).add(NAME, "9", state)
    log.close()
    aside = quarantine.connect(project)
    aside.set_aside(
        [Row("r1", "source", "k", "kd", {"size": 1}, ["size is 1"], None)],
        reading="source",
        now=START,
    )
    aside.decide(["r1"], quarantine.DROPPED, "a test", now=START)
    aside.close()


def _file(path: Path, content: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path
