"""Trends: a few numbers over time as a small line, drawn without Matplotlib.

It decides where each value stands in a box of 240 by 48 and what is said of it
when it is pointed at. Pure; a template draws it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, ROOM = 240, 48, 6


@dataclass(frozen=True)
class Point:
    """A value in its place, with what is said of it."""

    x: float
    y: float
    told: str


@dataclass(frozen=True)
class Trend:
    """A small line.

    Attributes
    ----------
    lines : runs of known values, each as `x,y x,y`; a value that is not known is a gap
    promised : the height of what was promised; None without one
    told : the whole of it in a sentence, for who does not see it
    below : from when to when it goes, which stands below it
    """

    points: Sequence[Point]
    lines: Sequence[str]
    promised: float | None
    told: str
    below: str


def trend(
    values: Sequence[tuple[str, float | None, str]],
    title: str,
    promised: float | None = None,
    ends: tuple[float, float | None] = (0.0, None),
) -> Trend | None:
    """A line through values, each with its day and as it is written; None without any.

    Parameters
    ----------
    promised : float, optional
        Drawn as a line of its own, in the same unit.
    ends : pair, optional
        What the box goes to at least: from 0, a small change looks small.
    """
    known = [value for _, value, _ in values if value is not None]
    if not known:
        return None
    shown = [*known, *(end for end in (promised, *ends) if end is not None)]
    low, high = min(shown), max(shown)

    def height(value: float) -> float:
        part = (value - low) / (high - low) if high > low else 0.5
        return round(HEIGHT - ROOM - part * (HEIGHT - 2 * ROOM), 1)

    step = (WIDTH - 2 * ROOM) / max(len(values) - 1, 1)
    places = [
        None if value is None else Point(round(ROOM + n * step, 1), height(value), f"{day}: {said}")
        for n, (day, value, said) in enumerate(values)
    ]
    points = [place for place in places if place]
    first, last = points[0].told, points[-1].told
    told = f"{title}. {last}." if len(points) == 1 else f"{title}. From {first} to {last}."
    at = None if promised is None else height(promised)
    since, until = values[0][0], values[-1][0]
    below = since if since == until else f"{since} to {until}"
    below += "; dashed: promised" if promised is not None else ""
    return Trend(points, _lines(places), at, told, below)


def _lines(places: Sequence[Point | None]) -> list[str]:
    """Runs of places without a gap, of two at least."""
    runs: list[list[Point]] = [[]]
    for place in places:
        if place is None:
            runs.append([])
        else:
            runs[-1].append(place)
    return [" ".join(f"{p.x},{p.y}" for p in run) for run in runs if len(run) > 1]
