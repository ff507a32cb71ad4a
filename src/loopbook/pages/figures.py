"""Figures: how every figure of the notebooks and the pages looks.

It decides one colour a role everywhere (safe for the colour-blind), the form of
a number on an axis, and what stands where there is nothing to show. It knows no
table and no model.
"""

from io import BytesIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

REFERENCE, CURRENT, CHAMPION, CHALLENGER = "#7f7f7f", "#0072b2", "#009e73", "#e69f00"
ROLES = {"champion": CHAMPION, "challenger": CHALLENGER, "baseline": REFERENCE}
SEVERAL = (REFERENCE, CURRENT, CHALLENGER, CHAMPION, "#cc79a7", "#56b4e9")
LEGEND = {"frameon": False}
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10,
    "figure.dpi": 90,
    "savefig.bbox": "tight",
}


class Picture(Figure):
    """A figure that a notebook shows without pyplot, whose state all cells would share.

    Attributes
    ----------
    reading : how to read it, a sentence or two in Markdown
    """

    reading = ""

    def _repr_png_(self) -> bytes:
        written = BytesIO()
        self.savefig(written, format="png")
        return written.getvalue()


def figure(width: float = 7.0, height: float = 3.6, rows: int = 1):
    """A picture and its axes, one below the other."""
    with mpl.rc_context(STYLE):
        drawn = Picture(figsize=(width, height), layout="constrained")
        axes = drawn.subplots(rows, 1)
    return drawn, axes


def lines(rows: int, width: float = 7.0, each: float = 0.3):
    """A picture with a line a row, the first on top, and the places of the rows."""
    drawn, axis = figure(width, 0.9 + each * rows)
    return drawn, axis, np.arange(rows)[::-1]


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


def plain(value: object, most: int = 26) -> str:
    """A value of the data as a label: never a formula, never too long."""
    text = str(value)
    return words(text if len(text) <= most else f"{text[: most - 1]}…")


def words(text: str) -> str:
    """A text that matplotlib draws as it stands: between two `$` it would see a formula."""
    return text.replace("$", r"\$")


def nothing(why: str = "nothing to show in this window") -> Picture:
    """What stands where there is nothing to show yet."""
    drawn, axis = figure(5.4, 0.6)
    axis.set_axis_off()
    axis.text(0.5, 0.5, why, ha="center", va="center", color=REFERENCE)
    return drawn
