"""Out of fold: what a candidate would have answered to the rows that it learned from.

It decides which rows are left out together. The fit that serves knows the level
of its own rows; rows that it has not seen stand at that level too if the weeks
around theirs are among those that teach. So each second week is left out, and
then the others: two fits of half the rows.
"""

from datetime import timedelta

import numpy as np
import polars as pl

from loopbook.features import rows as row_features
from loopbook.models import candidates, steps
from loopbook.models.task import task_of
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract

NEWEST_DAYS = 84  # six half-lives of a calibration state: what is older hardly counts
LEAST_ROWS = 60  # that teach one of the two; fewer make no model that is worth asking
WEEK_US = 7 * 86_400 * 10**6


def answers(
    name: str,
    contract: Contract,
    random_seed: int,
    fitted_on: pl.DataFrame,
    categories: dict[str, list[str]],
) -> tuple[pl.DataFrame, np.ndarray]:
    """The newest rows that taught a candidate, and what a fit without them answers.

    Parameters
    ----------
    name : str
        A candidate of the library or of the project.
    fitted_on : polars.DataFrame
        The rows that teach the model that may serve.

    Returns
    -------
    tuple of polars.DataFrame and numpy.ndarray
        The rows of the newest 84 days and the raw answers to them, shape (n,) or
        (n, K). No rows without an event time, or where half of them teach nothing.
    """
    task, rows = task_of(contract), fitted_on
    if EVENT_TS not in rows.columns or not len(rows):
        return rows.clear(), _none(task)
    is_even = (rows[EVENT_TS].dt.epoch("us").to_numpy() // WEEK_US) % 2 == 0
    is_new = (rows[EVENT_TS] > rows[EVENT_TS].max() - timedelta(days=NEWEST_DAYS)).to_numpy()
    X = row_features.encode(rows, row_features.input_names(contract), categories)
    y = task.inside(task.observed(rows[contract.target.name]))
    said = None
    for taught in (is_even, ~is_even):
        if taught.sum() < LEAST_ROWS or (task.classes and len(np.unique(y[taught])) < task.width):
            return rows.clear(), _none(task)
        asked = is_new & ~taught
        if not asked.any():
            continue
        model = candidates.build(name, contract, random_seed, int(taught.sum()))
        steps.fitted(model, X[taught], y[taught])
        some = task.answers(model, X[asked])
        said = np.empty((len(rows), *some.shape[1:])) if said is None else said
        said[asked] = some
    return rows.filter(is_new), said[is_new]


def _none(task) -> np.ndarray:
    return np.empty((0, task.width) if task.classes else 0)
