"""The verdict: pure rules, and real sales with something done to them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor
from small_house import ROOT

from loopbook.data import sources, validation
from loopbook.data.splits import PART
from loopbook.models.evaluation import Confidence, Interval
from loopbook.models.task import task_of
from loopbook.monitoring import drift, findings, quality, verdict
from loopbook.project import clock, knobs
from loopbook.project.contract import read_contract
from loopbook.project.errors import MonitorError
from loopbook.project.files import sha256
from loopbook.records import verdicts
from loopbook.registry import reference
from loopbook.registry.reader import Version
from loopbook.registry.reference import column_types, monitored

TABLE = read_contract(ROOT / "contract.yaml").model_copy(update={"history": None, "derived": {}})
TASK = task_of(TABLE)
USUAL = 0.25  # the loss and the mean absolute bias of a baseline
KNOBS = knobs.read_knobs(ROOT / "env.yaml")
RULES = verdict.Rules(
    min_rows=KNOBS.monitor_min_rows,
    min_labels=KNOBS.monitor_min_labels,
    min_coverage=KNOBS.monitor_min_coverage,
    error_margin=KNOBS.monitor_error_margin * USUAL,
    bias_margin=KNOBS.monitor_bias_margin * USUAL,
    cooldown_days=KNOBS.monitor_cooldown_days,
    said=TASK.measure,
    said_bias=TASK.bias_measure,
)
INPUTS = monitored(TABLE)


class World:
    """Real sales in random order, so that nothing has drifted, and a model of half of them."""

    def __init__(self):
        raw = sources.read_source(TABLE, ROOT)
        known, _ = sources.known_by(raw, None, TABLE, now=clock.utc_now())
        kept, _ = validation.without_known_faults(known, TABLE)
        rows = validation.conform(kept, TABLE).sample(fraction=1, shuffle=True, seed=3)
        kinds = {n: k for n, k in column_types(TABLE).items() if n in INPUTS}
        rows = rows.select(
            *[pl.col(n).cast(k) for n, k in kinds.items()],
            pl.col(TABLE.target.name).cast(pl.Float64).alias("observed"),
        )
        self.codes = {v: i for i, v in enumerate(sorted(rows["zipcode"].unique()))}
        fitted_on, tested, self.fresh = rows[:9000], rows[9000:11000], rows[11000:]
        self.model = HistGradientBoostingRegressor(random_state=0, max_iter=150)
        self.model.fit(self.matrix(fitted_on), np.log(fitted_on["observed"].to_numpy()))
        parts = [some.with_columns(answer=self.answers(some)) for some in (fitted_on, tested)]
        named = zip(parts, ("train", "test"), strict=True)
        self.reference = pl.concat(p.with_columns(pl.lit(n).alias(PART)) for p, n in named)

    def matrix(self, rows: pl.DataFrame) -> np.ndarray:
        coded = pl.col("zipcode").replace_strict(self.codes, default=None, return_dtype=pl.Float64)
        numbers = rows.select(INPUTS).with_columns(coded).cast(pl.Float64)
        return numbers.fill_null(np.nan).to_numpy()

    def answers(self, rows: pl.DataFrame) -> pl.Series:
        return pl.Series(np.exp(self.model.predict(self.matrix(rows))))

    def window(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows as the log gives them: answered, of one window, all with their ground truth."""
        at = pl.datetime_range(
            *(pl.datetime(2015, 1, 1), pl.datetime(2015, 1, 21), "1d"), time_zone="UTC", eager=True
        )
        return rows.with_columns(
            answer=self.answers(rows),
            as_of_ts=pl.Series(np.resize(at.to_numpy(), rows.height)).dt.replace_time_zone("UTC"),
            is_current=pl.lit(value=True),
            is_judged=pl.lit(value=True),
        )

    def judge(self, rows: pl.DataFrame, *, age: float | None = 100) -> verdict.Verdict:
        rules = findings.DriftRules(
            KNOBS.monitor_false_alarms, KNOBS.monitor_drift_floor, KNOBS.monitor_min_rows, 1
        )
        columns = findings.find_drift(rows, self.reference, TABLE, INPUTS, rules)
        margin = KNOBS.monitor_quality_margin
        faults = findings.find_faults(
            *(rows, self.reference, TABLE, INPUTS), margin=margin, least_rows=RULES.min_rows
        )
        found = findings.find_performance(
            *(rows, self.reference, TABLE, INPUTS, Confidence(0.95, 300, 1)), least_slice_rows=50
        )
        window = findings.as_window(
            {"wanting": []},
            rows=rows.height,
            columns=columns,
            faults=faults,
            errors=found,
            champion_age_days=age,
        )
        return verdict.judge(window, RULES)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def dearer(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("observed") * 1.15)


def square_metres(rows: pl.DataFrame) -> pl.DataFrame:
    """Three rows in ten come from a source that measures otherwise."""
    other = pl.int_range(pl.len()) % 10 < 3
    size = pl.col("sqft_living")
    return rows.with_columns(pl.when(other).then(size * 0.0929).otherwise(size))


@pytest.mark.medium
def test_nothing_changed_is_healthy(world):
    found = world.judge(world.window(world.fresh[:1500]))
    assert found.level == "healthy", found.reasons
    assert "has not grown beyond the margin since promotion" in found.sentence


@pytest.mark.medium
def test_more_expensive_neighbourhoods_without_more_error_are_watched(world):
    level = dict(world.reference.group_by("zipcode").agg(pl.col("observed").median()).iter_rows())
    ranked = world.fresh.with_columns(
        order=pl.col("zipcode").replace_strict(level, return_dtype=pl.Float64)
    ).sort("order")
    found = world.judge(world.window(ranked[-4000:].sample(1500, seed=1).drop("order")))
    assert found.level == "watch", found.reasons
    assert "moved: distance" in found.reasons[0]


@pytest.mark.medium
def test_prices_up_by_15_per_cent_call_for_retraining(world):
    found = world.judge(world.window(dearer(world.fresh[:1500])))
    assert found.level == "retrain", found.reasons
    assert "predicts too little" in found.reasons[0]
    assert "the error has grown by" in found.reasons[1]


@pytest.mark.medium
def test_square_metres_from_one_source_ask_for_a_person_and_never_retrain(world):
    for rows in (world.fresh[:1500], dearer(world.fresh[:1500])):
        found = world.judge(world.window(square_metres(rows)))
        assert found.level == "investigate", found.reasons
        assert "sqft_living lies outside" in found.reasons[0]
        assert "square metres for square feet" in found.reasons[0]


@pytest.mark.medium
def test_an_emptied_column_asks_for_a_person(world):
    emptied = world.fresh[:1500].with_columns(pl.lit(None, pl.Float64).alias("grade"))
    found = world.judge(world.window(emptied))
    assert found.level == "investigate"
    assert "grade is missing in 100.0 %" in " ".join(found.reasons)


@pytest.mark.medium
def test_infinities_count_as_missing(world):
    rows = world.window(world.fresh[:600]).with_columns(pl.lit(np.inf).alias("sqft_lot"))
    assert "sqft_lot is missing in 100.0 %" in world.judge(rows).reasons[0]


@pytest.mark.medium
def test_prices_in_thousands_are_broken_ground_truth_and_no_reason_to_retrain(world):
    thousands = world.fresh[:1500].with_columns(pl.col("observed") / 1000)
    found = world.judge(world.window(thousands))
    assert found.level == "investigate"
    assert "thousands for ones" in found.reasons[0]


@pytest.mark.medium
def test_too_little_ground_truth_is_watched_and_never_healthy(world):
    rows = world.window(dearer(world.fresh[:1500])).with_row_index("place")
    few = rows.with_columns(is_judged=pl.col("place") < 120).drop("place")
    found = world.judge(few)
    assert found.level == "watch"
    assert "too little ground truth: 120 answers have it, 200 are needed" in found.reasons[0]


@pytest.mark.medium
def test_late_ground_truth_is_watched_however_bad_the_part_that_is_there(world):
    rows = world.window(dearer(world.fresh[:1500])).with_row_index("place")
    known = pl.when(pl.col("place") < 400).then(pl.col("observed"))
    found = world.judge(rows.with_columns(observed=known).drop("place"))
    assert found.level == "watch"
    assert "ground truth is late: 400 of 1,500" in found.reasons[0]


@pytest.mark.medium
def test_in_the_cool_down_a_champion_is_given_time(world):
    found = world.judge(world.window(dearer(world.fresh[:1500])), age=5)
    assert found.level == "watch"
    assert "serves for 5 days, and for 14 it is given time" in found.reasons[0]


@pytest.mark.medium
@pytest.mark.parametrize("rows", [1, 2, 12])
def test_a_tiny_window_is_watched_and_nothing_else_is_said_of_its_inputs(world, rows):
    """Also when every field but one was left out, as a first try with curl does."""
    bare = world.fresh[:rows].with_columns(pl.lit(None, pl.Float64).alias("grade"))
    for some in (world.fresh[:rows], bare):
        found = world.judge(world.window(some))
        assert found.level == "watch"
        answers = "1 answer" if rows == 1 else f"{rows} answers"
        assert f"only {answers} in the window" in found.reasons[0]
        assert not [reason for reason in found.reasons if "grade" in reason or "moved" in reason]


@pytest.mark.medium
def test_a_new_category_is_told_and_many_ask_for_a_person(world):
    place = pl.int_range(pl.len()) % 100
    for share, level in ((4, "watch"), (60, "investigate")):
        new = pl.when(place < share).then(pl.lit("98299")).otherwise(pl.col("zipcode"))
        found = world.judge(world.window(world.fresh[:1500].with_columns(zipcode=new)))
        assert found.level == level, found.reasons
        assert "zipcode is one that training has not seen, most often 98299" in " ".join(
            found.reasons
        )


@pytest.mark.medium
def test_answers_that_are_all_the_same_ask_for_a_person(world):
    rows = world.window(world.fresh[:600]).with_columns(answer=pl.lit(450_000.0))
    assert "all 600 answers are 450,000" in world.judge(rows).reasons[0]


NUMBER = st.floats(-1, 1)
INTERVALS = st.builds(
    lambda a, b, c: Interval(*sorted((a, b, c))[1:2], min(a, b, c), max(a, b, c), 500),
    *(NUMBER, NUMBER, NUMBER),
)
WINDOWS = st.builds(
    verdict.Window,
    rows=st.integers(0, 2000),
    due=st.just(1000),
    labels=st.integers(0, 1000),
    wanting=st.lists(st.just("no champion"), max_size=1),
    broken=st.lists(st.just("broken"), max_size=2),
    odd=st.lists(st.just("odd"), max_size=1),
    drifted=st.lists(st.just("moved"), max_size=2),
    worse=INTERVALS,
    bias=INTERVALS,
    estimated=st.none() | NUMBER,
    champion_age_days=st.none() | st.floats(0, 100),
)


@given(WINDOWS)
def test_whatever_the_numbers_the_order_of_the_reasons_holds(window):
    found = verdict.judge(window, RULES)
    assert found.reasons
    assert found.level in verdicts.LEVELS
    if window.wanting:
        assert found.level == "watch"
    elif window.broken:
        assert found.level == "investigate"
    elif window.labels < RULES.min_labels or window.labels < RULES.min_coverage * window.due:
        assert found.level == "watch"
    if found.level == "retrain":
        assert not window.broken
        age = window.champion_age_days
        assert age is None or age >= RULES.cooldown_days
    better = verdict.judge(replace(window, worse=None, bias=None), RULES)
    assert better.level != "retrain"


@pytest.mark.medium
def test_a_sensitive_feature_is_not_sliced_by(world):
    rows = world.window(world.fresh[:600]).drop("grade")
    found = findings.performance.by_slice(rows, TABLE, Confidence(0.95, 200, 1), least_rows=20)
    assert not [name for name in found if name.startswith("grade")]
    assert [name for name in found if name.startswith("yr_built")]


def test_drift_alone_never_retrains():
    quiet = Interval(0.0, -0.01, 0.005, 900)
    window = verdict.Window(900, 900, 900, drifted=["a moved"] * 9, worse=quiet, bias=quiet)
    assert verdict.judge(window, RULES).level == "watch"


@pytest.mark.slow
def test_the_rate_of_false_alarms_is_the_chosen_one():
    """Two hundred undrifted windows, each against a reference of its own."""
    draw = np.random.default_rng(8)

    def rows(n: int) -> pl.DataFrame:
        kind = draw.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
        x = draw.lognormal(size=n)
        return pl.DataFrame({"kind": kind, "x": x, "twice": 2 * x, "y": draw.normal(size=n)})

    alarms = 0
    words = {"false_alarms": 0.1, "floor": 0.0}
    for seed in range(200):
        found = drift.compare(
            rows(1000), rows(300), ["kind", "x", "twice", "y"], **words, seed=seed
        )
        alarms += any(column.has_drifted for column in found)
    assert 8 <= alarms <= 36  # 20 are expected; outside with a chance of one in a thousand


def test_a_column_that_has_moved_is_found_and_stands_first():
    draw = np.random.default_rng(2)
    before = pl.DataFrame({n: draw.normal(size=2000) for n in "abc"})
    now = pl.DataFrame({n: draw.normal(0.4 * (n == "b"), 1, 500) for n in "abc"})
    found = drift.compare(before, now, ["a", "b", "c"], false_alarms=0.01, floor=0.05, seed=1)
    assert (found[0].column, found[0].has_drifted) == ("b", True)
    assert not any(c.has_drifted for c in found[1:])


def test_a_distance_that_nobody_would_call_one_is_no_drift_however_many_rows():
    draw = np.random.default_rng(2)
    before, now = (pl.DataFrame({"a": draw.normal(m, 1, 60_000)}) for m in (0, 0.04))
    words = {"false_alarms": 0.01, "seed": 1}
    assert drift.compare(before, now, ["a"], floor=0.0, **words)[0].has_drifted
    assert not drift.compare(before, now, ["a"], floor=0.05, **words)[0].has_drifted


def test_the_distance_is_that_of_the_textbook():
    from scipy.spatial.distance import jensenshannon

    p, q = np.array([0.1, 0.4, 0.5, 0]), np.array([0.3, 0.3, 0, 0.4])
    assert drift.distance(p, q) == pytest.approx(jensenshannon(p, q, 2))
    assert drift.distance(p, p) == 0
    assert drift.distance(np.array([1.0, 0]), np.array([0, 1.0])) == 1


def test_a_share_is_only_sure_with_enough_rows():
    assert quality.least_share(0, 100) == 0
    assert quality.least_share(1, 10) < 0.01
    assert 0.09 < quality.least_share(1000, 10_000) < 0.1


class Store:
    """A registry that holds one file."""

    def __init__(self, content: bytes):
        self.file = content

    def content(self, *_: object) -> bytes:
        return self.file


@pytest.mark.medium
def test_a_reference_that_is_missing_or_was_changed_is_told_with_its_remedy(world):
    rows = world.reference.select(*INPUTS, "observed", PART).rename({"observed": "price"})
    kept = reference.freeze(rows, np.ones(rows.height), TABLE, seed=1)
    held = Version("m", "4", "run", {reference.TAG: sha256(kept)}, "somewhere")
    back = reference.thaw(Store(kept), held, TABLE)
    assert back.height == rows.height
    assert (back.filter(pl.col(PART) == "test")["observed"] > 0).all()
    with pytest.raises(MonitorError, match=r"m v4: reference\.parquet has SHA-256"):
        reference.thaw(Store(kept + b" "), held, TABLE)
    without = Version("m", "4", "run", {}, "somewhere")
    with pytest.raises(MonitorError, match=r"m v4 has no reference window\. Make one: loopbook"):
        reference.thaw(Store(kept), without, TABLE)


def test_a_large_reference_keeps_every_row_that_the_model_had_not_seen(world, monkeypatch):
    monkeypatch.setattr(reference, "MOST_ROWS", 3000)
    rows = world.reference.select(*INPUTS, "observed", PART).rename({"observed": "price"})
    kept = pl.read_parquet(reference.freeze(rows, np.ones(rows.height), TABLE, seed=1))
    assert kept.height == 3000
    assert kept.filter(pl.col(PART) == "test").height == 2000
