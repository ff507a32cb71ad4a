"""Features: from a row as the user has it to the numbers that a model takes.

It decides derived values and the coding of categories, once, for training and
for serving. A model takes one float32 matrix; its columns are `input_names`.
Missing is NaN, and so is a category that was not there when the model was
fitted. Nothing here looks at another row or at the clock.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from loopbook.data.single_values import category
from loopbook.features.calendar import calendar_columns
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract
from loopbook.project.formulas import EVENT_YEAR, compiled

# numexpr's compiled formulas share buffers: two threads in one of them corrupt the heap
ONE_AT_A_TIME = threading.Lock()


def input_names(contract: Contract) -> list[str]:
    """The model's columns in their order: numbers, trailing, derived, categories."""
    return [*contract.numbers, *contract.trailing, *contract.computed, *contract.categories]


def row_inputs(contract: Contract) -> list[str]:
    """Those of `input_names` that follow from the row alone, not from earlier rows."""
    earlier = set(contract.trailing)
    earlier |= {n for n, d in contract.computed.items() if d.reads & earlier}
    return [name for name in input_names(contract) if name not in earlier]


def derive(columns: Mapping[str, np.ndarray], contract: Contract) -> dict[str, np.ndarray]:
    """The derived columns of some rows.

    Parameters
    ----------
    columns : mapping of float64 arrays, all of one length
        The numeric features, and `event_year` and the columns read off the
        calendar where there is an event time; NaN where there is no value.

    Returns
    -------
    dict of float64 arrays
        One a derived column. NaN in gives NaN out, and so does what is not
        finite (a division by zero, the log of a negative number).
    """
    derived = {}
    for name, about in contract.computed.items():
        if about.formula is None:
            derived[name] = columns[name]
            continue
        formula, used = compiled(about.formula)
        with ONE_AT_A_TIME:
            value = np.asarray(formula(*(columns[n] for n in used)), dtype=np.float64)
        derived[name] = np.where(np.isfinite(value), value, np.nan)
    return derived


def with_derived(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows with their derived columns (Float64, null where there is no value)."""
    names = [n for n in (*contract.numbers, *contract.trailing) if n in rows.columns]
    columns = {n: rows[n].cast(pl.Float64).fill_null(np.nan).to_numpy() for n in names}
    if EVENT_TS in rows.columns:
        columns[EVENT_YEAR] = rows[EVENT_TS].dt.year().cast(pl.Float64).to_numpy()
        columns |= calendar_columns(rows[EVENT_TS], contract)
    derived = derive(columns, contract)
    return rows.with_columns(
        pl.Series(name, value, dtype=pl.Float64).fill_nan(None) for name, value in derived.items()
    )


def learn_categories(rows: pl.DataFrame, contract: Contract) -> dict[str, list[str]]:
    """The vocabulary of every category: the contract's, or what occurs in `rows`, sorted."""
    vocabulary = {}
    for name in contract.categories:
        told = contract.features[name].categories
        allowed = list(dict.fromkeys(map(category, told or [])))
        vocabulary[name] = allowed or sorted(rows[name].drop_nulls().unique())
    return vocabulary


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
            codes = _codes(tuple(categories[name]))
            column = column.replace_strict(codes, default=None, return_dtype=pl.Float64)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            matrix[:, place] = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return matrix


def records_matrix(
    records: Sequence[Mapping[str, Any]],
    at: Sequence[datetime],
    contract: Contract,
    names: Sequence[str],
    categories: Mapping[str, Sequence[str]],
) -> np.ndarray:
    """Requests as the model takes them: what `model_matrix` gives, without a table.

    Parameters
    ----------
    records : sequence of mappings
        Features and trailing features by name; None or absent is no value.
    at : sequence of datetime in UTC
        The instant of each, for `event_year` and the calendar.

    Returns
    -------
    numpy.ndarray of float32, shape (records, names)
    """
    columns = {
        name: np.array([np.nan if (v := r.get(name)) is None else v for r in records], np.float64)
        for name in (*contract.numbers, *contract.trailing)
    }
    if contract.event_time:
        columns[EVENT_YEAR] = np.array([moment.year for moment in at], np.float64)
        columns |= calendar_columns(at, contract)
    columns |= derive(columns, contract)
    matrix = np.empty((len(records), len(names)), np.float32)
    for place, name in enumerate(names):
        if name in categories:
            codes = _codes(tuple(categories[name]))
            matrix[:, place] = [codes.get(r.get(name), np.nan) for r in records]
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            matrix[:, place] = columns[name]
    return matrix


@lru_cache(maxsize=256)
def _codes(vocabulary: tuple[str, ...]) -> dict[str, float]:
    return {value: float(code) for code, value in enumerate(vocabulary)}


def model_matrix(
    rows: pl.DataFrame, contract: Contract, categories: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Rows with features as they stand, as the model takes them: derived, then encoded."""
    return encode(with_derived(rows, contract), input_names(contract), categories)
