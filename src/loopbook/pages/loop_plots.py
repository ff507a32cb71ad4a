"""Loop plots: the figures of the loop, what it said and did over time.

It decides how verdicts, promotions and rollbacks are shown together. Each
function takes numbers and returns a figure; none reads a file.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from loopbook.pages.colours import LEVELS, OUTCOMES, UNKNOWN
from loopbook.pages.figures import (
    CHALLENGER,
    CHAMPION,
    CURRENT,
    REFERENCE,
    SEVERAL,
    STYLE,
    Picture,
    nothing,
    plain,
    words,
)

MOST_NAMES = 52  # vertical marks named side by side above a figure: a year of weeks
DAY = timedelta(days=1)
Said = Sequence[tuple[datetime, str]]
Marks = Mapping[datetime, tuple[str, str]]


def policies(
    series: Mapping[str, Sequence[tuple[datetime, float]]],
    marks: Marks,
    label: str,
    verdicts: Said = (),
) -> Figure:
    """The error of several policies over time, and below it what was said when.

    Parameters
    ----------
    series : mapping from a policy's name to (instant, error)
        Errors as `label` says them.
    marks : mapping from instant to (outcome, text)
        Vertical lines, such as (`promoted`, `promoted v3`).
    verdicts : sequence of (instant, level)
        A mark each, on the line of its level.
    """
    figure, (axis, strip) = _figure(4.8, (7, 2))
    # never, a schedule, the level alone, the loop without and with it
    forms = ("s--", "^-", "v-", "o--", "o-")
    looks = zip((REFERENCE, CHALLENGER, SEVERAL[4], CURRENT, CHAMPION), forms, strict=True)
    for (name, points), (color, form) in zip(series.items(), looks, strict=False):
        if points:
            axis.plot(*zip(*points, strict=True), form, color=color, ms=4, label=name)
    _on_lines(strip, verdicts, LEVELS, "verdict")
    _name_marks((axis, strip), marks)
    axis.margins(y=0.25)  # room for the legend
    axis.set(ylabel=words(label))
    if axis.get_legend_handles_labels()[0]:
        axis.legend(ncols=3, loc="lower left", edgecolor="none", framealpha=0.9)
    return figure


def turns(verdicts: Said, outcomes: Said, marks: Marks) -> Figure:
    """What each turn of the loop said and did, a mark each.

    Parameters
    ----------
    verdicts : sequence of (instant, level)
        Oldest first, as are the outcomes.
    outcomes : sequence of (instant, outcome)
    marks : mapping from instant to (outcome, text)
        Vertical lines, as for `policies`.
    """
    if not outcomes:
        return nothing()
    figure, (above, below) = _figure(3.8, (4, 6))
    _on_lines(above, verdicts, LEVELS, "verdict")
    _on_lines(below, outcomes, OUTCOMES, "outcome")
    first, last = outcomes[0][0], outcomes[-1][0]
    if last - first < DAY:  # around a single moment Matplotlib shows four years
        below.set_xlim(first - DAY, last + DAY)
    _name_marks((above, below), marks)
    return figure


def _figure(height: float, ratios: tuple[int, int]) -> tuple[Figure, Sequence[Axes]]:
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(7.6, height), layout="constrained")
        return figure, figure.subplots(2, 1, sharex=True, height_ratios=ratios)


def _on_lines(axis: Axes, points: Said, looks: Mapping[str, tuple[str, str]], label: str) -> None:
    """A mark a point, on the line of its name; the first name is on the lowest line."""
    for place, (name, (color, _)) in enumerate(looks.items()):
        at = [instant for instant, what in points if what == name]
        axis.plot(at, [place] * len(at), "s", color=color, ms=5)
    axis.set_yticks(range(len(looks)), list(looks))
    axis.tick_params(axis="y", length=0, labelsize=8)
    axis.set(ylim=(-0.6, len(looks) - 0.4), ylabel=words(label))


def _name_marks(axes: Sequence[Axes], marks: Marks) -> None:
    """Vertical lines through all axes, named above them; names that would touch move apart."""
    top, bottom = axes[0], axes[-1]
    looks = {at: OUTCOMES.get(outcome, UNKNOWN)[0] for at, (outcome, _) in marks.items()}
    for at, (outcome, _) in marks.items():
        form = "--" if outcome == "rolled back" else ":"
        for axis in axes:
            axis.axvline(at, color=looks[at], ls=form, lw=1.2, zorder=1)
    low, high = bottom.get_xlim()
    bottom.set(xlim=(low, high), xlabel="as of (UTC)")
    bottom.xaxis.set_major_formatter(ConciseDateFormatter(bottom.xaxis.get_major_locator()))
    named = list(marks.items())[-MOST_NAMES:]
    wanted = [(date2num(at) - low) / (high - low) for at, _ in named]
    for (at, (_, text)), place in zip(named, apart(wanted, 1 / MOST_NAMES), strict=True):
        line = {"arrowstyle": "-", "color": looks[at], "lw": 0.6, "shrinkA": 0, "shrinkB": 0}
        top.annotate(
            *(plain(text), (date2num(at), 1), (place, 1.07)),
            xycoords=top.get_xaxis_transform(),
            textcoords="axes fraction",
            arrowprops=line,
            **{"color": looks[at], "size": 7, "rotation": 90, "ha": "center", "va": "bottom"},
        )


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places in [0, 1], moved so that neighbours are `gap` apart; their order stays.

    More than fit in between are pushed below 0.
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    limit = 1.0
    for k in range(len(moved) - 1, -1, -1):
        moved[k] = min(moved[k], limit)
        limit = moved[k] - gap
    return moved
