"""Explained: how much of a target some columns say, found out by a small tree.

It decides how a table becomes numbers and which rows are asked about. It is a
measure of what is there to be learned, and no model that serves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy.stats import rankdata
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

LEAST_PROBABILITY = 1e-3  # of a class that a leaf has none of
MOST_ROWS = 5_000  # a seeded sample: what is in nearly all rows is in these


@dataclass(frozen=True)
class Columns:
    """A table as numbers: what every look at it needs.

    Attributes
    ----------
    values : by column, float64 of shape (rows,); a category is the place of its value, and
        what is missing NaN
    target : float64 of shape (rows,); the place of a class
    is_class : whether the target is a class
    categories : the columns that are no numbers
    at : when each row happened, ascending or not; None where the table has no time
    """

    values: Mapping[str, np.ndarray]
    target: np.ndarray
    is_class: bool
    categories: frozenset[str] = field(default_factory=frozenset)
    at: np.ndarray | None = None

    @property
    def numbers(self) -> list[str]:
        return [name for name in self.values if name not in self.categories]


def as_columns(
    rows: pl.DataFrame,
    names: Sequence[str],
    target: str,
    *,
    time: str | None = None,
    seed: int = 0,
    most: int = MOST_ROWS,
) -> Columns:
    """A table's labelled rows as numbers: a seeded sample, where there are more than `most`."""
    rows = rows.filter(pl.col(target).is_not_null())
    if rows.height > most:
        rows = rows.sample(most, seed=seed)
    categories = frozenset(n for n in names if rows[n].dtype == pl.String)
    is_class = rows[target].dtype in (pl.String, pl.Boolean)
    return Columns(
        {name: _as_numbers(rows[name]) for name in names},
        _as_numbers(rows[target]),
        is_class,
        categories,
        None if time is None else _as_numbers(rows[time]),
    )


def _as_numbers(column: pl.Series) -> np.ndarray:
    if column.dtype == pl.String:
        places = {value: place for place, value in enumerate(sorted(column.drop_nulls().unique()))}
        column = column.replace_strict(places, default=None, return_dtype=pl.Float64)
    elif column.dtype.is_temporal():
        column = column.to_physical()
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def explained(table: Columns, names: Sequence[str]) -> float:
    """How much of the target some columns explain, in [0, 1], on rows not learned from.

    The share of the variance (of the target's ranks, so that single rows weigh
    nothing), or of the entropy of the classes.
    """
    if not names:
        return 0.0
    left, total = 0.0, 0.0
    for said, truth in _answered(table, names, _at_random(table)):
        if table.is_class:
            left -= float(np.log(np.maximum(said, LEAST_PROBABILITY))[truth == 1].sum())
            rates = truth.mean(axis=0)
            total -= float((truth.sum(axis=0) * np.log(np.where(rates > 0, rates, 1))).sum())
        else:
            left += float(((said - truth) ** 2).sum())
            total += float(((truth - truth.mean(axis=0)) ** 2).sum())
    return max(0.0, 1 - left / total) if total > 0 else 0.0


def power(table: Columns, names: Sequence[str], order: np.ndarray | None = None) -> float:
    """How closely a small tree's answers and the target go together, in [0, 1]; 0 where they part.

    The squared correlation on rows not learned from. A target that has only
    risen or fallen as a whole since then takes nothing away from it.

    Parameters
    ----------
    order : array of shape (rows,), optional
        Rows by time: then the last third is answered by what came before.
    """
    by_time = [] if order is None else [tuple(np.split(order, [2 * len(order) // 3]))]
    parts = by_time or _at_random(table)
    together, of_said, of_truth = 0.0, 0.0, 0.0
    for said, truth in _answered(table, names, parts):
        one, other = said - said.mean(axis=0), truth - truth.mean(axis=0)
        together += float((one * other).sum())
        of_said += float((one**2).sum())
        of_truth += float((other**2).sum())
    if together <= 0 or of_said <= 0 or of_truth <= 0:
        return 0.0
    return together**2 / (of_said * of_truth)


def _at_random(table: Columns) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(KFold(3, shuffle=True, random_state=0).split(table.target))


def _answered(
    table: Columns, names: Sequence[str], parts: list
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By part, what a tree says of the rows that it was not shown, and what is true of them.

    Both of shape (rows, 1), the target's ranks, or (rows, classes).
    """
    X = np.column_stack([np.nan_to_num(table.values[n], nan=-1e30) for n in names])
    leaf = max(5, table.target.size // 200)
    y = table.target
    truths = rankdata(y)[:, None]
    if table.is_class:
        y = y.astype(int)
        truths = np.eye(y.max() + 1)[y]
    for learned, asked in parts:
        if table.is_class:
            tree = DecisionTreeClassifier(min_samples_leaf=leaf, random_state=0)
            tree.fit(X[learned], y[learned])
            said = np.zeros((len(asked), truths.shape[1]))
            said[:, tree.classes_] = tree.predict_proba(X[asked])
        else:
            tree = DecisionTreeRegressor(min_samples_leaf=leaf, random_state=0)
            said = tree.fit(X[learned], truths[learned, 0]).predict(X[asked])[:, None]
        yield said, truths[asked]
