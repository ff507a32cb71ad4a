"""Features: from a row as the user has it to the numbers that a model takes.

It decides derived values and the coding of categories, once, for training and
for serving. A model takes one float32 matrix; its columns are `input_names`.
Missing is NaN, and so is a category that was not there when the model was
fitted. Nothing here looks at another row or at the clock.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numexpr
import numpy as np
import polars as pl

from loopbook.contract import EVENT_YEAR, Contract, formula_names
from loopbook.sources import EVENT_TS


def input_names(contract: Contract) -> list[str]:
    """The model's columns in their order: numbers, derived numbers, categories."""
    return [*contract.numbers, *contract.computed, *contract.categories]


@lru_cache(maxsize=256)
def _compiled(formula: str) -> tuple[numexpr.NumExpr, tuple[str, ...]]:
    names = tuple(sorted(formula_names(formula)))
    return numexpr.NumExpr(formula, signature=[(name, np.float64) for name in names]), names


def derive(columns: Mapping[str, np.ndarray], contract: Contract) -> dict[str, np.ndarray]:
    """The derived columns of some rows.

    Parameters
    ----------
    columns : mapping of float64 arrays, all of one length
        The numeric features, and `event_year` where there is an event time;
        NaN where there is no value.

    Returns
    -------
    dict of float64 arrays
        One a derived column. NaN in gives NaN out, and so does what is not
        finite (a division by zero, the log of a negative number).
    """
    derived = {}
    for name, about in contract.computed.items():
        formula, used = _compiled(about.formula)
        value = np.asarray(formula(*(columns[n] for n in used)), dtype=np.float64)
        derived[name] = np.where(np.isfinite(value), value, np.nan)
    return derived


def with_derived(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows with their derived columns (Float64, null where there is no value)."""
    names = [n for n in contract.numbers if n in rows.columns]
    columns = {n: rows[n].cast(pl.Float64).fill_null(np.nan).to_numpy() for n in names}
    if EVENT_TS in rows.columns:
        columns[EVENT_YEAR] = rows[EVENT_TS].dt.year().cast(pl.Float64).to_numpy()
    derived = derive(columns, contract)
    return rows.with_columns(
        pl.Series(name, value, dtype=pl.Float64).fill_nan(None) for name, value in derived.items()
    )


def learn_categories(rows: pl.DataFrame, contract: Contract) -> dict[str, list[str]]:
    """The vocabulary of every category: the contract's, or what occurs in `rows`, sorted."""
    return {
        name: contract.features[name].categories or sorted(rows[name].drop_nulls().unique())
        for name in contract.categories
    }


def encode(
    rows: pl.DataFrame, names: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Rows as the model takes them.

    Parameters
    ----------
    rows : polars.DataFrame
        With all columns of `names`.
    names : sequence of str
        The model's columns, in its order.
    categories : mapping from column to vocabulary
        A category's code is its place there.

    Returns
    -------
    numpy.ndarray of float32, shape (rows, len(names))
        NaN where there is no value or the category is unknown.
    """
    matrix = np.empty((rows.height, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        column = rows[name]
        if name in categories:
            codes = {value: float(code) for code, value in enumerate(categories[name])}
            column = column.replace_strict(codes, default=None, return_dtype=pl.Float64)
        matrix[:, place] = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return matrix


def model_matrix(
    rows: pl.DataFrame, contract: Contract, categories: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Rows with features as they stand, as the model takes them: derived, then encoded."""
    return encode(with_derived(rows, contract), input_names(contract), categories)
