"""Evaluation: how far predictions are from what happened, and how sure that is.

It decides metrics, slices and intervals. It never fits and never decides
(that is `promotion`). Errors in per cent are shares in [0, inf) here; people
see them times 100.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.stats import bootstrap

from loopbook.project.contract import Contract

ALL = "all rows"
SHUFFLES = 2  # of each feature; their mean rise counts


def metrics(observed: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The metrics of a regression, in the target's unit unless said otherwise.

    Parameters
    ----------
    observed, predicted : arrays of shape (n,), n >= 1
        `observed` is not 0 anywhere for the relative ones; where it is, or
        where a log does not exist, those are left out of the answer.

    Returns
    -------
    dict
        `n`, `mae`, `rmse`, `r2`; `mape` and `median_ape` in [0, inf) as
        shares; `rmse_log` and `bias` (mean of log predicted minus log
        observed: below 0 it predicts too little), in log units.
    """
    error = predicted - observed
    spread = float(np.sum((observed - observed.mean()) ** 2))
    answer = {
        "n": float(observed.size),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }
    if spread > 0:
        answer["r2"] = 1 - float(np.sum(error**2)) / spread
    if np.all(observed != 0):
        ape = np.abs(error / observed)
        answer |= {"mape": float(ape.mean()), "median_ape": float(np.median(ape))}
    if np.all(observed > 0) and np.all(predicted > 0):
        log_error = np.log(predicted) - np.log(observed)
        answer |= {
            "rmse_log": float(np.sqrt((log_error**2).mean())),
            "bias": float(log_error.mean()),
        }
    return answer


def loss_label(metrics: Mapping[str, float]) -> str:
    """What an axis calls the losses of `losses`, by the metrics of the same rows."""
    return "error (MAPE)" if "mape" in metrics else "error (MAE over the mean)"


def losses(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What the gate compares, row by row: the absolute percentage error as a share.

    Where the target can be 0 it is the absolute error over the mean of the
    absolute target, which has the same scale; where the target is 0
    everywhere, the absolute error itself.
    """
    error = np.abs(predicted - observed)
    if np.all(observed != 0):
        return error / np.abs(observed)
    return error / (np.abs(observed).mean() or 1.0)


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

    def mean(self, values: np.ndarray) -> Interval:
        """The mean of some rows' values.

        For a paired comparison pass the differences row by row: pairing is
        what makes the interval of a difference narrow. One row, or rows that
        are all equal, have an interval of no width.
        """
        mean = float(values.mean())
        if values.size < 2 or np.ptp(values) == 0:
            return Interval(mean, mean, mean, values.size)
        low, high = self._bootstrap((values,), np.mean)
        return Interval(mean, low, high, values.size)

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


def calibration(observed: np.ndarray, predicted: np.ndarray, groups: int = 10) -> pl.DataFrame:
    """Mean prediction and mean outcome in groups of equal size by prediction.

    Returns
    -------
    polars.DataFrame
        Columns `predicted`, `observed`, `n`; at most `groups` rows, ascending.
        Ties keep the order of the rows.
    """
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, groups) if part.size]
    return pl.DataFrame(
        {
            "predicted": [float(predicted[p].mean()) for p in parts],
            "observed": [float(observed[p].mean()) for p in parts],
            "n": [int(p.size) for p in parts],
        }
    )


def permutation_importance(
    predict: Callable[[pl.DataFrame], np.ndarray],
    rows: pl.DataFrame,
    observed: np.ndarray,
    names: Sequence[str],
    *,
    seed: int,
    most_rows: int = 1_000,
) -> pl.DataFrame:
    """By how much the mean loss rises when one feature is shuffled among the rows.

    Parameters
    ----------
    predict : callable
        From rows to predictions in the target's unit. It derives columns
        itself, so that what follows from a feature is shuffled with it.
    names : sequence of str
        The features to shuffle, one at a time.
    most_rows : int
        A seeded sample of at most so many rows is used.

    Returns
    -------
    polars.DataFrame
        `feature` and `rise` (a share, like the loss), the largest first.

    Notes
    -----
    Breiman, Random Forests, Machine Learning 45 (2001), section 10. Not
    scikit-learn's function, which wants an estimator where we have a graph.
    """
    draw = np.random.default_rng(seed)
    if rows.height > most_rows:
        some = np.sort(draw.choice(rows.height, most_rows, replace=False))
        rows, observed = rows[some], observed[some]
    usual = losses(observed, predict(rows)).mean()
    rises = [float(_shuffled_loss(predict, rows, observed, n, draw) - usual) for n in names]
    table = pl.DataFrame({"feature": list(names), "rise": rises})
    return table.sort("rise", "feature", descending=[True, False])


def _shuffled_loss(
    predict: Callable[[pl.DataFrame], np.ndarray],
    rows: pl.DataFrame,
    observed: np.ndarray,
    name: str,
    draw: np.random.Generator,
) -> np.float64:
    """The mean loss over `SHUFFLES` orders of one feature."""
    shuffled = [
        losses(observed, predict(rows.with_columns(rows[name][draw.permutation(rows.height)])))
        for _ in range(SHUFFLES)
    ]
    return np.mean(shuffled)
