"""Values: from what is there to what the contract says, the same at every door.

It decides what a text, a number or a time means as a value of a column: for
rows to learn from, files to score, facts and served rows; `single_values` reads
those of requests and feedback, to the same answers. It never checks ranges and
never drops a row (see `rules`): a value that is there and cannot be read is
null in the answer, and told.

A text is compared in Unicode's form NFKC without spaces around it; what is
empty then, or one of the contract's `null_values`, is no value. So is NaN.
"""

from collections.abc import Callable, Sequence

import polars as pl

from loopbook.data import instants, rules
from loopbook.data.single_values import (
    LARGEST_INTEGER,
    LONGEST_TEXT,
    NAN,
    NUMBER_TEXT,
    SPACES,
    TRUTHS,
    USUAL_TRUTHS,
    WHOLE,
    Kind,
    text_of,
)
from loopbook.project.contract import Contract

KINDS = {
    "integer": pl.Int64,
    "number": pl.Float64,
    "boolean": pl.Boolean,
    "category": pl.String,
}
UNREAD = {
    "integer": f"is no integer, or beyond {LARGEST_INTEGER:,}",
    "number": "is no number",
    "boolean": "is no truth value (true or false, yes or no, 1 or 0)",
    "category": f"is longer than {LONGEST_TEXT} characters, or holds a NUL",
}
UNREAD["key"] = UNREAD["category"]


def kind_of(name: str, contract: Contract) -> Kind:
    """What a column of the contract holds; a key that is nothing else is `key`."""
    if name in contract.features:
        return contract.features[name].type
    if name == contract.target.name:
        return contract.target.type
    return "time" if name in (contract.event_time, contract.known_time) else "key"


def converted(
    rows: pl.DataFrame,
    contract: Contract,
    names: Sequence[str] | None = None,
    *,
    decimal_comma: bool = False,
) -> tuple[pl.DataFrame, list[rules.Failure]]:
    """Rows with each column of the contract as the contract says, whatever it was stored as.

    Parameters
    ----------
    names : sequence of str, optional
        The columns to read; without it, those of the contract that are there.
    decimal_comma : bool
        Whether 1,5 is how the texts write a number.

    Returns
    -------
    rows, failures
        Int64, Float64, Boolean, String; times as `instants.read` gives them; a
        key as it is stored, or text. A value that is there and cannot be read
        is null, and stands in a failure of the kind `type`, with its text.
    """
    wanted = [n for n in names or contract.columns if n in rows.columns]
    columns, told = [], []
    for name in wanted:
        column, faults = _read(rows[name], kind_of(name, contract), contract, decimal_comma)
        columns.append(column.alias(name))
        told += [(rules.Rule(name, "type", text, pl.lit(mask)), mask) for text, mask in faults]
    typed = rows.with_columns(columns)
    return typed, [failure(rule, mask, typed, rows, contract) for rule, mask in told]


def failure(
    rule: rules.Rule,
    mask: pl.Series,
    typed: pl.DataFrame,
    rows_raw: pl.DataFrame,
    contract: Contract,
) -> rules.Failure:
    """Some values that cannot be read, the first of them with their key and as they stand."""
    found = rows_raw[rule.column]
    is_whole = not _can_be(found.dtype, kind_of(rule.column, contract))
    if instants.beyond(found).any():
        found = found.to_physical()  # Python has no such dates to show
    keys = [name for name in contract.key if name in typed.columns]
    return rules.failed(rule, mask, typed, None if is_whole else found, keys)


def _read(
    column: pl.Series, kind: Kind, contract: Contract, decimal_comma: bool
) -> tuple[pl.Series, instants.Faults]:
    if not _can_be(column.dtype, kind):
        everywhere = pl.repeat(True, column.len(), dtype=pl.Boolean, eager=True)
        empty = pl.Series([None], dtype=KINDS.get(kind, pl.String)).new_from_index(0, column.len())
        expected = "a date or a timestamp" if kind == "time" else kind
        return empty, [(f"is of type {column.dtype}, expected {expected}", everywhere)]
    usual = _USUAL.get(kind)
    if column.dtype != pl.String or usual is None or decimal_comma:
        return _read_any(column, kind, contract, decimal_comma)
    read = usual(column, contract.null_values)
    rest = column.is_not_null() & read.is_null()
    if not rest.any():
        return read, []
    places = rest.arg_true()
    some, faults = _read_any(column.filter(rest), kind, contract, decimal_comma)
    nowhere = pl.repeat(False, column.len(), dtype=pl.Boolean, eager=True)
    told = [(text, nowhere.scatter(places.filter(mask), True)) for text, mask in faults]
    return read.scatter(places, some), told


def _read_any(
    column: pl.Series, kind: Kind, contract: Contract, decimal_comma: bool
) -> tuple[pl.Series, instants.Faults]:
    """A column of whatever form; `_read` leaves to it what is not written as usual."""
    if kind in ("category", "key") and column.dtype == pl.String and _are_plain(column):
        absent = column.is_in(contract.null_values)
        return (column.set(absent, None) if absent.any() else column), []
    column = plain(column, contract.null_values)
    if kind == "time":
        return instants.read(column, contract.time_zone)
    read = _TABLES[kind](column, decimal_comma)
    unread = column.is_not_null() & read.is_null()
    if column.dtype.is_float():
        unread &= column.is_not_nan()
    elif column.dtype == pl.String and kind in ("integer", "number"):
        unread &= ~column.str.to_lowercase().is_in(NAN)
    return read, [(UNREAD[kind], unread)] if unread.any() else []


def _are_plain(text: pl.Series) -> bool:
    """Whether `plain` and `_texts` would leave a column as it is, but for `null_values`."""
    if text.null_count() == text.len():
        return True
    short = text.str.len_bytes().max() <= LONGEST_TEXT
    return (
        short
        and text.str.contains(r"^[!-~](?:[ -~]*[!-~])?$").all()
        and not text.str.ends_with(".0").any()
    )


def _usual_numbers(text: pl.Series, null_values: Sequence[str]) -> pl.Series:
    """Numbers as machines write them, without a look at each text; null where one is needed."""
    return _without(text, null_values).cast(pl.Float64, strict=False).fill_nan(None)


def _usual_integers(text: pl.Series, null_values: Sequence[str]) -> pl.Series:
    whole = _without(text, null_values).cast(pl.Int64, strict=False)
    beyond = ~whole.is_between(-LARGEST_INTEGER, LARGEST_INTEGER)
    return whole.set(beyond, None) if beyond.any() else whole


def _usual_booleans(text: pl.Series, null_values: Sequence[str]) -> pl.Series:
    words = {word: truth for word, truth in USUAL_TRUTHS.items() if word not in null_values}
    return text.replace_strict(words, default=None, return_dtype=pl.Boolean)


def _without(text: pl.Series, null_values: Sequence[str]) -> pl.Series:
    """Without those texts for no value that are numbers, such as -999."""
    numbers = [value for value in null_values if NUMBER_TEXT.fullmatch(value)]
    absent = text.is_in(numbers)
    return text.set(absent, None) if numbers and absent.any() else text


_USUAL: dict[str, Callable[[pl.Series, Sequence[str]], pl.Series]] = {
    "integer": _usual_integers,
    "number": _usual_numbers,
    "boolean": _usual_booleans,
}


def plain(column: pl.Series, null_values: Sequence[str] = ()) -> pl.Series:
    """A column's text in one form; other types as they are, a column of nothing as text."""
    if column.dtype == pl.Null or isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return column
    if not (column.str.len_bytes() == column.str.len_chars()).all():  # ASCII is NFKC already
        column = column.str.normalize("NFKC")
    column = column.str.strip_chars(SPACES)
    absent = column.is_in(["", *null_values])
    return column.set(absent, None) if absent.any() else column


def _can_be(stored: pl.DataType, kind: Kind) -> bool:
    """Whether a column stored so can hold values of a kind at all."""
    if stored in (pl.String, pl.Null) or isinstance(stored, pl.Categorical | pl.Enum):
        return True
    if kind == "time":
        return stored == pl.Date or isinstance(stored, pl.Datetime)
    if kind in ("category", "key"):
        more = isinstance(stored, pl.Datetime) if kind == "key" else stored == pl.Boolean
        return stored.is_numeric() or stored == pl.Date or more
    return stored.is_numeric() or (kind == "boolean" and stored == pl.Boolean)


def _numbers(column: pl.Series, decimal_comma: bool) -> pl.Series:
    """Text and stored numbers as doubles; NaN as no value."""
    if column.dtype == pl.String and decimal_comma:
        # a point would be a thousand's there: better not read than read wrongly
        column = column.set(column.str.contains(".", literal=True).fill_null(value=False), None)
        column = column.str.replace(",", ".", literal=True)
    return column.cast(pl.Float64, strict=False).fill_nan(None)


def _integers(column: pl.Series, decimal_comma: bool) -> pl.Series:
    if column.dtype.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        return whole.set(~whole.is_between(-LARGEST_INTEGER, LARGEST_INTEGER), None)
    numbers = _numbers(column, decimal_comma)
    whole = (numbers == numbers.floor()) & (numbers.abs() <= LARGEST_INTEGER)
    return numbers.set(~whole, None).cast(pl.Int64)


def _booleans(column: pl.Series, _: bool) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    if column.dtype.is_numeric():
        return (column == 1).set((column != 0) & (column != 1), None)
    words = column.str.to_lowercase()
    return words.replace_strict(TRUTHS, default=None, return_dtype=pl.Boolean)


def _texts(column: pl.Series, _: bool) -> pl.Series:
    if column.dtype.is_float() or column.dtype.is_decimal():
        column = _as_written(column)
    text = column.cast(pl.String).str.replace(WHOLE, "${1}")
    wrong = (text.str.len_chars() > LONGEST_TEXT) | text.str.contains("\0", literal=True)
    return text.set(wrong, None) if wrong.any() else text


def _as_written(numbers: pl.Series) -> pl.Series:
    """Doubles as Python writes them, which is how a request's become text; NaN is no value."""
    numbers = numbers.cast(pl.Float64).fill_nan(None)
    if ((numbers == numbers.floor()) & (numbers.abs() <= LARGEST_INTEGER)).all():
        return numbers.cast(pl.Int64)
    once = numbers.drop_nulls().unique()
    written = pl.Series([text_of(number) for number in once], dtype=pl.String)
    return numbers.replace_strict(once, written, default=None, return_dtype=pl.String)


def _keys(column: pl.Series, _: bool) -> pl.Series:
    """A key as it is stored; whole numbers are integers, however they are stored."""
    if column.dtype.is_float() or column.dtype.is_decimal():
        numbers = _as_written(column)
        return numbers if numbers.dtype == pl.Int64 else _texts(numbers, False)
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    return _texts(column, False) if column.dtype == pl.String else column


_TABLES: dict[str, Callable[[pl.Series, bool], pl.Series]] = {
    "integer": _integers,
    "number": _numbers,
    "boolean": _booleans,
    "category": _texts,
    "key": _keys,
}
