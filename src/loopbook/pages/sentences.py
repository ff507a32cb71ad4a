"""Sentences: what a figure of a table's columns shows, in words.

It decides what a notebook says of rows by week, of groups and of rankings, in
the contract's units, which `plots` does not know. No sentence names a cause,
since a figure has none. What other figures show they say themselves (`finding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from loopbook.models.measures import amount
from loopbook.pages import formats
from loopbook.pages.reading import Sentence, in_unit, per_cent
from loopbook.project.counts import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable


NOTHING = Sentence("There is nothing to show here.")
FEW = 0.25  # of the rows of the middle period: fewer are worth a look
EDGE = 4  # periods at either end of a line, whose means are compared


def of_counts(periods: pl.DataFrame, of: str = "rows", period: str = "week") -> Sentence:
    """How many rows came in each period (`period`, `value`), and whether any is missing."""
    periods = periods.drop_nulls("period").sort("period")
    if periods.is_empty():
        return NOTHING
    counts, days = periods["value"], timedelta(days=7 if period == "week" else 1)
    first, last = periods["period"][0], periods["period"][-1]
    gaps = int((last - first) / days) + 1 - periods.height
    middle = float(counts.median())
    few = periods.filter(pl.col("value") < FEW * middle)["period"]
    told = (
        f"From {_date(first)} to {_date(last)}, the median {period} has {middle:,.0f} {of}, "
        f"the fewest are {counts.min():,} and the most {counts.max():,}. "
    )
    if gaps > 0:
        told += f"{counted(gaps, period)} in between {'has' if gaps == 1 else 'have'} none. "
    if len(few):
        days_of = listed([_date(day) for day in few], 3)
        which = "" if period == "day" else f"the {period} of "
        told += f"Under a quarter of the median: {which}{days_of}."
    elif gaps <= 0:
        told += f"No {period} is missing, and none has under a quarter of the median."
    return Sentence(told.strip())


def _date(day: date) -> str:
    return formats.date(day.isoformat())


def of_line(periods: pl.DataFrame, say: Callable[[float], str], period: str = "week") -> Sentence:
    """By how much the newest periods are above or below the first ones, line by line."""
    periods, told, ends = periods.sort("period"), [], set()
    for name in (column for column in periods.columns if column != "period"):
        line = periods[name].drop_nulls()
        if not len(line):
            continue
        edge = max(1, min(EDGE, len(line) // 2))
        before, now = float(line.head(edge).mean()), float(line.tail(edge).mean())
        what = "the mean" if name == "value" else name
        if len(line) == 1:
            told.append(f"{what} is {say(now)} in the one {period} that there is")
            continue
        many = counted(edge, period) if edge > 1 else period
        way = "is" if say(before) == say(now) else "rose" if now > before else "fell"
        change = f"{say(now)} throughout" if way == "is" else f"from {say(before)} to {say(now)}"
        told.append(f"{what} {way} {change}")
        ends.add(f" (first {many} against last {many})")
    sentence = "; ".join(told)
    return (
        Sentence(f"{sentence[:1].upper()}{sentence[1:]}{ends.pop() if len(ends) == 1 else ''}.")
        if told
        else NOTHING
    )


def of_groups(
    groups: Mapping[str, Any], unit: str | None = None, order: Sequence[str] | None = None
) -> Sentence:
    """How the last group differs from the first: in its median, or in the share of a value."""
    arrays = {name: np.asarray(group) for name, group in groups.items()}
    if all(group.dtype.kind in "fiub" for group in arrays.values()):
        return _of_numbers({n: g.astype(float) for n, g in arrays.items()}, unit)
    return _of_words(arrays, order)


def _of_numbers(groups: Mapping[str, np.ndarray], unit: str | None) -> Sentence:
    told = {}
    for name, group in groups.items():
        there = group[np.isfinite(group)]
        if there.size:
            low, middle, high = np.quantile(there, [0.25, 0.5, 0.75])
            told[name] = (middle, f"{in_unit(low, unit, bare=True)} and {in_unit(high, unit)}")
    if not told:
        return Sentence("No row has a value.")
    if len(told) == 1:
        ((middle, quarters),) = told.values()
        (group,) = groups.values()
        none = group.size - np.isfinite(group).sum()
        least, most = np.nanmin(group), np.nanmax(group)
        missing = f" {counted(int(none), 'row has', 'rows have')} no value." if none else ""
        return Sentence(
            f"The median is {in_unit(middle, unit)}, half of the rows lie between {quarters}, and "
            f"all between {in_unit(least, unit, bare=True)} and {in_unit(most, unit)}.{missing}"
        )
    medians = "; ".join(f"{name} {in_unit(middle, unit)}" for name, (middle, _) in told.items())
    first, *_, last = [*told, *told]
    before, now = told[first][0], told[last][0]
    if in_unit(before) == in_unit(now):
        return Sentence(f"The medians of {first} and {last} are the same. Medians: {medians}.")
    way = "above" if now > before else "below"
    size = per_cent(abs(now / before - 1)) if before > 0 else in_unit(abs(now - before), unit)
    return Sentence(f"The median of {last} is {size} {way} that of {first}. Medians: {medians}.")


def _of_words(groups: Mapping[str, np.ndarray], order: Sequence[str] | None) -> Sentence:
    shares = {}
    for name, group in groups.items():
        there = [str(word) for word in group if word is not None]
        words, counts = np.unique(there, return_counts=True)
        if there:
            shares[name] = dict(zip(words, counts / len(there), strict=True))
    if not shares:
        return Sentence("No row has a value.")
    first, *_, last = [*shares, *shares]
    before, now = shares[first], shares[last]
    known = [word for word in order or sorted({*before, *now}) if word in before or word in now]
    if first == last:
        often = max(known, key=lambda word: now.get(word, 0.0))
        return Sentence(
            f"“{often}” is the most frequent of {counted(len(known), 'value')}, with "
            f"{per_cent(now[often])} of the rows."
        )
    moved = max(known, key=lambda word: abs(now.get(word, 0.0) - before.get(word, 0.0)))
    one, other = per_cent(before.get(moved, 0.0)), per_cent(now.get(moved, 0.0))
    if one == other:
        return Sentence(f"No value is more frequent in {last} than in {first}.")
    return Sentence(
        f"“{moved}” differs most: it is {one} of the rows of {first}, and {other} of those of {last}."
    )


def of_ranking(
    names: Sequence[str],
    values: Sequence[float],
    say: Callable[[float], str],
    *,
    little: float | None = None,
) -> Sentence:
    """Which names lead, by their size; and how many have at most `little`."""
    order = sorted(range(len(names)), key=lambda k: -abs(values[k]))
    if not order:
        return Sentence("There is no column of numbers.")
    lead = listed([f"{names[k]} {say(values[k])}" for k in order[:3]])
    told = f"The largest of {len(names):,}: {lead}." if len(names) > 3 else f"{lead}."
    if little is not None:
        low = sum((abs(value) if little else value) <= little for value in values)
        told += f" {counted(low, 'has', 'have')} {say(little).lstrip('+')} or less." if low else ""
    return Sentence(told)


def of_decision(decision: Mapping[str, Any], yes: str) -> Sentence:
    """From which probability on the yes is answered, and what that saves on the rows that chose it."""
    cost, at_half, of_no, of_yes = (
        amount(decision[name]) for name in ("cost", "cost_at_half", "cost_of_no", "cost_of_yes")
    )
    from_where = (
        f"“{yes}” is never answered"
        if decision["threshold"] > 1
        else f"“{yes}” is answered from a probability of {per_cent(decision['threshold'])} on"
    )
    return Sentence(
        f"Chosen on {counted(decision['rows'], 'row')}: {from_where}, and a row then costs {cost} on "
        f"average. From 50 % on it would cost {at_half}, with “{yes}” never answered {of_no}, always "
        f"answered {of_yes}."
    )


def of_best(names: Sequence[str], values: Sequence[float], say: Callable, best: str) -> Sentence:
    """Which of some errors is the smallest, and by how much the next one is larger."""
    by_name = dict(zip(names, values, strict=True))
    told = f"{best} has {say(by_name[best])}"
    others = {name: size for name, size in by_name.items() if name != best}
    if not others:
        return Sentence(f"{told}; it is the only one.")
    next_one = min(others, key=lambda name: (others[name], name))
    if others[next_one] < by_name[best]:
        less = f"{next_one} has less, {say(others[next_one])}, and cannot be the challenger"
        return Sentence(f"{told}; {less}.")
    return Sentence(f"{told}; the next one is {next_one} with {say(others[next_one])}.")
