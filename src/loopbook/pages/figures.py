"""Figures: how every figure of the notebooks and the pages looks.

It decides one colour a role everywhere (safe for the colour-blind), the form of
a number and a date on an axis, where a legend and the names of rows stand, what a
figure is in the width of a phone, and what stands where there is nothing to show.
It knows no table and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, timedelta
from functools import wraps
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from loopbook.pages import drawings
from loopbook.pages.drawings import Drawing, Form, Spot

REFERENCE, CURRENT, CHAMPION, CHALLENGER = "#7f7f7f", "#0072b2", "#009e73", "#e69f00"
INK = "#000000"
PAPER = "#fefefe"  # a page's own colour behind a letter; white stays white on a dark page
ROLES = {"champion": CHAMPION, "challenger": CHALLENGER, "baseline": REFERENCE}
SEVERAL = (REFERENCE, CURRENT, CHALLENGER, CHAMPION, "#cc79a7", "#56b4e9")
WIDE, NARROW = 640, 350  # CSS pixels: half of a desk's page, and a phone's whole
PIXELS = 72  # an inch: an SVG's unit is then a pixel, and a letter as large as it says
LEGEND = {"frameon": False, "fontsize": 11.5}
LETTER = 6.4  # pixels, the mean width of one in the size of a label
LONGEST = 44  # signs of a row's name that stand beside it; longer ones stand above
IN_A_SENTENCE = 60  # signs of a name there; a sentence wraps, and a label does not
REACH = 9  # pixels around a point where its value is told
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.facecolor": "none",
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "grid.alpha": 0.25,
    "font.size": 12,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,  # one sign before a number, on an axis and in a sentence
    "figure.dpi": 90,
}
IN_A_FILE = {"svg.fonttype": "none", "svg.hashsalt": "loopbook"}
# by year, month, day, hour, minute and second; the second list is for the first of each
DATES = ["%Y", "%Y-%m", "%Y-%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"]
ROUND_DATES = ["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%H:%M", "%H:%M"]
STEPS = [1, 2, 2.5, 5, 10]
Told = tuple[Axes, tuple[Any, Any], tuple[Any, Any], str]

_narrow: ContextVar[bool] = ContextVar("narrow", default=False)


class Picture(Figure):
    """A figure that a notebook shows without pyplot, whose state all cells would share.

    Attributes
    ----------
    reading : how to read it, a sentence or two in Markdown
    finding : what it shows, computed: a plain sentence, to stand below it
    is_empty : whether there is nothing to show, so that the sentence stands alone on a page
    phone : what draws it in the width of a phone
    """

    reading = ""
    finding = ""
    is_empty = False
    phone: Callable[[], Picture] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._told: list[Told] = []
        self._png: bytes | None = None

    def _repr_png_(self) -> bytes:
        """As pixels; drawn once, since a notebook shows a figure and logs it too."""
        if self._png is None or self.stale:
            written = BytesIO()
            super().savefig(written, format="png")
            self._png = written.getvalue()
            self.stale = False  # until an artist of it changes
        return self._png

    def tell(self, axis: Axes, x: Any, y: Any, text: str) -> None:
        """What a pointer is told at a point, or in a box, of an axis.

        Parameters
        ----------
        x, y : a place, or a pair of places
            In the data's coordinates.
        """
        ends = tuple(some if isinstance(some, tuple) else (some, some) for some in (x, y))
        self._told.append((axis, *ends, text))

    def savefig(self, fname: Any, **options: Any) -> None:
        """As Matplotlib does; an SVG holds what `drawings` says too."""
        suffix = Path(fname).suffix if isinstance(fname, str | Path) else ""
        kind = options.pop("format", suffix.removeprefix("."))
        if kind == "svg":
            phone = self.phone().form() if self.phone else None
            content = drawings.written(Drawing(self.form(), phone, self.finding, self.is_empty))
        elif kind == "png" and not options:
            content = self._repr_png_()
        else:
            super().savefig(fname, format=kind or None, **options)
            return
        if isinstance(fname, str | Path):
            Path(fname).write_bytes(content)
        else:
            fname.write(content)

    def form(self) -> Form:
        """This figure in its own width, as SVG, and what its marks say."""
        with mpl.rc_context(IN_A_FILE):
            content, dpi = BytesIO(), self.dpi
            super().savefig(content, format="svg", facecolor="none", metadata={"Date": None})
        self.set_dpi(dpi)
        return Form(content.getvalue(), [self._spot(told) for told in self._told])

    def _spot(self, told: Told) -> Spot:
        axis, x, y, text = told
        xs, ys = axis.convert_xunits(list(x)), axis.convert_yunits(list(y))
        ends = axis.transData.transform(np.column_stack([xs, ys]).astype(float))
        (left, low), (right, high) = ends.min(axis=0), ends.max(axis=0)
        reach = REACH * self.dpi / PIXELS
        if right - left < 2 * reach:
            left, right = (left + right) / 2 - reach, (left + right) / 2 + reach
        if high - low < 2 * reach:
            low, high = (low + high) / 2 - reach, (low + high) / 2 + reach
        width, height = self.bbox.width, self.bbox.height
        box = (left / width, 1 - high / height, (right - left) / width, (high - low) / height)
        return Spot(*(round(100 * float(part), 2) for part in box), text)


@contextmanager
def on_a_phone() -> Iterator[None]:
    """Where figures are drawn in the width of a phone."""
    token = _narrow.set(True)
    try:
        yield
    finally:
        _narrow.reset(token)


def is_narrow() -> bool:
    return _narrow.get()


def width() -> int:
    """The width of a figure that is drawn now, in pixels."""
    return NARROW if is_narrow() else WIDE


def sized(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """A function that draws a figure, which is drawn again for a phone when it is written."""

    @wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Picture:
        def again() -> Picture:
            with on_a_phone():
                return draw(*arguments, **options)

        picture = draw(*arguments, **options)
        picture.phone = None if is_narrow() else again
        return picture

    return drawn


def figure(height: float = 320, rows: int = 1, **options: Any):
    """A picture and its axes, one below the other; `height` in pixels."""
    with mpl.rc_context(STYLE):
        drawn = Picture(figsize=(width() / PIXELS, height / PIXELS), layout="constrained")
        axes = drawn.subplots(rows, 1, **options)
    return drawn, axes


def lines(names: Sequence[str], each: float = 26):
    """A picture with a named line a row, the first on top, and the places of the rows.

    Names that are too long to stand beside their lines stand above them.
    """
    is_above = is_narrow() or max(map(len, names), default=0) > LONGEST
    drawn, axis = figure(64 + (each + 18 * is_above) * len(names))
    places = np.arange(len(names))[::-1]
    axis.set_ylim(-0.75, len(names) - 0.25 if is_above else len(names) - 0.4)
    axis.grid(visible=False, axis="y")
    if not is_above:
        axis.set_yticks(places, names)
        axis.tick_params(axis="y", length=0)
        return drawn, axis, places
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    most = int(width() / LETTER) - 2
    for place, name in zip(places, names, strict=True):
        shown = name if len(name) <= most else f"{name[: most - 1]}…"
        where = {"transform": axis.get_yaxis_transform(), "va": "center", "size": 11.5}
        under = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}  # no line crosses a name
        axis.text(0, place + 0.45, shown, bbox=under, **where)
    return drawn, axis, places - 0.1


def legend(axis: Axes) -> None:
    """The names of what is drawn, above the axis and outside its data."""
    names = axis.get_legend_handles_labels()[1]
    if not names:
        return
    room = width() - 40
    columns = next(
        (n for n in range(len(names), 1, -1) if n * (46 + LETTER * max(map(len, names))) <= room), 1
    )
    axis.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        ncols=columns,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.4,
        **LEGEND,
    )


def dated(axis: Axes, moments: Sequence[datetime | date], room: timedelta) -> None:
    """Dates of a time axis: one and two by themselves, of more as many as have room.

    Parameters
    ----------
    room : timedelta
        What is left free around a single moment, around which Matplotlib shows four years.
    """
    there = sorted(set(moments))
    if there and there[0] == there[-1]:
        axis.set_xlim(there[0] - room, there[-1] + room)
    if 0 < len(there) <= 2:
        is_day = all(getattr(m, "hour", 0) == getattr(m, "minute", 0) == 0 for m in there)
        form = "%Y-%m-%d" if is_day or is_narrow() else "%Y-%m-%d %H:%M"
        axis.set_xticks(there, [f"{moment:{form}}" for moment in there])
        return
    locator = AutoDateLocator(minticks=2, maxticks=3 if is_narrow() else 6)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(
        ConciseDateFormatter(locator, formats=DATES, zero_formats=ROUND_DATES, show_offset=False)
    )


def compact(value: float, _position: int = 0) -> str:
    """A number on an axis: 1500 as 1.5 k."""
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g} {sign}"
    return f"{value:g}"


def compactly(*axes: Axes) -> None:
    """Numbers of both axes in their compact form."""
    for axis in axes:
        axis.xaxis.set_major_formatter(FuncFormatter(compact))
        axis.yaxis.set_major_formatter(FuncFormatter(compact))
        if axis.get_xscale() == "linear":
            axis.xaxis.set_major_locator(MaxNLocator(5 if is_narrow() else 8, steps=STEPS))
        for one in (axis.xaxis, axis.yaxis):
            if one.get_scale() == "log":
                log_ticks(one, *one.get_view_interval())


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis: at 1, 2 and 5 where there are few powers of ten."""
    subs = (1, 2, 5) if high <= 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6 if is_narrow() else 10))
    axis.set_minor_locator(NullLocator())


def per_cent(value: float, _position: int = 0) -> str:
    """A share on an axis."""
    return f"{100 * value:g} %"


def short(value: object, most: int = IN_A_SENTENCE) -> str:
    """A value of the data in a sentence, never too long."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(value: object, most: int = 26) -> str:
    """A value of the data as a label: never a formula, never too long."""
    return words(short(value, most))


def in_lines(text: str) -> str:
    """The name of an axis, in as many lines as the width of the figure asks for."""
    return words(fill(text, int(width() / LETTER) - 6))


def words(text: str) -> str:
    """A text that matplotlib draws as it stands: between two `$` it would see a formula."""
    return text.replace("$", r"\$")


@sized
def nothing(why: str = "nothing to show in this window") -> Picture:
    """What stands where there is nothing to show yet."""
    drawn, axis = figure(44)
    axis.set_axis_off()
    axis.text(0.5, 0.5, why, ha="center", va="center", color=REFERENCE)
    drawn.finding, drawn.is_empty = f"{why[:1].upper()}{why[1:]}.", True
    return drawn
