"""Class plots: which classes a model takes for which, and how sure it is of them.

It decides the confusion matrix and the figure of probabilities, for yes or no
and for one of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from loopbook.pages import axes, figures
from loopbook.pages.figures import (
    CHALLENGER,
    CURRENT,
    INK,
    REFERENCE,
    Picture,
    figure,
    legend,
    plain,
    short,
    sized,
)
from loopbook.pages.formats import share

if TYPE_CHECKING:
    from loopbook.models.classes import Classes

MOST_CLASSES = 12  # with a row of their own; the rarer ones share one
# from nothing to a full blue: what is not there is as the page is, be it dark
CELLS = LinearSegmentedColormap.from_list("cells", [f"{CURRENT}00", CURRENT])


def of_classes(task: Classes, observed: np.ndarray, answers: np.ndarray, decision: Any) -> dict:
    return {
        "confusion": _confusion(task, observed, answers, decision),
        "probabilities": _probabilities(task, observed, answers, decision),
    }


@sized
def _confusion(task: Classes, observed: np.ndarray, answers: np.ndarray, decision: Any) -> Picture:
    """What was answered to the rows of each class, as shares of these rows."""
    places = {name: place for place, name in enumerate(task.classes)}
    said = np.array([places[name] for name in task.decided(answers, decision)])
    counts = np.zeros((task.width, task.width))
    np.add.at(counts, (observed.astype(np.intp), said), 1)
    finding = _worst_mistake(task.classes, counts)
    sums, counts, names = _frequent(counts, task.classes)
    shares = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    most = 12 if figures.is_narrow() else 18
    rows = [f"{plain(n, most)} (n = {s:,.0f})" for n, s in zip(names, sums[:, 0], strict=True)]
    drawn, axis = figure(130 + 34 * len(names))
    axis.imshow(shares, cmap=CELLS, vmin=0, vmax=1, aspect="auto")
    size = 8 if figures.is_narrow() and len(names) > 6 else 11.5
    for row, column in np.ndindex(*shares.shape):
        value = shares[row, column]
        ink = "white" if value > 0.55 else INK
        axis.text(column, row, _share(value), ha="center", va="center", color=ink, size=size)
        told = f"observed {names[row]}, answered {names[column]}: {100 * value:.1f} %"
        ends = [(place - 0.5, place + 0.5) for place in (column, row)]
        drawn.tell(axis, *ends, told)
    axis.grid(visible=False)
    columns = [plain(name, 14) for name in names]
    is_crowded = len(names) * figures.LETTER * max(map(len, columns)) > figures.width() - 170
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
    axis.set_xticks(range(len(names)), columns, **turned)
    axis.set_yticks(range(len(names)), rows)
    axis.set(xlabel="answered", ylabel="observed")
    drawn.finding = finding
    drawn.reading = (
        "A row of the matrix is a class that was observed, and says how often each class was "
        "answered to it. The diagonal is right; a dark cell beside it is a class that is taken "
        "for another." + _threshold_words(task, decision)
    )
    if len(names) < task.width:
        drawn.reading += (
            " The rarest classes share the last row; its last cell has their rows that were "
            "answered with their own class."
        )
    return drawn


def _worst_mistake(classes: Sequence[str], counts: np.ndarray) -> str:
    """How many rows were answered right, and the most frequent mistake."""
    whole, right = counts.sum(), np.trace(counts)
    told = f"{100 * right / whole:.1f} % of {whole:,.0f} rows were answered with their own class"
    wrong = counts - np.diag(np.diagonal(counts))
    if not wrong.any():
        return f"{told}."
    row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return (
        f"{told}; the most frequent mistake is “{short(classes[column])}” where "
        f"“{short(classes[row])}” was observed ({wrong[row, column]:,.0f} of "
        f"{counts[row].sum():,.0f} such rows)."
    )


def _share(value: float) -> str:
    """A cell of the confusion; none of the rows is nothing, and few are not none."""
    if value == 0:
        return ""
    return "<1 %" if value < 0.005 else f"{100 * value:.0f} %"


def _frequent(
    counts: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows a class, and the matrix, with the rarest classes put together where there are many.

    The last cell then has their right answers only: one of them taken for
    another is as wrong as any.
    """
    if len(classes) <= MOST_CLASSES:
        return counts.sum(axis=1, keepdims=True), counts, list(classes)
    often = np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CLASSES - 1]
    kept = np.sort(often)
    group = np.full(len(classes), len(kept))
    group[kept] = np.arange(len(kept))
    pooled = np.zeros((len(kept) + 1,) * 2)
    np.add.at(pooled, (group[:, None], group[None, :]), counts)
    sums = pooled.sum(axis=1, keepdims=True)
    pooled[-1, -1] = np.diagonal(counts)[group == len(kept)].sum()
    return sums, pooled, [*(classes[k] for k in kept), f"{len(classes) - len(kept)} others"]


def _probabilities(
    task: Classes, observed: np.ndarray, answers: np.ndarray, decision: Any
) -> Picture:
    """The probabilities that the rows of each class were given."""
    one = [task.positive] if task.positive is not None else None
    return (_of_yes if one else _of_what_happened)(task, observed, answers, decision)


@sized
def _of_yes(task: Classes, observed: np.ndarray, answers: np.ndarray, decision: Any) -> Picture:
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
    axes.as_per_cent(axis.xaxis, axis.yaxis)
    axis.set(xlabel=f"probability of {plain(yes)}", ylabel="share of these rows")
    legend(axis)
    medians = [
        f"{100 * float(np.median(group)):.0f} % where “{short(task.classes[place])}” was observed"
        for place in (task.positive, 1 - task.positive)
        if (group := answers[observed == place, task.positive]).size
    ]
    drawn.finding = f"The median probability of “{short(yes)}” is {', '.join(medians)}."
    drawn.reading = (
        "The farther the two lines are apart, the better the model tells the classes apart."
        + _threshold_words(task, decision)
    )
    return drawn


def _threshold_words(task: Classes, decision: Mapping[str, Any] | None) -> str:
    threshold = (decision or {}).get("threshold")
    if threshold is None or task.positive is None:
        return ""
    yes = task.classes[task.positive]
    if threshold > 1:
        return f" `{yes}` is never answered: it costs too much where it is wrong."
    return f" `{yes}` is answered from a probability of {share(threshold)} on."


@sized
def _of_what_happened(
    task: Classes, observed: np.ndarray, answers: np.ndarray, _decision: Any
) -> Picture:
    given = answers[np.arange(len(answers)), observed.astype(np.intp)]
    counts = np.bincount(observed.astype(np.intp), minlength=task.width)
    often = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    kept = [place for place in sorted(often) if counts[place]]
    drawn, axis, lines = figures.lines(
        [f"{plain(task.classes[k])} (n = {counts[k]:,})" for k in kept]
    )
    medians = {}
    for line, place in zip(lines, kept, strict=True):
        low, middle, high = np.quantile(given[observed == place], [0.1, 0.5, 0.9])
        axis.plot([low, high], [line, line], color=CHALLENGER, lw=2)
        axis.plot(middle, line, "o", color=CHALLENGER, ms=5)
        medians[task.classes[place]] = middle
        told = f"{task.classes[place]}: {share(middle)} ({share(low)} to {share(high)})"
        drawn.tell(axis, (low, high), line, told)
    axes.as_per_cent(axis.xaxis)
    axis.set(xlim=(-0.02, 1.02), xlabel="probability that was given to what was observed")
    least = min(medians, key=lambda name: (medians[name], name))
    drawn.finding = (
        f"“{short(least)}” was given the least probability where it was observed: "
        f"{share(medians[least])} in the median."
    )
    drawn.reading = (
        "Each line is a class: the dot is the median of the probabilities that it was given where "
        "it was observed, the line has the middle eight tenths of them. Right is good."
    )
    return drawn
