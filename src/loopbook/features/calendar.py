"""Calendar: what a place's clocks and calendar show at an instant, as numbers.

It decides what `calendar: hour` and the others mean, once, for training and
for serving. The place is the contract's `time_zone`, or UTC. Both sides use
polars' table of time zones: Python's own may be of another year.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import numpy as np
import polars as pl

from loopbook.project.computed import CalendarPart
from loopbook.project.contract import Contract

Times = TypeVar("Times", pl.Series, pl.Expr)


def local_times(instants: pl.Series | Sequence[datetime], zone: str | None) -> pl.Series:
    """What the clocks of a zone (None: UTC) show at some instants, without the zone."""
    in_utc = pl.Series(instants, dtype=pl.Datetime("us", "UTC"))
    return in_utc.dt.convert_time_zone(zone or "UTC").dt.replace_time_zone(None)


def part_of(times: Times, part: CalendarPart) -> Times:
    """A part of local times, as whole numbers.

    Notes
    -----
    `hour` 0 to 23; `weekday` 1 (Monday) to 7 (Sunday) and `week` 1 to 53, both
    of ISO 8601; `day` of the month, `day_of_year`, `month` and `quarter` from 1;
    `year`.
    """
    return getattr(times.dt, "ordinal_day" if part == "day_of_year" else part)().cast(pl.Int32)


def calendar_columns(
    instants: pl.Series | Sequence[datetime], contract: Contract
) -> dict[str, np.ndarray]:
    """The derived columns that are read off the calendar, as float64; NaN where no instant is."""
    if not contract.calendar:
        return {}
    times = local_times(instants, contract.time_zone)
    return {
        name: part_of(times, part).cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name, part in contract.calendar.items()
    }
