"""Number plots: where a model of a number is wrong.

It decides the two figures of observed and predicted amounts, in the target's unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loopbook.pages import figures
from loopbook.pages.figures import CHALLENGER, CURRENT, LEGEND, REFERENCE, Picture, figure, words

if TYPE_CHECKING:
    from loopbook.models.number import Number

MOST_POINTS = 5_000  # of a scatter; more are a blot, and megabytes in an SVG
SCALES = {"log": "log", "identity": "linear"}


def of_numbers(task: Number, observed: np.ndarray, answers: np.ndarray, _decision: Any) -> dict:
    return {
        "predicted_against_observed": _scatter(task, observed, answers),
        "residuals": _residuals(task, observed, answers),
    }


def _scatter(task: Number, observed: np.ndarray, answers: np.ndarray) -> Picture:
    """A point a row on equal axes, logarithmic where the target is a log inside."""
    drawn, axis = figure(4.8, 4.6)
    every = max(1, -(-observed.size // MOST_POINTS))
    look = {"s": 5, "alpha": 0.35, "color": CHALLENGER, "lw": 0, "rasterized": True}
    axis.scatter(observed[::every], answers[::every], **look)
    ends = [min(observed.min(), answers.min()), max(observed.max(), answers.max())]
    axis.plot(ends, ends, color=REFERENCE, lw=1)
    axis.set(xscale=SCALES[task.link], yscale=SCALES[task.link])
    figures.compactly(axis)
    axis.minorticks_off()
    unit = unit_of(task)
    axis.set(xlabel=words(f"observed ({unit})"), ylabel=words(f"predicted ({unit})"))
    drawn.reading = (
        "For a point above the line the model predicted too much, for a point below too little. "
        "Watch both ends: most models predict too near the mean there."
    )
    if every > 1:
        shown = observed[::every].size
        drawn.reading += f" Drawn: {shown:,} of {observed.size:,} rows, evenly chosen."
    return drawn


def _residuals(task: Number, observed: np.ndarray, answers: np.ndarray) -> Picture:
    """How the signed errors are spread; what lies outside 99 % of them is put at the ends."""
    drawn, axis = figure()
    (signed,) = task.signed_errors(observed, answers).values()
    signed = task.bias_measure.shown(signed)
    reach = float(np.quantile(np.abs(signed), 0.99)) or 1.0
    axis.hist(np.clip(signed, -reach, reach), bins=80, color=CHALLENGER)
    axis.axvline(0, color="black", lw=0.8)
    axis.axvline(float(np.median(signed)), color=CURRENT, ls="--", lw=1.2, label="median")
    unit = task.bias_measure.unit
    axis.set(xlabel=words(f"signed error ({unit})" if unit else "signed error"), ylabel="rows")
    axis.legend(**LEGEND)
    drawn.reading = (
        "The errors should be centred on zero; left of it the model predicted too little. A long "
        "tail to one side is a kind of row that the model gets wrong; errors beyond 99 % of the "
        "others are counted in the outermost bars."
    )
    return drawn


def unit_of(task: Number) -> str:
    """What the amounts on an axis are."""
    return task.contract.target.unit or task.contract.target.name
