"""Known answers: made-up rows by which a version checks itself before it serves.

It decides which rows a card brings along. Each is put together from the values
of many, so that it is nobody's. Together they tell when an input is missing or
two are exchanged: for each input that the model uses there is a row whose
answer needs it, and for each two a row whose answer needs their order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, islice
from typing import Any

import numpy as np
import polars as pl

from loopbook.features.rows import records_matrix
from loopbook.models.measures import PARITY_TOLERANCE
from loopbook.models.task import Task, task_of
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract

POOL_ROWS = 256
FIRST_ROWS = 5
MOST_PAIRS = 2_000
MOST_FAILING = 200
MATTERS = 10 * PARITY_TOLERANCE  # in its unit: well above what a check allows
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of a sensitive column, which the card has anyway
Answers = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Differences:
    """How far answers are apart, in the unit of parity."""

    task: Task
    spread: float

    def between(self, answers: np.ndarray, others: np.ndarray) -> np.ndarray:
        return self.task.apart(answers, others, self.spread)


def rows_with_answers(
    rows: pl.DataFrame,
    contract: Contract,
    categories: dict[str, list[str]],
    inputs: list[str],
    *,
    fitted: Answers,
    exported: Answers,
) -> dict[str, Any]:
    """Rows and their answers, as a card holds them.

    Parameters
    ----------
    rows : polars.DataFrame
        Rows that the model has seen, with their target; the values of each are mixed.
    fitted, exported : callables
        The answers of the fitted pipeline and of its graph to a matrix, as
        `task` has them. A row on which they differ teaches nothing.

    Returns
    -------
    dict
        `features` and `prediction`: what the graph takes and answers; `records`,
        `at` and `known`: the rows as requests, and what the pipeline answers.
    """
    pool, at = _mixed(rows, contract)
    matrix = records_matrix(pool, at, contract, inputs, categories)
    task = task_of(contract)
    differences = Differences(task, task.spread(task.observed(rows[contract.target.name])))
    known, answered = fitted(matrix), exported(matrix)
    agree = differences.between(answered, known) <= PARITY_TOLERANCE
    usable = np.flatnonzero(agree & np.isfinite(known.reshape(len(known), -1)).all(axis=1))
    # without any it keeps rows all the same: parity bars such a version, and the check refuses it
    usable = usable if usable.size else np.arange(min(FIRST_ROWS, len(pool)))
    places = _chosen(matrix[usable], answered[usable], exported, differences)
    chosen = usable[places].tolist()
    return {
        "features": [[None if np.isnan(v) else float(v) for v in matrix[n]] for n in chosen],
        "prediction": answered[chosen].tolist(),
        "records": [pool[n] for n in chosen],
        "at": [at[n].isoformat() for n in chosen],
        "known": known[chosen].tolist(),
    }


def _mixed(rows: pl.DataFrame, contract: Contract) -> tuple[list[dict[str, Any]], list]:
    """Rows of which each column is shuffled by itself, as requests, and their instants."""
    draw = np.random.default_rng(0)
    columns: dict[str, list] = {}
    for name in (*contract.features, *contract.trailing):
        column = rows[name]
        is_sensitive = name in contract.features and contract.features[name].sensitive != "no"
        if is_sensitive and name not in contract.categories:
            column = pl.Series([column.cast(pl.Float64).quantile(q, "nearest") for q in QUANTILES])
        columns[name] = [column[int(n)] for n in draw.integers(0, column.len(), POOL_ROWS)]
    instants = rows[EVENT_TS] if EVENT_TS in rows.columns else [datetime(2000, 1, 1, tzinfo=UTC)]
    at = [instants[int(n)] for n in draw.integers(0, len(instants), POOL_ROWS)]
    named = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in named], at


def _chosen(
    matrix: np.ndarray, answers: np.ndarray, exported: Answers, differences: Differences
) -> list[int]:
    """The places of rows that tell every input, and the order of every two, if any row does."""

    def change(places: Sequence[int], inputs: list[int], values: np.ndarray) -> np.ndarray:
        """By how much answers differ once inputs of some rows have other values."""
        changed, before = matrix[places].copy(), answers[places]
        changed[:, inputs] = values[places]
        return np.nan_to_num(differences.between(exported(changed), before))

    chosen, every = list(range(min(FIRST_ROWS, len(matrix)))), range(len(matrix))
    others = np.roll(matrix, 1, axis=0)
    used = []
    for one in range(matrix.shape[1]):
        moved = change(every, [one], others[:, [one]])
        if moved.max() > MATTERS:
            used.append(one)
            chosen += [] if moved[chosen].max() > MATTERS else [int(moved.argmax())]
    failing = 0
    for one, two in islice(combinations(used, 2), MOST_PAIRS):
        exchanged = matrix[:, [two, one]]
        if failing >= MOST_FAILING or change(chosen, [one, two], exchanged).max() > MATTERS:
            continue
        moved = change(every, [one, two], exchanged)
        failing += int(moved.max() <= MATTERS)
        chosen += [int(moved.argmax())] if moved.max() > MATTERS else []
    return chosen
