"""The verdict on calibrated answers: what a level mends asks for nothing, what it cannot mend does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import small_classes
from small_classes import NUMBER, SEVERAL, YES_OR_NO

from loopbook.data.splits import PART
from loopbook.models.calibration_states import State, likely_classes
from loopbook.models.evaluation import Confidence, Interval
from loopbook.models.measures import Measure
from loopbook.models.task import task_of
from loopbook.monitoring import findings, performance, record, verdict
from loopbook.monitoring.findings import IS_CURRENT, IS_JUDGED

SURE = Confidence(0.95, 400, 1)
SAID = Measure("error", "kg")
RULES = verdict.Rules(
    *(50, 100, 0.5, 1.0, 1.0, 14, SAID, SAID),
    slice_margin=2.0,
    coverage_margin=0.04,
    interval_level=0.9,
)
QUIET = Interval(0.0, -0.1, 0.1, 900)
WELL = verdict.Window(900, 900, 900, worse=QUIET, bias=QUIET, champion_age_days=60)
TOO_FEW = Interval(0.80, 0.77, 0.83, 900)
DAY = timedelta(days=1)


def rows(count: int, *, moved: float, spread: float = 5.0, about=None) -> pl.DataFrame:
    """Answers to things whose weight has risen by 10, with intervals of 9 in 10; `moved` by a level."""
    about, draw = about or small_classes.table(NUMBER), np.random.default_rng(1)
    raw = draw.normal(100, 20, count)
    observed = raw + 10 + draw.normal(0, spread, count)
    at = [datetime(2025, 1, 1, tzinfo=UTC) + place % 20 * DAY for place in range(count)]
    reach = 1.645 * spread
    return pl.DataFrame(
        {
            "as_of_ts": at,
            "raw": raw,
            "answer": raw + moved,
            "low": raw + moved - reach,
            "high": raw + moved + reach,
            "observed": observed,
            "zone": ["north", "south"] * (count // 2),
            IS_CURRENT: [True] * count,
            IS_JUDGED: [True] * count,
        }
    )


def unseen(count: int = 600) -> pl.DataFrame:
    told = rows(count, moved=10.0).with_columns(pl.col("answer").alias("raw"))
    return told.with_columns(pl.lit("test").alias(PART))


def found(now: pl.DataFrame, about=None) -> findings.Performance:
    about = about or small_classes.table(NUMBER)
    return findings.find_performance(now, unseen(), about, [], SURE, least_slice_rows=50)


def judge(now: pl.DataFrame, **facts) -> verdict.Verdict:
    window = findings.as_window(
        {"wanting": []} | facts,
        rows=now.height,
        columns=[],
        faults=[],
        errors=found(now),
        champion_age_days=60,
    )
    return verdict.judge(window, RULES)


@pytest.mark.medium
def test_a_bias_that_the_level_takes_away_asks_for_nothing_and_stands_in_the_record():
    without, with_level = rows(900, moved=0.0), rows(900, moved=10.0)
    assert judge(without).level == "retrain"
    judged = judge(with_level)
    assert judged.level == "healthy", judged.reasons
    numbers = record.make_numbers(900, found(with_level), [], {})
    assert numbers["raw_bias"] == pytest.approx(-10, abs=1)
    assert numbers["bias"] == pytest.approx(0, abs=1)
    again = findings.Performance.from_dict(found(with_level).as_dict())
    assert again == found(with_level)


def test_the_share_inside_the_intervals_is_counted_with_the_misses_on_each_side():
    held, late = found(rows(900, moved=10.0)), found(rows(900, moved=4.0))
    assert held.inside.low < 0.9 < held.inside.high
    assert held.above == pytest.approx(held.below, abs=0.03)
    assert late.above > 4 * late.below
    assert late.inside.mean + late.above + late.below == pytest.approx(1)
    weeks = [week["inside"] for week in late.periods]
    assert all(0.3 < share < 1 for share in weeks)


def test_answers_without_an_interval_have_no_coverage_and_an_old_log_no_raw_answers():
    old = rows(900, moved=10.0).drop("raw", "low", "high")
    told = found(old)
    assert told.inside is None
    assert told.raw_bias == told.bias


def test_intervals_that_surely_hold_too_few_are_watched_and_then_call_for_retraining():
    once = verdict.judge(replace(WELL, inside=TOO_FEW), RULES)
    assert once.level == "watch"
    assert (
        "too few of the observed targets: 80.0 % (77.0 % to 83.0 %, n = 900) of 90 %"
        in once.sentence
    )
    again = verdict.judge(replace(WELL, inside=TOO_FEW, was_uncovered=True), RULES)
    assert again.level == "retrain"
    assert "in the window before" in again.sentence
    unsure = Interval(0.84, 0.81, 0.87, 300)
    assert verdict.judge(replace(WELL, inside=unsure, was_uncovered=True), RULES).level == "healthy"


def test_the_window_before_counts_only_where_the_same_version_answered():
    facts = {"champion": {"version": "2"}}
    before = [{"champion": {"version": "2"}, "uncovered": True}]
    assert record.was_uncovered(before, facts)
    assert not record.was_uncovered([{"champion": {"version": "1"}, "uncovered": True}], facts)
    assert not record.was_uncovered([{"champion": {"version": "2"}}], facts)
    assert not record.was_uncovered([], {"champion": {}})


def test_a_calibration_at_its_bound_is_an_alert_and_one_that_stands_still_is_none():
    state = {"reason": "the level is 0.9 and the bound 0.5.", "at_bound": True}
    judged = judge(rows(900, moved=10.0), calibration=state)
    assert judged.level == "retrain"
    assert judged.sentence.endswith("the level is 0.9 and the bound 0.5.")
    assert judge(rows(900, moved=10.0), calibration=state | {"at_bound": False}).level == "healthy"


def test_a_slice_that_drifts_apart_is_what_one_level_cannot_mend():
    about = small_classes.table(NUMBER).model_copy(update={"slices": {"zone": None}})
    name = "zone"
    both = [("a", 8.0), ("b", -8.0)]
    now = rows(1200, moved=10.0, about=about)
    apart = pl.concat(
        now[place::2].with_columns(pl.lit(value).alias(name), pl.col("answer") + off)
        for place, (value, off) in enumerate(both)
    )
    told = performance.moved_slices(
        apart, _sliced(unseen(), name), about, SURE, of=about.target.name, least_rows=50
    )
    assert {n: round(i.mean / 8) for n, i in told.items()} == {f"{name} a": 1, f"{name} b": -1}
    once = verdict.judge(replace(WELL, apart=told), RULES)
    assert once.level == "watch"
    assert f"{name} a drifts apart" in once.sentence
    again = verdict.judge(replace(WELL, apart=told, was_apart=[f"{name} a"]), RULES)
    assert again.level == "retrain"
    assert "window before" in again.reasons[0]
    assert "window before" not in again.reasons[1]


def test_a_level_that_moves_under_every_slice_is_no_drift_apart():
    about = small_classes.table(NUMBER).model_copy(update={"slices": {"zone": None}})
    now = _sliced(rows(1200, moved=10.0, about=about), "zone")
    raised = now.with_columns(pl.col("answer") + 8.0)
    told = performance.moved_slices(
        raised, _sliced(unseen(), "zone"), about, SURE, of=about.target.name, least_rows=50
    )
    assert all(i.low < 0 < i.high for i in told.values())
    assert len(told) == 2


def test_which_slices_were_apart_is_asked_of_the_same_version():
    before, facts = {"champion": {"version": "2"}, "apart": ["a"]}, {"champion": {"version": "2"}}
    assert record.was_apart([before], facts) == ["a"]
    assert record.was_apart([before | {"champion": {"version": "1"}}], facts) == []


def _sliced(some: pl.DataFrame, name: str) -> pl.DataFrame:
    return some.with_columns(pl.Series(name, ["a", "b"] * (some.height // 2)))


def test_probabilities_have_a_raw_bias_beside_the_answered_one():
    about = small_classes.table(YES_OR_NO)
    draw, kind = np.random.default_rng(2), pl.Array(pl.Float64, 2)
    observed = np.where(draw.random(900) < 0.6, "yes", "no")
    flat = lambda p: pl.Series([[p, 1 - p]] * 900, dtype=kind)  # noqa: E731
    now = (
        rows(900, moved=0.0)
        .drop("low", "high")
        .with_columns(raw=flat(0.4), answer=flat(0.6), observed=pl.Series(observed))
    )
    before = now.with_columns(pl.lit("test").alias(PART))
    told = findings.find_performance(now, before, about, [], SURE, least_slice_rows=50)
    assert told.raw_bias.mean == pytest.approx(-0.2, abs=0.05)
    assert told.bias.mean == pytest.approx(0.0, abs=0.05)


# -- sets of classes --


def of_kinds(count: int, least: float, *, off: float = 0.0) -> pl.DataFrame:
    """What happened as often as was said, where `off` is 0; else the last class more often."""
    task = task_of(small_classes.table(SEVERAL))
    draw = np.random.default_rng(3)
    said = draw.dirichlet([1.0, 1.0, 1.0], count)
    true = (1 - off) * said + off * np.eye(3)[-1]
    happened = (true.cumsum(axis=1) < draw.random(count)[:, None]).sum(axis=1)
    names = [task.classes[k] for k in np.minimum(happened, 2)]
    return (
        rows(count, moved=0.0)
        .drop("raw", "low", "high")
        .with_columns(
            task.column(said).alias("answer"),
            pl.Series("observed", names),
            pl.lit(least).alias("least"),
        )
    )


def test_the_share_that_sets_of_classes_held_is_that_of_the_sets_that_were_answered():
    about, now = small_classes.table(SEVERAL), of_kinds(900, least=0.2)
    told = performance.inside_intervals(task_of(about), now, SURE)
    at = datetime(2025, 1, 1, tzinfo=UTC)
    state = State(at, (0.0,) * 3, 900, (), (), (), 0.2, "", False, False, "")
    sets = likely_classes(task_of(about), task_of(about).of_column(now["answer"]), state)
    held = [name in some for name, some in zip(now["observed"], sets, strict=True)]
    assert told["inside"].mean == pytest.approx(np.mean(held))
    assert told["set_size"] == pytest.approx(np.mean([len(some) for some in sets]))
    assert (told["above"], told["below"]) == (None, None)
    without = now.with_columns(pl.lit(None, pl.Float64).alias("least"))
    assert performance.inside_intervals(task_of(about), without, SURE) == {}


@pytest.mark.medium
def test_sets_that_hold_too_few_are_watched_and_those_that_hold_too_many_are_not():
    """Sets of one class hold more than the level where the model is right more often."""
    about = small_classes.table(SEVERAL)
    before = of_kinds(900, least=0.2).with_columns(pl.lit("test").alias(PART))

    def window(now: pl.DataFrame, **facts) -> verdict.Verdict:
        told = findings.find_performance(now, before, about, [], SURE, least_slice_rows=50)
        assert record.make_numbers(900, told, [], {})["set_size"] == told.set_size > 1
        assert findings.Performance.from_dict(told.as_dict()) == told
        inside = replace(WELL, inside=told.inside, has_sets=told.set_size is not None, **facts)
        return verdict.judge(inside, RULES)

    few = of_kinds(900, least=0.45, off=0.3)
    assert window(few).level == "watch"
    assert "the sets hold too few of the observed targets" in window(few).sentence
    assert window(few, was_uncovered=True).level == "retrain"
    assert window(of_kinds(900, least=0.01), was_uncovered=True).level == "healthy"


def test_by_week_sets_have_their_share_too():
    about = small_classes.table(SEVERAL)
    weeks = performance.by_period(
        task_of(about), of_kinds(900, 0.2), SURE, of=about.target.classes[0]
    )
    assert weeks["inside"].is_between(0.7, 1).all()
    assert weeks["above"].null_count() == weeks.height
