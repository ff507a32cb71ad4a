"""Plots: the figures of a table's columns, in notebooks and on pages.

It decides how rows, columns and their drift are drawn, with units on the axes.
Each function takes numbers and returns a figure; none reads a file. How a
model's errors look is `error_plots`'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter

from loopbook.models.measures import amount
from loopbook.pages import axes, figures, histograms
from loopbook.pages.figures import (
    CHALLENGER,
    CURRENT,
    INK,
    REFERENCE,
    SEVERAL,
    Picture,
    compact,
    dated,
    figure,
    legend,
    lines,
    nothing,
    per_cent,
    plain,
    short,
    sized,
    words,
)
from loopbook.pages.formats import asked, distance, share

if TYPE_CHECKING:  # a dashboard draws too, and does not wait for SciPy and Polars
    import polars as pl
    from matplotlib.axes import Axes

    from loopbook.monitoring.drift import ColumnDrift

DAY = timedelta(days=1)
LABEL = 18  # letters of a bin's name: three digits of a probability of one in ten million


@sized
def distribution(
    values: Mapping[str, np.ndarray | pl.Series],
    label: str,
    *,
    log: bool = False,
    order: Sequence[str] | None = None,
    marks: Mapping[str, float] | None = None,
) -> Picture:
    """One column for named groups of rows, as shares: histograms of numbers, bars of words.

    Parameters
    ----------
    values : mapping from a group's name to its values
        Numbers, or texts; what is missing is left out.
    log : bool
        Whether numbers stand on a logarithmic axis, if all of them are above 0.
    order : sequence of str, optional
        In which order words are shown; without it the most frequent are first.
    marks : mapping from a name to a number, optional
        Vertical lines beside numbers.
    """
    arrays = {name: np.asarray(group) for name, group in values.items()}
    if all(group.dtype.kind in "fiub" for group in arrays.values()):
        picture = histograms.of({n: g.astype(float) for n, g in arrays.items()}, label, log=log)
        by_place = sorted((marks or {}).items(), key=lambda mark: mark[1])
        _mark(picture.axes[0], dict(by_place))
        return picture
    return _bars(arrays, label, order)


def _bars(
    groups: Mapping[str, np.ndarray], label: str, order: Sequence[str] | None, most: int = 12
) -> Picture:
    """The share of each word in each group; the rarest of many share a bar."""
    counts = [Counter(str(v) for v in group if v is not None) for group in groups.values()]
    whole = sum(counts, Counter())
    if not whole:
        return nothing("no row has a value")
    often = [name for name, _ in sorted(whole.items(), key=lambda pair: (-pair[1], pair[0]))]
    kept = often if len(often) <= most else often[: most - 1]
    names = [name for name in order or kept if name in kept]
    rest = len(often) - len(kept)
    rows = [plain(name) for name in names] + [f"{rest:,} others"] * (rest > 0)
    drawn, axis, places = lines(rows, each=14 + 10 * len(groups))
    height = 0.8 / len(groups) if not figures.is_narrow() else 0.5 / len(groups)
    top = places + height * len(groups) / 2
    for k, (group, count, colour) in enumerate(zip(groups, counts, cycle(SEVERAL))):
        total = max(count.total(), 1)
        shown = [count[name] / total for name in names]
        shown += [1 - sum(shown)] if rest and count else [0.0] * (rest > 0)
        axis.barh(top - height * (k + 0.5), shown, height, color=colour, label=group)
        for name, place, length in zip(rows, top - height * (k + 0.5), shown, strict=True):
            told = f"{group}, {name}: {100 * length:.1f} %"
            drawn.tell(axis, (0, length), (place - height / 2, place + height / 2), told)
    axis.xaxis.set_major_formatter(FuncFormatter(per_cent))
    axis.set(xlabel="share of rows", ylabel=words(label))
    if len(groups) > 1:
        legend(axis)
    said = [
        f"{100 * count[often[0]] / max(count.total(), 1):.1f} % of {short(group)}"
        for group, count in zip(groups, counts, strict=True)
    ]
    drawn.finding = f"The most frequent is {short(often[0])}: {', '.join(said)}."
    return drawn


@sized
def over_time(
    periods: pl.DataFrame,
    label: str,
    marks: Mapping[str, object] | None = None,
    time: str = "week of the event (UTC)",
) -> Picture:
    """Numbers by period: a line for each column beside `period`. `marks` names vertical lines.

    Lines are named by their columns; a single one called `value` needs no name.
    """
    drawn, axis = figure()
    columns = [name for name in periods.columns if name != "period"]
    for name, colour in zip(columns, cycle(SEVERAL[1:] if len(columns) > 1 else SEVERAL[1:2])):
        axis.plot(
            periods["period"], periods[name], color=colour, marker="o", ms=3, label=plain(name)
        )
    _mark(axis, marks or {})
    axis.yaxis.set_major_formatter(FuncFormatter(per_cent if label in axes.SHARES else compact))
    axis.set(xlabel=time, ylabel=words(label))
    whens = [*periods["period"], *(marks or {}).values()]
    if whens and all(isinstance(when, datetime) for when in whens):
        ends = [min(whens), max(whens)]
        dated(axis, whens, DAY)
        if periods.height == 1 and ends[0] != ends[1]:
            axis.set_xlim(ends[0] - DAY, ends[1] + DAY)
    if columns != ["value"]:
        legend(axis)
    drawn.finding = _ends(periods, columns)
    return drawn


def _mark(axis: Axes, marks: Mapping[str, object]) -> None:
    """Vertical lines, named above; of several the first name ends at its line, the last begins there."""
    sides = ["right", *["center"] * (len(marks) - 2), "left"] if len(marks) > 1 else ["center"]
    for (name, at), side in zip(marks.items(), sides, strict=False):
        axis.axvline(at, color=REFERENCE, ls="--", lw=1)
        top = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axis.annotate(name, (at, 1), (0, 3), **top, ha=side, size=11)


def _ends(periods: pl.DataFrame, columns: Sequence[str]) -> str:
    """From what to what each line goes, and between which ends it lies."""
    told = []
    for name in columns:
        known = periods[name].drop_nulls()
        if known.is_empty():
            continue
        what = "" if name == "value" else f"{short(name)}: "
        first, last, low, high = (
            asked(float(v)) for v in (known[0], known[-1], known.min(), known.max())
        )
        told.append(
            f"{what}{first} in the first and {last} in the last of {known.len():,} periods, between "
            f"{low} and {high}"
            if known.len() > 1
            else f"{what}{first} in the only period"
        )
    sentence = "; ".join(told)
    return f"{sentence[:1].upper()}{sentence[1:]}." if told else ""


@sized
def ranking(names: Sequence[str], values: Sequence[float], label: str, best: str = "") -> Picture:
    """Horizontal bars, the first on top; `best` names the one in the challenger's colour."""
    if not names:
        return nothing("no column of numbers")
    drawn, axis, places = lines([words(name) for name in names])
    colours = [CHALLENGER if name == best else REFERENCE for name in names]
    said = share if label in axes.SHARES else amount
    axis.barh(places, values, color=colours, height=0.35 if figures.is_narrow() else 0.65)
    for place, name, value in zip(places, names, values, strict=True):
        told = (min(0.0, float(value)), max(0.0, float(value)))
        drawn.tell(axis, told, (place - 0.3, place + 0.3), f"{name}: {said(value)}")
    if label in axes.SHARES:
        axes.as_per_cent(axis.xaxis)
    axis.set(xlabel=words(label))
    drawn.finding = f"{short(names[0])} comes first with {said(values[0])}" + (
        f", {short(names[-1])} last with {said(values[-1])}." if len(names) > 1 else "."
    )
    return drawn


@sized
def beyond_threshold(columns: Sequence[ColumnDrift], most: int = 20) -> Picture:
    """How far each column is from the reference, as a multiple of its threshold."""
    whole, columns = columns, columns[:most]
    if not columns:
        return nothing()
    drawn, axis, places = lines([plain(c.column, figures.IN_A_SENTENCE) for c in columns], each=22)
    values = [c.distance / max(c.threshold, 1e-12) for c in columns]
    colours = [CHALLENGER if c.has_drifted else CURRENT for c in columns]
    axis.barh(places, values, color=colours, height=0.35 if figures.is_narrow() else 0.65)
    axis.axvline(1, color=INK, lw=1)
    for place, c, value in zip(places, columns, values, strict=True):
        told = f"{c.column}: {_distance(c)}"
        drawn.tell(axis, (0, value), (place - 0.3, place + 0.3), told)
    axis.set(xlabel="multiples of the threshold; beyond 1 it moved", xlim=(0, None))
    drawn.finding = _moved(whole)
    return drawn


def _moved(columns: Sequence[ColumnDrift]) -> str:
    moved = [short(c.column) for c in columns if c.has_drifted]
    if not moved:
        far = max(columns, key=lambda c: c.distance / max(c.threshold, 1e-12))
        part = far.distance / max(far.threshold, 1e-12)
        none = f"None of {len(columns):,} columns" if len(columns) > 1 else "The one column has not"
        return (
            f"{none} moved beyond chance; the distance of {short(far.column)} is nearest to its "
            f"threshold, at {100 * part:.0f} % of it."
        )
    named = ", ".join(moved[:3]) + (f" and {len(moved) - 3:,} more" if len(moved) > 3 else "")
    return f"{len(moved):,} of {len(columns):,} columns moved beyond chance: {named}."


@sized
def shares(columns: Sequence[ColumnDrift], most: int = 6, bins: int = 12) -> Picture:
    """Reference and window side by side, one small chart a column; the largest bins of each."""
    columns = columns[:most]
    if not columns:
        return nothing()
    drawn, grid = figure(200 * len(columns), rows=len(columns))
    bins = min(bins, 8) if figures.is_narrow() else bins
    for column, axis in zip(columns, np.atleast_1d(grid), strict=True):
        before, now = np.array(column.reference), np.array(column.current)
        kept = np.sort(np.argsort(-np.maximum(before, now), kind="stable")[:bins])
        kept = [k for k in kept if max(before[k], now[k]) > 0]
        places = np.arange(len(kept))
        axis.bar(places - 0.2, before[kept], 0.4, color=REFERENCE, label="reference")
        axis.bar(places + 0.2, now[kept], 0.4, color=CURRENT, label="this window")
        for place, k in zip(places, kept, strict=True):
            told = f"{column.column} {column.labels[k]}: {_beside(before[k], now[k])}"
            drawn.tell(axis, (place - 0.4, place + 0.4), (0, max(before[k], now[k])), told)
        labels = [plain(column.labels[k], LABEL) for k in kept]
        each = figures.LETTER * (max(map(len, labels), default=0) + 2)
        is_crowded = each * len(labels) > figures.width() - 70
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
        axis.set_xticks(places, labels, **turned)
        axis.grid(visible=False, axis="x")
        axis.yaxis.set_major_formatter(FuncFormatter(per_cent))
        name = plain(column.column, 44)
        title = name if figures.is_narrow() else f"{name}: {_distance(column)}"
        axis.set_title(title, loc="left")
    first = np.atleast_1d(grid)[0]
    drawn.legend(
        *first.get_legend_handles_labels(), loc="outside upper right", ncols=2, **figures.LEGEND
    )
    drawn.finding = _farthest_bin(columns[0])
    return drawn


def _distance(column: ColumnDrift) -> str:
    return f"distance {distance(column.distance)}, threshold {distance(column.threshold)}"


def _beside(before: float, now: float) -> str:
    return f"{100 * before:.1f} % of the reference, {100 * now:.1f} % of this window"


def _farthest_bin(column: ColumnDrift) -> str:
    """Which bin of a column changed most."""
    before, now = np.array(column.reference), np.array(column.current)
    k = int(np.argmax(np.abs(now - before)))
    name = short(column.column)
    return (
        f"{name[:1].upper()}{name[1:]} changed most in the bin “{short(column.labels[k])}”: "
        f"{_beside(before[k], now[k])}."
    )
