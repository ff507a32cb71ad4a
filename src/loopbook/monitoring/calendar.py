"""Calendar: which inputs follow from the time, so that a new value is no fault.

It decides which columns these are: those that the contract declares `calendar:
true`, and those of which the reference shows it beyond chance. There, each
hour, weekday or month has had one value only, time after time; or the values
are the numbers of the calendar themselves. A value that comes with an hour or
a month that the reference does not have is as it should be; a value that is
new where the hour or the month is not stays a fault. Pure: no file, no clock.
"""

import math
from collections.abc import Sequence
from typing import get_args

import polars as pl

from loopbook.features.calendar import local_times, part_of
from loopbook.project.clock import EVENT_TS
from loopbook.project.computed import CalendarPart
from loopbook.project.contract import Contract

CHANCE = 1e-9  # that values which do not follow from the time look as if they did
LEAST_NUMBERS = 3  # that a column has had before they are called the calendar's; years: 2
LEAST_DAYS = 10
REMEDY = "; if it follows from the calendar, say calendar: true beside it in contract.yaml"
AS_OF_TS, TIME, UNIT, ROUND = "as_of_ts", "_time", "_unit", "_round"
_AT = pl.col(TIME)
_WEEK = _AT.dt.truncate("1w")
# what a value may follow from, and the round in which each comes once
UNITS = {
    "hour": (part_of(_AT, "hour"), _AT.dt.date()),
    "weekday": (part_of(_AT, "weekday"), _WEEK),
    "month": (part_of(_AT, "month"), _AT.dt.year()),
    "day of the month": (part_of(_AT, "day"), _AT.dt.truncate("1mo")),
    "week": (part_of(_AT, "week"), _AT.dt.iso_year()),
    "hour of the week": (part_of(_AT, "weekday") * 24 + part_of(_AT, "hour"), _WEEK),
    "day of the year": (part_of(_AT, "month") * 100 + part_of(_AT, "day"), _AT.dt.year()),
}


def expected(
    reference: pl.DataFrame, current: pl.DataFrame, contract: Contract, names: Sequence[str]
) -> dict[str, pl.Series]:
    """Columns that follow from the time, each with the rows of a window whose value may be new.

    Parameters
    ----------
    reference : polars.DataFrame
        With its event time; without one, only what is declared is found.
    current : polars.DataFrame
        The window, with the instants that it was asked about.

    Returns
    -------
    dict of Boolean series of shape (rows of the window,)
        All true for a declared column.
    """
    declared = [name for name in names if contract.features[name].calendar]
    found = {name: pl.repeat(True, current.height, eager=True) for name in declared}
    if EVENT_TS not in reference.columns or reference.is_empty():
        return found
    before, now = _timed(reference, EVENT_TS, contract), _timed(current, AS_OF_TS, contract)
    for name in names:
        if name in found or before[name].n_unique() < 2:
            continue
        new = _of_numbers(before, now, name)
        new = _of_rounds(before, now, name) if new is None else new
        if new is not None:
            found[name] = new
    return found


def same_all_day(
    reference: pl.DataFrame, current: pl.DataFrame, contract: Contract, name: str
) -> bool:
    """Whether a column had one value a day, in the reference and in the window alike."""
    if EVENT_TS not in reference.columns:
        return False
    both = [_timed(reference, EVENT_TS, contract), _timed(current, AS_OF_TS, contract)]
    rows = pl.concat([some.select(name, _AT.dt.date().alias(UNIT)) for some in both])
    days = rows.group_by(UNIT).agg(pl.col(name).n_unique(), pl.len()).filter(pl.col("len") > 1)
    return days.height >= LEAST_DAYS and days[name].max() == 1


def _timed(rows: pl.DataFrame, instant: str, contract: Contract) -> pl.DataFrame:
    return rows.with_columns(local_times(rows[instant], contract.time_zone).alias(TIME))


def _of_numbers(before: pl.DataFrame, now: pl.DataFrame, name: str) -> pl.Series | None:
    """Where a column goes on as a number of the calendar, counted from wherever it is."""
    numbers = before[name].cast(pl.Float64, strict=False)
    if numbers.null_count() > before[name].null_count():
        return None
    for part in get_args(CalendarPart):
        ahead = (numbers - part_of(before[TIME], part)).drop_nulls().unique()
        least = LEAST_NUMBERS - (part == "year")
        if ahead.len() == 1 and numbers.drop_nulls().n_unique() >= least:
            follows = now[name].cast(pl.Float64, strict=False) - part_of(now[TIME], part)
            return (follows == ahead[0]).fill_null(value=False)
    return None


def _of_rounds(before: pl.DataFrame, now: pl.DataFrame, name: str) -> pl.Series | None:
    """Where the hour, weekday, … that a column follows from is one that the reference has not.

    Notes
    -----
    A value is drawn for each unit of each round (for each hour of each day) by
    the shares of the values. That all draws of a unit are the same by chance
    has the probability of the first draw's value, once for each further round.
    """
    known = before.filter(pl.col(name).is_not_null()).select(name, TIME)
    for unit, each_round in UNITS.values():
        placed = known.with_columns(unit.alias(UNIT), each_round.alias(ROUND))
        if placed.group_by(UNIT).agg(pl.col(name).n_unique())[name].max() != 1:
            continue
        cells = placed.group_by(UNIT, ROUND).agg(pl.col(name).first())
        again = cells.filter(pl.len().over(UNIT) > 1)
        share = (pl.len().over(name) / again.height).log()
        draws = again.with_columns(share.alias(ROUND)).group_by(UNIT)
        chance = draws.agg(((pl.len() - 1) * pl.col(ROUND).first()).alias(ROUND))[ROUND].sum()
        if chance <= math.log(CHANCE):
            return ~now.select(unit.is_in(placed[UNIT].unique().implode())).to_series()
    return None
