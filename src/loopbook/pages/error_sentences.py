"""Error sentences: what a figure of a model's errors shows, in words.

It decides what of the numbers that a figure draws is worth a sentence. Each
function takes what the function of `error_plots` takes and returns text. It
says *better*, *worse* and *not told apart* of intervals only, and names no cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loopbook.pages.reading import Sentence, in_unit, per_cent
from loopbook.pages.sentences import NOTHING, counted, listed

if TYPE_CHECKING:
    from loopbook.models.classes import Classes
    from loopbook.models.evaluation import Interval
    from loopbook.models.measures import Measure
    from loopbook.models.number import Number
    from loopbook.models.task import Task

# -- one model -----------------------------------------------------------------


def of_errors(
    task: Task,
    observed: np.ndarray,
    answers: np.ndarray,
    decision: Mapping[str, Any] | None = None,
) -> dict[str, Sentence]:
    """A sentence for each figure of `error_plots.errors`, by the same names."""
    if not observed.size:
        return {"nothing": NOTHING}
    return OF_A_MODEL[task.contract.target.type](task, observed, answers, decision)


def _of_numbers(task: Number, observed: np.ndarray, answers: np.ndarray, _: Any) -> dict:
    (signed,) = task.signed_errors(observed, answers).values()
    say, unit = task.bias_measure.said_change, task.contract.target.unit
    near = float(np.median(np.abs(answers - observed)))
    low, high = np.quantile(observed, [0.1, 0.9])
    ends = [say(float(signed[part].mean())) for part in (observed <= low, observed >= high)]
    too_much = per_cent(float(np.mean(signed > 0)), 0)
    far = float(np.quantile(np.abs(signed), 0.95))
    return {
        "predicted_against_observed": Sentence(
            f"Half of {counted(observed.size, 'answer')} are within {in_unit(near, unit)} of what "
            f"was observed. The mean signed error is {ends[0]} on the tenth of the rows with the "
            f"smallest targets, and {ends[1]} on the tenth with the largest."
        ),
        "residuals": Sentence(
            f"{too_much} of the answers are too large. The median signed error is "
            f"{say(float(np.median(signed)))}, and 95 % of the errors are smaller than "
            f"{task.bias_measure.said(far)} either way."
        ),
    }


def _of_classes(task: Classes, observed: np.ndarray, answers: np.ndarray, decision: Any) -> dict:
    said, places = np.array(task.decided(answers, decision)), observed.astype(np.intp)
    names = np.array(task.classes)
    truth = names[places]
    right = float(np.mean(said == truth))
    told = f"{per_cent(right)} of {counted(observed.size, 'row')} were answered with their class."
    if (said != truth).any():
        mistakes, counts = np.unique(
            np.column_stack([truth, said])[said != truth], axis=0, return_counts=True
        )
        (was, answered), count = mistakes[counts.argmax()], int(counts.max())
        told += (
            f" Most often confused: {was} was answered with {answered} in {count:,} of "
            f"{counted(int((truth == was).sum()), 'row')}."
        )
    given = answers[np.arange(len(answers)), places]
    medians = {name: float(np.median(given[truth == name])) for name in names if name in truth}
    worst = min(medians, key=lambda name: medians[name])
    return {
        "confusion": Sentence(told),
        "probabilities": Sentence(
            f"What was observed had a median probability of {per_cent(float(np.median(given)))}; "
            f"{worst} had the smallest, {per_cent(medians[worst])}. "
            f"{per_cent(float(np.mean(given < 0.5)))} of the rows had one below 50 %."
        ),
    }


OF_A_MODEL = {"number": _of_numbers, "category": _of_classes}

# -- several models ------------------------------------------------------------


def of_calibration(
    task: Task, observed: np.ndarray, answers: Mapping[str, np.ndarray], groups: int = 10
) -> Sentence:
    """By how much the group farthest from the line is off, for each model."""
    if not observed.size or not answers:
        return NOTHING
    unit = task.contract.target.unit
    say = per_cent if task.classes else partial(in_unit, unit=unit)
    told = []
    for role, some in answers.items():
        table = task.calibration(observed, some, groups)
        off = (table["observed"] - table["predicted"]).to_numpy()
        place, above = int(np.abs(off).argmax()), int((off > 0).sum())
        predicted, was = table["predicted"][place], table["observed"][place]
        told.append(
            f"{role}: {above} of {counted(len(off), 'group')} lie above the line; the farthest "
            f"has {say(predicted)} predicted and {say(was)} observed."
        )
    return Sentence(" ".join(told))


def of_changes(rows: Mapping[str, Interval], measure: Measure) -> Sentence:
    """How many differences are better, worse or neither beyond doubt; the first by its number."""
    if not rows:
        return NOTHING
    name, first = next(iter(rows.items()))
    better = [n for n, i in rows.items() if i.high < 0]
    worse = [n for n, i in rows.items() if i.low > 0]
    told = f"{name}: {_interval(first, measure)}, {_word(first)}."
    if len(rows) > 1:
        rest = len(rows) - len(better) - len(worse)
        told += (
            f" Of {counted(len(rows), 'line')}, {len(better):,} are better beyond doubt, "
            f"{len(worse):,} worse, and {rest:,} cannot be told apart."
        )
        told += f" Worse: {listed(worse)}." if worse else ""
    return Sentence(told)


def _interval(interval: Interval, measure: Measure) -> str:
    mean, low, high = (
        measure.said_change(end) for end in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} ({low} to {high})"


def _word(interval: Interval) -> str:
    if interval.low == interval.high == 0:
        return "no difference in any row"
    if interval.high < 0:
        return "better beyond doubt"
    return "worse beyond doubt" if interval.low > 0 else "which chance alone may be"


def of_biases(rows: Mapping[str, Interval], measure: Measure) -> Sentence:
    """Which mean signed errors are surely not zero, and to which side."""
    told = []
    for name, interval in rows.items():
        sure = "too much" if interval.low > 0 else "too little" if interval.high < 0 else ""
        verdict = f"surely {sure}" if sure else "zero is possible"
        told.append(f"{name} {_interval(interval, measure)}, {verdict}")
    return Sentence(f"{'; '.join(told)}.") if told else NOTHING


def of_slices(rows: Mapping[str, Interval], measure: Measure) -> Sentence:
    """Which slice has the largest error, and which are surely above that of all rows."""
    slices = dict(list(rows.items())[1:])
    if not rows:
        return NOTHING
    name, whole = next(iter(rows.items()))
    told = f"{name}: {measure.said(whole.mean)}."
    if not slices:
        return Sentence(f"{told} No slice has enough rows to be shown.")
    worst = max(slices, key=lambda one: slices[one].mean)
    sure = [one for one, interval in slices.items() if interval.low > whole.mean]
    told += f" The largest is that of {worst}, {measure.said(slices[worst].mean)}."
    rest = f"Surely above that of all rows: {listed(sure)}." if sure else "None is surely above it."
    return Sentence(f"{told} {rest}")


def of_periods(
    periods: Sequence[Mapping[str, Any]], usual: float | None, measure: Measure
) -> Sentence:
    """The newest realized error against that at promotion, else the estimate."""
    known = [period for period in periods if period.get("error") is not None]
    beside = "" if usual is None else f"; at promotion it was {measure.said(usual)}"
    if known:
        newest = known[-1]
        said = measure.said(newest["error"])
        ends = ""
        if newest.get("low") is not None and newest.get("high") is not None:
            low, high = measure.said(newest["low"]), measure.said(newest["high"])
            is_above = usual is not None and newest["low"] > usual
            is_below = usual is not None and newest["high"] < usual
            where = "surely above" if is_above else "surely below" if is_below else ""
            beside += f", and the newest is {where} that" if where else ""
            ends = f" ({low} to {high})"
        return Sentence(
            f"{counted(len(known), 'period')} with ground truth; the newest has {said}{ends}{beside}."
        )
    estimated = [p["estimated"] for p in periods if p.get("estimated") is not None]
    if not estimated:
        return Sentence("No period has ground truth or an estimate.")
    return Sentence(
        f"No period has ground truth. The newest estimate is {measure.said(estimated[-1])}{beside}."
    )
