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
# what nobody sees at the ends of a text: Unicode's white space, a BOM, a space of no width
SPACES = " \t\n\v\f\r\x85\u1680\u2028\u2029\u200b\ufeff"
UNREADABLE = object()


def reader(kind: Kind, null_values: Sequence[str] = ()) -> Callable[[Any], Any]:
    """The function that reads one value of a kind, as `converted` reads a column of them.

    It gives None for no value, and raises ValueError with what was expected.
    A key is text there, since a query can hold nothing else.
    """
    absent = frozenset(["", *null_values])
    expected, of_number, of_text = EXPECTED[kind], *_SINGLE[kind]

    def read(value: Any) -> Any:
        found = type(value)
        if found is str:
            text = plain_text(value)
            answer = None if text in absent else of_text(text)
        elif value is None or (found is float and math.isnan(value)):
            answer = None
        elif found is float or found is int or found is bool:
            answer = of_number(value)
        else:
            answer = UNREADABLE
        if answer is UNREADABLE:
            raise ValueError(expected)
        return answer

    return read


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
    if _NUMBER.fullmatch(text):
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


_NUMBER, _WHOLE = re.compile(NUMBER), re.compile(WHOLE)
_SINGLE: dict[str, tuple[Callable[[Any], Any], Callable[[str], Any]]] = {
    "integer": (_integer, _integer_text),
    "number": (_number, _number_text),
    "boolean": (_boolean, _boolean_text),
    "category": (_category, _category_text),
    "key": (_key, _category_text),
}
