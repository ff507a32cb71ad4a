"""Histograms: the numbers of named groups of rows, as shares.

It decides where a bar begins and ends, so that numbers are seen as they lie.
"""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.ticker import FuncFormatter

from loopbook.pages import figures
from loopbook.pages.figures import (
    SEVERAL,
    Picture,
    compact,
    figure,
    legend,
    nothing,
    per_cent,
    short,
    words,
)
from loopbook.pages.formats import asked

BINS = 50


def of(groups: Mapping[str, np.ndarray], label: str, *, log: bool) -> Picture:
    """The share of each group's rows by their number."""
    drawn, axis = figure()
    whole = np.concatenate([v[np.isfinite(v)] for v in groups.values()])
    if not whole.size:
        return nothing("no row has a value")
    low, high = np.quantile(whole, [0.001, 0.999])
    log = log and bool(0 < low < high)
    bins = _edges(whole, low, high, log=log)
    for (name, group), colour in zip(groups.items(), cycle(SEVERAL)):
        weights = np.full(group.size, 1 / max(group.size, 1))
        axis.hist(group, bins, weights=weights, histtype="step", color=colour, label=name, lw=1.6)
    if log:
        axis.set_xscale("log")
        figures.log_ticks(axis.xaxis, low, high)
    axis.xaxis.set_major_formatter(FuncFormatter(compact))
    axis.yaxis.set_major_formatter(FuncFormatter(per_cent))
    axis.set(xlabel=words(label), ylabel="share of rows")
    if len(groups) > 1:
        legend(axis)
    drawn.finding = _middles(groups)
    return drawn


def _edges(values: np.ndarray, low: float, high: float, *, log: bool) -> np.ndarray:
    """Where bars begin and end, a bar for each of few whole numbers."""
    if log:
        return np.geomspace(low, high, BINS)
    if low < high < low + BINS and not (values % 1).any():
        return np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    if low == high:  # what is the same everywhere has one bar
        low, high = low - abs(low) / 10 - 1e-6, high + abs(high) / 10 + 1e-6
    return np.linspace(low, high, BINS)


def _middles(groups: Mapping[str, np.ndarray]) -> str:
    """Where the middle eight tenths of each group lie."""
    told = []
    for name, group in groups.items():
        known = group[np.isfinite(group)]
        if known.size:
            low, middle, high = (asked(v) for v in np.quantile(known, [0.1, 0.5, 0.9]))
            told.append(f"{short(name)} {middle} ({low} to {high})")
    return f"The median, and the middle eight tenths of the rows: {'; '.join(told)}."
