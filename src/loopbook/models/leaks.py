"""Leaks: columns that know the target, and rows that stand on both sides of a split.

It decides what is suspected, from numbers: a column that is the target or a
function of it, two that add up to it, one that explains more than a column can,
one that is there only where the target is, rows that stand twice. A *proven*
leak follows from the values; a *suspicion* is a question to a person. It never
changes a row, and it never looks at a name alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from loopbook.models.explained import Columns, explained

MOST_PAIRED = 40  # numeric columns of which every two are tried
LEAST_ROWS = 30
COPY = 0.9995  # of the rows: a copy may have a slip of the pen
TOO_GOOD = 0.98  # of the target's variance, or of its classes, by one column
ALONE_LEAST = 0.85
FAR_ABOVE = 0.5  # what is left unexplained by it, against what all others leave
NAMED_LEAST, NAMED_ABOVE = 0.2, 4.0  # of one whose name says so, and against the next best
GONE_LEAST, GONE_ELSEWHERE = 0.5, 0.01  # share missing where the target is; of it, elsewhere
COUNTS = 0.99  # of the steps from row to row go one way
PROVEN, SUSPECTED = "proven", "suspected"
# What a name says is no proof; together with numbers it tells why.
AFTERWARDS = re.compile(
    r"(^|_)(actual|arrival|arr|final|finish\w*|end|ended|outcome|result\w*|paid|payment|closed?|"
    r"cancel\w*|resol\w*|discharge\w*|duration|elapsed|delay|after|post|recover\w*|refund\w*|"
    r"settle\w*|complete\w*|deliver\w*|return\w*)(_|$)"
)


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
    kind: Literal["copy", "function", "together", "explains", "missingness", "time", "twice"]
    certainty: Literal["proven", "suspected"]
    evidence: str
    remedy: str = "put it under ignored"
    is_likely: bool = True


def found(table: Columns) -> list[Leak]:
    """Every leak of a table's columns, proven ones first; a column is named once."""
    if table.target.size < LEAST_ROWS:
        return []
    leaks: dict[tuple[str, ...], Leak] = {}
    for look in (_copies, _together, _functions, _missingness, _explains, _time):
        for leak in look(table):
            known = {name for columns in leaks for name in columns}
            if not known & set(leak.columns):
                leaks[leak.columns] = leak
    return sorted(leaks.values(), key=lambda leak: leak.certainty != PROVEN)


def _copies(table: Columns) -> Iterator[Leak]:
    """Columns that are the target, or a straight line of it."""
    for name in table.numbers if not table.is_class else table.values:
        values = table.values[name]
        share, line = _on_a_line(values, table.target)
        if share >= COPY:
            rows = int(np.isfinite(values).sum())
            evidence = f"{name} is the target{line} in {share:.1%} of {rows:,} rows"
            yield Leak((name,), "copy", PROVEN, evidence)


def _on_a_line(values: np.ndarray, target: np.ndarray) -> tuple[float, str]:
    """The share of rows in which the target is a straight line of the values, and which."""
    there = np.isfinite(values)
    if there.sum() < LEAST_ROWS or np.unique(values[there]).size < 2:
        return 0.0, ""
    x, y = values[there], target[there]
    # a line through robust points: the ends of the middle half
    low, high = np.quantile(x, [0.1, 0.9], method="nearest")
    if low == high:
        low, high = x.min(), x.max()
    at_low, at_high = np.median(y[x == low]), np.median(y[x == high])
    slope = (at_high - at_low) / (high - low)
    if slope == 0:
        return 0.0, ""
    shift = at_low - slope * low
    scale = np.abs(y).max() or 1.0
    share = float((np.abs(slope * x + shift - y) <= 1e-6 * scale).mean())
    is_same = abs(slope - 1) < 1e-9 and abs(shift) < 1e-6 * scale
    return share, "" if is_same else f" times {1 / slope:.4g}"


OPERATIONS = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


def _together(table: Columns) -> Iterator[Leak]:
    """Two columns whose sum, difference, product or quotient is the target."""
    if table.is_class:
        return
    names = [n for n in table.numbers if np.unique(table.values[n]).size > 2][:MOST_PAIRED]
    few = np.random.default_rng(0).choice(table.target.size, min(200, table.target.size), False)
    for one, other in combinations(names, 2):
        for sign, operation in OPERATIONS.items():
            for first, second in ((one, other), (other, one)) if sign in "-/" else ((one, other),):
                if _is_made(operation, table, first, second, few) < COPY:
                    continue
                share = _is_made(operation, table, first, second, slice(None))
                if share >= COPY:
                    told = f"{first} {sign} {second} is the target in {share:.1%} of the rows"
                    yield Leak((first, second), "together", PROVEN, told, "put both under ignored")


def _is_made(operation, table: Columns, one: str, other: str, rows) -> float:
    with np.errstate(all="ignore"):
        made = operation(table.values[one][rows], table.values[other][rows])
    there = np.isfinite(made)
    if there.sum() < LEAST_ROWS or np.ptp(made[there]) == 0:
        return 0.0
    y = table.target[rows][there]
    scale = np.abs(y).max() or 1.0
    return float((np.abs(made[there] - y) <= 1e-6 * scale).mean())


def _functions(table: Columns) -> Iterator[Leak]:
    """Columns from which the target follows, without being a line of it."""
    for name, values in table.values.items():
        there = np.isfinite(values)
        x, y = values[there], table.target[there]
        if x.size < LEAST_ROWS or np.unique(x).size < 2 or np.unique(y).size < 2:
            continue
        if table.is_class and name not in table.categories:
            cut = _clean_cut(x, y)
            if cut is not None:
                told = f"{name} tells the classes apart at {cut:,.6g} in all {x.size:,} rows"
                yield Leak((name,), "function", PROVEN, told)
                continue
        if not table.is_class and name in table.numbers and _is_monotone(x, y):
            told = f"the order of the rows by {name} is that by the target, in {x.size:,} rows"
            yield Leak((name,), "function", PROVEN, told)
            continue
        values_once, places, counts = np.unique(x, return_inverse=True, return_counts=True)
        repeated = counts[places] > 1
        if repeated.mean() < 0.5 or values_once.size < 2:
            continue
        low, high = _ends(y, places, values_once.size)
        if (low == high)[places][repeated].mean() >= COPY and np.unique(y).size > 1:
            told = f"each value of {name} ({values_once.size:,}) has one target only"
            certain = PROVEN if values_once.size <= 0.2 * x.size else SUSPECTED
            yield Leak((name,), "function", certain, told)


def _ends(y: np.ndarray, places: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, places, y)
    np.maximum.at(high, places, y)
    return low, high


def _clean_cut(x: np.ndarray, y: np.ndarray) -> float | None:
    """Where a number parts two classes without a single exception."""
    kinds = np.unique(y)
    if kinds.size != 2:
        return None
    one, other = x[y == kinds[0]], x[y == kinds[1]]
    if min(one.size, other.size) < 10:
        return None
    if one.max() < other.min():
        return float((one.max() + other.min()) / 2)
    return float((other.max() + one.min()) / 2) if other.max() < one.min() else None


def _is_monotone(x: np.ndarray, y: np.ndarray) -> bool:
    order = np.argsort(x, kind="stable")
    steps = np.diff(y[order])[np.diff(x[order]) > 0]
    if np.unique(y).size < 20 or steps.size < LEAST_ROWS:
        return False
    return bool((steps >= 0).all() or (steps <= 0).all())


def _missingness(table: Columns) -> Iterator[Leak]:
    """Columns whose being there tells the target."""
    if not table.is_class:
        return
    kinds = np.unique(table.target)
    for name, values in table.values.items():
        absent = ~np.isfinite(values)
        if not LEAST_ROWS <= absent.sum() <= absent.size - LEAST_ROWS:
            continue
        for kind in kinds:
            auc = roc_auc_score(table.target == kind, absent)
            if max(auc, 1 - auc) > 0.95:
                told = f"whether {name} is there tells the class (AUC {max(auc, 1 - auc):.3f})"
                yield Leak((name,), "missingness", SUSPECTED, told)
                break


def _explains(table: Columns) -> Iterator[Leak]:
    """Columns that explain more of the target by themselves than a column usually can."""
    alone = {name: explained(table, [name]) for name in table.values}
    for name, share in alone.items():
        is_named = AFTERWARDS.search(name.lower()) is not None
        if share < (NAMED_LEAST if is_named else ALONE_LEAST):
            continue
        others = explained(table, [other for other in table.values if other != name])
        next_best = max((s for other, s in alone.items() if other != name), default=0.0)
        is_far = (1 - share) < FAR_ABOVE * (1 - others)
        stands_out = is_named and share > NAMED_ABOVE * next_best
        if share >= TOO_GOOD or (share >= ALONE_LEAST and is_far) or stands_out:
            why = ", and its name says that it is known afterwards" if is_named else ""
            told = (
                f"{name} alone explains {share:.1%} of the target, the next best column "
                f"{next_best:.1%}, all others together {others:.1%}{why}"
            )
            likely = is_named or share >= TOO_GOOD
            remedy = "if it is known later: ignored"
            yield Leak((name,), "explains", SUSPECTED, told, remedy, is_likely=likely)


def _time(table: Columns) -> Iterator[Leak]:
    """Columns that explain rows among which they were, and not those that came later."""
    if table.at is None or not np.isfinite(table.at).all() or np.unique(table.at).size < LEAST_ROWS:
        return
    order = np.argsort(table.at, kind="stable")
    for name in table.values:
        if not _counts_time(table.values[name][order]):
            continue
        within = explained(table, [name])
        if within < 0.3:
            continue
        later = explained(table, [name], order=order)
        if later < 0.3 * within:
            told = (
                f"{name} explains {within:.1%} of the target of rows between those that it was "
                f"learned from, and {later:.1%} of later ones"
            )
            yield Leak((name,), "time", SUSPECTED, told, "if it only counts time: ignored")


def _counts_time(values: np.ndarray) -> bool:
    """Whether values, by the time of their rows, only go up or down, or each is there once for a while."""
    values = values[np.isfinite(values)]
    if values.size < LEAST_ROWS:
        return False
    steps = np.diff(values)
    if max((steps >= 0).mean(), (steps <= 0).mean()) >= COUNTS and np.ptp(values) > 0:
        return True
    distinct = np.unique(values).size
    is_block = 5 <= distinct <= values.size / 5
    return is_block and int((steps != 0).sum()) <= 1.5 * distinct


def gone_with_the_target(rows: pl.DataFrame, names: Sequence[str], target: str) -> list[Leak]:
    """Columns that have no value in the rows without a target: they come with it.

    A column that is missing elsewhere too is none, nor is one of which fewer
    than thirty rows tell. One that is there in some of these rows came before
    the target, and still not when a prediction was asked for.
    """
    unlabelled = rows[target].is_null()
    if unlabelled.sum() < LEAST_ROWS or unlabelled.all():
        return []
    leaks = []
    for name in names:
        absent = rows[name].is_null()
        with_target = float(absent.filter(unlabelled).mean())
        without = float(absent.filter(~unlabelled).mean())
        if with_target >= GONE_LEAST and without <= GONE_ELSEWHERE * with_target:
            told = (
                f"{name} is missing in {with_target:.0%} of the {unlabelled.sum():,} rows without "
                f"a target and in {without:.1%} of the others, so it comes with the target"
            )
            leaks.append(Leak((name,), "missingness", SUSPECTED, told))
    return leaks


def on_both_sides(
    learned: pl.DataFrame, asked: pl.DataFrame, names: Sequence[str], target: str
) -> list[Leak]:
    """Rows that are asked about and stand among those learned from, target and all."""
    columns = [*names, target]
    again = asked.join(learned.select(columns).unique(), on=columns, how="semi", nulls_equal=True)
    if not asked.height or again.height < max(LEAST_ROWS, 0.01 * asked.height):
        return []
    told = (
        f"{again.height:,} of {asked.height:,} rows that judge stand among those learned from, "
        "with all their values"
    )
    remedy = "leave out what stands twice, or add what tells the rows apart to the key"
    return [Leak(tuple(names), "twice", SUSPECTED, told, remedy)]
