"""Scored columns: what a scored file has beside its rows.

It decides what stands in them. A column of the file that has such a name, as
one that was scored before does, is written anew; the contract lets no feature
be called so.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.errors import ScoringError
from loopbook.registry.calibrated_answers import CalibratedAnswers
from loopbook.registry.servable import Servable

VERSION = "model_version"
WRITTEN = (".parquet", ".csv")
LIST, TEXT = "list", "text"


def check_target(schema: pl.Schema, source: Path, target: Path) -> None:
    """Refuse what cannot be written there, before anything is computed."""
    if target.suffix not in WRITTEN:
        raise ScoringError(
            f"{target}: its name ends in {target.suffix or 'nothing'}, expected .parquet or .csv."
        )
    if target.is_dir():
        raise ScoringError(f"{target}: is a folder, expected the name of a file.")
    nested = [n for n, kind in schema.items() if kind.is_nested() or kind == pl.Binary]
    if target.suffix == ".csv" and nested:
        raise ScoringError(
            f"{source}: {', '.join(nested)} holds lists or mappings, which the CSV file {target} "
            "cannot hold. Name a .parquet file, or leave the column out."
        )


def set_form(contract: Contract, target: Path) -> str:
    """How the sets of classes stand in the output: as lists, or as JSON where it is text.

    Raises
    ------
    ScoringError
        If the target is a number.
    """
    if not contract.target.classes:
        raise ScoringError(
            f"--prediction-set: {contract.target.name} is a number, whose answers have an interval "
            f"({' and '.join(contract.target.interval_columns)}). Leave the option out."
        )
    return TEXT if target.suffix == ".csv" else LIST


def refuse_no_answers(answers: np.ndarray, before: int) -> None:
    """Raise a ScoringError with the first rows to which the graph answers no number."""
    wrong = np.flatnonzero(~np.isfinite(answers.reshape(len(answers), -1)).all(axis=1))
    if wrong.size:
        first = ", ".join(f"{before + place + 1:,}" for place in wrong[:3].tolist())
        raise ScoringError(
            f"the model's answer to {counted(wrong.size, 'row')} is no number; first: row {first}. Values "
            "are too large for it: correct those that are far out of their range."
        )


def of_answers(
    servable: Servable, contract: Contract, calibrated: CalibratedAnswers
) -> Iterator[pl.Series]:
    """The answers of a version to some rows, as columns.

    A number and the ends of its interval, null where there is none; or a class
    and all probabilities.
    """
    answers = calibrated.answers
    yield pl.Series(contract.target.answer_column, servable.decided(answers))
    if servable.task.classes is None:
        both = np.isfinite(calibrated.low) & np.isfinite(calibrated.high)
        ends = zip(contract.target.interval_columns, (calibrated.low, calibrated.high), strict=True)
        for column, end in ends:
            yield pl.Series(column, np.where(both, end, np.nan), nan_to_null=True)
    for place, column in enumerate(servable.contract.target.probability_columns.values()):
        yield pl.Series(column, answers[:, place])
    yield pl.repeat(servable.number, len(answers), eager=True).alias(VERSION)


def of_sets(
    servable: Servable, contract: Contract, calibrated: CalibratedAnswers, form: str
) -> pl.Series:
    """For each row the classes that hold the truth, the likeliest first; null where no state says."""
    sets = calibrated.sets(servable)
    (name,) = contract.target.set_columns
    if form == TEXT:
        texts = [None if some is None else orjson.dumps(some).decode() for some in sets]
        return pl.Series(name, texts, dtype=pl.String)
    return pl.Series(name, sets, dtype=pl.List(pl.String))
