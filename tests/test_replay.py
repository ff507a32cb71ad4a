"""The replay's steps and its scenarios: what they change, and what counts as right."""

import contextlib
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import psutil
import pytest
import yaml
from polars.testing import assert_frame_equal
from small_house import ROOT, loopbook, make_project

from loopbook.data import sources, validation
from loopbook.data.row_keys import RowKeys
from loopbook.loop import (
    replay,
    replay_lane,
    replay_processes,
    replay_projects,
    replay_results,
)
from loopbook.loop.moved_targets import moved
from loopbook.loop.replay import Options, default_start, planned
from loopbook.loop.replay_results import LOOP
from loopbook.loop.scenarios import SCENARIOS, TOLD_TS, disturbed
from loopbook.models.task import task_of
from loopbook.project import clock
from loopbook.project.contract import Contract, Source, read_contract
from loopbook.project.errors import ReplayError
from loopbook.project.files import write_json
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.registry.tracking import Version

START = datetime(2014, 10, 1, tzinfo=UTC)
TABLE = read_contract(ROOT / "contract.yaml")
KNOBS = read_knobs(ROOT / "env.yaml")  # 200 rows over more than 28 and 10 days


def turn(outcome: str, day: int = 0, **more) -> dict:
    told = {"outcome": outcome, "as_of": (START + timedelta(days=day)).isoformat()}
    return told | {"verdict": "watch", "verdict_reasons": ["it moved"]} | more


def test_steps_end_where_weeks_and_months_do():
    weeks = replay_results.moments(START, START + timedelta(days=20), "week")
    assert [(m - START).days for m in weeks] == [7, 14, 21]
    months = replay_results.moments(START, datetime(2015, 1, 2, tzinfo=UTC), "month")
    assert [f"{m:%Y-%m-%d}" for m in months] == [
        *("2014-11-01", "2014-12-01", "2015-01-01", "2015-02-01")
    ]


TRIED = {"attempt": "promoted"}
LATE = {"verdict_reasons": ["ground truth is late: 0 of 9"]}
MOVED = turn("nothing", 14, numbers={"bias": -0.12, "raw_bias": -0.14})
OVER = turn("nothing", 56, numbers={"bias": 0.01, "raw_bias": -0.14})
# of each scenario: turns that are right, and some of each kind that are wrong
CASES = {
    "concept": ([MOVED, OVER], [[MOVED], [turn("nothing", 56)]]),  # too short; no bias
    "covariate": ([turn("nothing")], [[turn("promoted", **TRIED)], [turn("investigate")]]),
    "broken-unit": (
        [turn("investigate")],
        [[turn("investigate"), turn("promoted", **TRIED)], [turn("nothing")]],
    ),
    "late-labels": (
        [turn("nothing", **LATE)],
        [[turn("nothing")], [turn("nothing", **LATE), turn("refused", attempt="refused")]],
    ),
    "bad-candidate": (
        [turn("refused", attempt="refused")],
        [[turn("refused", attempt="refused"), turn("promoted", **TRIED)], [turn("nothing")]],
    ),
    "bad-champion": (
        [turn("nothing"), turn("rolled back")],
        [[turn("nothing")], [turn("rolled back"), turn("promoted", **TRIED)]],
    ),
    "storm": (
        [turn("promoted", 0, **TRIED), turn("promoted", 7, **TRIED)],
        [[turn("promoted", 0, **TRIED), turn("promoted", 3, **TRIED)], [turn("nothing")]],
    ),
}


def test_every_scenario_has_its_cases():
    assert CASES.keys() == SCENARIOS.keys() == DISTURBED.keys()


def answered(*, in_time: float | None, at_the_end: float | None):
    """The bias of two weeks by the day they end on; of others it is too large."""
    biases = {(28, 42): in_time, (42, 56): at_the_end}
    return lambda *ends: biases.get(tuple((end - START).days for end in ends), 0.5)


@pytest.mark.parametrize(
    ("in_time", "at_the_end", "right"),
    [
        (-0.07, 0.07, True),
        (-0.071, 0.0, False),  # late
        (0.0, 0.071, False),  # it came back
        (None, 0.0, False),
        (0.0, None, False),
    ],
)
def test_half_of_the_bias_is_gone_from_the_answers_in_time_and_at_the_end(
    in_time, at_the_end, right
):
    bias = answered(in_time=in_time, at_the_end=at_the_end)
    assert SCENARIOS["concept"].is_right([MOVED, OVER], START, bias) is right


@pytest.mark.parametrize("name", CASES)
def test_a_scenario_tells_right_from_wrong(name):
    right, wrongs = CASES[name]
    healed = answered(in_time=0.01, at_the_end=0.01)
    assert SCENARIOS[name].is_right(right, START, healed)
    for wrong in wrongs:
        assert not SCENARIOS[name].is_right(wrong, START, healed), wrong


# -- what each scenario does to the rows from a moment on -----------------------

TARGET = TABLE.target.name
SIZE = next(n for n in TABLE.numbers if TABLE.features[n].required)


def dearer(sent: pl.DataFrame, rows: pl.DataFrame) -> None:
    assert sent[TARGET].to_numpy() == pytest.approx(1.15 * rows[TARGET].to_numpy())
    assert sent.drop(TARGET, TOLD_TS).equals(rows.drop(TARGET))


def larger(sent: pl.DataFrame, rows: pl.DataFrame) -> None:
    assert sent[SIZE].median() > rows[SIZE].median()
    assert 0.5 * rows.height < sent.height < rows.height
    assert sent.drop(TOLD_TS).join(rows, on=rows.columns, how="anti", nulls_equal=True).is_empty()


def in_another_unit(sent: pl.DataFrame, rows: pl.DataFrame) -> None:
    assert sent[SIZE].median() < rows[SIZE].median() / 5
    assert sent.drop(SIZE, TOLD_TS).equals(rows.drop(SIZE))


def later(sent: pl.DataFrame, rows: pl.DataFrame) -> None:
    assert ((sent[TOLD_TS] - rows[clock.KNOWN_TS]) == timedelta(days=60)).all()
    assert sent.drop(TOLD_TS).equals(rows)


def unchanged(sent: pl.DataFrame, rows: pl.DataFrame) -> None:
    assert sent.drop(TOLD_TS).equals(rows)


def up_and_down(sent: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Two weeks up by a quarter, two weeks down by a fifth."""
    share = (sent[TARGET] / rows[TARGET]).round(3).to_numpy()
    weeks = ((rows[clock.EVENT_TS] - START).dt.total_days() // 7).to_numpy()
    assert set(share[(weeks == 0) | (weeks == 1)]) == {1.25}
    assert set(share[(weeks == 2) | (weeks == 3)]) == {0.8}
    assert sent.drop(TARGET, TOLD_TS).equals(rows.drop(TARGET))


DISTURBED = {
    **{"concept": dearer, "covariate": larger, "broken-unit": in_another_unit},
    **{"late-labels": later, "storm": up_and_down},
    **{"bad-candidate": unchanged, "bad-champion": unchanged},  # the source is: see below
}


@pytest.mark.parametrize("name", DISTURBED)
def test_a_disturbance_does_what_it_says_from_its_moment_on(name):
    """Rows before the moment are sent as they are, and told as soon as they are known."""
    around = pl.col(clock.EVENT_TS).is_between(*(START + timedelta(days=d) for d in (-28, 28)))
    rows = sources.with_clock(sources.read_source(TABLE, ROOT), TABLE).filter(around)
    rows = validation.conform(rows, TABLE).sort(clock.EVENT_TS)
    sent = disturbed(rows, SCENARIOS[name], TABLE, START)
    before = pl.col(clock.EVENT_TS) < START
    unchanged(sent.filter(before), rows.filter(before))
    told = sent.filter(before if SCENARIOS[name].late_days else pl.lit(value=True))
    assert told[TOLD_TS].equals(told[clock.KNOWN_TS], check_names=False)
    DISTURBED[name](sent.filter(~before), rows.filter(~before))


@pytest.mark.parametrize("name", ["bad-candidate", "bad-champion"])
def test_a_spoilt_source_has_its_labels_shuffled_for_one_retraining(tmp_path, monkeypatch, name):
    """It is asked for of the loop, or built at once, promoted by hand and the source put back."""
    rows = pl.DataFrame({"id": range(100), TARGET: range(100)})
    source = tmp_path / "data" / "source.parquet"
    source.parent.mkdir()
    rows.write_parquet(source)
    built, by_hand = [], []

    def build(*_):
        built.append(pl.read_parquet(source, glob=False))
        decision = {"challenger": {"version": "2"}}
        write_json(tmp_path / "var" / "build" / "decision.json", decision)

    lane = replay_lane.Lane.__new__(replay_lane.Lane)
    lane.project, lane.contract, lane.scenario = Project(tmp_path), TABLE, SCENARIOS[name]
    monkeypatch.setattr(replay_lane.graph, "build", build)
    monkeypatch.setattr(replay_lane.tracking, "connect", lambda _: None)
    monkeypatch.setattr(
        replay_lane.tracking, "holder", lambda *_: Version("house-prices", "1", "r", {})
    )
    monkeypatch.setattr(
        replay_lane.champions, "promote_by_hand", lambda *words, **_: by_hand.append(words[2])
    )
    lane._spoil(START)
    learned = built[0] if built else pl.read_parquet(source, glob=False)
    assert learned["id"].equals(rows["id"])
    assert not learned[TARGET].equals(rows[TARGET])
    assert learned[TARGET].sort().equals(rows[TARGET])
    is_asked = turn_records.asked(lane.project) is not None
    if name == "bad-candidate":
        assert (is_asked, by_hand) == (True, [])
    else:
        assert (is_asked, by_hand) == (False, ["2"])
        assert pl.read_parquet(source, glob=False).equals(rows)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_disturbance_changes_what_is_sent_before_it_begins(name):
    """The reason why scenarios may share their first step."""
    rows = sources.with_clock(sources.read_source(TABLE, ROOT), TABLE)[:2000]
    since = rows[clock.EVENT_TS].sort()[700]
    early = pl.col(clock.EVENT_TS) < since
    sent = disturbed(rows, SCENARIOS[name], TABLE, since).filter(early)
    assert sent.height > 600
    assert_frame_equal(sent, disturbed(rows, None, TABLE, since).filter(early), check_dtypes=False)
    assert (sent[TOLD_TS] == sent[clock.KNOWN_TS]).all()


@pytest.mark.parametrize("name", ["covariate", "broken-unit"])
def test_a_scenario_that_disturbs_a_number_says_that_a_table_requires_none(name):
    optional = {n: f.model_copy(update={"required": False}) for n, f in TABLE.features.items()}
    with pytest.raises(ReplayError, match="set required: true for a number"):
        SCENARIOS[name].check(TABLE.model_copy(update={"features": optional}))
    SCENARIOS[name].check(TABLE)


class Past:
    """What a lane has around it: a service with its log, and a store that keeps no past."""

    def __init__(self, monkeypatch, dies_at):
        self.requests, self.log, self.store = [], set(), START
        self.dies_at = dies_at
        monkeypatch.setattr(replay_lane.materialize, "materialize", self.materialize)
        monkeypatch.setattr(replay_lane.httpx, "Client", lambda **_: contextlib.nullcontext(self))
        monkeypatch.setattr(replay_lane, "SENDERS", 1)
        monkeypatch.setattr(replay_lane.Lane, "_answered", lambda *_: set(self.log))
        monkeypatch.setattr(replay_lane.Lane, "_tell", lambda *_: None)
        monkeypatch.setattr(replay_lane.Lane, "_act", lambda *_: self.come("turn"))

    def come(self, place) -> str:
        if place == self.dies_at:
            self.dies_at = None
            raise KeyboardInterrupt
        return "healthy, nothing"

    def post(self, _, json):
        self.come(len(self.requests))
        self.requests.append(json)
        self.log.add(RowKeys(TABLE, Path("var")).text(json))
        return SimpleNamespace(status_code=200)

    def materialize(self, _, as_of, rebuild):
        assert clock.parse_instant(as_of) >= self.store
        self.store = clock.parse_instant(as_of)


@pytest.mark.parametrize("dies_at", ["turn", 0, 20, 45])
def test_a_lane_that_is_killed_within_a_step_goes_on_from_its_day(tmp_path, monkeypatch, dies_at):
    """A month has four points of the store, and none of them is made a second time."""
    rows = sources.with_clock(sources.read_source(TABLE, ROOT), TABLE)
    end = datetime(2014, 11, 1, tzinfo=UTC)
    rows = rows.filter(pl.col(clock.EVENT_TS).is_between(START, end, closed="left"))[::30]
    rows.write_parquet(tmp_path / "rows.parquet")
    plan = {"scenario": None, "start": START.isoformat(), "end": end.isoformat(), "step": "month"}
    write_json(tmp_path / "plan.json", plan)
    (tmp_path / "loop/var").mkdir(parents=True)
    shutil.copy(ROOT / "contract.yaml", tmp_path / "loop")
    monkeypatch.chdir(tmp_path / "loop")
    past = Past(monkeypatch, dies_at)
    for ends in (pytest.raises(KeyboardInterrupt), contextlib.nullcontext()):
        lane = replay_lane.Lane(LOOP)
        lane.levels = SimpleNamespace(make=lambda _: None)
        with ends:
            lane._step(0, {LOOP: "http://service"})
    asked = [request["id"] for request in past.requests]
    assert sorted(asked) == sorted(rows["id"])  # each once
    assert past.store == end
    state = replay_results.state_of(Path())
    assert (state["done"], state["sent"], state["failed"]) == (1, rows.height, 0)


def events(first: datetime, days: int, each: int = 10) -> pl.Series:
    every = timedelta(days=1) / each
    return pl.datetime_range(
        first, first + timedelta(days=days), every, closed="left", eager=True, time_zone="UTC"
    )


def test_a_replay_starts_two_fifths_into_the_table_at_the_start_of_a_month():
    rows = sources.with_clock(sources.read_source(TABLE, ROOT), TABLE)
    assert default_start(rows[clock.EVENT_TS]) == START
    later = events(datetime(2025, 3, 10, tzinfo=UTC), 200)
    assert default_start(later) == datetime(2025, 5, 1, tzinfo=UTC)
    short = events(datetime(2025, 3, 10, 7, tzinfo=UTC), 20)
    assert default_start(short) == datetime(2025, 3, 18, tzinfo=UTC)


def test_a_plan_without_options_covers_the_table_from_its_own_start_on():
    plan = planned(events(datetime(2025, 3, 10, tzinfo=UTC), 200), Options(), KNOBS)
    assert plan["start"] == "2025-05-01T00:00:00+00:00"
    assert plan["end"].startswith("2025-09-26")
    assert plan["candidates"] == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            Options(start=datetime(2014, 10, 1, tzinfo=UTC)),
            "--start 2014-10-01: found 0 rows before it, over 0 days; expected at least 200 "
            r"\(gate_min_rows\) over more than 38 days \(validation_days and test_days\). The "
            "table's rows go from 2025-03-10 to 2025-09-25. Choose a later --start",
        ),
        (
            Options(start=datetime(2025, 3, 20, tzinfo=UTC)),
            "found 100 rows before it, over 10 days",
        ),
        (
            Options(start=datetime(2026, 1, 1, tzinfo=UTC)),
            "found 0 rows from --start 2026-01-01 until 2025-09-26.*from 2025-03-10 to 2025-09-25",
        ),
        (
            Options(until=datetime(2025, 4, 30, tzinfo=UTC)),
            "found 0 rows from --start 2025-05-01 until 2025-04-30.*or a later --until",
        ),
    ],
)
def test_a_start_that_does_not_fit_the_table_is_refused_with_its_first_and_last_day(
    options, sentence
):
    with pytest.raises(ReplayError, match=sentence):
        planned(events(datetime(2025, 3, 10, tzinfo=UTC), 200), options, KNOBS)


def test_a_row_that_a_build_sets_aside_ends_no_replay(tmp_path):
    """One number that cannot be read, and one rule that is broken; the other rows are replayed."""
    table = TABLE.model_copy(update={"source": Source(path="rows.csv")})
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet").filter(pl.col("bedrooms") <= 15)
    texts = rows.head(400).cast(pl.String)
    first = pl.int_range(pl.len()) == 0
    second = pl.int_range(pl.len()) == 1
    texts.with_columns(
        bedrooms=pl.when(first).then(pl.lit("many")).otherwise("bedrooms"),
        price=pl.when(second).then(pl.lit("-5")).otherwise("price"),
    ).write_csv(tmp_path / "rows.csv")
    shutil.copy(ROOT / "env.yaml", tmp_path)
    assert replay._rows(Project(tmp_path), table).height == 398


def test_a_table_without_events_is_refused():
    none = events(datetime(2025, 3, 10, tzinfo=UTC), 200)[:0]
    with pytest.raises(ReplayError, match="0 rows with an event time"):
        planned(none, Options(), KNOBS)


def first_step(folder, monkeypatch, plan: dict, *, outcome="nothing", **state) -> list[str]:
    """The policies that were run to make the first step; running one is made up."""
    ran = []

    def run_lanes(at, policies, steps, _):
        ran.extend(policies)
        project = Project(at / policies[0])
        write_json(project.var / "replay.json", {"done": 1, "failed": 0} | state)
        turn = dict.fromkeys(turn_records.ALWAYS, "") | {"turn": 1, "outcome": outcome}
        write_json(project.var / "loop/turns/000001.json", turn)

    monkeypatch.setattr(replay_projects, "run_lanes", run_lanes)
    first = folder / "var/replay/first/abc"
    write_json(first / "var/replay.json", {"first": "1"})
    rows = pl.DataFrame({clock.EVENT_TS: events(START, 60)})
    replay_projects.first_step(first, rows, plan)
    return ran


PLAN = {"scenario": "storm", "step": "month", "start": START.isoformat()}
PLAN |= {"end": (START + timedelta(days=60)).isoformat(), "candidates": []}


def test_scenarios_take_the_same_first_step_once(tmp_path, monkeypatch):
    assert first_step(tmp_path, monkeypatch, PLAN) == ["first-step"]
    longer = PLAN | {"scenario": "concept", "end": (START + timedelta(days=50)).isoformat()}
    assert first_step(tmp_path, monkeypatch, longer) == []
    assert first_step(tmp_path, monkeypatch, PLAN | {"step": "week"}) == ["first-step"]


@pytest.mark.parametrize("trouble", [{"failed": 2}, {"outcome": "error"}])
def test_a_first_step_in_which_something_failed_is_taken_again(tmp_path, monkeypatch, trouble):
    assert first_step(tmp_path, monkeypatch, PLAN, **trouble) == ["first-step"]
    assert first_step(tmp_path, monkeypatch, PLAN) == ["first-step"]
    assert first_step(tmp_path, monkeypatch, PLAN) == []


@pytest.mark.parametrize(
    ("name", "shares"), [(n, not s.spoils_source) for n, s in SCENARIOS.items()] + [(None, False)]
)
def test_what_disturbs_the_first_turn_begins_with_the_first_version(
    tmp_path, monkeypatch, name, shares
):
    """So does the year: beside its loop the first version answers the same requests."""
    begun = []
    monkeypatch.setattr(replay_projects, "first_version", lambda *_: tmp_path / "first")
    monkeypatch.setattr(replay_projects, "first_step", lambda *_: tmp_path / "stepped")
    monkeypatch.setattr(replay_projects, "copy", lambda source, *_, **__: begun.append(source.name))
    project = Project(tmp_path)
    project.var.mkdir()
    rows = pl.DataFrame({clock.EVENT_TS: events(START, 60)})
    folder = tmp_path / "var/replay/x"
    about = {"contract": TABLE, "rows": rows, "plan": PLAN | {"scenario": name}}
    replay._prepare(project, folder, ["loop"], **about)
    assert begun == ["stepped" if shares else "first"]


def test_a_copy_that_was_interrupted_is_no_project(tmp_path, monkeypatch):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "file").touch()

    def interrupted(_source, target, **_):
        target.mkdir()
        write_json(target / "var" / "replay.json", {"first": "1"})
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(replay_projects.shutil, "copytree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            replay_projects.copy(tmp_path / "first", tmp_path / "loop")
    assert not replay_results.state_of(tmp_path / "loop")
    replay_projects.copy(tmp_path / "first", tmp_path / "loop")
    assert [path.name for path in (tmp_path / "loop").iterdir()] == ["file"]


def test_a_replays_result_is_a_table_of_five_policies_and_a_figure():
    months = [
        {"policy": p, "month": m, "rows": 10, "error": 0.1 + i / 100, "bias": -0.01}
        for i, p in enumerate(replay_results.NAMES)
        for m in ("2014-10", "2014-11")
    ]
    result = {"scenario": None, "months": months, "turns": [turn("promoted")], "failed": 0}
    result |= {"requests": 60, "retrains": {"loop": 1, "scheduled": 2}}
    errors = {"never": (0.13, -0.08), "scheduled": (0.125, -0.04), "loop": (0.117, -0.016)}
    result["last_months"] = {p: {"error": e, "bias": b} for p, (e, b) in errors.items()}
    told = "\n".join(replay_results.lines(result))
    assert "0 of 60 requests failed" in told
    assert "12.0 % (-1.00 %)" in told
    assert "the error is -10.0 %, the bias 0.20 of theirs" in told
    result["last_months"]["never"] = {"error": 0.117 * (1 + 1e-9), "bias": -0.016}
    same = "the error is +0.0 %, the bias 1.00 of theirs"  # a last bit has no sign
    assert same in "\n".join(replay_results.lines(result))
    (legend,) = replay_results.figure(result).legends
    assert [text.get_text() for text in legend.get_texts()] == list(replay_results.NAMES.values())


@pytest.mark.slow
def test_what_cannot_be_replayed_is_told(tmp_path):
    folder = make_project(tmp_path / "house")
    for words, reason in (
        (["tornado"], "no scenario 'tornado'; there are concept"),
        (["--step", "day"], "no step 'day'"),
    ):
        done = loopbook(folder, "replay", *words)
        assert done.returncode == 1
        assert reason in done.stderr


def test_a_replayed_project_makes_no_page_that_no_verdict_reads(tmp_path):
    project, contract = Project(ROOT), read_contract(ROOT / "contract.yaml")
    rows = sources.read_source(contract, ROOT).head(9)
    replay_projects._make_project(project, contract, tmp_path / "house", rows, [])
    assert read_knobs(project.knobs).monitor_report
    assert not read_knobs(tmp_path / "house" / "env.yaml").monitor_report


def test_a_replayed_project_knows_no_headers_of_the_source_that_it_was_made_from():
    """Its rows were written under the contract's names."""
    text = yaml.safe_load((ROOT / "contract.yaml").read_text())
    text["target"]["column"], text["headers"] = "Preis (€)", {"id": "Nr."}
    text["features"]["grade"]["column"] = "Note"
    replay_projects._forget_headers(text)
    table = Contract.model_validate(text)
    assert set(table.header_of.items()) == {(name, name) for name in table.columns}


def of_classes(task: str, classes: list[str]) -> Contract:
    number = {"type": "number", "example": 1.0, "meaning": "How large."}
    target = {"name": "kind", "classes": classes, "meaning": "What it is."}
    return Contract.model_validate(
        {
            **{"name": "things", "meaning": "A thing.", "task": task, "key": ["id"]},
            **{"source": {"path": "rows.parquet"}, "event_time": "day", "target": target},
            "features": {"size": number},
        }
    )


@pytest.mark.parametrize(
    ("task", "classes"), [("binary", ["on time", "late"]), ("multiclass", ["a", "b", "c"])]
)
def test_classes_move_to_the_yes_or_the_last_one_and_back(task, classes):
    table, rows = of_classes(task, classes), 8000
    kinds = pl.Series("kind", [classes[n % len(classes)] for n in range(rows)])
    for share in (0.15, -0.2):
        turned = moved(kinds, np.full(rows, share), table)
        goes = kinds != classes[-1] if share > 0 else kinds == classes[-1]
        assert (turned != kinds).filter(~goes).sum() == 0
        assert (turned != kinds).filter(goes).mean() == pytest.approx(abs(share), abs=0.02)
        assert (turned.filter(turned != kinds) == classes[-1]).all() == (share > 0)
        assert turned.equals(moved(kinds, np.full(rows, share), table))


def test_a_number_with_a_sign_moves_by_a_share_of_its_spread_and_stays_in_its_range():
    target = {"name": "delay", "unit": "minutes", "range": [-50.0, 55.0], "meaning": "Delay."}
    table = of_classes("binary", ["a", "b"]).model_dump(mode="json", exclude_defaults=True)
    table = Contract.model_validate(table | {"task": "regression", "target": target})
    delays = pl.Series("delay", np.linspace(-50, 50, 1001))
    up = moved(delays, np.full(1001, 0.1), table)
    assert (up - delays)[:500].to_numpy() == pytest.approx(9.0)  # of 90 minutes
    assert up.max() == 55


def test_the_result_of_a_replay_of_classes_is_in_their_measure(monkeypatch):
    table = of_classes("multiclass", ["a", "b", "c"])
    said = np.tile([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], (50, 1))
    rows = pl.DataFrame({"kind": ["a", "c"] * 50}).with_columns(
        task_of(table).column(said),
        as_of_ts=pl.Series([START + timedelta(days=d) for d in range(100)]),
    )
    of = replay_results._farthest_off(rows, task_of(table), table)
    months, last = replay_results._by_month({LOOP: rows}, task_of(table), table, of)
    assert {m["month"] for m in months} == {"2014-10", "2014-11", "2014-12", "2015-01"}
    assert last[LOOP]["error"] == pytest.approx(-np.log(0.6))
    assert of == "b"
    assert last[LOOP]["bias"] == pytest.approx(0.25, abs=0.01)
    told = {"scenario": None, "months": months, "last_months": last, "turns": []}
    told |= {"retrains": {LOOP: 1}, "failed": 0, "requests": 100, "bias_of": of}
    told |= {"measure": asdict(task_of(table).measure)}
    told |= {"bias_measure": asdict(task_of(table).bias_measure)}
    lines = "\n".join(replay_results.lines(told))
    assert "the log loss and the bias of the probability of b, by month" in lines
    assert "0.511 (+25.0 points)" in lines
    assert replay_results.figure(told).axes[0].get_ylabel() == "log loss"


# -- what a person sees while lanes run --------------------------------------------


def step_done(folder, policy: str, done: int, line: str) -> None:
    write_json(folder / policy / "var" / "replay.json", {"done": done, "line": line})


def test_a_step_is_a_line_with_a_bar_and_the_time_that_is_left(tmp_path, capsys):
    step_done(tmp_path, LOOP, 0, "the first version serves")
    told = replay_processes._Told(tmp_path, 20)
    told.beginning([LOOP])
    told.news([LOOP])
    assert capsys.readouterr() == ("", "")
    told.began -= 600
    step_done(tmp_path, LOOP, 5, "2014-11-05  watch, nothing, v1")
    told.news([LOOP])
    told.news([LOOP])
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert said.out == ""
    assert "[#####...............]  5/20 30 min left" in line
    assert line.strip().startswith("the loop ")
    assert line.endswith("2014-11-05  watch, nothing, v1")


def test_a_resumed_replay_says_where_each_policy_goes_on(tmp_path, capsys):
    step_done(tmp_path, LOOP, 3, "2014-10-22  healthy, nothing, v1")
    step_done(tmp_path, "scheduled", 4, "2014-10-29  nothing due")
    replay_processes._Told(tmp_path, 4).beginning([LOOP, "scheduled", "loop_raw"])
    first, second = capsys.readouterr().err.splitlines()
    assert "goes on after step 3 of 4: 2014-10-22" in first
    assert "all 4 steps are done" in second


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(below.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("windows", "days"), [([3, 28], 1), ([10], 3), ([30, 365], 7), ([], 7)])
def test_features_are_made_anew_before_the_shortest_window_is_over(windows, days):
    contract = SimpleNamespace(trailing={f"f{n}": SimpleNamespace(window_days=n) for n in windows})
    assert replay_lane.renewed_every(contract) == timedelta(days=days)


@pytest.mark.medium
def test_a_lane_that_does_not_end_is_killed_with_all_that_it_started():
    lane = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    below = psutil.Process(int(lane.stdout.readline()))
    replay_processes._end([lane])
    assert lane.returncode == -signal.SIGKILL
    assert psutil.wait_procs([below], timeout=10)[1] == []
    lane.stdout.close()


@pytest.mark.medium
def test_a_killed_lane_that_a_busy_machine_does_not_bury_at_once_is_no_error(monkeypatch):
    lane = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    lane.stdout.readline()
    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "poll", lambda _: None)
        patched.setattr(subprocess.Popen, "wait", late)
        replay_processes._end([lane])
    assert lane.wait(10) == -signal.SIGKILL
    lane.stdout.close()


def late(lane: subprocess.Popen, timeout: float):
    raise subprocess.TimeoutExpired(lane.args, timeout)


def test_a_control_without_a_level_begins_without_states_and_makes_none(tmp_path):
    first = tmp_path / "first"
    (first / "var").mkdir(parents=True)
    (first / "env.yaml").write_text("random_seed: 7\ncalibration: true  # of all\n")
    (first / "var" / "predictions.db").touch()
    replay_projects.copy(first, tmp_path / "loop")
    replay_projects.copy(first, tmp_path / "loop_raw", with_level=False)
    assert (tmp_path / "loop" / "var" / "predictions.db").exists()
    assert not (tmp_path / "loop_raw" / "var" / "predictions.db").exists()
    assert "calibration: false\n" in (tmp_path / "loop_raw" / "env.yaml").read_text()
