"""Error plots: how a model's answers and errors look, whatever the target is.

It decides which figures a number has and which a class, with the axes in the
task's measure, and says beside each how it is read. Each function takes arrays
and returns figures; none computes an error of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from loopbook.pages import figures
from loopbook.pages.figures import (
    CHALLENGER,
    CHAMPION,
    CURRENT,
    REFERENCE,
    ROLES,
    Picture,
    figure,
    nothing,
    plain,
    words,
)

if TYPE_CHECKING:  # a dashboard draws too, and does not wait for SciPy and Polars
    from loopbook.models.evaluation import Interval
    from loopbook.models.measures import Measure
    from loopbook.models.task import Task

MOST_POINTS = 5_000  # of a scatter; more are a blot, and megabytes in an SVG
MOST_CLASSES = 12  # with a row of their own; the rarer ones share one
SCALES = {"log": "log", "identity": "linear"}
LEGEND = {"frameon": False}

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
    observed, answers : arrays of at least one row
        As `task` has them: the number, or the place of the class and probabilities.
    decision : mapping, optional
        `threshold`, from which probability on yes is answered.
    """
    return OF_A_MODEL[task.contract.target.type](task, observed, answers, decision)


def _of_numbers(task: Task, observed: np.ndarray, answers: np.ndarray, _decision: Any) -> dict:
    return {
        "predicted_against_observed": _scatter(task, observed, answers),
        "residuals": _residuals(task, observed, answers),
    }


def _scatter(task: Task, observed: np.ndarray, answers: np.ndarray) -> Picture:
    """A point a row on equal axes, logarithmic where the target is a log inside."""
    drawn, axis = figure(4.8, 4.6)
    every = max(1, -(-observed.size // MOST_POINTS))
    axis.scatter(observed[::every], answers[::every], s=5, alpha=0.35, color=CHALLENGER, lw=0)
    ends = [min(observed.min(), answers.min()), max(observed.max(), answers.max())]
    axis.plot(ends, ends, color=REFERENCE, lw=1)
    axis.set(xscale=SCALES[task.link], yscale=SCALES[task.link])
    figures.compactly(axis)
    axis.minorticks_off()
    unit = _unit(task)
    axis.set(xlabel=words(f"observed ({unit})"), ylabel=words(f"predicted ({unit})"))
    drawn.reading = (
        "For a point above the line the model predicted too much, for a point below too little. "
        "Watch both ends: most models predict too near the mean there."
    )
    if every > 1:
        shown = observed[::every].size
        drawn.reading += f" Drawn: {shown:,} of {observed.size:,} rows, evenly chosen."
    return drawn


def _residuals(task: Task, observed: np.ndarray, answers: np.ndarray) -> Picture:
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


def _of_classes(task: Task, observed: np.ndarray, answers: np.ndarray, decision: Any) -> dict:
    return {
        "confusion": _confusion(task, observed, answers, decision),
        "probabilities": _probabilities(task, observed, answers, decision),
    }


def _confusion(task: Task, observed: np.ndarray, answers: np.ndarray, decision: Any) -> Picture:
    """What was answered to the rows of each class, as shares of these rows."""
    places = {name: place for place, name in enumerate(task.classes)}
    said = np.array([places[name] for name in task.decided(answers, decision)])
    counts = np.zeros((task.width, task.width))
    np.add.at(counts, (observed.astype(np.intp), said), 1)
    counts, names = _frequent(counts, task.classes)
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    size = 2.4 + 0.42 * len(names)
    drawn, axis = figure(size + 1.2, size)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        ink = "white" if shares[row, column] > 0.55 else "black"
        text = f"{shares[row, column]:.0%}" if sums[row, 0] else ""
        axis.text(column, row, text, ha="center", va="center", color=ink, size=8)
    axis.grid(visible=False)
    columns = [plain(name, 14) for name in names]
    axis.set_xticks(range(len(names)), columns, rotation=45, ha="right")
    rows = zip(names, sums[:, 0], strict=True)
    axis.set_yticks(range(len(names)), [f"{plain(n, 18)} (n = {s:,.0f})" for n, s in rows])
    axis.set(xlabel="answered", ylabel="observed")
    drawn.reading = (
        "A row of the matrix is a class that was observed, and says how often each class was "
        "answered to it. The diagonal is right; a dark cell beside it is a class that is taken "
        "for another." + _threshold_words(task, decision)
    )
    return drawn


def _frequent(counts: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The matrix with the rarest classes put together where there are many."""
    if len(classes) <= MOST_CLASSES:
        return counts, list(classes)
    often = np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CLASSES - 1]
    kept = np.sort(often)
    group = np.full(len(classes), len(kept))
    group[kept] = np.arange(len(kept))
    pooled = np.zeros((len(kept) + 1,) * 2)
    np.add.at(pooled, (group[:, None], group[None, :]), counts)
    return pooled, [*(classes[k] for k in kept), f"{len(classes) - len(kept)} others"]


def _probabilities(task: Task, observed: np.ndarray, answers: np.ndarray, decision: Any) -> Picture:
    """The probabilities that the rows of each class were given."""
    one = [task.positive] if task.positive is not None else None
    return (_of_yes if one else _of_what_happened)(task, observed, answers, decision)


def _of_yes(task: Task, observed: np.ndarray, answers: np.ndarray, decision: Any) -> Picture:
    drawn, axis = figure()
    for place, colour in ((1 - task.positive, REFERENCE), (task.positive, CHALLENGER)):
        group = answers[observed == place, task.positive]
        weights = np.full(group.size, 1 / max(group.size, 1))
        label = f"observed: {plain(task.classes[place], 18)} (n = {group.size:,})"
        bins = np.linspace(0, 1, 41)
        axis.hist(group, bins, weights=weights, histtype="step", color=colour, lw=1.6, label=label)
    threshold = (decision or {}).get("threshold")
    if threshold is not None:
        axis.axvline(threshold, color=CURRENT, ls="--", lw=1.2, label="threshold")
    yes = task.classes[task.positive]
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set(xlabel=f"probability of {plain(yes)}", ylabel="share of these rows")
    axis.legend(**LEGEND)
    drawn.reading = (
        "The farther the two lines are apart, the better the model tells the classes apart."
        + _threshold_words(task, decision)
    )
    return drawn


def _threshold_words(task: Task, decision: Mapping[str, Any] | None) -> str:
    threshold = (decision or {}).get("threshold")
    if threshold is None or task.positive is None:
        return ""
    yes = task.classes[task.positive]
    return f" `{yes}` is answered from a probability of {threshold:.3g} on."


def _of_what_happened(
    task: Task, observed: np.ndarray, answers: np.ndarray, _decision: Any
) -> Picture:
    given = answers[np.arange(len(answers)), observed.astype(np.intp)]
    counts = np.bincount(observed.astype(np.intp), minlength=task.width)
    often = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    kept = [place for place in sorted(often) if counts[place]]
    drawn, axis, lines = figures.lines(len(kept))
    for line, place in zip(lines, kept, strict=True):
        low, middle, high = np.quantile(given[observed == place], [0.1, 0.5, 0.9])
        axis.plot([low, high], [line, line], color=CHALLENGER, lw=2)
        axis.plot(middle, line, "o", color=CHALLENGER, ms=5)
    axis.set_yticks(lines, [f"{plain(task.classes[k])} (n = {counts[k]:,})" for k in kept])
    axis.set(xlim=(-0.02, 1.02), xlabel="probability that was given to what was observed")
    drawn.reading = (
        "Each line is a class: the dot is the median of the probabilities that it was given where "
        "it was observed, the line has the middle eight tenths of them. Right is good."
    )
    return drawn


OF_A_MODEL = {"number": _of_numbers, "category": _of_classes}

# -- several models ------------------------------------------------------------


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
    drawn, axis = figure(4.8, 4.6)
    tables = {role: task.calibration(observed, some, groups) for role, some in answers.items()}
    points = np.concatenate([t["predicted"].to_numpy() for t in tables.values()])
    said, was, reading, ends = ABOUT_CALIBRATION[task.contract.target.type](task, points)
    axis.plot(ends, ends, color="black", lw=0.8)
    for role, table in tables.items():
        colour = ROLES.get(role, CURRENT)
        axis.plot(table["predicted"], table["observed"], marker="o", ms=4, color=colour, label=role)
    figures.compactly(axis)
    axis.set(xlabel=words(said), ylabel=words(was))
    axis.legend(**LEGEND)
    drawn.reading = reading
    return drawn


def _of_a_mean(task: Task, points: np.ndarray) -> tuple[str, str, str, list[float]]:
    unit = _unit(task)
    reading = (
        "Rows are sorted by their prediction and put in ten groups. On the line, the mean outcome "
        "of a group equals its mean prediction. If all points lie above the line, the model "
        "predicts too little."
    )
    ends = [points.min(), points.max()]
    return f"mean prediction ({unit})", f"mean outcome ({unit})", reading, ends


def _of_a_share(task: Task, _points: np.ndarray) -> tuple[str, str, str, list[float]]:
    what = "a class" if task.positive is None else plain(task.classes[task.positive])
    reading = (
        f"Rows are sorted by the probability of {what} and put in ten groups. On the line, it is "
        "observed as often as the probability says. Below the line the probabilities are too "
        "large, above it too small."
    )
    return f"mean probability of {what}", f"share of rows with {what}", reading, [0.0, 1.0]


ABOUT_CALIBRATION = {"number": _of_a_mean, "category": _of_a_share}

# -- errors as they are judged ---------------------------------------------------


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
    drawn, axis, places = figures.lines(len(rows))
    for place, i in zip(places, rows.values(), strict=True):
        colour = CHAMPION if i.high < 0 else CHALLENGER if i.low > 0 else REFERENCE
        _interval(axis, place, i, measure, colour)
    if margin is not None:
        axis.axvline(measure.shown(margin), color=CURRENT, ls="--", lw=1)
    _name_lines(axis, places, rows, label or measure.change_axis)
    return drawn


def biases(rows: Mapping[str, Interval], measure: Measure, label: str | None = None) -> Picture:
    """Mean signed errors with their intervals, one line a name; far from 0 is bad either way."""
    if not rows:
        return nothing()
    drawn, axis, places = figures.lines(len(rows))
    for place, i in zip(places, rows.values(), strict=True):
        is_sure = i.low > 0 or i.high < 0
        _interval(axis, place, i, measure, CHALLENGER if is_sure else REFERENCE)
    _name_lines(axis, places, rows, label or measure.axis)
    return drawn


def slices(rows: Mapping[str, Interval], measure: Measure) -> Picture:
    """Realized error with its interval, one line a slice; the first is all rows."""
    if not rows:
        return nothing()
    drawn, axis, places = figures.lines(len(rows), 5.4, 0.26)
    for place, interval in zip(places, rows.values(), strict=True):
        _interval(axis, place, interval, measure, CURRENT)
    whole = measure.shown(next(iter(rows.values())).mean)
    _name_lines(axis, places, rows, measure.axis, whole, REFERENCE)
    return drawn


def _interval(axis: Any, place: float, i: Interval, measure: Measure, colour: str) -> None:
    low, mean, high = (float(measure.shown(end)) for end in (i.low, i.mean, i.high))
    if np.isfinite([low, high]).all():
        axis.plot([low, high], [place, place], color=colour, lw=2)
    axis.plot(mean, place, "o", color=colour, ms=5)


def _name_lines(
    axis: Any,
    places: np.ndarray,
    rows: Mapping[str, Interval],
    label: str,
    at: float = 0.0,
    colour: str = "black",
) -> None:
    axis.axvline(at, color=colour, lw=0.8)
    axis.set_yticks(places, [f"{plain(name, 60)} (n = {i.n:,})" for name, i in rows.items()])
    axis.set(xlabel=words(label))


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
    if not periods:
        return nothing()
    drawn, axis = figure(5.4, 3.2)
    _realized(axis, periods, measure)
    if usual is not None:
        axis.axhline(measure.shown(usual), color=REFERENCE, lw=1.2, label="at promotion")
    axis.margins(y=0.25)
    for at, text in (marks or {}).items():
        axis.axvline(at, color=CHAMPION, ls=":", lw=1.4)
        place = (at, axis.get_ylim()[1])
        axis.annotate(plain(text), place, (3, -3), textcoords="offset points", va="top", size=8)
    axis.set(xlabel=time, ylabel=words(measure.axis))
    axis.tick_params(axis="x", rotation=30)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(**LEGEND, loc="lower left")
    return drawn


def _realized(axis: Any, periods: Sequence[Mapping[str, Any]], measure: Measure) -> None:
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


def _unit(task: Task) -> str:
    return task.contract.target.unit or task.contract.target.name
