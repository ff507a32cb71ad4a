"""Moved targets: the ground truth of a replay's rows, as if the world had changed.

It decides what it means that a target moves by a share: a number modelled as
a log grows by it, another number by it of its spread, and of classes so many of
the other rows turn to the yes, or to the last class. Each result is one that the
contract allows, and the same rows give the same one.
"""

import numpy as np
import polars as pl

from loopbook.models.task import task_of
from loopbook.project.contract import Contract

SEED = 1
ENDS = (-np.inf, np.inf)


def moved(target: pl.Series, shares: np.ndarray, contract: Contract) -> pl.Series:
    """Observed targets that are moved by a share each; below 0 they move the other way.

    Parameters
    ----------
    shares : array of shape (n,)
        In (-1, 1).
    """
    return OF_TYPE[contract.target.type](target, shares, contract)


def _numbers(target: pl.Series, shares: np.ndarray, contract: Contract) -> pl.Series:
    task = task_of(contract)
    observed = task.observed(target)
    by = observed if task.is_log else task.spread(observed)
    return pl.Series(target.name, np.clip(observed + shares * by, *(contract.target.range or ENDS)))


def _classes(target: pl.Series, shares: np.ndarray, contract: Contract) -> pl.Series:
    """Rows turn to the yes, or away from it to the class before it."""
    task = task_of(contract)
    yes = task.width - 1 if task.positive is None else task.positive
    observed = task.observed(target)
    is_drawn = np.random.default_rng(SEED).random(len(observed)) < np.abs(shares)
    turned = np.where(shares > 0, yes, (yes - 1) % task.width)
    goes = is_drawn & np.where(shares > 0, observed != yes, observed == yes)
    places = np.where(goes, turned, observed).astype(np.intp)
    return pl.Series(target.name, [task.classes[place] for place in places], dtype=pl.String)


OF_TYPE = {"number": _numbers, "category": _classes}
