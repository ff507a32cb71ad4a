"""Number plots: where a model of a number is wrong.

It decides the two figures of observed and predicted amounts, in the target's unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from loopbook.models.measures import amount
from loopbook.pages import figures
from loopbook.pages.figures import (
    CHALLENGER,
    CURRENT,
    INK,
    REFERENCE,
    Picture,
    figure,
    legend,
    sized,
    words,
)
from loopbook.project.counts import counted

if TYPE_CHECKING:
    from loopbook.models.number import Number

MOST_POINTS = 5_000  # of a scatter; more are a blot, and megabytes in an SVG
FEW_POINTS = 500  # of which each is seen by itself
SCALES = {"log": "log", "identity": "linear"}


def of_numbers(task: Number, observed: np.ndarray, answers: np.ndarray, _decision: Any) -> dict:
    return {
        "predicted_against_observed": _scatter(task, observed, answers),
        "residuals": _residuals(task, observed, answers),
    }


@sized
def _scatter(task: Number, observed: np.ndarray, answers: np.ndarray) -> Picture:
    """A point a row, logarithmic where the target is a log inside."""
    drawn, axis = figure(min(440, figures.width()))
    every = max(1, -(-observed.size // MOST_POINTS))
    axis.scatter(observed[::every], answers[::every], **_points(observed[::every].size))
    ends = [min(observed.min(), answers.min()), max(observed.max(), answers.max())]
    axis.plot(ends, ends, color=REFERENCE, lw=1)
    axis.set(xscale=SCALES[task.link], yscale=SCALES[task.link])
    figures.compactly(axis)
    unit = unit_of(task)
    axis.set(xlabel=words(f"observed ({unit})"), ylabel=words(f"predicted ({unit})"))
    drawn.reading = (
        "For a point above the line the model predicted too much, for a point below too little. "
        "Expect points to lean towards the mean at both ends, in the best of models too: a value "
        "is extreme by chance as well, and chance cannot be predicted."
    )
    if every > 1:
        shown = observed[::every].size
        drawn.reading += f" Drawn: {shown:,} of {observed.size:,} rows, evenly chosen."
    drawn.finding = (
        f"{_too_much(observed, answers)} of {observed.size:,} rows were predicted too high: of the "
        f"tenth with the lowest observed values {_at_an_end(observed, answers, low=True)}, of the tenth "
        f"with the highest {_at_an_end(observed, answers, low=False)}."
    )
    return drawn


def _points(count: int) -> dict[str, Any]:
    """How points look: few are large and full, so that they are seen on a dark page too."""
    size, alpha = (18, 0.8) if count <= FEW_POINTS else (7, 0.35)
    return {"s": size, "alpha": alpha, "color": CHALLENGER, "lw": 0, "rasterized": True}


def _too_much(observed: np.ndarray, answers: np.ndarray) -> str:
    return f"{100 * float((answers > observed).mean()):.0f} %"


def _at_an_end(observed: np.ndarray, answers: np.ndarray, *, low: bool) -> str:
    order = np.argsort(observed, kind="stable")
    tenth = max(1, observed.size // 10)
    some = order[:tenth] if low else order[-tenth:]
    return _too_much(observed[some], answers[some])


@sized
def _residuals(task: Number, observed: np.ndarray, answers: np.ndarray) -> Picture:
    """How the signed errors are spread; what lies outside 99 % of them is put at the ends."""
    drawn, axis = figure()
    measure = task.bias_measure
    (signed,) = task.signed_errors(observed, answers).values()
    low, middle, high = (float(v) for v in np.quantile(signed, [0.1, 0.5, 0.9]))
    drawn.finding = (
        f"The median of the signed errors is {measure.said_change(middle)}; eight of ten rows lie "
        f"between {measure.said_change(low)} and {measure.said_change(high)}."
    )
    signed = measure.shown(signed)
    reach = float(np.quantile(np.abs(signed), 0.99)) or 1.0
    counts, ends, _ = axis.hist(np.clip(signed, -reach, reach), bins=80, color=CHALLENGER)
    for count, left, right in zip(counts, ends, ends[1:], strict=False):
        told = f"{amount(left, signed=True)} to {amount(right, signed=True)}: {counted(int(count), 'row')}"
        if count:
            drawn.tell(axis, (left, right), (0, count), told)
    axis.axvline(0, color=INK, lw=0.8)
    axis.axvline(float(np.median(signed)), color=CURRENT, ls="--", lw=1.2, label="median")
    unit = measure.unit
    axis.set(xlabel=words(f"signed error ({unit})" if unit else "signed error"), ylabel="rows")
    axis.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(axis)
    drawn.reading = (
        "The errors should be centred on zero; left of it the model predicted too little. A long "
        "tail to one side is a kind of row that the model gets wrong; errors beyond 99 % of the "
        "others are counted in the outermost bars."
    )
    return drawn


def unit_of(task: Number) -> str:
    """What the amounts on an axis are."""
    return task.contract.target.unit or task.contract.target.name
