"""What a row may know of earlier rows, held against the slowest honest way to find out."""

import statistics
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopbook.features import aggregates, history
from loopbook.project.contract import Contract

START = datetime(2025, 1, 1, tzinfo=UTC)
CONTRACT = Contract.model_validate(
    {
        "name": "sales",
        "meaning": "One row is a version of a sale.",
        "task": "regression",
        "source": {"path": "none.parquet"},
        "key": ["id"],
        "event_time": "day",
        "known_time": "known",
        "entity": "zone",
        "target": {"name": "price", "range": [1, 1000], "transform": "log", "meaning": "Price."},
        "features": {
            "size": {"type": "number", "example": 1, "meaning": "Size."},
            "zone": {"type": "category", "example": "a", "meaning": "Zone."},
        },
        "history": {
            "value": "price / size",
            "features": {
                "sales_3d": {"aggregate": "count", "window_days": 3, "meaning": "Sales."},
                "level_3d": {"aggregate": "median", "window_days": 3, "meaning": "Level."},
                "lowest_9d": {
                    "aggregate": "min",
                    "window_days": 9,
                    "minimum_count": 2,
                    "meaning": "Lowest of at least two.",
                },
                "young_9d": {
                    "aggregate": "median",
                    "window_days": 9,
                    "maximum_age_days": 2,
                    "meaning": "Level, if something happened lately.",
                },
                "market_5d": {
                    "aggregate": "median",
                    "window_days": 5,
                    "over": "all",
                    "meaning": "Level of all.",
                },
                "mean_3d": {"aggregate": "mean", "window_days": 3, "meaning": "Mean."},
                "market_mean_5d": {
                    "aggregate": "mean",
                    "window_days": 5,
                    "over": "all",
                    "minimum_count": 3,
                    "meaning": "Mean of all, of at least three.",
                },
                "market_sales_5d": {
                    "aggregate": "count",
                    "window_days": 5,
                    "over": "all",
                    "meaning": "Sales of all.",
                },
            },
        },
    }
)
KINDS = ["ham", "spam", "other"]
RATES = {
    "ham_3d": {"aggregate": "rate", "of": "ham", "window_days": 3, "meaning": "Share of ham."},
    "spam_9d": {
        "aggregate": "rate",
        "of": "spam",
        "window_days": 9,
        "over": "all",
        "minimum_count": 2,
        "maximum_age_days": 4,
        "meaning": "Share of spam, of at least two and one of them young.",
    },
    "sales_3d": {"aggregate": "count", "window_days": 3, "meaning": "Sales."},
}
OF_CLASSES = Contract.model_validate(
    CONTRACT.model_dump()
    | {
        "task": "multiclass",
        "target": {"name": "price", "classes": KINDS, "meaning": "Kind."},
        "history": {"features": RATES},
    }
)
hours = st.integers(0, 24 * 14)
versions = st.lists(
    st.tuples(
        st.integers(0, 6),  # which sale: a small number, so that many are corrected
        st.one_of(hours, st.integers(0, 14).map(lambda d: 24 * d)),  # when: ties are usual
        st.one_of(st.just(0), st.integers(0, 24 * 8)),  # how late it was known
        st.sampled_from(["a", "b", None]),
        st.integers(1, 9),
    ),
    max_size=25,
)


def table(drawn) -> pl.DataFrame:
    """Versions as rows with their clock; a key is known once an instant."""
    rows = {
        (sale, event + late): {
            "id": sale,
            "zone": zone,
            "size": 1.0,
            "price": float(price),
            "event_ts": START + timedelta(hours=event),
            "known_ts": START + timedelta(hours=event + late),
        }
        for sale, event, late, zone, price in drawn
    }
    kinds = {"id": pl.Int64, "zone": pl.String, "size": pl.Float64, "price": pl.Float64}
    clock = {"event_ts": pl.Datetime("us", "UTC"), "known_ts": pl.Datetime("us", "UTC")}
    return pl.DataFrame(list(rows.values()), schema=kinds | clock)


def of_classes(rows: pl.DataFrame) -> pl.DataFrame:
    """Versions whose target is one of three classes, or not known."""
    kinds = dict(enumerate([*KINDS, None]))
    price = pl.col("price").cast(pl.Int64) % 4
    return rows.with_columns(price=price.replace_strict(kinds, return_dtype=pl.String))


def oracle(
    rows: pl.DataFrame, t: datetime, entity: str | None, contract: Contract = CONTRACT
) -> dict[str, float | None]:
    """Every feature at one instant, by looking at every version of every sale."""
    newest = {}
    for row in sorted(rows.iter_rows(named=True), key=lambda r: r["known_ts"]):
        if row["known_ts"] <= t:
            newest[row["id"]] = row
    answer = {}
    aggregates = {"median": statistics.median, "min": min, "mean": statistics.mean}
    for name, about in contract.trailing.items():
        aggregates["rate"] = lambda seen, of=about.of: seen.count(of) / len(seen)

        def inside(days, about=about):
            return [
                row["price"]
                for row in newest.values()
                if t - timedelta(days=days) <= row["event_ts"] < t
                and (about.over == "all" or (entity is not None and row["zone"] == entity))
                and row["price"] is not None
            ]

        seen = inside(about.window_days)
        if about.aggregate == "count":
            answer[name] = float(len(seen))
        elif len(seen) < about.minimum_count or (
            about.maximum_age_days and not inside(about.maximum_age_days)
        ):
            answer[name] = None
        else:
            answer[name] = aggregates[about.aggregate](seen)
    return answer


@pytest.mark.medium
@settings(max_examples=150)
@given(
    versions,
    st.lists(st.tuples(hours, st.sampled_from(["a", "b", "c", None])), min_size=1),
    st.booleans(),
)
def test_a_row_sees_what_was_known_at_its_moment_and_nothing_else(drawn, asked, has_classes):
    """Ties, gaps, late facts, corrections of value, time and zone, unknown zones and classes."""
    contract, rows = CONTRACT, table(drawn)
    if has_classes:
        contract, rows = OF_CLASSES, of_classes(rows)
    questions = pl.DataFrame(
        [{"event_ts": START + timedelta(hours=h), "zone": zone} for h, zone in asked],
        schema={"event_ts": pl.Datetime("us", "UTC"), "zone": pl.String},
    )
    answered = history.with_history(questions, history.facts(rows, contract), contract)
    assert answered.select(questions.columns).equals(questions)
    for row in answered.iter_rows(named=True):
        told = {name: row[name] for name in contract.trailing}
        assert told == oracle(rows, row["event_ts"], row["zone"], contract)


@pytest.mark.medium
@settings(max_examples=60)
@given(versions, hours, st.integers(1, 24 * 6), st.booleans())
def test_a_pass_that_starts_later_gives_the_same_numbers(drawn, since, length, has_classes):
    """From the facts within reach of `since`, as a nightly materialisation has them."""
    first = START + timedelta(hours=since)
    last = first + timedelta(hours=length)
    contract, rows = CONTRACT, table(drawn).with_columns(pl.col("price") / 7)
    if has_classes:
        contract, rows = OF_CLASSES, of_classes(table(drawn))
    facts = history.facts(rows, contract)
    near = facts.filter(pl.col("event_ts") >= first - history.reach(contract))
    for scope in history.SCOPES:
        whole = history.timeline(facts, contract, scope)
        inside = (pl.col("valid_from") > first) & (pl.col("valid_from") <= last)
        part = history.timeline(near, contract, scope, since=first, until=last)
        assert part.equals(whole.filter(inside))


spans = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=40
)


@given(spans, st.sampled_from(["median", "min", "max"]), st.integers(0, 10))
def test_both_passes_over_the_facts_agree(drawn, aggregate, first):
    """One fact at a time, and merged in batches; also when the pass starts in the middle."""
    enters, lengths, values = (np.array(column) for column in zip(*drawn, strict=True))
    leaves, values = enters + lengths, values.astype(float)
    times = np.unique(np.concatenate([enters, leaves]))
    times = times[times >= first]
    words = (times, enters, leaves, values, aggregates.PICKS[aggregate])
    merged, single = list(aggregates.in_batches(*words)), list(aggregates.one_by_one(*words))
    np.testing.assert_array_equal(merged, single)


lasting = st.tuples(
    st.integers(0, 20), st.integers(1, 9), st.floats(allow_nan=False, allow_infinity=False)
)


@pytest.mark.medium
@given(st.lists(lasting, min_size=1, max_size=30), st.randoms())
def test_a_mean_is_the_exact_one_rounded_once_in_whichever_order_its_values_came(drawn, chance):
    """Held against fractions, where sums of floats would cancel or overflow."""
    mixed = chance.sample(drawn, len(drawn))
    means = []
    for some in (drawn, mixed):
        enters, lengths, values = (np.array(column) for column in zip(*some, strict=True))
        times = np.arange(32)
        means.append(aggregates.means_at(times, enters, enters + lengths, values))
    np.testing.assert_array_equal(*means)
    for instant, mean in zip(times, means[0], strict=True):
        there = [Fraction(v) for enter, length, v in drawn if enter <= instant < enter + length]
        exact = float(sum(there) / len(there)) if there else float("nan")
        np.testing.assert_equal(mean, exact)


def test_without_a_value_a_fact_is_the_target_and_a_rate_of_yes_or_no_is_of_the_yes():
    declared = CONTRACT.model_dump()
    mean = {"aggregate": "mean", "window_days": 3, "meaning": "Mean."}
    numbers = declared | {"history": {"features": {"mean_3d": mean}}}
    rate = mean | {"aggregate": "rate"}
    target = {"name": "price", "classes": ["ham", "spam"], "meaning": "Kind."}
    either = declared | {"task": "binary", "target": target, "history": {"features": {"r": rate}}}
    rows = table([(1, 0, 0, "a", 1), (2, 1, 0, "a", 1), (3, 2, 0, "a", 4)])
    asked = rows.select("zone", pl.col("event_ts") + timedelta(hours=3))[:1]

    def last(content: dict, rows: pl.DataFrame) -> float:
        contract = Contract.model_validate(content)
        seen = history.with_history(asked, history.facts(rows, contract), contract)
        return seen.row(0, named=True)[next(iter(contract.trailing))]

    assert last(numbers, rows) == 2.0
    kinds = pl.when(pl.col("price") == 1).then(pl.lit("ham")).otherwise(pl.lit("spam"))
    assert last(either, rows.with_columns(price=kinds)) == 1 / 3
    target["positive"] = "ham"
    assert last(either, rows.with_columns(price=kinds)) == 2 / 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"value": "size"}, "history.value: the facts are classes and have no number; remove it"),
        ({"aggregate": "median"}, "median is not for task multiclass; use count, rate"),
        ({"of": None}, "a rate is of one class; add of: with one of target.classes"),
        ({"of": "eggs"}, "of: 'eggs' is not one of target.classes; name one of them"),
        ({"aggregate": "count"}, "of: is for aggregate: rate; remove it"),
    ],
)
def test_an_aggregate_that_the_facts_do_not_have_is_refused(change, told):
    content = OF_CLASSES.model_dump()
    content["history"]["value"] = change.pop("value", None)
    content["history"]["features"]["ham_3d"] |= change
    with pytest.raises(ValueError, match=told):
        Contract.model_validate(content)


def test_a_rate_of_numbers_is_refused_with_the_way_that_there_is():
    content = CONTRACT.model_dump()
    content["history"]["features"]["mean_3d"]["aggregate"] = "rate"
    told = "for a share of numbers let history.value be a comparison and use aggregate: mean"
    with pytest.raises(ValueError, match=told):
        Contract.model_validate(content)


def test_a_late_correction_changes_rows_after_it_was_known_and_none_before():
    rows = table([(1, 0, 0, "a", 5), (1, 0, 24, "a", 9)])
    rows = rows.with_columns(event_ts=pl.lit(START).cast(pl.Datetime("us", "UTC")))
    asked = pl.DataFrame({"event_ts": [START + timedelta(hours=h) for h in (0, 1, 23, 24, 48)]})
    asked = asked.with_columns(pl.col("event_ts").cast(pl.Datetime("us", "UTC")), zone=pl.lit("a"))
    seen = history.with_history(asked, history.facts(rows, CONTRACT), CONTRACT)
    assert seen["level_3d"].to_list() == [None, 5, 5, 9, 9]
    assert seen["sales_3d"].to_list() == [0, 1, 1, 1, 1]


def test_a_table_without_history_is_left_as_it_is():
    plain = CONTRACT.model_copy(update={"history": None})
    rows = table([(1, 0, 0, "a", 5)])
    assert history.with_history(rows, rows, plain).equals(rows)
    assert plain.trailing == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"event_time": None, "known_time": None}, "history: needs event_time"),
        ({"entity": None}, "history: needs entity; name it, or say over: all"),
        ({"label_delay_days": 3}, "known_time: says itself when a row was known"),
        ({"time_zone": "Mars"}, "time_zone: found 'Mars', expected a name such as Europe/Paris"),
    ],
)
def test_a_contract_whose_history_cannot_be_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        Contract.model_validate(CONTRACT.model_dump() | change)


@pytest.mark.parametrize("scope", history.SCOPES)
def test_a_history_over_one_scope_only_is_whole(scope):
    """There is nothing to compute over the other one."""
    declared = CONTRACT.history.model_dump()
    declared["features"] = {n: f for n, f in declared["features"].items() if f["over"] == scope}
    one = CONTRACT.model_copy(update={"history": type(CONTRACT.history)(**declared)})
    rows = table([(1, 0, 0, "a", 5), (2, 24, 0, "b", 7), (3, 48, 0, "a", 3)])
    joined = history.with_history(rows, history.facts(rows, one), one)
    both = history.with_history(rows, history.facts(rows, CONTRACT), CONTRACT)
    assert joined.equals(both.select(joined.columns))
    assert set(one.trailing) < set(CONTRACT.trailing)
