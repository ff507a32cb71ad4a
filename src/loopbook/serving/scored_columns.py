"""Scored columns: what a scored file has beside its rows.

It decides what stands in them. A column of the file that has such a name, as
one that was scored before does, is written anew; the contract lets no feature
be called so.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from loopbook.project.contract import Contract
from loopbook.registry.servable import Servable

VERSION = "model_version"


def of_answers(servable: Servable, contract: Contract, answers: np.ndarray) -> Iterator[pl.Series]:
    """The answers of a version to some rows, as columns: a number, or a class and all probabilities."""
    yield pl.Series(contract.target.answer_column, servable.decided(answers))
    for place, column in enumerate(servable.contract.target.probability_columns.values()):
        yield pl.Series(column, answers[:, place])
    yield pl.repeat(servable.number, len(answers), eager=True).alias(VERSION)
