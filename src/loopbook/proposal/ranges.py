"""Ranges: between which values a number is believable, wider than what was seen.

It decides by robust quantiles, so that one slip of the pen does not widen a
range, and by what a name or a unit says a number can be.
"""

import math
from dataclasses import dataclass

import polars as pl

from loopbook.project.counts import counted
from loopbook.proposal import wording
from loopbook.proposal.columns import Column

TAIL = 0.001  # share of the rows beyond which a value is looked at
FAR = (
    3.0  # times the distance from the middle to the tail: from there on it is no value of the rest
)
MOST_OUTSIDE = 0.003  # of the rows; where more lie outside, the range takes all in
MARGIN = 0.25
LEAST_ROWS = 500  # with fewer, no value is called strange
BOUNDED = {
    "latitude": (-90.0, 90.0), "lat": (-90.0, 90.0), "longitude": (-180.0, 180.0),
    "long": (-180.0, 180.0), "lon": (-180.0, 180.0), "lng": (-180.0, 180.0), "percent": (0.0, 100.0),
    "pct": (0.0, 100.0), "hum": (0.0, 100.0), "humid": (0.0, 100.0), "humidity": (0.0, 100.0),
    "share": (0.0, 1.0), "ratio": (0.0, 1.0), "probability": (0.0, 1.0), "fraction": (0.0, 1.0),
    "hour": (0.0, 23.0), "weekday": (0.0, 7.0), "month": (1.0, 12.0), "minute": (0.0, 59.0),
    "day": (1.0, 31.0), "quarter": (1.0, 4.0), "age": (0.0, 120.0),
}  # fmt: skip
WHOLE = (
    "hour",
    "weekday",
    "month",
    "minute",
    "day",
    "quarter",
    "percent",
    "pct",
    "humidity",
    "age",
)
YEARS = ("year", "yr", "jahr", "annee")


@dataclass(frozen=True)
class Believable:
    """A range, what was seen, and how many rows lie outside."""

    low: float
    high: float
    least: float
    most: float
    outside: int = 0

    @property
    def told(self) -> str:
        strange = f"; {counted(self.outside, 'row')} outside" if self.outside else ""
        return f"seen {self.least:,.6g} to {self.most:,.6g}{strange}"


def range_of(column: Column, *, is_log: bool = False) -> Believable | None:
    """Between which values a number is believable; None without two values.

    Parameters
    ----------
    is_log : bool
        Whether 0 and less are impossible, since a log is taken.
    """
    values = column.values.drop_nulls().cast(pl.Float64)
    if values.len() < 2 or values.min() == values.max():
        return None
    least, most = values.min(), values.max()
    low, high = _robust(values)
    low, high = _widened(low, high, values, column)
    low, high = _within_bounds(column, least, most, low, high)
    if is_log and low <= 0:
        low = _rounded(least / 2, math.floor)
    outside = values.len() - values.is_between(low, high).sum()
    return Believable(low, high, least, most, outside)


def _robust(values: pl.Series) -> tuple[float, float]:
    """The ends of what was seen, without values far beyond the tail."""
    least, most = values.min(), values.max()
    if values.len() < LEAST_ROWS:
        return least, most
    low, middle, high = (values.quantile(q) for q in (TAIL, 0.5, 1 - TAIL))
    floor, ceiling = low - FAR * (middle - low), high + FAR * (high - middle)
    inside = values.filter(values.is_between(floor, ceiling))
    if inside.is_empty() or values.len() - inside.len() > MOST_OUTSIDE * values.len():
        return least, most
    return inside.min(), inside.max()


def _widened(low: float, high: float, values: pl.Series, column: Column) -> tuple[float, float]:
    spread = high - low
    if column.kind == "integer" and spread <= 20:
        room = max(1, math.ceil(MARGIN * spread))
        return (low if low in (0, 1) else low - (1 if low > 1 or low < 0 else 0)), high + room
    if any(w in YEARS for w in wording.words(column.header)) and 1000 < high < 2500:
        return (0.0 if low == 0 else math.floor(low) - 10), math.ceil(high) + 10
    middle = values.median()
    if low > 0 and middle / low > 3 and high / middle > 3:  # of several orders: twice as far
        below = _rounded(low / 2, math.floor)
        return math.floor(below) if column.kind == "integer" else below, _rounded(
            high * 2, math.ceil
        )
    step = 10 ** (math.floor(math.log10(spread)) - 1)
    wide_low = math.floor((low - MARGIN * spread) / step) * step
    wide_high = math.ceil((high + MARGIN * spread) / step) * step
    if low >= 0:
        wide_low = max(0.0, wide_low)
    if high <= 0:
        wide_high = min(0.0, wide_high)
    return _clean(wide_low), _clean(wide_high)


def _rounded(value: float, how) -> float:
    """A value with one digit, down or up."""
    if value == 0:
        return 0.0
    step = 10.0 ** math.floor(math.log10(abs(value)))
    return _clean(how(value / step) * step)


def _clean(value: float) -> float:
    return float(f"{value:.6g}")


def _within_bounds(
    column: Column, least: float, most: float, low: float, high: float
) -> tuple[float, float]:
    """Not beyond what the word in the header can be, where all that was seen is within."""
    for word in reversed(wording.words(column.header)):
        bounds = BOUNDED.get(word)
        if bounds and bounds[0] <= least and most <= bounds[1]:
            return bounds if word in WHOLE else (max(low, bounds[0]), min(high, bounds[1]))
    if column.form.unit == "%" and least >= 0 and most <= 100:
        return max(low, 0.0), min(high, 100.0)
    return low, high
