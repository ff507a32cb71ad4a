"""What follows from the time: read off the calendar alike everywhere, and no broken input."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopbook.data import units
from loopbook.data.splits import PART
from loopbook.features import rows as row_features
from loopbook.monitoring import calendar, findings
from loopbook.project.contract import Contract

ZONE = "America/New_York"
PARTS = ("hour", "weekday", "day", "day_of_year", "week", "month", "quarter", "year")
BASE = {
    "name": "rides",
    "meaning": "One row is an hour.",
    "task": "regression",
    "source": {"path": "none.csv"},
    "key": ["at"],
    "event_time": "at",
    "time_zone": ZONE,
    "target": {"name": "rides", "meaning": "Rides."},
    "features": {
        "sky": {"type": "category", "example": "clear", "meaning": "Sky."},
        "season": {"type": "category", "example": "winter", "meaning": "Season."},
        "month": {"type": "number", "example": 1, "meaning": "Month."},
        "weekend": {"type": "boolean", "example": True, "meaning": "Saturday or Sunday."},
        "hour": {"type": "category", "example": "6am", "meaning": "Hour."},
        "warmth": {"type": "number", "unit": "degrees Celsius", "example": 9, "meaning": "Warmth."},
    },
}
TABLE = Contract.model_validate(
    BASE
    | {
        "derived": {part: {"calendar": part, "meaning": "Any."} for part in PARTS[2:5]}
        | {f"of_{part}": {"calendar": part, "meaning": "Any."} for part in PARTS}
        | {"is_late": {"formula": "of_hour >= 20", "meaning": "Evening."}}
    }
)
NAMES = list(TABLE.features)


def hours(first: datetime, days: int, step: int = 1) -> pl.DataFrame:
    """A row an hour, as the reference has it, and its answer."""
    at = [first + timedelta(hours=h) for h in range(0, 24 * days, step)]
    local = pl.Series(at, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone(TABLE.time_zone)
    draw = np.random.default_rng(1)
    seasons = dict(enumerate(["winter", "spring", "summer", "autumn"], 1))
    columns = {
        "sky": draw.choice(["clear", "mist"], len(at)),
        "season": local.dt.quarter().cast(pl.Int64).replace_strict(seasons),
        "month": local.dt.month().cast(pl.Float64),
        "weekend": local.dt.weekday() > 5,
        "hour": local.dt.strftime("%I%p"),
        "warmth": draw.normal(15, 5, len(at)),
    }
    known = {"answer": draw.normal(100, 9, len(at)), "observed": draw.normal(100, 9, len(at))}
    flags = {
        "is_current": pl.lit(value=True),
        "is_judged": pl.lit(value=True),
        PART: pl.lit("train"),
    }
    clock = {"event_ts": at, "as_of_ts": at}
    rows = pl.DataFrame(clock | columns | known).with_columns(**flags)
    return rows.with_columns(pl.col("event_ts", "as_of_ts").dt.replace_time_zone("UTC"))


def at(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def faults(before: pl.DataFrame, now: pl.DataFrame, table: Contract = TABLE) -> list[str]:
    found = findings.find_faults(now, before, table, NAMES, margin=0.05, least_rows=50)
    return [fault.sentence for fault in found if fault.is_broken]


def with_feature(name: str, **keys) -> Contract:
    content = TABLE.model_dump()
    content["features"][name] |= keys
    return Contract.model_validate(content)


@pytest.mark.medium
@settings(max_examples=25)
@given(st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2035, 1, 1)), min_size=1, max_size=9))
def test_a_request_reads_the_calendar_as_the_table_does_and_as_the_clocks_of_the_zone(moments):
    """To the bit; weekday 1 is Monday and the week is that of ISO 8601."""
    moments = [moment.replace(tzinfo=UTC) for moment in moments]
    record = {"sky": "clear", "season": "winter", "hour": "6am", "month": 1.0, "warmth": 2.0}
    rows = pl.DataFrame({"event_ts": moments} | {n: [v] * len(moments) for n, v in record.items()})
    rows = rows.with_columns(pl.col("event_ts").cast(pl.Datetime("us", "UTC")), weekend=True)
    names = row_features.input_names(TABLE)
    codes = {name: [record[name]] for name in TABLE.categories}
    trained = row_features.model_matrix(rows, TABLE, codes)
    asked = [record | {"weekend": True}] * len(moments)
    served = row_features.records_matrix(asked, moments, TABLE, names, codes)
    np.testing.assert_array_equal(trained, served)
    for moment, row in zip(moments, served, strict=True):
        told, local = dict(zip(names, row, strict=True)), moment.astimezone(ZoneInfo(ZONE))
        shown = {"hour": local.hour, "weekday": local.isoweekday(), "day": local.day}
        shown |= {"day_of_year": local.timetuple().tm_yday, "week": local.isocalendar().week}
        shown |= {"month": local.month, "quarter": (local.month + 2) // 3, "year": local.year}
        assert {part: told[f"of_{part}"] for part in PARTS} == shown
        assert told["is_late"] == (local.hour >= 20)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"event_time": None}, "derived.day.calendar: needs event_time; name it, or remove day"),
        ({"derived": {"x": {"meaning": "X."}}}, "expected a formula or a calendar; give one"),
        (
            {"derived": {"x": {"meaning": "X.", "formula": "month", "calendar": "hour"}}},
            "expected a formula or a calendar; give one",
        ),
        ({"derived": {"x": {"meaning": "X.", "calendar": "moon"}}}, "'hour', 'weekday', 'day'"),
    ],
)
def test_a_contract_whose_calendar_cannot_be_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        Contract.model_validate(TABLE.model_dump() | change)


def test_an_october_after_a_training_without_one_is_no_broken_input():
    """The month goes on as a number of the calendar; the season has been seen twice a year."""
    before, october = hours(at(2012, 1, 2), 80), hours(at(2012, 10, 2), 21)
    assert faults(before.drop("event_ts"), october)[0].startswith("month lies outside")
    assert not [told for told in faults(before, october) if "month" in told]
    two_years = hours(at(2011, 1, 2), 630).filter(pl.col("event_ts").dt.month() != 10)
    assert not faults(two_years, october)


def test_a_season_that_nothing_shows_to_follow_from_the_time_is_told_with_the_remedy():
    before, october = hours(at(2012, 1, 2), 260), hours(at(2012, 10, 2), 21)
    (told,) = faults(before, october)
    assert told.startswith("in 100.0 % of the rows season is one that training has not seen")
    assert told.endswith("say calendar: true beside it in contract.yaml")
    assert not faults(before, october, with_feature("season", calendar=True))


def test_what_follows_from_the_time_is_shown_and_its_drift_is_not_judged():
    before, october = hours(at(2011, 1, 2), 600), hours(at(2012, 10, 2), 21)
    rules = findings.DriftRules(0.01, 0.05, 50, 7)
    columns = findings.find_drift(october, before, TABLE, NAMES, rules)
    moved = {c.column for c in columns if c.has_drifted}
    judged = {c.column for c in findings.judged_columns(columns)}
    assert {"month", "season"} <= moved
    assert judged == {"sky", "warmth", "observed"}
    assert {c.column for c in columns} == {*NAMES, "observed"}


def test_an_hour_that_is_coded_otherwise_is_broken_though_it_follows_from_the_time():
    before, october = hours(at(2012, 1, 2), 260), hours(at(2012, 9, 20), 9)
    coded = october.with_columns(pl.col("hour").str.replace("AM", " a.m."))
    assert "of the rows hour is one that training has not seen" in faults(before, coded)[0]


def test_a_number_that_leaves_the_calendar_is_implausible_as_any_other():
    before, october = hours(at(2012, 1, 2), 260), hours(at(2012, 10, 2), 21)
    hundreds = october.with_columns(month=pl.col("month") * 100)
    assert faults(before, hundreds)[0].startswith("month lies outside")


@pytest.mark.parametrize(
    ("change", "is_broken"),
    [
        (lambda truth: truth * 1.7, False),
        (lambda truth: truth * 0.7, False),
        (lambda truth: truth / 1000, True),
        (lambda truth: truth * 60, True),
        (lambda truth: truth - 100 + 30, False),
        (lambda truth: (truth - 100) * 60, True),
    ],
)
def test_what_is_predicted_may_grow_and_another_unit_of_it_is_broken(change, is_broken):
    """Around 100 give or take 9; in the last two cases the reference is around 0."""
    before, now = hours(at(2012, 1, 2), 60), hours(at(2012, 3, 2), 21)
    if change(0.0) < 0:
        before = before.with_columns(pl.col("observed") - 100)
    found = faults(before, now.with_columns(change(pl.col("observed"))))
    assert [told.split(" lies")[0] for told in found] == ["observed"] * is_broken


@pytest.mark.parametrize(
    ("change", "is_broken"),
    [
        (lambda warmth: warmth / 10 + 33, False),
        (lambda warmth: warmth * 1.8 + 32, True),
        (lambda warmth: warmth + 60, True),
    ],
)
def test_the_first_summer_is_no_broken_input_and_another_unit_is(change, is_broken):
    """The reference is 0 to 32 degrees, or nearly."""
    before, now = hours(at(2012, 1, 2), 60), hours(at(2012, 3, 2), 21)
    found = faults(before, now.with_columns(change(pl.col("warmth"))))
    assert [told.split(" lies")[0] for told in found] == ["warmth"] * is_broken


@pytest.mark.medium
@pytest.mark.parametrize("days", [3, 10, 40])
@pytest.mark.parametrize("seed", range(4))
def test_what_only_seems_to_follow_from_the_time_is_judged_as_before(days, seed):
    """Values of chance, also those that stay for a day, a constant and a rare flag."""
    before = hours(at(2012, 1, 2), days, step=4)
    draw = np.random.default_rng(seed)
    day = before["event_ts"].dt.ordinal_day().to_numpy()
    daily = draw.choice(["clear", "mist"], 99)[day]
    rare = np.where(np.arange(before.height) == 5, "storm", "clear")
    for sky in (before["sky"].to_numpy(), daily, rare, np.full(before.height, "clear")):
        rows = before.with_columns(sky=pl.Series(sky))
        assert not {"sky", "warmth"} & set(calendar.expected(rows, rows, TABLE, NAMES))


@pytest.mark.parametrize(
    ("unit", "usual", "came", "told"),
    [
        ("square feet", 1800, 167, "square metres for square feet"),
        ("m²", 100, 1080, "square feet for square metres"),
        ("meters", 5, 16.4, "feet for metres"),
        ("degrees Celsius", 15, 59, "degrees Fahrenheit for degrees Celsius"),
        ("°F", 59, 15, "degrees Celsius for degrees Fahrenheit"),
        ("USD", 450_000, 450, "thousands for ones"),
        ("USD per square foot", 250, 0.25, "thousands for ones"),
        ("%", 40, 0.4, "shares for per cent"),
        ("grade", 7, 15.4, None),
        ("count", 3, 0.003, None),
        (None, 7, 15.4, None),
        ("square feet", 1800, 1.8, None),
        ("metres", 0, 5, None),
    ],
)
def test_another_unit_is_suspected_only_where_the_columns_unit_has_such_a_twin(
    unit, usual, came, told
):
    assert units.mistaken_for(unit, usual, came) == told
