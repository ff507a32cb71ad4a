"""Evaluation: how far predictions are from what happened, and how sure that is.

It decides slices, intervals and which bias is looked at. What an error is, the
contract's `task` says. It never fits and never decides (that is `promotion`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.stats import bootstrap, norm

from loopbook.models.task import Task
from loopbook.project.contract import Contract

ALL = "all rows"
SHUFFLES = 2  # of each feature; their mean rise counts
AT_ONCE = 50_000  # rows whose loss is asked for in one call
LEAST_BEYOND = 2  # resamples beyond each end of an interval, or it is no bootstrap's


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval, over `n` rows."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Confidence:
    """How intervals are made: percentile bootstrap, `seed` of its draws.

    Notes
    -----
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13;
    computed by `scipy.stats.bootstrap`.
    """

    level: float
    resamples: int
    seed: int

    def mean(self, values: np.ndarray, *, among: int = 1, least_spread: float = 0.0) -> Interval:
        """The mean of some rows' values.

        For a paired comparison pass the differences row by row: pairing is
        what makes the interval of a difference narrow. One row, or rows that
        are all equal, have an interval of no width.

        Parameters
        ----------
        among : int
            From how many means the farthest was picked: the interval is as
            much wider (Bonferroni), so that picking alone finds nothing.
        least_spread : float
            A standard deviation that these values must be expected to have: an
            event that happens once in a hundred rows and in none of these has
            an interval all the same.
        """
        mean, outside = float(values.mean()), (1 - self.level) / among
        is_bootstrapped = self.resamples * outside / 2 >= LEAST_BEYOND
        spread = values.std(ddof=1) if values.size > 1 and not is_bootstrapped else 0.0
        reach = norm.isf(outside / 2) * max(spread, least_spread) / np.sqrt(values.size)
        ends = [mean - reach, mean + reach]
        if is_bootstrapped and values.size > 1 and np.ptp(values) > 0:
            ends += replace(self, level=1 - outside)._bootstrap((values,), np.mean)
        return Interval(mean, float(min(ends)), float(max(ends)), values.size)

    def difference(self, values: np.ndarray, others: np.ndarray) -> Interval:
        """Mean of some rows minus the mean of other rows, each resampled by itself."""
        mean = float(values.mean() - others.mean())
        if min(values.size, others.size) < 2:
            return Interval(mean, -np.inf, np.inf, values.size)
        low, high = self._bootstrap(
            (values, others), lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis)
        )
        return Interval(mean, low, high, values.size)

    def _bootstrap(
        self, samples: tuple[np.ndarray, ...], statistic: Callable
    ) -> tuple[float, float]:
        ends = bootstrap(
            samples,
            statistic,
            n_resamples=self.resamples,
            confidence_level=self.level,
            method="percentile",
            batch=max(1, 5_000_000 // max(sample.size for sample in samples)),
            rng=np.random.default_rng(self.seed),
        ).confidence_interval
        return float(ends.low), float(ends.high)


def farthest_off(task: Task, observed: np.ndarray, answers: np.ndarray) -> str:
    """What the answers are biased about, of all that they have a bias of.

    That whose mean signed error is the largest beside its own chance. A number
    has one; of several classes it is one class. The first one in a tie.
    """
    errors, chance = task.signed_errors(observed, answers), task.least_spread(answers)
    return max(
        errors,
        key=lambda name: abs(errors[name].mean()) / max(errors[name].std(), chance[name], 1e-12),
    )


def bias(
    task: Task, observed: np.ndarray, answers: np.ndarray, confidence: Confidence, *, of: str
) -> Interval:
    """The mean signed error of one name of `task.signed_errors`, with its interval.

    With several classes it is as wide as picking the farthest of them asks for.
    """
    errors, chance = task.signed_errors(observed, answers), task.least_spread(answers)
    return confidence.mean(errors[of], among=len(errors), least_spread=chance[of])


def slice_labels(rows: pl.DataFrame, contract: Contract) -> dict[str, np.ndarray]:
    """For every declared slice column, the name of the slice that each row is in."""
    labels = {}
    for name, edges in contract.slices.items():
        column = rows[name]
        if edges is None:
            text = column.cast(pl.String).fill_null("missing")
        else:
            names = _band_names(edges)
            band = np.searchsorted(edges, column.cast(pl.Float64).fill_null(0).to_numpy(), "right")
            text = pl.Series(np.array(names)[band])
            text = text.zip_with(column.is_not_null(), pl.Series(["missing"]))
        labels[name] = np.array([f"{name} {value}" for value in text])
    return labels


def _band_names(edges: list[float]) -> list[str]:
    # 1950 is a year more often than a number of things
    ends = [f"{edge:,.10g}" if abs(edge) >= 10_000 else f"{edge:.10g}" for edge in edges]
    inner = [f"{a} to {b}" for a, b in pairwise(ends)]
    return [f"under {ends[0]}", *inner, f"from {ends[-1]}"]


def compare(
    challenger: np.ndarray,
    other: np.ndarray,
    labels: Mapping[str, np.ndarray],
    confidence: Confidence,
    *,
    least_rows: int,
) -> dict[str, Interval]:
    """Challenger's loss minus the other's on the same rows, over all and by slice.

    Parameters
    ----------
    challenger, other : arrays of shape (n,)
        Losses, row by row. Below 0 in the answer, the challenger is better.
    labels : mapping from slice column to an array of shape (n,)
        As `slice_labels` gives.
    least_rows : int
        Slices with fewer rows are left out.

    Returns
    -------
    dict from slice name to Interval
        The first is `all rows`; then slices by name.
    """
    difference = challenger - other
    answer = {ALL: confidence.mean(difference)}
    for values in labels.values():
        for name in sorted(set(values)):
            inside = difference[values == name]
            if inside.size >= least_rows:
                answer[name] = confidence.mean(inside)
    return answer


def permutation_importance(
    loss: Callable[[pl.DataFrame], np.ndarray],
    rows: pl.DataFrame,
    names: Sequence[str],
    *,
    seed: int,
    most_rows: int = 1_000,
) -> pl.DataFrame:
    """By how much the mean loss rises when one feature is shuffled among the rows.

    Parameters
    ----------
    loss : callable
        From rows to the loss of each. It derives columns itself, so that what
        follows from a feature is shuffled with it.
    names : sequence of str
        The features to shuffle, one at a time.
    most_rows : int
        A seeded sample of at most so many rows is used.

    Returns
    -------
    polars.DataFrame
        `feature` and `rise` (in the loss's unit), the largest first.

    Notes
    -----
    Breiman, Random Forests, Machine Learning 45 (2001), section 10. Not
    scikit-learn's function, which wants an estimator where we have a graph.
    """
    draw = np.random.default_rng(seed)
    if rows.height > most_rows:
        rows = rows[np.sort(draw.choice(rows.height, most_rows, replace=False))]
    usual = loss(rows).mean()
    means = _shuffled_losses(loss, rows, names, draw)
    table = pl.DataFrame({"feature": list(names), "rise": [float(m - usual) for m in means]})
    return table.sort("rise", "feature", descending=[True, False])


def _shuffled_losses(
    loss: Callable[[pl.DataFrame], np.ndarray],
    rows: pl.DataFrame,
    names: Sequence[str],
    draw: np.random.Generator,
) -> list[np.float64]:
    """The mean loss over `SHUFFLES` orders of each feature.

    Many orders are one frame, since most of a call's time is not its rows'.
    """
    many = max(1, AT_ONCE // max(1, rows.height * SHUFFLES))
    means: list[np.float64] = []
    for start in range(0, len(names), many):
        some = names[start : start + many]
        shuffled = [
            rows.with_columns(rows[name][draw.permutation(rows.height)])
            for name in some
            for _ in range(SHUFFLES)
        ]
        losses = loss(pl.concat(shuffled))
        means += [np.mean(part) for part in np.split(losses, len(some))]
    return means
