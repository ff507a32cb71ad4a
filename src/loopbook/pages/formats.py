"""Formats: how a time, a share and a number look on a page.

It decides the one form of each, as plain text; a template escapes it.
"""

import re
from datetime import datetime
from math import floor, log10
from typing import TYPE_CHECKING, Any

from loopbook.project.counts import per_cent

if TYPE_CHECKING:  # NumPy: only a page with errors waits for it
    from loopbook.models.measures import Measure

# a name of the locale would follow the machine
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# what a number is not parted from: a sign, a few letters, a month; not a word such as days
HELD = rf"%|°[CF]|min|m?s|h|points|[ck]?m|k?g|km/h|mph|[A-Z]{{3}}|{'|'.join(MONTHS)}"
TO_A_UNIT = re.compile(rf"(?<=\d) (?=(?:{HELD})(?!\w))|(?<=\bn) (?== \d)|(?<=\bn =) (?=\d)")
INSTANT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?")


class Amount(str):
    """An amount with its unit; in a table it stands at the right, as a number does."""

    __slots__ = ()


def instant(text: str | None) -> str:
    """An instant to the minute; the page says that it is UTC."""
    return text[:16].replace("T", " ") if text else "unknown"


def is_instant(value: Any) -> bool:
    """Whether a value is an instant, or a day, as pages write it."""
    return isinstance(value, str) and INSTANT.fullmatch(value) is not None


def day(text: str | None) -> str:
    return text[:10] if text else "unknown"


def date(text: str | None) -> str:
    """A day as people write it, such as 2 May 2014."""
    if not text:
        return "an unknown day"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text[:10]
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


def distance(value: float | None) -> Amount:
    """Three significant digits, never with an exponent."""
    if value is None:
        return Amount("not known")
    size = abs(value)
    digits = 3 if size < 1e-9 else min(max(0, 2 - floor(log10(size))), 9)
    return Amount(f"{value:,.{digits}f}")


def share(value: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return "not known" if value is None else per_cent(value, digits)


def count(value: float) -> str:
    return f"{value:,.0f}"


def said(value: float | None, measure: "Measure") -> Amount:
    """An error or a bias in the unit of its measure."""
    return Amount("not known" if value is None else measure.said(value))


def changed(value: float | None, measure: "Measure") -> Amount:
    """A difference of errors, or a bias, with its sign."""
    return Amount("not known" if value is None else measure.said_change(value))


def number(value: float, digits: int = 4) -> str:
    """Four significant digits, all of them before the point where there are more."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"


def asked(value: Any) -> Amount | str:
    """The value of an input: four digits have no comma, since they may be a year."""
    if isinstance(value, Amount):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cell(value)
    told = number(value)
    return Amount(told if abs(value) >= 9_999.5 else told.replace(",", ""))


def range_end(value: float) -> Amount:
    """An end of a range with all its digits: four have no comma, since they may be a year."""
    if abs(value) >= 1e15:
        return Amount(f"{value:g}")
    told = f"{value:,.0f}" if value == int(value) else f"{value:,.10g}"
    return Amount(told if abs(value) >= 10_000 else told.replace(",", ""))


def cell(value: Any) -> str:
    """A value of a table's cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return count(value)
    return "" if value is None else str(value)


def unbroken(text: str) -> str:
    """A text in which no line breaks before a short unit, a day's month or the count of `n =`."""
    return TO_A_UNIT.sub("\N{NO-BREAK SPACE}", text)


def in_terminal(text: str) -> str:
    """A text of the data in one line of a terminal: nothing in it moves the cursor."""
    return one_line(text, "\N{REPLACEMENT CHARACTER}")


def one_line(text: str, stand_in: str = " ") -> str:
    """A text in one line: a stand-in for each sign that breaks it, or moves a cursor."""
    return "".join(sign if sign.isprintable() else stand_in for sign in text)
