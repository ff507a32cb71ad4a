"""Drift: how far a window's columns are from the reference, and how far is more than luck.

It decides the distance, and the thresholds: a window that has not drifted is
drawn again and again from the reference itself, at the window's own size, and
a threshold is what such windows hardly ever pass. So the rate of false alarms
is chosen, whatever the number of rows. Pure: no file, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from loopbook.models.measures import decimal
from loopbook.models.task import task_of
from loopbook.project.contract import Contract

BINS = 10
MOST_DRAWN = 2_000  # rows of one resampled window; see `_undrifted`
RESAMPLES = 1_000
MISSING = "missing"
MOST_PROBABILITIES = 12  # of classes, as columns of their own


@dataclass(frozen=True)
class Binning:
    """How one column is counted: by value, or between the reference's quantiles.

    `labels` has one name a bin; the last bin is for what is missing, and for
    categories the last but one is for values that the reference does not have.
    """

    labels: list[str]
    edges: np.ndarray | None = None
    codes: Mapping[str, int] | None = None

    def count(self, column: pl.Series) -> np.ndarray:
        """Bin numbers, shape (rows,)."""
        last = len(self.labels) - 1
        if self.codes is not None:
            known = column.replace_strict(self.codes, default=last - 1, return_dtype=pl.Int64)
            return known.zip_with(column.is_not_null(), pl.Series([last])).to_numpy()
        values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        bins = np.searchsorted(self.edges, values, side="right")
        return np.where(np.isfinite(values), bins, last)


def binning(column: pl.Series) -> Binning:
    """How to count a column of the reference.

    Numbers: between the reference's deciles, fewer where values repeat.
    Categories: each value by itself.
    """
    if column.dtype == pl.String:
        values = sorted(column.drop_nulls().unique().to_list())
        codes = {value: place for place, value in enumerate(values)}
        return Binning([*values, "not seen in training", MISSING], codes=codes)
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    values = values[np.isfinite(values)]
    quantiles = np.linspace(0, 1, BINS + 1)[1:-1]
    # "higher" gives values that occur, so that a value that repeats is a bin of its own
    edges = np.unique(np.quantile(values, quantiles, method="higher")) if values.size else []
    edges = np.asarray(edges, dtype=np.float64)
    ends = _told_apart(edges)
    names = [f"under {ends[0]}", *(f"from {edge}" for edge in ends)] if ends else ["any"]
    return Binning([*names, MISSING], edges=edges)


def _told_apart(edges: np.ndarray) -> list[str]:
    """Numbers in as few digits as tell them apart: three, where that is enough, to six."""
    for digits in (3, 4, 5, 6):
        ends = [decimal(edge, digits) for edge in edges]
        if len(set(ends)) == len(ends):
            break
    return ends


def distance(shares: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon distance between distributions, in [0, 1].

    Parameters
    ----------
    shares, others : arrays of shape (…, bins) that broadcast; each sums to 1

    Notes
    -----
    The square root of the Jensen-Shannon divergence in bits: Endres and
    Schindelin, IEEE Transactions on Information Theory 49 (2003). Not
    `scipy.spatial.distance.jensenshannon`, which takes one pair at a time
    where thousands are needed.
    """
    return np.sqrt(_divergence(shares, others))


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log2(p / middle), 0)
        right = np.where(q > 0, q * np.log2(q / middle), 0)
    return np.maximum((left + right).sum(axis=-1) / 2, 0)


def _shares(codes: np.ndarray, bins: int) -> np.ndarray:
    return np.bincount(codes, minlength=bins) / codes.size


def calibrate(
    counted: Sequence[np.ndarray],
    bins: Sequence[int],
    rows: int,
    *,
    false_alarms: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """The distance that an undrifted window passes with a chosen probability, a column.

    Parameters
    ----------
    counted : sequence of arrays of shape (reference rows,)
        The reference's bin numbers, column by column, rows in one order:
        drawn together, so that columns that move together do so here too.
    bins : sequence of int
        How many bins each column has.
    rows : int, at least 1
        The size of the window.
    false_alarms : float in (0, 1)
        Of windows that have not drifted, the share in which at least one of
        these columns passes its threshold.

    Returns
    -------
    numpy.ndarray of shape (columns,)
    """
    draw = np.random.default_rng(seed)
    return np.sqrt(_joint_quantile(_undrifted(counted, bins, rows, resamples, draw), false_alarms))


def _undrifted(
    counted: Sequence[np.ndarray],
    bins: Sequence[int],
    rows: int,
    resamples: int,
    draw: np.random.Generator,
) -> np.ndarray:
    """Divergences of windows drawn from the reference itself, shape (resamples, columns).

    Notes
    -----
    A reference is a sample as well, so a window of n rows is from a reference
    of m rows as far as one of 1 / (1/n + 1/m) rows would be from the truth:
    that many rows are drawn with replacement. Where they are more than 2,000,
    2,000 are drawn and the divergence is scaled, which falls with the
    reciprocal of the rows.
    """
    size = counted[0].size
    drawn = max(1, round(1 / (1 / rows + 1 / size)))
    scale = max(1.0, drawn / MOST_DRAWN)
    drawn = min(drawn, MOST_DRAWN)
    truth = [_shares(codes, n) for codes, n in zip(counted, bins, strict=True)]
    divergences = np.empty((resamples, len(bins)))
    for place in range(resamples):
        picked = draw.integers(0, size, drawn)
        for column, (codes, n) in enumerate(zip(counted, bins, strict=True)):
            divergences[place, column] = _divergence(_shares(codes[picked], n), truth[column])
    return divergences / scale


def _joint_quantile(divergences: np.ndarray, false_alarms: float) -> np.ndarray:
    """What no column passes in all but a share of the draws, column by column.

    Notes
    -----
    The quantile is that of each draw's largest standardised divergence over
    columns (Westfall and Young, Resampling-Based Multiple Testing, 1993: their
    step of the maximum).
    """
    mean, spread = divergences.mean(axis=0), divergences.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    largest = ((divergences - mean) / spread).max(axis=1)
    limit = np.quantile(largest, 1 - false_alarms)
    spread = np.where(np.isfinite(spread), spread, 0)
    return np.maximum(mean + limit * spread, 0)


@dataclass(frozen=True)
class ColumnDrift:
    """One column of a window against the reference; shares are by bin of `labels`.

    `is_judged`: its drift counts; else it moves with time by its nature.
    """

    column: str
    distance: float
    threshold: float
    labels: list[str]
    reference: list[float]
    current: list[float]
    is_judged: bool = True

    @property
    def has_drifted(self) -> bool:
        return self.distance > self.threshold


def compare(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    names: Sequence[str],
    *,
    false_alarms: float,
    floor: float,
    seed: int,
) -> list[ColumnDrift]:
    """Columns of a window against the reference, the farthest beyond its threshold first.

    Parameters
    ----------
    reference, current : polars.DataFrame, not empty
        Both with all of `names`.
    false_alarms : float in (0, 1)
        See `calibrate`; over all of `names` together.
    floor : float in [0, 1]
        No threshold is lower: with very many rows a distance that nobody
        would call one is beyond luck too.
    """
    ways = [binning(reference[name]) for name in names]
    counted = [way.count(reference[name]) for way, name in zip(ways, names, strict=True)]
    bins = [len(way.labels) for way in ways]
    limits = calibrate(counted, bins, current.height, false_alarms=false_alarms, seed=seed)
    columns = []
    for name, way, codes, limit in zip(names, ways, counted, limits, strict=True):
        before = _shares(codes, len(way.labels))
        now = _shares(way.count(current[name]), len(way.labels))
        far, least = float(distance(before, now)), max(float(limit), floor)
        columns.append(ColumnDrift(name, far, least, way.labels, before.tolist(), now.tolist()))
    return sorted(columns, key=lambda c: (-c.distance / max(c.threshold, 1e-12), c.column))


def with_shown(
    rows: pl.DataFrame,
    reference: pl.DataFrame,
    contract: Contract,
    decision: Mapping[str, Any] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Both tables with their answers as people see them, and the names of these columns.

    A class is the one that a version with this `decision` answers: of yes or no,
    yes from its threshold on. Of many classes the probabilities of those are shown that the reference
    expects most.
    """
    task = task_of(contract)
    before, now = (
        task.shown_columns(task.of_column(some["answer"]), decision) for some in (reference, rows)
    )
    rates = {name: column.mean() for name, column in before.items() if name != "answer"}
    kept = sorted(rates, key=lambda name: -rates[name])[:MOST_PROBABILITIES]
    names = [name for name in before if name == "answer" or name in kept]
    shown = (
        some.with_columns(columns[name].alias(name) for name in names)
        for some, columns in ((rows, now), (reference, before))
    )
    return *shown, names
