"""Counts: how many of something, with its word in the right number."""

from numbers import Integral


def counted(number: float, one: str, many: str | None = None) -> str:
    """A count with its word: 1 row, 2 rows, 0.5 days.

    Parameters
    ----------
    one : what a single one is called, with its verb where that follows: "row has"
    many : what several are called, if not `one` and an s
    """
    size = f"{number:,}" if isinstance(number, Integral) else f"{number:g}"
    return f"{size} {one if number == 1 else many or f'{one}s'}"
