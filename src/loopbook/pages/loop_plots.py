"""Loop plots: the figures of the loop, what it said and did over time.

It decides how verdicts, promotions and rollbacks are shown together. Each
function takes numbers and returns a figure; none reads a file.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from loopbook.models.measures import amount
from loopbook.pages import figures
from loopbook.pages.colours import LEVELS, OUTCOMES, UNKNOWN
from loopbook.pages.figures import (
    CHALLENGER,
    CHAMPION,
    CURRENT,
    REFERENCE,
    SEVERAL,
    Picture,
    nothing,
    plain,
    sized,
    words,
)
from loopbook.project.counts import counted

NAME = 15  # pixels that a name beside a vertical line takes
BESIDE = 85  # pixels beside the axes, where the names of their lines stand
DAY = timedelta(days=1)
Said = Sequence[tuple[datetime, str]]
Marks = Mapping[datetime, tuple[str, str]]


@sized
def policies(
    series: Mapping[str, Sequence[tuple[datetime, float]]],
    marks: Marks,
    label: str,
    verdicts: Said = (),
) -> Picture:
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
    figure, (axis, strip) = figures.figure(440, rows=2, sharex=True, height_ratios=(7, 3))
    # never, a schedule, the level alone, the loop without and with it
    forms = ("s--", "^-", "v-", "o--", "o-")
    looks = zip((REFERENCE, CHALLENGER, SEVERAL[4], CURRENT, CHAMPION), forms, strict=True)
    for (name, points), (color, form) in zip(series.items(), looks, strict=False):
        if points:
            axis.plot(*zip(*points, strict=True), form, color=color, ms=4, label=name)
        for at, error in points:
            figure.tell(axis, at, error, f"{at:%Y-%m}: {amount(error)}, {name}")
    _on_lines(strip, verdicts, LEVELS, "verdict")
    whens = [at for points in series.values() for at, _ in points] + [at for at, _ in verdicts]
    _name_marks(figure, (axis, strip), marks, whens)
    axis.set(ylabel=words(label))
    _name_lines(figure, axis)
    figure.finding = _lowest(series, label)
    return figure


def _name_lines(figure: Figure, axis: Axes) -> None:
    """The names of the lines below the figure, as the names of the marks stand above it."""
    handles, names = axis.get_legend_handles_labels()
    if names:
        room = figures.width() / (50 + figures.LETTER * max(map(len, names)))
        columns = max(1, min(len(names), int(room)))
        figure.legend(handles, names, loc="outside lower left", ncols=columns, **figures.LEGEND)


def _lowest(series: Mapping[str, Sequence[tuple[datetime, float]]], label: str) -> str:
    """Which policy had the lowest error, as the mean of its months."""
    means = {
        name: sum(error for _, error in points) / len(points)
        for name, points in series.items()
        if points
    }
    if not means:
        return ""
    told = ", ".join(f"{name} {amount(mean)}" for name, mean in means.items())
    least = min(means, key=lambda name: (means[name], name))
    return f"{label[:1].upper()}{label[1:]}, mean of the months: {told}. Lowest: {least}."


@sized
def turns(verdicts: Said, outcomes: Said, marks: Marks) -> Picture:
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
    figure, (above, below) = figures.figure(330, rows=2, sharex=True, height_ratios=(4, 6))
    _on_lines(above, verdicts, LEVELS, "verdict")
    _on_lines(below, outcomes, OUTCOMES, "outcome")
    for axis, said, looks in ((above, verdicts, LEVELS), (below, outcomes, OUTCOMES)):
        for at, name in said:
            if name in looks:
                figure.tell(axis, at, list(looks).index(name), f"{at:%Y-%m-%d %H:%M}: {name}")
    _name_marks(figure, (above, below), marks, [at for at, _ in outcomes])
    figure.finding = _counted(verdicts, outcomes)
    return figure


def _counted(verdicts: Said, outcomes: Said) -> str:
    """How many turns said and did what."""
    first, last = outcomes[0][0], outcomes[-1][0]
    when = f"on {first:%Y-%m-%d}" if first == last else f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    said, done = (
        ", ".join(
            f"{n:,} {figures.short(name)}" for name, n in Counter(n for _, n in some).most_common()
        )
        for some in (verdicts, outcomes)
    )
    turns = f"{counted(len(outcomes), 'turn')} {when}"
    return f"{turns}. Verdicts: {said or 'none'}. Outcomes: {done}."


def _on_lines(axis: Axes, points: Said, looks: Mapping[str, tuple[str, str]], label: str) -> None:
    """A mark a point, on the line of its name; the first name is on the lowest line."""
    for place, (name, (color, _)) in enumerate(looks.items()):
        at = [instant for instant, what in points if what == name]
        axis.plot(at, [place] * len(at), "s", color=color, ms=5)
    axis.set_yticks(range(len(looks)), list(looks))
    axis.tick_params(axis="y", length=0)
    axis.set(ylim=(-0.6, len(looks) - 0.4), ylabel=words(label))


def _name_marks(
    figure: Picture, axes: Sequence[Axes], marks: Marks, whens: Sequence[datetime]
) -> None:
    """Vertical lines through all axes, named above them; names that would touch move apart.

    Of more names than have room the newest are shown; a pointer is told all.
    """
    top, bottom = axes[0], axes[-1]
    looks = {at: OUTCOMES.get(outcome, UNKNOWN)[0] for at, (outcome, _) in marks.items()}
    for at, (outcome, text) in marks.items():
        form = "--" if outcome == "rolled back" else ":"
        for axis in axes:
            axis.axvline(at, color=looks[at], ls=form, lw=1.2, zorder=1)
        figure.tell(bottom, at, bottom.get_ylim(), f"{at:%Y-%m-%d}: {text}")
    figures.dated(bottom, [*whens, *marks], DAY)
    low, high = bottom.get_xlim()
    bottom.set(xlim=(low, high), xlabel="as of (UTC)")
    most = (figures.width() - BESIDE) // NAME
    named = list(marks.items())[-most:]
    wanted = [(date2num(at) - low) / (high - low) for at, _ in named]
    for (at, (_, text)), place in zip(named, apart(wanted, 1 / most), strict=True):
        line = {"arrowstyle": "-", "color": looks[at], "lw": 0.6, "shrinkA": 0, "shrinkB": 0}
        top.annotate(
            *(plain(text), (date2num(at), 1), (place, 1.07)),
            xycoords=top.get_xaxis_transform(),
            textcoords="axes fraction",
            arrowprops=line,
            **{"color": looks[at], "size": 10, "rotation": 90, "ha": "center", "va": "bottom"},
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
