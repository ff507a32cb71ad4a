"""Calibration states are made of what came true, whoever answered, and of nothing that is broken."""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import small_classes
from small_classes import NUMBER, SEVERAL

from loopbook.data import came_true, prediction_log
from loopbook.data.log_tables import Entry
from loopbook.data.splits import PART
from loopbook.data.truths import Truth
from loopbook.models import calibration_states
from loopbook.models.calibration_states import Rule
from loopbook.models.task import task_of
from loopbook.project.clock import to_micros
from loopbook.project.errors import MonitorError
from loopbook.project.files import sha256
from loopbook.project.paths import Project
from loopbook.records import roles
from loopbook.records import windows as window_records
from loopbook.registry import as_answered, calibration, residuals
from loopbook.registry.reader import Version
from loopbook.registry.state_store import StateStore

TABLE = small_classes.table(NUMBER)
START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = Rule(interval=0.9)


@pytest.fixture
def log(tmp_path):
    opened = prediction_log.at(f"sqlite:///{tmp_path / 'predictions.db'}", TABLE, tmp_path)
    opened.know_inputs("layout", ["size"], None)
    yield opened
    opened.close()


def answered(
    log, number: int, *, key: str | None = None, truth: float | None = None, **changes
) -> None:
    """An answer of 100 on day `number`, and what was observed a day later."""
    at = to_micros(START + number * DAY)
    usual = {"role": "champion", "shadow_of": None, "route": "predict", "answer": 100.0}
    usual |= {"model": TABLE.name, "version": "1", "request": {}, "inputs": "layout", "notes": {}}
    usual |= {"received_us": at, "as_of_us": at, "latency_us": 1}
    usual |= {"features": np.zeros(1, np.float32), "key": key or f"key-{number}"}
    log.append([Entry(**{"id": f"id-{number:06d}"} | usual | changes)])
    if truth is not None:
        known = to_micros(START + number * DAY + DAY)
        log.tell([Truth(None, usual["key"], truth, known, known)])


def read(log, until: int = 90, version: str = "1", **more) -> pl.DataFrame:
    return came_true.read(log, TABLE, version, since=START, until=START + until * DAY, **more).sort(
        "at"
    )


def test_what_a_version_answered_in_any_role_comes_with_what_was_observed(log):
    answered(log, 1, truth=110.0)
    answered(log, 2, truth=120.0, role=roles.SHADOW, shadow_of="id-000009")
    answered(log, 3, truth=130.0, version="2")
    answered(log, 4)
    told = read(log)
    assert told["observed"].to_list() == [110.0, 120.0]
    assert told["known_ts"].to_list() == [START + 2 * DAY, START + 3 * DAY]


def test_what_became_known_later_does_not_count_and_a_correction_does_from_then_on(log):
    answered(log, 1, truth=110.0)
    late = to_micros(START + 20 * DAY)
    log.tell([Truth(None, "key-1", 150.0, late, late)])
    assert read(log, until=1).is_empty()
    assert read(log, until=10)["observed"].to_list() == [110.0]
    told = read(log, until=30).sort("known_ts")
    assert told["observed"].to_list() == [110.0, 150.0]
    assert told["until_ts"].to_list() == [START + 20 * DAY, None]


def test_who_asks_again_when_the_truth_is_known_takes_no_witness_away(log):
    answered(log, 1, key="the same", truth=110.0)
    answered(log, 5, key="the same", answer=110.0)
    assert read(log)["raw"].to_list() == [100.0]


def test_who_asks_a_hundred_times_about_one_key_is_one_witness(log):
    for number in range(100):
        answered(log, number, key="the same", answer=float(number))
    at = to_micros(START + 100 * DAY)
    log.tell([Truth(None, "the same", 1.0, at, at)])
    told = read(log, until=200)
    assert told["raw"].to_list() == [99.0]


def test_what_was_asked_or_known_while_it_was_broken_counts_until_it_was_called_so(log):
    """What was asked on day 4 is known when day 5 begins, so it never counts."""
    for number in range(10):
        answered(log, number, truth=110.0)
    broken = [(START + 3 * DAY, START + 5 * DAY)]
    told = read(log, doubts=came_true.Doubts(broken))
    until = {(at - START).days: end for at, end in told.select("at", "until_ts").iter_rows()}
    called = START + 5 * DAY
    assert until == {2: called, 3: called} | dict.fromkeys([0, 1, 5, 6, 7, 8, 9])


def test_ground_truth_that_the_target_cannot_be_moves_nothing(log):
    answered(log, 1, truth=110.0)
    answered(log, 2, truth=99_999.0)
    assert read(log)["observed"].to_list() == [110.0]


def test_of_a_long_log_a_part_is_read_that_is_spread_over_it(log, monkeypatch):
    monkeypatch.setattr(came_true, "MOST_ROWS", 40)
    for number in range(80):
        answered(log, number, truth=110.0)
    told = read(log)
    assert 35 <= told.height <= 80
    days = [(at - START).days for at in told["at"]]
    assert sum(day < 40 for day in days) == pytest.approx(sum(day >= 40 for day in days), abs=5)


# -- what is frozen with a version -----------------------------------------------


def split_rows(rows: int = 160) -> pl.DataFrame:
    """Every row has its key, and a truth that is a tenth above what `pairs` says."""
    parts = ["train"] * (rows // 2) + ["validation"] * (rows // 4) + ["test"] * (rows // 4)
    at = [START + place * DAY / 4 for place in range(rows)]
    return pl.DataFrame(
        {
            PART: parts,
            TABLE.key[0]: [f"row {place}" for place in range(rows)],
            "event_ts": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
            "known_ts": pl.Series([t + DAY for t in at], dtype=pl.Datetime("us", "UTC")),
            TABLE.target.name: [110.0] * rows,
        }
    )


def pairs(rows: int = 160) -> pl.DataFrame:
    """What came true of the rows of `test`, and of no other."""
    held = split_rows(rows).filter(pl.col(PART) == "test")
    return residuals.paired(held, np.full(held.height, 100.0), TABLE, moment=START)


class Shelf:
    """A registry with one version and its residuals."""

    def __init__(self, content: bytes, **tags: str):
        self.content_ = content
        usual = {residuals.TAG: sha256(content)}
        self.version = Version(TABLE.name, "1", "run", usual | tags)

    def held(self, _name: str, alias: str) -> Version | None:
        return self.version if alias == roles.CHAMPION else None

    def versions(self, _name: str) -> list[Version]:
        return [self.version]

    def content(self, *_, **__) -> bytes:
        return self.content_


def test_a_calibration_begins_with_what_fits_said_to_rows_that_they_had_not_seen():
    """Of those that taught the version, what fits without them said; never the first fit's validation."""
    every = split_rows()
    parts = {part: every.filter(pl.col(PART) == part) for part in ("train", "validation", "test")}
    said = {"validation": np.full(40, 1.0), "test": np.full(40, 100.0)}
    left_out = pl.concat([parts["train"].tail(20), parts["validation"]])
    stored = residuals.predictions(parts, said, (left_out, np.full(60, 104.0)), TABLE)
    kept = residuals.of_candidate(stored, every, TABLE, moment=START)
    kept = pl.read_parquet(io.BytesIO(residuals.freeze(kept, seed=1)))
    assert kept["raw"].to_list() == [104.0] * 60 + [100.0] * 40
    assert kept["at"].min() == START + 15 * DAY
    assert kept["at"].is_sorted()
    assert dict(kept.schema) == dict(residuals.column_types(TABLE))


def test_residuals_that_were_changed_are_refused_and_a_version_without_them_has_none():
    content = residuals.freeze(pairs(), seed=1)
    changed = Shelf(content, **{residuals.TAG: "0" * 64})
    with pytest.raises(MonitorError, match="the registry says 000000000000"):
        residuals.kept(changed, changed.version, TABLE)
    old = Version(TABLE.name, "1", "run", {})
    assert residuals.kept(changed, old, TABLE) is None
    other = small_classes.table(SEVERAL)
    assert residuals.kept(Shelf(content), Shelf(content).version, other) is None


# -- the making of states -----------------------------------------------------------


@pytest.fixture
def here(tmp_path, log, monkeypatch):
    """A project whose champion was 10 too low on its held-back rows, and no window."""
    monkeypatch.delenv(prediction_log.ADDRESS, raising=False)
    (tmp_path / "var").mkdir()
    monkeypatch.setattr(prediction_log, "connect", lambda *_: log)
    monkeypatch.setattr(log, "close", lambda: None)
    shelf = Shelf(residuals.freeze(pairs(), seed=1))
    monkeypatch.setattr(calibration.reader, "connect", lambda _: shelf)
    return SimpleNamespace(project=Project(tmp_path), shelf=shelf, log=log)


def made(here, day: int, rule: Rule | None = RULE) -> list[calibration.Made]:
    return calibration.made(here.project, TABLE, rule, START + day * DAY)


def test_a_new_version_begins_with_what_it_said_about_rows_that_it_had_not_seen(here):
    (one,) = made(here, 42, Rule(least_truths=5))
    assert 2 < one.state.shift[0] <= 10
    assert one.note == ""
    kept = StateStore(here.log.database).at(TABLE.name, "1", START + 42 * DAY)
    assert kept == one.state


def test_what_was_served_takes_over_from_what_was_kept(here):
    for number in range(45, 75):
        for row in range(4):
            name = f"{number}-{row}"
            answered(here.log, number, key=name, id=name)
            known = to_micros(START + number * DAY + DAY)
            here.log.tell([Truth(None, name, 70.0, known, known)])
    (one,) = made(here, 80, Rule(least_truths=5, most_a_day=100.0, most=100.0))
    assert one.state.shift[0] < -15


def test_a_version_without_residuals_is_calibrated_by_what_it_served_and_says_so(here):
    here.shelf.version = Version(TABLE.name, "1", "run", {})
    (one,) = made(here, 42)
    assert one.state.shift == (0.0,)
    assert "only served ones" in one.sentence


def test_while_the_newest_window_is_broken_a_state_stands_still_and_says_why(here, monkeypatch):
    rule = Rule(least_truths=5)
    (before,) = made(here, 42, rule)
    window = {"as_of": (START + 43 * DAY).isoformat(), "current": [START.isoformat()] * 2}
    window |= {"verdict": {"level": "investigate", "reasons": ["size is in another unit"]}}
    monkeypatch.setattr(window_records, "listed", lambda _: [window])
    (still,) = made(here, 44, rule)
    assert still.state.shift == before.state.shift
    assert still.state.stands_still
    assert "size is in another unit" in still.state.reason
    (earlier,) = made(here, 42, rule)
    assert earlier.state == before.state


def test_the_same_instant_gives_the_same_state_whatever_was_made_since(here):
    rule = Rule(least_truths=5)
    first = [made(here, day, rule)[0].state for day in (42, 43, 44)]
    again = [made(here, day, rule)[0].state for day in (44, 42, 43)]
    assert [first[2], first[0], first[1]] == again


def test_before_the_first_answer_the_newest_moment_is_that_of_the_build(here):
    """The table of the example ends years ago: no truth would be young enough today."""
    built = START + 60 * DAY
    here.shelf.version.tags["as_of"] = built.isoformat()
    (told,) = calibration.made(here.project, TABLE, RULE)
    assert told.state.as_of == built
    assert told.state.shift == made(here, 60)[0].state.shift != (0.0,)


def test_where_calibration_is_off_no_state_is_made(here):
    assert made(here, 42, None) == []
    (line,) = calibration.lines([])
    assert "calibration is false in env.yaml" in line


# -- what the gate compares ---------------------------------------------------------


def test_each_judged_row_is_moved_by_what_was_known_by_then():
    rows = split_rows(200)
    answers = np.full(rows.height, 100.0)
    level = as_answered.with_level(answers, pairs(200), rows, TABLE, Rule(least_truths=5))
    is_tested = (rows[PART] == "test").to_numpy()
    assert (level[~is_tested] == 100.0).all()
    assert 105 < level[is_tested][-1] <= 110
    shift = calibration_states.shifts_at(
        task_of(TABLE), pairs(200), rows.filter(is_tested)["event_ts"], Rule(least_truths=5)
    )
    assert level[is_tested] == pytest.approx(100.0 + shift[:, 0])
