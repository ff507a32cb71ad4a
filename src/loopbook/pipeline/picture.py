"""The picture: the graph of notebooks as an SVG, drawn from the plan.

It decides how the graph looks in the README. It runs no layout engine: a task
stands in the column after its last upstream task, in the order of the plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 190, 34, 34, 14, 12
STYLE = "font-family='Helvetica, Arial, sans-serif' font-size='12'"


@dataclass(frozen=True)
class Places:
    """Where everything of a graph stands.

    Attributes
    ----------
    boxes : the upper left corner of each task
    arrows : from and to, each as x and y
    """

    width: int
    height: int
    boxes: Mapping[str, tuple[int, int]]
    arrows: Sequence[tuple[int, int, int, int]]


def places(tasks: Sequence[Mapping[str, Any]]) -> Places:
    """The places of the tasks of a plan; an arrow that follows from others is left out."""
    upstream = {t["name"]: set(t["upstream"]) for t in tasks}
    columns = _columns(upstream)
    boxes = _places(columns)
    arrows = [
        _ends(boxes[up], boxes[name])
        for name, above in upstream.items()
        for up in sorted(_direct(above, upstream))
    ]
    return Places(
        MARGIN * 2 + (max(columns.values()) + 1) * (WIDTH + GAP_X) - GAP_X,
        max(y for _, y in boxes.values()) + HEIGHT + MARGIN,
        boxes,
        arrows,
    )


def draw(tasks: Sequence[Mapping[str, Any]]) -> str:
    """The tasks of `pipeline.plan` as an SVG; the same plan gives the same text.

    An arrow that follows from others is left out (transitive reduction).
    """
    drawn = places(tasks)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' "
        f"viewBox='0 0 {drawn.width} {drawn.height}' {STYLE}>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='7' "
        "markerHeight='7' orient='auto'><path d='M0 0 8 4 0 8z' fill='#555'/></marker></defs>",
        f"<rect width='{drawn.width}' height='{drawn.height}' fill='white'/>",
    ]
    parts += [_arrow(*ends) for ends in drawn.arrows]
    parts += [_box(name, place) for name, place in drawn.boxes.items()]
    return "\n".join([*parts, "</svg>", ""])


def _columns(upstream: Mapping[str, set[str]]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for name, above in upstream.items():  # the plan's order: upstream comes first
        columns[name] = 1 + max((columns[up] for up in above), default=-1)
    return columns


def _places(columns: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Upper left corners, every column centred on the tallest."""
    tallest = max(list(columns.values()).count(c) for c in columns.values())
    places: dict[str, tuple[int, int]] = {}
    for column in sorted(set(columns.values())):
        names = [n for n, c in columns.items() if c == column]
        top = MARGIN + (tallest - len(names)) * (HEIGHT + GAP_Y) // 2
        for row, name in enumerate(names):
            places[name] = (MARGIN + column * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y))
    return places


def _ancestors(name: str, upstream: Mapping[str, set[str]]) -> set[str]:
    ancestors = set(upstream[name])
    for up in upstream[name]:
        ancestors |= _ancestors(up, upstream)
    return ancestors


def _direct(above: set[str], upstream: Mapping[str, set[str]]) -> set[str]:
    implied = {a for up in above for a in _ancestors(up, upstream)}
    return above - implied


def _ends(start: tuple[int, int], end: tuple[int, int]) -> tuple[int, int, int, int]:
    return start[0] + WIDTH, start[1] + HEIGHT // 2, end[0], end[1] + HEIGHT // 2


def _arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    middle = (x1 + x2) // 2
    return (
        f"<path d='M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}' fill='none' "
        "stroke='#555' marker-end='url(#tip)'/>"
    )


def _box(name: str, place: tuple[int, int]) -> str:
    x, y = place
    return (
        f"<g><title>{escape(name)}</title><rect x='{x}' y='{y}' width='{WIDTH}' height='{HEIGHT}' "
        f"rx='5' fill='#eef4f9' stroke='#0072b2'/><text x='{x + WIDTH // 2}' "
        f"y='{y + HEIGHT // 2 + 4}' text-anchor='middle'>{escape(name)}</text></g>"
    )
