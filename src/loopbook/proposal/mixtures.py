"""Mixtures: a column of numbers that looks like two, in two units.

It decides by two clusters with a valley between them whose typical values lie a
known factor apart (metres and feet, kilograms and pounds, thousands). It is a
question to a person: two sorts of rows may lie so by themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from loopbook.data.units import TWINS
from loopbook.proposal.columns import Column

LEAST_ROWS = 60
LEAST_SHARE = 0.05
LOOKED_ROWS = 20_000
NEAR = 0.12  # how near to the factor the clusters lie, and as a share of the way between them
VALLEY = 0.25  # rows between the clusters, against those in the smaller one
DISTINCT = 20
SORTS = 0.9


@dataclass(frozen=True)
class Mixture:
    """Two clusters of a column: their typical values, the share of the larger, and the units."""

    small: float
    large: float
    share: float
    units: str

    @property
    def told(self) -> str:
        return (
            f"looks like two columns: {100 * (1 - self.share):.0f} % of the values around {self.small:,.4g} and "
            f"{100 * self.share:.0f} % around {self.large:,.4g}, as {self.units} would"
        )


def factors() -> list[tuple[float, str]]:
    """How far apart two units of one thing are, each with their names."""
    found = [
        (max(factor, 1 / factor), " and ".join((ones[0], twos[0])))
        for ones, twos, factor, offset in TWINS
        if not offset
    ]
    return [
        *sorted({round(f, 3): (f, names) for f, names in found}.values()),
        (1000, "ones and thousands"),
    ]


def mixtures_of(columns: Sequence[Column]) -> dict[str, Mixture]:
    """The columns that seem to be in two units, by header.

    Where another number, which is in one unit, tells the clusters apart too,
    there are two sorts of rows, and one unit.
    """
    found = {c.header: m for c in columns if (m := mixture_of(c)) is not None}
    others = [c for c in columns if c.is_number and c.header not in found]
    by_header = {c.header: c for c in columns}
    return {h: m for h, m in found.items() if not _are_sorts(by_header[h], m, others)}


def _are_sorts(column: Column, mixture: Mixture, others: Sequence[Column]) -> bool:
    border = math.sqrt(mixture.small * mixture.large)
    is_large = column.values.cast(pl.Float64) > border
    for other in others:
        both = pl.DataFrame([is_large.alias("is_large"), other.values.cast(pl.Float64).alias("x")])
        both = both.drop_nulls().with_columns(pl.col("x").rank().alias("rank"))
        counts = both["is_large"].sum(), both.height - both["is_large"].sum()
        if min(counts) < LEAST_ROWS / 4:
            continue
        # the share of pairs in which the row of the larger cluster has the larger value
        ranks = both["rank"].filter(both["is_large"]).sum()
        share = (ranks - counts[0] * (counts[0] + 1) / 2) / (counts[0] * counts[1])
        if max(share, 1 - share) > SORTS:
            return True
    return False


def mixture_of(column: Column) -> Mixture | None:
    """The two units that a column seems to be in, or None."""
    if not column.is_number or column.distinct < DISTINCT:
        return None
    values = column.values.drop_nulls().cast(pl.Float64)
    values = values.filter(values > 0)
    if values.len() < max(LEAST_ROWS, 0.9 * column.values.drop_nulls().len()):
        return None
    logs = np.sort(np.log(values.sample(min(LOOKED_ROWS, values.len()), seed=0).to_numpy()))
    cut = _cut(logs)
    small, large = logs[logs <= cut], logs[logs > cut]
    if min(small.size, large.size) < LEAST_SHARE * logs.size or not _has_valley(logs, small, large):
        return None
    apart = float(np.median(large) - np.median(small))
    near = [(abs(apart / math.log(factor) - 1), apart, names) for factor, names in factors()]
    off, apart, names = min(near)
    if off > NEAR or off * apart > NEAR:
        return None
    typical = (float(np.exp(np.median(part))) for part in (small, large))
    return Mixture(*typical, large.size / logs.size, names)


def _cut(logs: np.ndarray) -> float:
    """Where two groups differ most from each other and least within (Otsu, 1979)."""
    places = np.arange(1, logs.size)
    left = np.cumsum(logs)[:-1]
    means = left / places, (logs.sum() - left) / (logs.size - places)
    between = places * (logs.size - places) * (means[0] - means[1]) ** 2
    return float(logs[int(np.argmax(between))])


def _has_valley(logs: np.ndarray, small: np.ndarray, large: np.ndarray) -> bool:
    """Whether few rows lie half way between the clusters, and both are narrow."""
    low, high = np.median(small), np.median(large)
    width = (high - low) / 8
    middle = (low + high) / 2

    def count(at: float) -> int:
        return int(((logs > at - width) & (logs < at + width)).sum())

    valley = min(count(middle + shift * width) for shift in (-1, 0, 1))
    return valley <= VALLEY * min(count(low), count(high))
