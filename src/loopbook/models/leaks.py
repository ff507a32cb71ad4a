"""Leaks: columns that know more of the target than a column can that was there before it.

It decides what is suspected of a column, from numbers: that it explains too
much, that it is there only where the target is, that it counts time, that it is
a time which had not come. A suspicion is a question to a person. What follows
from the values is found by `target_functions`. It never changes a row, and it
never looks at a name alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from loopbook.models.explained import Columns, explained, power

LEAST_ROWS = 30
TOO_GOOD = 0.98  # of the target's variance, or of its classes, by one column
ALONE_LEAST = 0.85
FAR_ABOVE = 0.5  # what is left unexplained by it, against what all others leave
# a number often has one main cause; of classes, one column seldom takes half of what is unknown
CLASS_LEAST, FEW, FEW_ABOVE = 0.5, 3, 5.0  # beside that many others, and times all of them
NAMED_LEAST, NAMED_ABOVE = 0.2, 4.0  # of one whose name says so, and against the next best
GONE_LEAST, GONE_ELSEWHERE = 0.5, 0.01  # share missing where the target is; of it, elsewhere
FOLLOWS = 0.95  # AUC of whether a value is there
BY_CHANCE = 1e-6  # of all rows with a value having one class
COUNTS = 0.99  # of the steps from row to row go one way
TELLS, VANISHES = 0.05, 0.2  # power among its rows; and what of it is left later
PROVEN, SUSPECTED = "proven", "suspected"
# What a name says is no proof; together with numbers it tells why.
AFTERWARDS = re.compile(
    r"(^|_)(actual|arrival|arr|final|finish\w*|end|ended|outcome|result\w*|paid|payment|closed?|"
    r"cancel\w*|resol\w*|discharge\w*|duration|elapsed|delay|after|post|recover\w*|refund\w*|"
    r"settle\w*|complete\w*|deliver\w*|return\w*)(_|$)"
)
LATER = "if it is known only afterwards, put it under ignored with known: after"


@dataclass(frozen=True)
class Leak:
    """A suspicion about columns, or about rows.

    Attributes
    ----------
    columns : those that it is about; of rows, the columns that they share
    kind : what it is; see the function of that name
    certainty : `proven` where it follows from the values
    evidence : the numbers, as a sentence
    remedy : what to do
    is_likely : whether it is left out until somebody says that it is none
    """

    columns: tuple[str, ...]
    kind: Literal[
        "copy", "function", "together", "explains", "missingness", "time", "later", "twice", "group"
    ]
    certainty: Literal["proven", "suspected"]
    evidence: str
    remedy: str = "put it under ignored"
    is_likely: bool = True


def missingness(table: Columns) -> Iterator[Leak]:
    """Columns whose being there tells the target."""
    for name, values in table.values.items():
        absent = ~np.isfinite(values)
        if not LEAST_ROWS <= absent.sum() <= absent.size - LEAST_ROWS:
            continue
        told = _by_class(table, name, absent) if table.is_class else _by_size(table, name, absent)
        if told:
            yield Leak((name,), "missingness", SUSPECTED, told, LATER)


def _by_class(table: Columns, name: str, absent: np.ndarray) -> str:
    """Whether it is there tells the class: of both ways, or all that have a value are of one."""
    for kind in np.unique(table.target):
        is_kind = table.target == kind
        auc = roc_auc_score(is_kind, absent)
        if max(auc, 1 - auc) > FOLLOWS:
            return f"whether {name} is there tells the class (AUC {max(auc, 1 - auc):.3f})"
        for some, how in ((~absent, "with"), (absent, "without")):
            # a class that nearly all rows have comes together by chance
            if is_kind[some].all() and is_kind.mean() ** int(some.sum()) < BY_CHANCE:
                return (
                    f"all {some.sum():,} rows {how} a value of {name} have one class, which "
                    f"{100 * is_kind[~some].mean():.1f} % of the others have"
                )
    return ""


def _by_size(table: Columns, name: str, absent: np.ndarray) -> str:
    auc = roc_auc_score(absent, rankdata(table.target))
    if max(auc, 1 - auc) <= FOLLOWS:
        return ""
    more = "smaller" if auc < 0.5 else "greater"
    return (
        f"the target is {more} where {name} is missing than where it is there, in "
        f"{100 * max(auc, 1 - auc):.1f} % of all pairs of such rows"
    )


def explains(table: Columns) -> Iterator[Leak]:
    """Columns that explain more of the target by themselves than a column usually can."""
    alone = {name: explained(table, [name]) for name in table.values}
    least = CLASS_LEAST if table.is_class else ALONE_LEAST
    for name, share in alone.items():
        is_named = AFTERWARDS.search(name.lower()) is not None
        if share < (NAMED_LEAST if is_named else least):
            continue
        next_best = max((s for other, s in alone.items() if other != name), default=0.0)
        together = explained(table, [other for other in table.values if other != name])
        others = max(together, next_best)  # a tree of many columns may say less than one of them
        is_far = share >= ALONE_LEAST and (1 - share) < FAR_ABOVE * (1 - others)
        is_far |= table.is_class and len(alone) > FEW and share > FEW_ABOVE * others
        stands_out = is_named and share > NAMED_ABOVE * next_best
        if share >= TOO_GOOD or is_far or stands_out:
            why = ", and its name says that it is known afterwards" if is_named else ""
            told = (
                f"{name} alone explains {100 * share:.1f} % of the target, the next best column "
                f"{100 * next_best:.1f} %, all others together {100 * others:.1f} %{why}"
            )
            yield Leak((name,), "explains", SUSPECTED, told, LATER, is_named or share >= TOO_GOOD)


def time(table: Columns, *, only_counters: bool = True) -> Iterator[Leak]:
    """Columns that tell of rows among which they were, and not of those that came later.

    Parameters
    ----------
    only_counters : bool
        Whether only columns that count time are looked at. What others told may
        be gone because the world has moved.
    """
    if table.at is None or not np.isfinite(table.at).all() or np.unique(table.at).size < LEAST_ROWS:
        return
    order = np.argsort(table.at, kind="stable")
    for name in table.values:
        if only_counters and not counts_time(table, name):
            continue
        within = power(table, [name])
        if within < TELLS:
            continue
        later = power(table, [name], order)
        if later < VANISHES * within:
            told = (
                f"{name} tells {100 * within:.1f} % of the target of rows between those that it was "
                f"learned from, and {100 * later:.1f} % of later ones"
            )
            yield Leak((name,), "time", SUSPECTED, told, "if it only counts time: ignored", False)


def counts_time(table: Columns, name: str) -> bool:
    """Whether values, by the time of their rows, only go up or down, or each is there once for a while."""
    if table.at is None:
        return False
    values = table.values[name][np.argsort(table.at, kind="stable")]
    values = values[np.isfinite(values)]
    if values.size < LEAST_ROWS or np.ptp(values) == 0:
        return False
    steps = np.diff(values)
    if max((steps >= 0).mean(), (steps <= 0).mean()) >= COUNTS and np.unique(values).size >= 5:
        return True
    distinct = np.unique(values).size
    is_block = 5 <= distinct <= values.size / 5
    return is_block and int((steps != 0).sum()) <= 1.5 * distinct


def gone_with_the_target(rows: pl.DataFrame, names: Sequence[str], target: str) -> Iterator[Leak]:
    """Columns that have no value in the rows without a target: they come with it.

    A column that is missing elsewhere too is none, nor is one of which fewer
    than thirty rows tell. One that is there in some of these rows came before
    the target, and still not when a prediction was asked for.
    """
    unlabelled = rows[target].is_null()
    if unlabelled.sum() < LEAST_ROWS or unlabelled.all():
        return
    for name in names:
        absent = rows[name].is_null()
        with_target = float(absent.filter(unlabelled).mean())
        without = float(absent.filter(~unlabelled).mean())
        if with_target >= GONE_LEAST and without <= GONE_ELSEWHERE * with_target:
            told = (
                f"{name} is missing in {100 * with_target:.0f} % of the {unlabelled.sum():,} rows without "
                f"a target and in {100 * without:.1f} % of the others, so it comes with the target"
            )
            yield Leak((name,), "missingness", SUSPECTED, told, LATER)
