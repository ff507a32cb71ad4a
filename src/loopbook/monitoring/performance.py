"""Performance: how wrong the answers of a window were, and how wrong they probably are.

It decides the realized numbers (from ground truth, with intervals, by period
and slice) and the estimate for rows whose ground truth is still to come. An
estimate is never called anything else. Pure: no file, no clock.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor

from loopbook.models import evaluation
from loopbook.models.evaluation import Confidence, Interval
from loopbook.models.task import Task, task_of
from loopbook.project.contract import Contract

LEAST_TO_LEARN = 200
# of observed targets, by where their intervals lie; of classes those in the set, and its size
SHARES = ("inside", "above", "below", "set_size")
LARGEST_SEEN = 3  # probabilities of a row that its loss is estimated from


def pairs(task: Task, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The observed targets of some rows and the answers to them, as `task` has them."""
    return task.observed(rows["observed"]), task.of_column(rows["answer"])


def by_period(
    task: Task, rows: pl.DataFrame, confidence: Confidence, *, of: str, every: str = "1w"
) -> pl.DataFrame:
    """Realized error by period of the answer, the last one as it stands.

    Parameters
    ----------
    rows : polars.DataFrame
        `as_of_ts`, `answer` and `observed` (not null).
    of : str
        Whose bias is told: the target's or a class's; see `task.signed_errors`.

    Returns
    -------
    polars.DataFrame
        `period` (its start, UTC), `n`, `error`, `low`, `high`, `bias`, and the
        `SHARES` of the rows that were told an interval or a set.
    """
    periods = []
    for (period,), some in rows.sort("as_of_ts").group_by(
        pl.col("as_of_ts").dt.truncate(every), maintain_order=True
    ):
        observed, answers = pairs(task, some)
        error = confidence.mean(task.losses(observed, answers))
        bias = float(task.signed_errors(observed, answers)[of].mean())
        row = {"period": period, "n": some.height, "error": error.mean}
        row |= {"low": error.low, "high": error.high, "bias": bias} | shares(task, some)
        periods.append(row)
    schema = {"period": pl.Datetime("us", "UTC"), "n": pl.Int64}
    schema |= dict.fromkeys(("error", "low", "high", "bias", *SHARES), pl.Float64)
    return pl.DataFrame(periods, schema=schema)


def raw_answers(task: Task, rows: pl.DataFrame) -> np.ndarray:
    """Answers before any level moved them; those of an older log were raw."""
    if "raw" not in rows.columns:
        return task.of_column(rows["answer"])
    return task.of_column(rows["raw"].fill_null(rows["answer"]))


def shares(task: Task, rows: pl.DataFrame) -> dict[str, float | None]:
    """How many observed targets the intervals or sets held that were told, and the misses.

    Of numbers those above and below, of classes how many a set has on average.
    """
    told = with_reach(task, rows)
    nothing: dict[str, float | None] = dict.fromkeys(SHARES)
    if told.is_empty():
        return nothing
    if task.classes:
        is_inside, sizes = _in_sets(task, told)
        return nothing | {"inside": float(is_inside.mean()), "set_size": float(sizes.mean())}
    above = float((told["observed"] > told["high"]).mean())
    below = float((told["observed"] < told["low"]).mean())
    return nothing | {"inside": 1 - above - below, "above": above, "below": below}


def with_reach(task: Task, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose answer came with an interval, or of classes with a set."""
    names = ["least"] if task.classes else ["low", "high"]
    if not set(names) <= set(rows.columns):
        return rows.clear()
    return rows.filter(pl.all_horizontal(pl.col(names).is_not_null()))


def _in_sets(task: Task, told: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether each set held the observed class, and how many classes it had.

    The likeliest class is always in it, as `calibration_states.likely_classes` has it.
    """
    observed, answers = pairs(task, told)
    is_in = answers >= told["least"].to_numpy()[:, None]
    rows = np.arange(len(answers))
    is_in[rows, answers.argmax(axis=1)] = True
    return is_in[rows, observed.astype(int)], is_in.sum(axis=1)


def inside_intervals(task: Task, rows: pl.DataFrame, confidence: Confidence) -> dict[str, Any]:
    """The share of observed targets that the intervals or sets held, with its interval; the misses."""
    told = with_reach(task, rows)
    if told.is_empty():
        return {}
    if task.classes:
        is_inside = _in_sets(task, told)[0].astype(float)
    else:
        is_inside = told["observed"].is_between(told["low"], told["high"]).cast(pl.Float64)
        is_inside = is_inside.to_numpy()
    share = float(is_inside.mean())
    # of a few rows that all lie inside nobody knows that all others will
    least = np.sqrt(max(share * (1 - share), 1 / (4 * told.height)))
    inside = confidence.mean(is_inside, least_spread=float(least))
    return shares(task, told) | {"inside": inside}


def _beside_all(task: Task, rows: pl.DataFrame, of: str) -> np.ndarray:
    """Each row's signed error less that of all: what one level for all cannot take away."""
    errors = task.signed_errors(*pairs(task, rows))[of]
    return errors - errors.mean()


def moved_slices(
    known: pl.DataFrame,
    tested: pl.DataFrame,
    contract: Contract,
    confidence: Confidence,
    *,
    of: str,
    least_rows: int,
) -> dict[str, Interval]:
    """How far the bias of each declared slice has moved since promotion, beside that of all rows.

    Each is as wide as picking the farthest of them asks for (Bonferroni).
    Slices with fewer than `least_rows` rows on either side are left out.
    """
    task = task_of(contract)
    slices = {n: edges for n, edges in contract.slices.items() if n in known.columns}
    about = contract.model_copy(update={"slices": slices})
    now, then = (
        (_beside_all(task, rows, of), evaluation.slice_labels(rows, about))
        for rows in (known, tested)
    )
    both = {
        str(name): (now[0][now[1][column] == name], then[0][then[1][column] == name])
        for column in slices
        for name in sorted(set(now[1][column]))
    }
    both = {n: (a, b) for n, (a, b) in both.items() if min(a.size, b.size) >= max(least_rows, 2)}
    outside = (1 - confidence.level) / max(len(both), 1)
    wider = replace(confidence, level=1 - outside)
    return {name: wider.difference(*errors) for name, errors in both.items()}


def by_slice(
    rows: pl.DataFrame, contract: Contract, confidence: Confidence, *, least_rows: int
) -> dict[str, Interval]:
    """Realized error of each declared slice, and of the task's own groups of rows.

    Slices with fewer than `least_rows` rows are left out.
    """
    task = task_of(contract)
    observed, answers = pairs(task, rows)
    loss = task.losses(observed, answers)
    # a sensitive feature is in no log, so nothing can be sliced by it
    slices = {name: edges for name, edges in contract.slices.items() if name in rows.columns}
    labels = evaluation.slice_labels(rows, contract.model_copy(update={"slices": slices}))
    if rows.height >= 3 * least_rows:
        labels |= task.groups(observed, answers)
    errors = {evaluation.ALL: confidence.mean(loss)}
    for values in labels.values():
        for name in sorted(set(values)):
            inside = loss[values == name]
            if inside.size >= least_rows:
                errors[name] = confidence.mean(inside)
    return errors


def estimated_losses(
    task: Task, known: pl.DataFrame, asked: pl.DataFrame, names: Sequence[str], *, seed: int
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
    Direct loss estimation: a second model is fitted to the losses of the first.
    It sees who is asked, and not whether the world has changed, so it misses
    concept drift by construction; only ground truth shows that.
    """
    if known.height < LEAST_TO_LEARN:
        return None
    loss = task.losses(*pairs(task, known))
    model = HistGradientBoostingRegressor(
        max_iter=60, max_leaf_nodes=8, min_samples_leaf=40, random_state=seed
    )
    columns = _answers_as_numbers(task, known, asked)
    columns += [_as_numbers(known[name], asked[name]) for name in names]
    # what is known of nobody tells nothing, and cannot be binned
    columns = [pair for pair in columns if not np.isnan(pair[0]).all()]
    model.fit(np.column_stack([column for column, _ in columns]), loss)
    return np.maximum(model.predict(np.column_stack([column for _, column in columns])), 0)


def _answers_as_numbers(
    task: Task, known: pl.DataFrame, asked: pl.DataFrame
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What was answered, of both tables: the number, or of the probabilities the largest ones."""
    said = [task.of_column(rows["answer"]) for rows in (known, asked)]
    if said[0].ndim == 1:
        return [(said[0], said[1])]
    ordered = [-np.sort(-answers, axis=1)[:, :LARGEST_SEEN] for answers in said]
    most = [answers.argmax(axis=1).astype(np.float64) for answers in said]
    return [(most[0], most[1]), *zip(ordered[0].T, ordered[1].T, strict=True)]


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
