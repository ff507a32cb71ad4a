"""Error plots: how a model's answers and errors look, whatever the target is.

It decides which figures a target has by its kind, with the axes in the task's
measure; each figure says how it is read. Each function takes arrays and
returns figures; none computes an error of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loopbook.pages import axes, error_words, figures
from loopbook.pages.class_plots import of_classes
from loopbook.pages.figures import (
    CHALLENGER,
    CHAMPION,
    CURRENT,
    INK,
    REFERENCE,
    ROLES,
    Picture,
    dated,
    figure,
    legend,
    nothing,
    plain,
    sized,
    words,
)
from loopbook.pages.formats import share
from loopbook.pages.number_plots import of_numbers, unit_of
from loopbook.pages.reading import in_unit

if TYPE_CHECKING:  # a dashboard draws too, and does not wait for SciPy and Polars
    from loopbook.models.evaluation import Interval
    from loopbook.models.measures import Measure
    from loopbook.models.task import Task

WEEK = timedelta(weeks=1)

# -- one model -----------------------------------------------------------------


def errors(
    task: Task,
    observed: np.ndarray,
    answers: np.ndarray,
    decision: Mapping[str, Any] | None = None,
) -> dict[str, Picture]:
    """Where a model is wrong: two figures, by the names under which they are kept.

    A number has `predicted_against_observed` and `residuals`, a class
    `confusion` and `probabilities`. Each has its `reading`, to stand above it.

    Parameters
    ----------
    observed, answers : arrays
        As `task` has them: the number, or the place of the class and probabilities.
        Of no row there is one figure, `nothing`.
    decision : mapping, optional
        `threshold`, from which probability on yes is answered.
    """
    if not observed.size:
        return {"nothing": nothing()}
    return OF_A_MODEL[task.contract.target.type](task, observed, answers, decision)


OF_A_MODEL = {"number": of_numbers, "category": of_classes}

# -- several models ------------------------------------------------------------


@sized
def calibration(
    task: Task, observed: np.ndarray, answers: Mapping[str, np.ndarray], groups: int = 10
) -> Picture:
    """Mean outcome by mean answer in groups of rows of equal size, a line a model.

    Parameters
    ----------
    answers : mapping from a model's role, such as `champion`, to its answers
    """
    if not observed.size or not answers:
        return nothing()
    drawn, axis = figure(min(400, figures.width()))
    tables = {role: task.calibration(observed, some, groups) for role, some in answers.items()}
    points = np.concatenate([t["predicted"].to_numpy() for t in tables.values()])
    said, was, reading, ends, form = ABOUT_CALIBRATION[task.contract.target.type](task, points)
    axis.plot(ends, ends, color=INK, lw=0.8)
    for role, table in tables.items():
        colour = ROLES.get(role, CURRENT)
        axis.plot(table["predicted"], table["observed"], marker="o", ms=4, color=colour, label=role)
        for predicted, outcome, n in table.select("predicted", "observed", "n").iter_rows():
            told = f"{role}: predicted {form(predicted)}, observed {form(outcome)} (n = {n:,})"
            drawn.tell(axis, predicted, outcome, told)
    figures.compactly(axis)
    if form is share:
        axes.as_per_cent(axis.xaxis, axis.yaxis)
    axis.set(xlabel=words(said), ylabel=words(was))
    legend(axis)
    drawn.reading = reading
    drawn.finding = error_words.farthest_groups(tables, form)
    return drawn


AboutCalibration = tuple[str, str, str, list[float], Callable[[float], str]]


def _of_a_mean(task: Task, points: np.ndarray) -> AboutCalibration:
    unit = unit_of(task)
    reading = (
        "Rows are sorted by their prediction and put in ten groups. On the line, the mean outcome "
        "of a group equals its mean prediction. If all points lie above the line, the model "
        "predicts too little."
    )
    ends = [points.min(), points.max()]
    said = partial(in_unit, unit=task.contract.target.unit)
    return f"mean prediction ({unit})", f"mean outcome ({unit})", reading, ends, said


def _of_a_share(task: Task, _points: np.ndarray) -> AboutCalibration:
    what = "a class" if task.positive is None else plain(task.classes[task.positive])
    reading = (
        f"Rows are sorted by the probability of {what} and put in ten groups. On the line, it is "
        "observed as often as the probability says. Below the line the probabilities are too "
        "large, above it too small."
    )
    said, was = f"mean probability of {what}", f"share of rows with {what}"
    return said, was, reading, [0.0, 1.0], share


ABOUT_CALIBRATION = {"number": _of_a_mean, "category": _of_a_share}

# -- errors as they are judged ---------------------------------------------------


@sized
def changes(
    rows: Mapping[str, Interval],
    measure: Measure,
    label: str | None = None,
    margin: float | None = None,
) -> Picture:
    """Differences of the error with their intervals, one line a name; below 0 is better.

    Parameters
    ----------
    label : str, optional
        What the axis is called; `measure.change_axis` without it.
    margin : float, optional
        As the rows are; a dashed line.
    """
    if not rows:
        return nothing()
    drawn, axis, places = figures.lines(_names(rows))
    for (name, i), place in zip(rows.items(), places, strict=True):
        colour = CHAMPION if i.high < 0 else CHALLENGER if i.low > 0 else REFERENCE
        _interval(axis, place, i, measure, colour)
        drawn.tell(
            axis, *_box(place, i, measure), f"{name}: {error_words.reach(i, measure.said_change)}"
        )
    if margin is not None:
        axis.axvline(measure.shown(margin), color=CURRENT, ls="--", lw=1)
    _finish_lines(axis, label or measure.change_axis)
    drawn.finding = error_words.changed(rows, measure)
    return drawn


@sized
def biases(rows: Mapping[str, Interval], measure: Measure, label: str | None = None) -> Picture:
    """Mean signed errors with their intervals, one line a name; far from 0 is bad either way."""
    if not rows:
        return nothing()
    drawn, axis, places = figures.lines(_names(rows))
    for (name, i), place in zip(rows.items(), places, strict=True):
        _interval(axis, place, i, measure, CHALLENGER if error_words.is_off(i) else REFERENCE)
        drawn.tell(
            axis, *_box(place, i, measure), f"{name}: {error_words.reach(i, measure.said_change)}"
        )
    _finish_lines(axis, label or measure.axis)
    drawn.finding = error_words.biased(rows, measure)
    return drawn


@sized
def slices(rows: Mapping[str, Interval], measure: Measure) -> Picture:
    """Realized error with its interval, one line a slice; the first is all rows."""
    if not rows:
        return nothing()
    drawn, axis, places = figures.lines(_names(rows), 24)
    for (name, i), place in zip(rows.items(), places, strict=True):
        _interval(axis, place, i, measure, CURRENT)
        drawn.tell(axis, *_box(place, i, measure), f"{name}: {error_words.reach(i, measure.said)}")
    (_, every), *others = rows.items()
    _finish_lines(axis, measure.axis, measure.shown(every.mean), REFERENCE)
    drawn.finding = error_words.largest(every, others, measure)
    return drawn


def _names(rows: Mapping[str, Interval]) -> list[str]:
    return [f"{plain(name, figures.IN_A_SENTENCE)} (n = {i.n:,})" for name, i in rows.items()]


def _box(place: float, i: Interval, measure: Measure) -> tuple[tuple[float, float], float]:
    ends = [float(measure.shown(end)) for end in (i.low, i.mean, i.high)]
    known = [end for end in ends if np.isfinite(end)] or [0.0]
    return (min(known), max(known)), place


def _interval(axis: Any, place: float, i: Interval, measure: Measure, colour: str) -> None:
    low, mean, high = (float(measure.shown(end)) for end in (i.low, i.mean, i.high))
    if np.isfinite([low, high]).all():
        axis.plot([low, high], [place, place], color=colour, lw=2)
    axis.plot(mean, place, "o", color=colour, ms=5)


def _finish_lines(axis: Any, label: str, at: float = 0.0, colour: str = INK) -> None:
    axis.axvline(at, color=colour, lw=0.8)
    axis.set(xlabel=figures.in_lines(label))


@sized
def over_time(
    periods: Sequence[Mapping[str, Any]],
    usual: float | None,
    measure: Measure,
    marks: Mapping[datetime, str] | None = None,
    time: str = "answers of the week from (UTC)",
) -> Picture:
    """Realized error with its interval, and the estimate, by period.

    Parameters
    ----------
    periods : sequence of mappings
        `period`, and where known `error`, `low`, `high`, `estimated`.
    usual : float or None
        The error at promotion, a grey line.
    marks : mapping from instant to text
        What happened when.
    """
    if all(p.get("error") is None and p.get("estimated") is None for p in periods):
        return nothing()
    drawn, axis = figure(300)
    _realized(drawn, axis, periods, measure)
    if usual is not None:
        axis.axhline(measure.shown(usual), color=REFERENCE, lw=1.2, label="at promotion")
    axis.margins(y=0.15)
    _mark(axis, marks or {})
    axis.set(xlabel=time, ylabel=words(measure.axis))
    dated(axis, [*(p["period"] for p in periods), *(marks or {})], WEEK)
    legend(axis)
    drawn.finding = error_words.course(periods, usual, measure)
    return drawn


def _mark(axis: Any, marks: Mapping[datetime, str]) -> None:
    """What happened when, along its line so that neighbours do not touch."""
    for at, text in marks.items():
        axis.axvline(at, color=CHAMPION, ls=":", lw=1.4)
        look = {"rotation": 90, "va": "top", "ha": "right", "size": 10}
        where = (at, 1)
        axis.annotate(
            plain(text),
            where,
            (-1, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            **look,
        )


def _realized(
    drawn: Picture, axis: Any, periods: Sequence[Mapping[str, Any]], measure: Measure
) -> None:
    """The realized errors with their intervals and the estimated ones, where they are known."""
    known = [p for p in periods if p.get("error") is not None]
    if known:
        low, y, high = (
            measure.shown(np.array([p[k] for p in known], float)) for k in ("low", "error", "high")
        )
        look = {"color": CURRENT, "fmt": "o-", "ms": 4, "capsize": 3, "label": "realized"}
        axis.errorbar([p["period"] for p in known], y, [y - low, high - y], **look)
    estimated = [p for p in periods if p.get("estimated") is not None]
    if estimated:
        y = measure.shown(np.array([p["estimated"] for p in estimated], float))
        axis.plot(
            [p["period"] for p in estimated], y, "s--", color=CHALLENGER, ms=4, label="estimated"
        )
    for some, name, word in ((estimated, "estimated", "estimated"), (known, "error", "realized")):
        for p in some:
            told = f"{p['period']:%Y-%m-%d}: {word} {measure.said(p[name])}"
            if name == "error" and None not in (p.get("low"), p.get("high")):
                told += f" ({measure.said(p['low'])} to {measure.said(p['high'])})"
            drawn.tell(axis, p["period"], measure.shown(p[name]), told)
