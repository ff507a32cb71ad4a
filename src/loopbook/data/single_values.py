"""Single values: what one value of a request means, as `values` reads a column of them.

It decides what a JSON value or a word of a query is as a value of a column. It
knows no table, and no range: whoever asks gets None for no value, and a
ValueError that says what was expected for what cannot be read.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal

LARGEST_INTEGER = 2**53 - 1  # beyond it a double skips integers
LONGEST_TEXT = 200
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?i:inf(?:inity)?)"
NUMBER_TEXT = re.compile(NUMBER)
FINITE = 1.7976931348623157e308  # the largest double
NAN = ("nan", "+nan", "-nan")
WHOLE = r"^(-?[1-9][0-9]*|0)\.0$"  # as floats are written that hold an integer
TRUE = ("true", "t", "yes", "y", "on", "1", "1.0")
FALSE = ("false", "f", "no", "n", "off", "0", "0.0")
TRUTHS = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)

Kind = Literal["integer", "number", "boolean", "category", "key", "time"]
EXPECTED = {
    "integer": f"a valid integer of at most {LARGEST_INTEGER:,}",
    "number": "a valid number",
    "boolean": "a valid boolean",
    "category": f"a text of at most {LONGEST_TEXT} characters",
    "key": f"an integer or a text of at most {LONGEST_TEXT} characters",
}
USUAL_TRUTHS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
# what nobody sees at the ends of a text: Unicode's white space, a BOM, a space of no width
SPACES = " \t\n\v\f\r\x85\u1680\u2028\u2029\u200b\ufeff"
UNREADABLE = object()


def reader(
    kind: Kind, null_values: Sequence[str] = (), bounds: Sequence[float] | None = None
) -> Callable[[Any], Any]:
    """The function that reads one value of a kind, as `values.converted` reads a column of them.

    It gives None for no value, and raises ValueError with what was expected.
    A key is text there, since a query can hold nothing else. A number outside
    `bounds`, and one that is infinite, is not taken.
    """
    absent = frozenset(["", *null_values])
    expected, of_number, of_text = EXPECTED[kind], *_SINGLE[kind]
    is_number = kind in ("integer", "number")
    least, most = bounds or (-FINITE, FINITE)
    inside = f"a value from {least:,.10g} to {most:,.10g}" if bounds else "a finite number"

    def read(value: Any) -> Any:
        found = type(value)
        if found is str:
            text = plain_text(value)
            answer = None if text in absent else of_text(text)
        elif value is None or (found is float and math.isnan(value)):
            return None
        elif found is float or found is int or found is bool:
            answer = of_number(value)
        else:
            answer = UNREADABLE
        if answer is UNREADABLE:
            raise ValueError(expected)
        if is_number and answer is not None and not least <= answer <= most:
            raise ValueError(inside)
        return answer

    # what is usual is read without the detours above, to the same answer
    quick = None if any(_is_usual(text, kind) for text in null_values) else _QUICK.get(kind)
    return quick(read, least, most) if quick else read


def _is_usual(text: str, kind: Kind) -> bool:
    """Whether a text that stands for no value could be taken for a usual value of a kind."""
    if kind in ("integer", "number"):
        return NUMBER_TEXT.fullmatch(text) is not None
    return text.isalnum()


def _quick_number(read: Callable[[Any], Any], least: float, most: float) -> Callable[[Any], Any]:
    def read_number(value: Any) -> Any:
        found = type(value)
        try:
            if found is float or found is int:
                if least <= value <= most:
                    return float(value)
            elif (
                found is str
                and value[0] in "-0123456789"
                and value[-1] in "0123456789"
                and "_" not in value
                and value.isascii()
                and least <= (number := float(value)) <= most
            ):
                return number
        except (ValueError, IndexError, OverflowError):
            return read(value)
        return read(value)

    return read_number


def _quick_integer(read: Callable[[Any], Any], least: float, most: float) -> Callable[[Any], Any]:
    least, most = max(least, -LARGEST_INTEGER), min(most, LARGEST_INTEGER)

    def read_integer(value: Any) -> Any:
        found = type(value)
        if found is int:
            if least <= value <= most:
                return value
        elif found is str and len(value) < 16 and value.isdigit() and value.isascii():
            number = int(value)
            if least <= number <= most:
                return number
        return read(value)

    return read_integer


def _quick_boolean(read: Callable[[Any], Any], _: float, __: float) -> Callable[[Any], Any]:
    def read_boolean(value: Any) -> Any:
        found = type(value)
        if found is bool:
            return value
        usual = USUAL_TRUTHS.get(value) if found is str else None
        return read(value) if usual is None else usual

    return read_boolean


def _quick_text(read: Callable[[Any], Any], _: float, __: float) -> Callable[[Any], Any]:
    def read_text(value: Any) -> Any:
        if type(value) is str and value.isalnum() and value.isascii() and len(value) < LONGEST_TEXT:
            return value
        return read(value)

    return read_text


_QUICK = {
    "integer": _quick_integer,
    "number": _quick_number,
    "boolean": _quick_boolean,
    "category": _quick_text,
    "key": _quick_text,
}


def plain_text(text: str) -> str:
    """A text in the one form in which texts are compared."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).strip(SPACES)


def category(text: str) -> str:
    """A category in the one form in which categories are compared; `5.0` is 5, as the number is."""
    text = plain_text(text)
    whole = _WHOLE.match(text) if text.endswith(".0") else None
    return whole[1] if whole else text


def text_of(value: bool | float | Decimal | date) -> str:
    """What is no text as the text of a category: 5 and 5.0 are `5`, true is `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_INTEGER:
        value = int(value)
    return str(value)


def _number(value: float) -> Any:
    if value is True or value is False:
        return UNREADABLE
    try:
        return float(value)
    except OverflowError:
        return UNREADABLE


def _integer(value: float) -> Any:
    if value is True or value is False:
        return UNREADABLE
    if not -LARGEST_INTEGER <= value <= LARGEST_INTEGER or value != int(value):
        return UNREADABLE
    return int(value)


def _number_text(text: str) -> Any:
    if NUMBER_TEXT.fullmatch(text):
        return float(text)
    return None if text.lower() in NAN else UNREADABLE


def _integer_text(text: str) -> Any:
    number = _number_text(text)
    return number if number is None or number is UNREADABLE else _integer(number)


def _boolean(value: float) -> Any:
    return bool(value) if value in (0, 1) else UNREADABLE


def _boolean_text(text: str) -> Any:
    return TRUTHS.get(text.lower(), UNREADABLE)


def _category(value: float) -> Any:
    return _category_text(text_of(value))


def _category_text(text: str) -> Any:
    if len(text) > LONGEST_TEXT or "\0" in text:
        return UNREADABLE
    return category(text) if text.endswith(".0") else text


def _key(value: float) -> Any:
    return UNREADABLE if value is True or value is False else _category(value)


_WHOLE = re.compile(WHOLE)
_SINGLE: dict[str, tuple[Callable[[Any], Any], Callable[[str], Any]]] = {
    "integer": (_integer, _integer_text),
    "number": (_number, _number_text),
    "boolean": (_boolean, _boolean_text),
    "category": (_category, _category_text),
    "key": (_key, _category_text),
}
