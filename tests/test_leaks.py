"""Planted leaks are named with their numbers, and sound columns are not."""

import numpy as np
import polars as pl
import pytest

from loopbook.models import explained, leaks

ROWS = 1200


def sound() -> pl.DataFrame:
    """A table of four columns that say something about `y`, none of them too much."""
    draw = np.random.default_rng(7)
    wind, heat = draw.normal(5, 1, ROWS), draw.normal(20, 5, ROWS)
    kind = draw.choice(["a", "b", "c"], ROWS)
    y = 40 + 3 * wind + heat + 5 * (kind == "b") + draw.normal(0, 3, ROWS)
    day = np.arange(ROWS) / 10
    return pl.DataFrame(
        {"wind": wind, "heat": heat, "kind": kind, "noise": draw.normal(0, 1, ROWS), "day": day, "y": y}
    )  # fmt: skip


def found(rows: pl.DataFrame, target: str = "y", time: str | None = None) -> list[leaks.Leak]:
    names = [name for name in rows.columns if name not in (target, time, "y")]
    return leaks.found(explained.as_columns(rows, names, target, time=time))


Y = pl.col("y")
IS_HIGH = (Y > 75).cast(pl.String)
PLANTED = {
    "a copy": (Y, "copy", leaks.PROVEN),
    "a copy in another unit": (Y * 1.8 + 32, "copy", leaks.PROVEN),
    "the order of it": (Y.exp().log1p() ** 3, "function", leaks.PROVEN),
    "it, rounded": (Y.round(0), "function", leaks.PROVEN),
    "nearly a copy": (Y + pl.col("noise") * 0.4, "explains", leaks.SUSPECTED),
}  # fmt: skip


def test_a_sound_table_has_no_leak():
    rows = sound().with_columns(high=IS_HIGH)
    assert found(rows.drop("high"), time="day") == []
    assert found(rows.drop("y"), "high", time="day") == []


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_leak_is_named(what):
    planted, kind, certainty = PLANTED[what]
    leak = next(iter(found(sound().with_columns(planted=planted))))
    assert (leak.columns, leak.kind, leak.certainty) == (("planted",), kind, certainty)


@pytest.mark.parametrize(
    ("one", "sign"),
    [(Y - pl.col("wind"), "+"), (Y + pl.col("wind"), "-"), (Y / pl.col("heat"), "*")],
)
def test_two_columns_of_which_the_target_is_made_are_named_together(one, sign):
    leak = found(sound().with_columns(one=one))[0]
    assert leak.kind == "together"
    assert "one" in leak.columns
    assert f" {sign} " in leak.evidence


def test_a_column_that_parts_two_classes_without_an_exception_is_named():
    rows = sound().with_columns(high=IS_HIGH, cause=Y)
    leak = found(rows, "high")[0]
    assert (leak.columns, leak.kind) == (("cause",), "function")


def test_a_column_whose_being_there_tells_the_class_is_named():
    rows = sound().with_columns(high=IS_HIGH, closed=pl.when(Y > 75).then("noise"))
    assert [(leak.columns, leak.kind) for leak in found(rows, "high")] == [
        (("closed",), "missingness")
    ]


def test_a_column_that_only_counts_time_is_named():
    """The target drifts; a counter explains rows between those that it has seen, and no later ones."""
    rows = sound().with_columns(counter=pl.int_range(pl.len()), y=Y + pl.int_range(pl.len()) / 20)
    assert [(leak.columns, leak.kind) for leak in found(rows, time="day")] == [
        (("counter",), "time")
    ]


def test_rows_that_judge_and_stand_among_those_that_taught_are_counted():
    rows = sound()
    names = ["wind", "heat", "kind"]
    taught, asked = rows.head(900), pl.concat([rows.tail(300), rows.head(60)])
    assert leaks.on_both_sides(taught, rows.tail(300), names, "y") == []
    assert leaks.on_both_sides(taught, asked, names, "y")[0].evidence.startswith("60 of 360 rows")


def test_a_trend_that_goes_up_and_down_is_no_counter():
    count = pl.int_range(pl.len())
    rows = sound().with_columns(trend=count + pl.col("noise") * 30, y=Y + count / 20)
    assert found(rows, time="day") == []
