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
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from loopbook.pages.figures import (
    CHALLENGER,
    CURRENT,
    REFERENCE,
    SEVERAL,
    Picture,
    compact,
    figure,
    lines,
    nothing,
    plain,
    words,
)

if TYPE_CHECKING:  # a dashboard draws too, and does not wait for SciPy and Polars
    import polars as pl

    from loopbook.monitoring.drift import ColumnDrift

DAY = timedelta(days=1)


def distribution(
    values: Mapping[str, np.ndarray | pl.Series],
    label: str,
    *,
    log: bool = False,
    order: Sequence[str] | None = None,
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
    """
    arrays = {name: np.asarray(group) for name, group in values.items()}
    if all(group.dtype.kind in "fiub" for group in arrays.values()):
        return _histograms({n: g.astype(float) for n, g in arrays.items()}, label, log=log)
    return _bars(arrays, label, order)


def _histograms(groups: Mapping[str, np.ndarray], label: str, *, log: bool) -> Picture:
    drawn, axis = figure()
    whole = np.concatenate([v[np.isfinite(v)] for v in groups.values()])
    if not whole.size:
        return nothing("no row has a value")
    low, high = np.quantile(whole, [0.001, 0.999])
    if low == high:  # what is the same everywhere has one bar
        low, high = low - abs(low) / 10 - 1e-6, high + abs(high) / 10 + 1e-6
    log = log and bool(low > 0)
    bins = np.geomspace(low, high, 50) if log else np.linspace(low, high, 50)
    for (name, group), colour in zip(groups.items(), cycle(SEVERAL)):
        weights = np.full(group.size, 1 / max(group.size, 1))
        axis.hist(group, bins, weights=weights, histtype="step", color=colour, label=name, lw=1.6)
    if log:
        axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(compact))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set(xlabel=words(label), ylabel="share of rows")
    if len(groups) > 1:
        axis.legend(frameon=False)
    return drawn


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
    drawn, axis, places = lines(len(names) + (rest > 0), each=0.16 + 0.12 * len(groups))
    height = 0.8 / len(groups)
    for k, (group, count, colour) in enumerate(zip(groups, counts, cycle(SEVERAL))):
        total = max(count.total(), 1)
        shown = [count[name] / total for name in names]
        shown += [1 - sum(shown)] if rest and count else [0.0] * (rest > 0)
        axis.barh(places + 0.4 - height * (k + 0.5), shown, height, color=colour, label=group)
    rows = [plain(name) for name in names] + [f"{rest:,} others"] * (rest > 0)
    axis.set_yticks(places, rows)
    axis.grid(visible=False, axis="y")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set(xlabel="share of rows", ylabel=words(label))
    if len(groups) > 1:
        axis.legend(frameon=False)
    return drawn


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
    if columns != ["value"]:
        axis.legend(frameon=False)
    top = axis.get_ylim()[1]
    for k, (name, at) in enumerate((marks or {}).items()):
        axis.axvline(at, color=REFERENCE, ls="--", lw=1)
        place = (3, -4 - 11 * k)  # below the one before, which may be near
        axis.annotate(name, (at, top), place, textcoords="offset points", va="top", size=9)
    axis.yaxis.set_major_formatter(FuncFormatter(compact))
    axis.set(xlabel=time, ylabel=words(label))
    axis.tick_params(axis="x", rotation=30)
    if periods.height == 1 and isinstance(only := periods["period"][0], datetime):
        ends = [only, *(marks or {}).values()]  # around one moment Matplotlib shows four years
        axis.set_xlim(min(ends) - DAY, max(ends) + DAY)
    return drawn


def ranking(names: Sequence[str], values: Sequence[float], label: str, best: str = "") -> Figure:
    """Horizontal bars, the first on top; `best` names the one in the challenger's colour."""
    if not names:
        return nothing("no column of numbers")
    drawn, axis = figure(7.0, 0.9 + 0.3 * len(names))
    places = np.arange(len(names))[::-1]
    colours = [CHALLENGER if name == best else REFERENCE for name in names]
    axis.barh(places, values, color=colours, height=0.65)
    axis.set_yticks(places, [words(name) for name in names])
    axis.grid(visible=False, axis="y")
    axis.set(xlabel=words(label))
    return drawn


def beyond_threshold(columns: Sequence[ColumnDrift], most: int = 20) -> Figure:
    """How far each column is from the reference, as a multiple of its threshold."""
    columns = columns[:most]
    if not columns:
        return nothing()
    drawn, axis = figure(5.4, 1.0 + 0.24 * len(columns))
    places = np.arange(len(columns))[::-1]
    values = [c.distance / max(c.threshold, 1e-12) for c in columns]
    colours = [CHALLENGER if c.has_drifted else CURRENT for c in columns]
    axis.barh(places, values, color=colours, height=0.65)
    axis.axvline(1, color="black", lw=1)
    axis.set_yticks(places, [plain(c.column) for c in columns])
    axis.grid(visible=False, axis="y")
    axis.set(xlabel="distance as a multiple of the threshold (beyond 1: drift)")
    return drawn


def shares(columns: Sequence[ColumnDrift], most: int = 6, bins: int = 12) -> Figure:
    """Reference and window side by side, one small chart a column; the largest bins of each."""
    columns = columns[:most]
    if not columns:
        return nothing()
    drawn, grid = figure(5.4, 2.6 * len(columns), rows=len(columns))
    for column, axis in zip(columns, np.atleast_1d(grid), strict=True):
        before, now = np.array(column.reference), np.array(column.current)
        kept = np.sort(np.argsort(-np.maximum(before, now), kind="stable")[:bins])
        kept = [k for k in kept if max(before[k], now[k]) > 0]
        places = np.arange(len(kept))
        axis.bar(places - 0.2, before[kept], 0.4, color=REFERENCE, label="reference")
        axis.bar(places + 0.2, now[kept], 0.4, color=CURRENT, label="this window")
        axis.set_xticks(
            places, [plain(column.labels[k], 14) for k in kept], rotation=45, ha="right"
        )
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_title(f"{plain(column.column)}: {column.distance:.3f} ({column.threshold:.3f})")
        axis.set_ylabel("share of rows")
    np.atleast_1d(grid)[0].legend(frameon=False)
    return drawn
