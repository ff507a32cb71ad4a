"""Drawings: the file of a figure, which any browser shows and a page shows best.

It decides what such a file holds beside the figure as SVG: the same figure for a
phone, the sentence that says what it shows, and the value of each mark. A page
shows it as an image, in which no script runs, and lays the values over it. It
needs no Matplotlib.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape, unescape
from typing import Any

FROM, TO = b'<metadata id="loopbook">', b"</metadata>"
HELD = re.compile(re.escape(FROM) + b"(.*?)" + re.escape(TO), re.DOTALL)
END = b"</svg>"
DARK = {  # on a dark page; what is not here stays as it is
    **{"#000000": "#e6e6e6", "#b0b0b0": "#8a8a8a", "#7f7f7f": "#a6a6a6", "#0072b2": "#56b4e9"},
    **{"#009e73": "#2fc79c", "#00634a": "#2fc79c", "#005688": "#56b4e9", "#8a5a00": "#e6ac3a"},
    **{"#a34700": "#ff9a52", "#555555": "#b5b5b5", "#862e6b": "#e493cb", "#fefefe": "#16181b"},
}


@dataclass(frozen=True)
class Spot:
    """What a mark says where a pointer rests on it; its box in per cent of the figure."""

    left: float
    top: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Form:
    """A figure in one width."""

    svg: bytes
    spots: Sequence[Spot] = ()


@dataclass(frozen=True)
class Drawing:
    """A figure as a page has it.

    Attributes
    ----------
    narrow : for a phone; None in a file of an earlier loopbook
    is_empty : whether it has nothing but its finding to show
    """

    wide: Form
    narrow: Form | None = None
    finding: str = ""
    is_empty: bool = False


def written(drawing: Drawing) -> bytes:
    """The content of a figure's file."""
    held: dict[str, Any] = {"finding": drawing.finding, "spots": _plain(drawing.wide)}
    held |= {"is_empty": True} if drawing.is_empty else {}
    if drawing.narrow:
        held["narrow"] = in_both_lights(drawing.narrow.svg).decode()
        held["narrow_spots"] = _plain(drawing.narrow)
    told = escape(json.dumps(held, ensure_ascii=False), quote=False).encode()
    head, _, tail = in_both_lights(drawing.wide.svg).rpartition(END)
    return head + FROM + told + TO + END + tail


def _plain(form: Form) -> list[dict[str, Any]]:
    return [asdict(spot) for spot in form.spots]


def read(content: bytes) -> Drawing:
    """What a figure's file holds; of a file without more, the figure alone."""
    match = HELD.search(content)
    if match is None:
        return Drawing(Form(content))
    try:
        held = json.loads(unescape(match[1].decode()))
        spots, narrow_spots = (_spots(held.get(name, ())) for name in ("spots", "narrow_spots"))
        narrow = Form(held["narrow"].encode(), narrow_spots) if held.get("narrow") else None
        wide, is_empty = Form(HELD.sub(b"", content), spots), bool(held.get("is_empty"))
        return Drawing(wide, narrow, str(held["finding"]), is_empty)
    except (ValueError, LookupError, TypeError, AttributeError):
        return Drawing(Form(content))


def _spots(told: Sequence[dict[str, Any]]) -> list[Spot]:
    """Marks of a file, whose places are numbers whatever the file says."""
    places = ("left", "top", "width", "height")
    return [Spot(*(float(spot[name]) for name in places), str(spot["text"])) for spot in told]


def in_both_lights(svg: bytes) -> bytes:
    """An SVG of Matplotlib that is lighter where its reader asks for a dark page."""
    rules = "".join(
        f'[style*="{part}: {light}"] {{{part}: {dark} !important}}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    rules += f'text:not([style*="fill"]) {{fill: {DARK["#000000"]}}}'
    style = f"<style>text {{font-family: system-ui, sans-serif !important}} @media (prefers-color-scheme: dark) {{{rules}}}</style>"
    return re.sub(rb"(<svg\b[^>]*[^/>]>)", lambda m: m[1] + style.encode(), svg, count=1)
