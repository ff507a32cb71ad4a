"""Performance: how wrong the answers of a window were, and how wrong they probably are.

It decides the realized numbers (from ground truth, with intervals, by period
and slice) and the estimate for rows whose ground truth is still to come. An
estimate is never called anything else. Pure: no file, no clock.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor

from loopbook.models import evaluation
from loopbook.models.evaluation import Confidence, Interval, losses
from loopbook.project.contract import Contract

LEAST_TO_LEARN = 200


def log_errors(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Row by row: log of predicted over observed, or where no log exists the error over the mean.

    Its mean is the bias: below 0 the model predicts too little.
    """
    if np.all(observed > 0) and np.all(predicted > 0):
        return np.log(predicted / observed)
    return (predicted - observed) / (np.abs(observed).mean() or 1.0)


def by_period(rows: pl.DataFrame, confidence: Confidence, *, every: str = "1w") -> pl.DataFrame:
    """Realized error by period of the answer, the last one as it stands.

    Parameters
    ----------
    rows : polars.DataFrame
        `as_of_ts`, `answer` and `observed` (not null).

    Returns
    -------
    polars.DataFrame
        `period` (its start, UTC), `n`, `error`, `low`, `high`, `bias`.
    """
    periods = []
    for (period,), some in rows.sort("as_of_ts").group_by(
        pl.col("as_of_ts").dt.truncate(every), maintain_order=True
    ):
        observed, predicted = some["observed"].to_numpy(), some["answer"].to_numpy()
        error = confidence.mean(losses(observed, predicted))
        bias = float(log_errors(observed, predicted).mean())
        row = {"period": period, "n": some.height, "error": error.mean}
        periods.append(row | {"low": error.low, "high": error.high, "bias": bias})
    schema = {"period": pl.Datetime("us", "UTC"), "n": pl.Int64}
    schema |= dict.fromkeys(("error", "low", "high", "bias"), pl.Float64)
    return pl.DataFrame(periods, schema=schema)


def by_slice(
    rows: pl.DataFrame, contract: Contract, confidence: Confidence, *, least_rows: int
) -> dict[str, Interval]:
    """Realized error of each declared slice, and by thirds of the answer.

    Slices with fewer than `least_rows` rows are left out.
    """
    observed, predicted = rows["observed"].to_numpy(), rows["answer"].to_numpy()
    loss = losses(observed, predicted)
    # a sensitive feature is in no log, so nothing can be sliced by it
    slices = {name: edges for name, edges in contract.slices.items() if name in rows.columns}
    labels = evaluation.slice_labels(rows, contract.model_copy(update={"slices": slices}))
    if rows.height >= 3 * least_rows:
        cuts = np.quantile(predicted, [1 / 3, 2 / 3])
        low, high = (f"{cut:,.0f}" if abs(cut) >= 1000 else f"{cut:,.3g}" for cut in cuts)
        ranges = [f"under {low}", f"{low} to {high}", f"from {high}"]
        names = np.array([f"predicted {contract.target.name} {t}" for t in ranges])
        labels["answer"] = names[np.searchsorted(cuts, predicted, side="right")]
    errors = {evaluation.ALL: confidence.mean(loss)}
    for values in labels.values():
        for name in sorted(set(values)):
            inside = loss[values == name]
            if inside.size >= least_rows:
                errors[name] = confidence.mean(inside)
    return errors


def estimated_losses(
    known: pl.DataFrame, asked: pl.DataFrame, names: Sequence[str], *, seed: int
) -> np.ndarray | None:
    """What the errors of rows probably are whose ground truth is not here yet.

    Parameters
    ----------
    known : polars.DataFrame
        Rows that the model answered without having learned from them, with
        `answer`, `observed` and the columns `names`.
    asked : polars.DataFrame
        Rows to estimate, with `answer` and `names`.

    Returns
    -------
    numpy.ndarray of shape (asked rows,) or None
        None if fewer than 200 rows are known.

    Notes
    -----
    Direct loss estimation: a second model is fitted to the absolute percentage
    error of the first. It sees who is asked, and not whether the world has
    changed, so it misses concept drift by construction; only ground truth
    shows that.
    """
    if known.height < LEAST_TO_LEARN:
        return None
    loss = losses(known["observed"].to_numpy(), known["answer"].to_numpy())
    model = HistGradientBoostingRegressor(
        max_iter=60, max_leaf_nodes=8, min_samples_leaf=40, random_state=seed
    )
    columns = [_as_numbers(known[name], asked[name]) for name in ("answer", *names)]
    # what is known of nobody tells nothing, and cannot be binned
    columns = [pair for pair in columns if not np.isnan(pair[0]).all()]
    model.fit(np.column_stack([column for column, _ in columns]), loss)
    return np.maximum(model.predict(np.column_stack([column for _, column in columns])), 0)


def _as_numbers(known: pl.Series, asked: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """One column of both tables; a category is its place among the known ones, a new one NaN."""
    if known.dtype == pl.String:
        codes = {value: place for place, value in enumerate(sorted(known.drop_nulls().unique()))}
        known, asked = (
            column.replace_strict(codes, default=None, return_dtype=pl.Float64)
            for column in (known, asked)
        )
    known, asked = (c.cast(pl.Float64).fill_null(np.nan).to_numpy() for c in (known, asked))
    return known, asked


def coverage(due: pl.DataFrame) -> tuple[int, int]:
    """How many answers should have their ground truth by now, and how many have it."""
    return due.height, int(due["observed"].is_not_null().sum())
