"""Axes: how the numbers of a figure's axis are written.

It decides that a share stands there as per cent, as in the sentence below the figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter

from loopbook.pages.figures import per_cent

if TYPE_CHECKING:
    from matplotlib.axis import Axis

SHARES = ("share of the rows", "share of the target explained alone")  # labels of such axes


def as_per_cent(*some: Axis) -> None:
    """Write shares from 0 to 1 as people read them."""
    for axis in some:
        axis.set_major_formatter(FuncFormatter(per_cent))
