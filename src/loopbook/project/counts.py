"""Counts: how many of something, with its word in the right number, which, and what share."""

from collections.abc import Iterable
from numbers import Integral

SOME = 12  # names in a sentence; the others are counted


def counted(number: float, one: str, many: str | None = None) -> str:
    """A count with its word: 1 row, 2 rows, 0.5 days.

    Parameters
    ----------
    one : what a single one is called, with its verb where that follows: "row has"
    many : what several are called, if not `one` and an s
    """
    size = f"{number:,}" if isinstance(number, Integral) else f"{number:g}"
    return f"{size} {one if number == 1 else many or f'{one}s'}"


def per_cent(share: float, digits: int = 1) -> str:
    """A share as per cent: 2.0 %; what is more than none is never 0.0 %."""
    least = 10.0**-digits
    if 0 < 100 * share < least / 2:
        return f"under {least:g} %"
    return f"{100 * share:.{digits}f} %"


def listed(names: Iterable[str], most: int = SOME) -> str:
    """Names in a sentence: a, b and c; or a, b and 3 more."""
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
