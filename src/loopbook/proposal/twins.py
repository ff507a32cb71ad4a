"""Twins: columns that say what another one says already, or what the calendar says.

It decides which of two columns is superfluous, and which column follows from
the time. It never compares with the target: what knows that is a leak.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import get_args

import numpy as np
import polars as pl

from loopbook.features.calendar import part_of
from loopbook.project.computed import CalendarPart
from loopbook.proposal.clocks import Clock
from loopbook.proposal.columns import Column

LOOKED_ROWS = 5_000
SAME = 0.99995  # correlation from which on two numbers are one
MOST_VALUES = 1_000
FOLLOWS = 400  # values of a column that may follow from the calendar
NEARLY = 0.8
MOST_ONE = 0.6  # share of the commonest value of a column that may be a part of the time
EACH = 3  # rows of a day, at least, before it is said that all of a day are the same


def twins_of(columns: Sequence[Column]) -> dict[str, str]:
    """Headers that are superfluous, each with the reason; the first of two stays."""
    found: dict[str, str] = {}
    some = _sampled(columns)
    numbers = {h: v.cast(pl.Float64).to_numpy() for h, v in some.items() if v.dtype.is_numeric()}
    for one, other in combinations(numbers, 2):
        if not {one, other} & found.keys() and _is_line(numbers[one], numbers[other]):
            same = np.allclose(numbers[one], numbers[other], equal_nan=True)
            found[other] = f"{'equals' if same else 'is a straight line of'} {one}"
    few = [
        c for c in columns if 2 < c.distinct <= MOST_VALUES and c.kind in ("category", "integer")
    ]
    for one, other in combinations(few, 2):
        if {one.header, other.header} & found.keys() or one.distinct != other.distinct:
            continue
        pairs = pl.DataFrame([one.values.alias("a"), other.values.alias("b")])
        says_more = (one.values.is_null() & other.values.is_not_null()).any()
        pairs = pairs.drop_nulls()
        is_one = pairs.height > 10 * one.distinct and pairs.n_unique() == one.distinct
        if is_one and not says_more:
            found[other.header] = f"has one value for each value of {one.header}"
    return found


def _sampled(columns: Sequence[Column]) -> dict[str, pl.Series]:
    """A sample of the rows of all columns that may have a twin, the same rows of each."""
    wanted = [c for c in columns if c.is_number or c.kind == "boolean"]
    if not wanted:
        return {}
    height = wanted[0].values.len()
    places = pl.Series(np.arange(0, height, max(1, height // LOOKED_ROWS)))
    return {c.header: c.values.gather(places).cast(pl.Float64) for c in wanted}


def _is_line(one: np.ndarray, other: np.ndarray) -> bool:
    there = np.isfinite(one)
    if not np.array_equal(there, np.isfinite(other)) or there.sum() < 30:
        return False
    x, y = one[there], other[there]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return False
    return abs(float(np.corrcoef(x, y)[0, 1])) > SAME


def calendar_of(
    columns: Sequence[Column], clock: Clock
) -> tuple[dict[str, CalendarPart], list[str]]:
    """Columns that are a part of the event time, and those that otherwise follow from it.

    Returns
    -------
    parts : each header with the part that it is
    follows : headers of columns whose value is the same all day, or all hour, weekday or month
    """
    times = clock.values
    parts: dict[str, CalendarPart] = {}
    follows = []
    units = {part: part_of(times, part) for part in get_args(CalendarPart)}
    days = times.dt.date()
    daily = times.len() / max(days.n_unique(), 1)
    for column in columns:
        if not 1 < column.distinct <= FOLLOWS or column.kind not in (
            "integer",
            "category",
            "boolean",
        ):
            continue
        part, share = _part(column, units)
        if part and share > 0.999:
            parts[column.header] = part
        elif (part and share > NEARLY) or _is_function(column, units, days, daily):
            follows.append(column.header)
    return parts, follows


def _part(column: Column, units: Mapping[str, pl.Series]) -> tuple[CalendarPart | None, float]:
    """Which part of the time a whole number is nearest to, and in which share of the rows."""
    commonest = column.values.value_counts(sort=True)["count"][0] / column.values.len()
    units = {name: unit for name, unit in units.items() if unit.n_unique() > 2}
    if column.kind != "integer" or column.distinct < 3 or commonest > MOST_ONE or not units:
        return None, 0.0
    shares = {name: float((column.values == unit).mean() or 0.0) for name, unit in units.items()}
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]


def _is_function(
    column: Column, units: Mapping[str, pl.Series], days: pl.Series, daily: float
) -> bool:
    """Whether a column has one value for each day, hour, weekday or month."""
    looked = [units[name] for name in ("hour", "weekday", "month")]
    looked += [days] if daily >= EACH else []
    for unit in looked:
        pairs = pl.DataFrame([unit.alias("unit"), column.values.alias("value")]).drop_nulls()
        groups = pairs["unit"].n_unique()
        if groups > 1 and pairs.height >= EACH * groups and pairs.n_unique() == groups:
            return True
    return False
