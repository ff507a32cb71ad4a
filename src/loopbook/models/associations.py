"""Associations: how strongly a column moves with the target, before any model.

It decides the measure for a number and for a class, and which column tells the
target outright. It fits nothing; a strong association is a hint and no verdict.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from loopbook.models.task import Task

TELLS = 0.999  # from here on a number is the target under another name
MOST_CLASSES = 12  # that columns are held against: the most frequent ones


@dataclass(frozen=True)
class Association:
    """A column's association with the target, in [-1, 1]; `of` is the class that is meant."""

    column: str
    strength: float
    of: str | None = None


def with_target(task: Task, rows: pl.DataFrame, columns: Sequence[str]) -> list[Association]:
    """Each column's association with the target, the strongest first; ties keep their order.

    Parameters
    ----------
    columns : sequence of str
        Columns of numbers; rows without a value of one do not count for it.

    Notes
    -----
    For a number Spearman's rank correlation. For a class the rank-biserial
    correlation (Cureton, 1956) of the rows of the class and all others: 1 where
    each of its rows has a larger value. Of several classes the one with the
    largest is named. A column that is the same everywhere has 0.
    """
    target = task.contract.target.name
    if task.classes is None:
        found = [_of_number(rows, name, target) for name in columns]
    else:
        found = [_of_class(task, rows, name, target) for name in columns]
    return sorted(found, key=lambda association: -abs(association.strength))


def _of_number(rows: pl.DataFrame, name: str, target: str) -> Association:
    column = pl.col(name).cast(pl.Float64)
    value = rows.select(pl.corr(column, pl.col(target), method="spearman")).item()
    return Association(name, _finite(value))


def _of_class(task: Task, rows: pl.DataFrame, name: str, target: str) -> Association:
    known = rows.select(pl.col(name).cast(pl.Float64).fill_nan(None), pl.col(target)).drop_nulls()
    rank, n = known[name].rank("average"), max(known.height, 1)
    often = known[target].cast(pl.String).value_counts(sort=True)[target].to_list()
    asked = often[:MOST_CLASSES] if task.positive is None else [task.classes[task.positive]]
    strengths = {}
    for one in asked:
        is_one = known[target].cast(pl.String) == one
        ends = rank.filter(is_one).mean(), rank.filter(~is_one).mean()
        strengths[one] = 0.0 if None in ends else 2 * (ends[0] - ends[1]) / n
    of = max(sorted(strengths), key=lambda one: abs(strengths[one]), default=None)
    return Association(name, _finite(strengths.get(of)), of)


def _finite(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else 0.0


def tell(task: Task, rows: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns that are the target under another name.

    A number does where its rank is almost the target's. For a class any column
    does that has at most as many values as there are classes, and one class a
    value: a measurement that tells the classes apart is none of these.
    """
    target = task.contract.target.name
    if task.classes is None:
        numbers = [name for name in columns if rows.schema[name].is_numeric()]
        found = with_target(task, rows, numbers)
        return [one.column for one in found if abs(one.strength) >= TELLS]
    return [name for name in columns if _is_a_name_of(rows, name, target, task.width)]


def _is_a_name_of(rows: pl.DataFrame, name: str, target: str, most: int) -> bool:
    known = rows.select(name, target).drop_nulls()
    values = known[name].n_unique()
    return 1 < values <= most and known.n_unique() == values
