"""Calibration states: what a level of the newest truths is, and what it cannot be moved by."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from test_task import KINDS, YES, table

from loopbook.models import residual_quantiles
from loopbook.models.calibration_states import (
    Rule,
    State,
    Stillness,
    decide,
    interval,
    likely_classes,
    moved,
    shifts_at,
)
from loopbook.models.task import Task, task_of
from loopbook.project.knobs import read_knobs

START = datetime(2026, 1, 1, tzinfo=UTC)
LOG = task_of(table(transform="log", range=[1e-6, 1e9]))
PLAIN = task_of(table())
YES_NO = task_of(table("binary", **YES))
THREE = task_of(table("multiclass", **KINDS))
SPREAD = 0.1


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def truths(task: Task, at_days, raw, observed, delay: float = 1.0) -> pl.DataFrame:
    at = pl.Series([day(float(d)) for d in at_days], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "at": at,
            "known_ts": at + timedelta(days=delay),
            "raw": task.column(np.asarray(raw)),
            "observed": pl.Series(observed, dtype=task.observed_type),
        }
    )


def of_numbers(off, days: int = 60, rows: int = 20, delay: float = 1.0, seed: int = 0):
    """A day's truths are off by `off(day)` in log units, and each by chance."""
    draw = np.random.default_rng(seed)
    at = np.repeat(np.arange(days), rows) + draw.random(days * rows)
    raw = np.exp(draw.normal(3, 1, len(at)))
    levels = np.array([off(d) for d in np.repeat(np.arange(days), rows)])
    observed = raw * np.exp(levels + draw.normal(0, SPREAD, len(at)))
    return truths(LOG, at, raw, observed, delay)


def calm(_: float) -> float:
    return 0.0


def shift(frame: pl.DataFrame, at: float = 60) -> float:
    return decide(LOG, frame, day(at), Rule()).shift[-1]


def test_a_level_that_truths_have_is_found_and_a_calm_one_stays_at_nothing():
    assert abs(shift(of_numbers(calm))) < 0.02
    assert shift(of_numbers(lambda d: 0.15 * (d > 20))) == pytest.approx(0.15, abs=0.03)


def test_a_trend_is_followed_to_today_though_truths_come_weeks_late():
    """A mean of the newest truths would be three weeks behind."""
    rising = of_numbers(lambda d: 0.004 * d, days=90, rows=60, delay=14)
    assert shift(rising, 90) == pytest.approx(0.004 * 90, abs=0.04)


def test_only_what_is_known_by_the_instant_moves_an_answer():
    frame = of_numbers(lambda d: 0.2)
    known = frame.filter(pl.col("known_ts") <= day(30))
    assert decide(LOG, frame, day(30), Rule()) == decide(LOG, known, day(30), Rule())
    assert shift(frame, 0.5) == 0


@pytest.mark.medium
@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False), st.floats(3, 60))
def test_the_same_rows_and_instant_give_the_same_bits_in_any_order(random, at):
    frame = of_numbers(lambda d: 0.01 * d, rows=5)
    order = list(range(frame.height))
    random.shuffle(order)
    there = decide(LOG, frame, day(at), Rule())
    assert decide(LOG, frame[order], day(at), Rule()).as_json() == there.as_json()


@pytest.mark.parametrize("task", [LOG, YES_NO, THREE], ids=["number", "yes or no", "classes"])
def test_the_shifts_of_many_instants_are_those_of_states_as_of_their_midnights(task):
    frame = of_numbers(lambda d: 0.01 * d) if task is LOG else of_classes(task, 0.5)
    instants = [day(d) for d in (-3, 0.3, 7.9, 20, 41.2, 59.999)]
    found = shifts_at(task, frame, instants, Rule())
    for instant, row in zip(instants, found, strict=True):
        midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
        assert decide(task, frame, midnight, Rule()).shift == tuple(row.tolist())
    assert not found[0].any()
    assert found[-1].any()


def test_a_clock_that_is_set_back_gives_the_bits_of_then():
    frame = of_numbers(lambda d: 0.01 * d)
    before = decide(LOG, frame, day(30), Rule())
    decide(LOG, frame, day(50), Rule())
    assert decide(LOG, frame, day(30), Rule()) == before


def test_a_state_is_the_same_to_the_bit_after_it_was_written_and_read():
    for state in (
        decide(LOG, of_numbers(lambda d: 0.1), day(60), Rule()),
        decide(THREE, of_classes(THREE, 0.7), day(60), Rule()),
    ):
        assert State.of_json(state.as_json()) == state


def of_classes(task: Task, pull: float, days: int = 60, rows: int = 40, seed: int = 0):
    """What happens has the last class's log odds raised by `pull` above what was said."""
    draw = np.random.default_rng(seed)
    at = np.repeat(np.arange(days), rows) + draw.random(days * rows)
    logs = draw.normal(0, 1, (len(at), task.width)) - [*[0.0] * (task.width - 1), 1.0]
    said, true = softmax(logs, axis=1), softmax(logs + np.eye(task.width)[-1] * pull, axis=1)
    places = (true.cumsum(axis=1) < draw.random(len(at))[:, None]).sum(axis=1)
    return truths(task, at, said, [task.classes[k] for k in places])


@pytest.mark.parametrize("task", [YES_NO, THREE], ids=["yes or no", "classes"])
@pytest.mark.parametrize("pull", [-0.6, 0.6])
def test_the_log_odds_of_a_class_are_moved_to_what_happens(task, pull):
    found = np.array(decide(task, of_classes(task, pull), day(60), Rule(most=2.0)).shift)
    assert found[-1] - found[:-1].mean() == pytest.approx(pull, abs=0.15)
    assert task is THREE or found[0] == 0


def test_confident_probabilities_that_are_wrong_do_not_throw_the_level_over():
    """Of 0.001 that comes true one time in ten, the Newton step would be a hundred log odds."""
    said = np.tile([0.999, 0.001], (2400, 1))
    happened = np.where(np.arange(2400) % 10 == 0, "yes", "no")
    frame = truths(YES_NO, np.arange(2400) / 40, said, happened)
    path = shifts_at(YES_NO, frame, [day(d) for d in range(61)], Rule(most=9.0))[:, 1]
    right = np.log(0.1 / 0.9) - np.log(0.001 / 0.999)
    assert path.max() < right
    assert path[-1] > 0.75 * right


def test_where_days_differ_the_mean_probability_is_still_the_share_of_what_happened():
    """A bad day is no better witness than a calm one, as it would be at its own optimum."""
    draw = np.random.default_rng(0)
    odds = np.repeat(draw.choice([-3.0, 0.0], 200, p=[0.7, 0.3]), 40)
    happened = np.where(draw.random(8000) < 1 / (1 + np.exp(-odds)), "yes", "no")
    frame = truths(YES_NO, np.arange(8000) / 40, np.tile([0.75, 0.25], (8000, 1)), happened)
    shifts = shifts_at(YES_NO, frame, frame["at"], Rule())
    said = moved(YES_NO, YES_NO.of_column(frame["raw"]), shifts)[2000:, 1]
    assert said.mean() == pytest.approx((happened[2000:] == "yes").mean(), abs=0.012)


# -- what goes wrong --

BOUND, A_DAY = 3 * SPREAD, 3 * SPREAD / 14


def path(frame: pl.DataFrame, days: int = 90, task: Task = LOG) -> np.ndarray:
    return shifts_at(task, frame, [day(d) for d in range(days)], Rule())[:, -1]


def assert_within_bounds(found: np.ndarray, bound: float = BOUND, a_day: float = A_DAY):
    assert np.abs(found).max() <= bound * 1.1  # the spread is estimated
    assert np.abs(np.diff(found)).max() <= a_day * 1.1


def test_truths_in_another_unit_for_a_week_stay_within_the_bounds_and_are_forgotten():
    found = path(of_numbers(lambda d: np.log(3.28) * (30 <= d < 37), days=90))
    assert_within_bounds(found)
    assert 0.05 < found.max() <= BOUND * 1.1  # they do move it, or the bounds were not asked
    assert abs(found[80]) < 0.03


def test_a_unit_that_stays_wrong_ends_at_the_bound_and_says_so():
    frame = of_numbers(lambda d: np.log(1000) * (d >= 30), days=90)
    state = decide(LOG, frame, day(90), Rule())
    assert state.at_bound
    assert state.shift[0] == pytest.approx(BOUND, rel=0.1)
    assert "at its bound" in state.reason
    assert not decide(LOG, frame, day(29), Rule()).at_bound


def test_a_swapped_sign_stays_within_the_bounds():
    draw = np.random.default_rng(0)
    raw = draw.normal(50, 5, 1800)
    sign = np.where(np.arange(1800) < 900, 1, -1)
    frame = truths(PLAIN, np.arange(1800) / 20, raw, sign * (raw + draw.normal(0, 1, 1800)))
    assert_within_bounds(path(frame, task=PLAIN), bound=3.0, a_day=3 / 14)


def test_one_clients_inverted_truths_leave_the_others_answers_almost_alone():
    """One truth in ten says yes where it was no, from some day on."""
    frame = of_classes(YES_NO, 0.0, days=90)
    chosen = (pl.int_range(pl.len()) % 10 == 0) & (pl.col("at") >= day(30))
    other = pl.when(pl.col("observed") == "yes").then(pl.lit("no")).otherwise(pl.lit("yes"))
    inverted = frame.with_columns(
        pl.when(chosen).then(other).otherwise("observed").alias("observed")
    )
    assert_within_bounds(path(inverted, task=YES_NO), bound=0.4, a_day=0.15)


def test_labels_that_come_two_months_late_and_at_once_stay_within_the_bounds():
    frame = of_numbers(lambda d: 0.002 * d, days=90)
    late = pl.when(pl.col("at") >= day(30)).then(pl.lit(day(89.5))).otherwise("known_ts")
    found = path(frame.with_columns(known_ts=late), 120)
    assert_within_bounds(found)
    assert found[119] == pytest.approx(0.2, abs=0.06)


def test_a_trend_is_not_followed_for_ever_when_truths_stop():
    found = path(of_numbers(lambda d: 0.004 * d, days=40), 400)
    assert np.abs(found).max() < 0.004 * 80
    assert found[399] == 0


def test_a_thousand_truths_for_one_entity_on_a_day_count_as_fifty():
    """They are seven times a day's rows, and off by seven times the bound."""
    frame = of_numbers(calm)
    one = of_numbers(lambda d: 2.0, days=1, rows=1000).with_columns(
        pl.col("at", "known_ts") + timedelta(days=55)
    )
    flooded = path(pl.concat([frame, one]), 70)
    assert_within_bounds(flooded)
    assert np.abs(flooded[69]) < BOUND / 3


def test_one_truth_is_not_enough_and_the_state_says_so():
    state = decide(LOG, of_numbers(lambda d: 0.5, days=1, rows=1), day(60), Rule())
    assert (state.shift, state.truths, state.low) == ((0.0,), 1, ())
    assert "1 truth is known, expected 30 or more" in state.reason


def test_no_truth_is_no_shift_and_no_interval():
    frame = of_numbers(calm).clear()
    assert decide(LOG, frame, day(60), Rule()).shift == (0.0,)
    assert decide(THREE, of_classes(THREE, 0.0).clear(), day(60), Rule()).shift == (0.0, 0.0, 0.0)
    assert np.isnan(interval(LOG, np.ones(2), decide(LOG, frame, day(60), Rule()))).all()
    assert shifts_at(LOG, frame, [day(3)], Rule()).tolist() == [[0.0]]


def test_residuals_that_are_all_the_same_are_taken_away():
    frame = truths(PLAIN, np.arange(600) / 10, np.full(600, 10.0), np.full(600, 12.0))
    state = decide(PLAIN, frame, day(60), Rule())
    assert state.shift[0] == pytest.approx(2.0, abs=0.1)
    assert np.ptp(interval(PLAIN, np.array([12.0]), state)) < 0.5


def test_answers_and_truths_that_are_no_number_do_not_count():
    frame = of_numbers(lambda d: 0.1)
    nothing = [float("nan"), None, float("inf"), 0.0, -1.0]
    worthless = frame.head(5).with_columns(raw=pl.Series(nothing, dtype=pl.Float64))
    worthless = pl.concat(
        [worthless, worthless.with_columns(raw=1.0, observed=pl.Series(nothing, dtype=pl.Float64))]
    )
    assert decide(LOG, pl.concat([worthless, frame]), day(60), Rule()) == decide(
        LOG, frame, day(60), Rule()
    )
    unknown = of_classes(YES_NO, 0.2).with_columns(observed=pl.lit("perhaps"))
    assert decide(YES_NO, unknown, day(60), Rule()).truths == 0


def test_a_corrected_truth_moves_the_level_from_its_correction_on():
    wrong = of_numbers(lambda d: 0.3 * (d >= 30))
    right = of_numbers(calm).with_columns(
        known_ts=pl.when(pl.col("at") >= day(30)).then(pl.lit(day(59.5))).otherwise("known_ts")
    )
    assert shift(wrong, 58) > 0.2
    assert abs(shift(right, 60)) < 0.02


def test_a_row_that_was_called_broken_counts_as_it_did_until_then_and_leaves_no_trace_in_its_day():
    wrong = pl.when(pl.col("at") >= day(30)).then(pl.lit(day(50))).otherwise(None)
    frame = of_numbers(lambda d: 0.3 * (d >= 30))
    called = frame.with_columns(until_ts=wrong.cast(pl.Datetime("us", "UTC")))
    assert decide(LOG, called, day(49.9), Rule()) == decide(LOG, frame, day(49.9), Rule())
    found = path(called, 90)
    assert found[49] > 0.2
    assert_within_bounds(found)
    right = frame.filter(pl.col("at") < day(30))
    assert found[89] == path(right, 90)[89]
    last, alone = (decide(LOG, rows, day(89), Rule()) for rows in (called, right))
    assert (last.low, last.high, last.truths) == (alone.low, alone.high, alone.truths)


def test_a_state_that_stands_still_repeats_the_one_before_and_says_why():
    frame = of_numbers(lambda d: 0.01 * d)
    before = decide(LOG, frame, day(30), Rule())
    still = decide(LOG, frame, day(40), Rule(), Stillness("inputs are broken", before))
    assert (still.shift, still.low, still.truths) == (before.shift, before.low, before.truths)
    assert (still.as_of, still.stands_still) == (day(40), True)
    assert still.reason == "it stands still, as before, because inputs are broken."
    alone = decide(LOG, frame, day(40), Rule(), Stillness("inputs are broken"))
    assert alone.shift == (0.0,)


def test_a_state_that_is_not_made_anew_stands_for_a_month_and_then_fades_and_says_so():
    state = decide(LOG, of_numbers(lambda _: 0.2), day(60), Rule())
    assert state.aged(28) is state
    assert state.aged(42).shift == pytest.approx([state.shift[0] / 2])
    assert "it is 42 days old, so 50% of it is left" in state.aged(42).reason
    assert state.aged(400).shift == pytest.approx([0], abs=1e-8)
    assert state.aged(400).low == state.low
    slower = decide(LOG, of_numbers(lambda _: 0.2), day(60), Rule(half_life_days=21))
    assert slower.aged(42) is slower


def test_a_hundred_thousand_truths_are_few_numbers_to_the_line():
    """Each truth is looked at once, and a day is one point: no step reads all rows again."""
    from loopbook.models import shift_walks
    from loopbook.models import truths as known

    rows = known.of_frame(LOG, of_numbers(calm, days=100, rows=100), day(100))
    walk = shift_walks.Walk(LOG, rows, Rule(), known.microseconds(day(100)))
    assert len(list(walk.midnights())) == 99
    assert len(walk.weights) == 100 + walk.window + 1
    assert walk.rows.sum() == walk.taken == len(rows)


# -- intervals --


@pytest.mark.medium
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_an_interval_holds_the_share_of_truths_that_was_asked_for(level):
    frame = of_numbers(lambda d: 0.002 * d, days=120, rows=30)
    held = []
    for number in range(60, 120, 3):
        rows = frame.filter(pl.col("at").is_between(day(number), day(number + 1)))
        state = decide(LOG, frame, day(number), Rule(interval=level))
        low, high = interval(LOG, moved(LOG, rows["raw"].to_numpy(), state.shift), state)
        observed = rows["observed"].to_numpy()
        held.append(np.mean((low <= observed) & (observed <= high)))
    assert np.mean(held) == pytest.approx(level, abs=0.035)


def test_rows_of_different_size_have_intervals_of_their_own_only_where_they_differ():
    frame = of_numbers(calm)
    assert decide(LOG, frame, day(60), Rule()).cuts == ()
    noisy = np.where(frame["raw"].log() > 3, 4.0, 0.25)
    residual = (frame["observed"] / frame["raw"]).log().to_numpy() * noisy
    uneven = frame.with_columns(observed=frame["raw"].to_numpy() * np.exp(residual))
    state = decide(LOG, uneven, day(60), Rule())
    small, large = (np.ptp(np.log(interval(LOG, np.array([a]), state))) for a in (5.0, 80.0))
    assert len(state.cuts) == 2
    assert large > 5 * small


def test_rows_that_err_alike_within_a_day_count_as_fewer_and_widen_the_interval():
    """The same residuals, with their days and with days that say nothing."""
    draw = np.random.default_rng(0)
    days = np.repeat(np.arange(28), 30)
    off = np.repeat(draw.normal(0, 1, 28), 30) + draw.normal(0, 0.2, 840)
    alike, apart = (
        residual_quantiles.of_numbers(off, np.zeros(840), of_days, 0.9)
        for of_days in (days, draw.permutation(days))
    )
    assert alike.low[0] < apart.low[0]
    assert apart.high[0] < alike.high[0]
    exact = np.sort(off)[[41, -42]]  # (840 + 1) * 0.05 = 42.05 rows lie beyond each end
    assert [apart.low[0], apart.high[0]] == pytest.approx(exact, abs=0.05)


def test_an_interval_stays_in_the_range_that_a_target_can_have():
    task = task_of(table(range=[0.0, 100.0]))
    draw = np.random.default_rng(0)
    frame = truths(task, np.arange(600) / 10, np.full(600, 50.0), draw.uniform(0, 100, 600))
    low, high = interval(task, np.array([2.0, 99.0]), decide(task, frame, day(60), Rule()))
    assert low[0] == 0
    assert high[1] == 100


@pytest.mark.parametrize("task", [YES_NO, THREE], ids=["yes or no", "classes"])
def test_a_set_of_classes_holds_what_happens_at_the_level_and_never_nothing(task):
    frame = of_classes(task, 0.5, days=120)
    asked = frame.filter(pl.col("at") >= day(90))
    state = decide(task, frame, day(90), Rule(interval=0.8))
    sets = likely_classes(task, moved(task, task.of_column(asked["raw"]), state.shift), state)
    held = [was in told for was, told in zip(asked["observed"], sets, strict=True)]
    assert np.mean(held) == pytest.approx(0.8, abs=0.05)
    assert min(map(len, sets)) == 1


def test_no_shift_leaves_the_bits_of_an_answer_alone():
    raw = np.array([1.1, 2.7, 1e-3])
    assert moved(LOG, raw, (0.0,)).tobytes() == raw.tobytes()
    assert moved(LOG, raw, (np.log(2),)) == pytest.approx(2 * raw)
    assert moved(PLAIN, raw, (1.0,)) == pytest.approx(raw + 1)
    said = np.array([[0.5, 0.5], [0.2, 0.8]])
    assert moved(YES_NO, said, (0.0, np.log(3)))[0] == pytest.approx([0.25, 0.75])


def test_the_rule_is_what_knobs_and_contract_say():
    knobs = read_knobs(Path(__file__).parents[1] / "env.yaml", {"calibration_most": 0.5})
    rule = Rule.of(knobs, table(interval=0.8))
    assert rule == Rule(most=0.5, interval=0.8)
