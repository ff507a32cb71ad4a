"""Explained: how much of a target some columns say, found out by a small tree.

It decides how a table becomes numbers and which rows are asked about. It is a
measure of what is there to be learned, and no model that serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

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
) -> Columns:
    """A sample of a table's labelled rows as numbers."""
    rows = rows.filter(pl.col(target).is_not_null())
    if rows.height > MOST_ROWS:
        rows = rows.sample(MOST_ROWS, seed=seed)
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


def explained(table: Columns, names: Sequence[str], *, order: np.ndarray | None = None) -> float:
    """How much of the target some columns explain, in [0, 1], on rows not learned from.

    The share of the variance (of the target's ranks, so that single rows weigh
    nothing), or of the entropy of the classes.

    Parameters
    ----------
    order : array of shape (rows,), optional
        Rows by time: then the last third is explained by what came before.
    """
    if not names:
        return 0.0
    X = np.column_stack([np.nan_to_num(table.values[n], nan=-1e30) for n in names])
    if order is None:
        parts = list(KFold(3, shuffle=True, random_state=0).split(X))
    else:
        parts = [tuple(np.split(order, [2 * len(order) // 3]))]
    leaf = max(5, table.target.size // 200)
    return (
        _classes_explained(table, X, parts, leaf)
        if table.is_class
        else (_variance_explained(table, X, parts, leaf))
    )


def _variance_explained(table: Columns, X: np.ndarray, parts: list, leaf: int) -> float:
    y = np.argsort(np.argsort(table.target, kind="stable"), kind="stable").astype(float)
    left, total = 0.0, 0.0
    for learned, asked in parts:
        tree = DecisionTreeRegressor(min_samples_leaf=leaf, random_state=0)
        said = tree.fit(X[learned], y[learned]).predict(X[asked])
        left += float(((said - y[asked]) ** 2).sum())
        total += float(((y[asked] - y[asked].mean()) ** 2).sum())
    return max(0.0, 1 - left / total) if total > 0 else 0.0


def _classes_explained(table: Columns, X: np.ndarray, parts: list, leaf: int) -> float:
    y = table.target.astype(int)
    left, total = 0.0, 0.0
    for learned, asked in parts:
        tree = DecisionTreeClassifier(min_samples_leaf=leaf, random_state=0)
        tree.fit(X[learned], y[learned])
        said = np.full((len(asked), y.max() + 1), 1e-3)
        said[:, tree.classes_] = np.maximum(tree.predict_proba(X[asked]), 1e-3)
        left -= float(np.log(said[np.arange(len(asked)), y[asked]]).sum())
        rates = np.bincount(y[asked], minlength=y.max() + 1)[y[asked]] / len(asked)
        total -= float(np.log(rates).sum())
    return max(0.0, 1 - left / total) if total > 0 else 0.0
