"""Forms: how the texts of a column are to be read, as one value for polars and for SQL.

It decides nothing about which form a column has (`texts` does); a form reads a
column, and says the SQL that reads it alike.
"""

from dataclasses import dataclass, replace
from functools import reduce

import polars as pl

from loopbook.data import instants
from loopbook.data.single_values import SPACES, TRUTHS

Replacements = tuple[tuple[str, str], ...]
UNICODE_SPACES = ("\u00a0", "\u202f", "\u2009")


@dataclass(frozen=True)
class Form:
    """How texts are written.

    Attributes
    ----------
    kind : `number`, `integer`, `boolean`, `time` or `text`
    replacements : what is taken out of a number, or written otherwise, in this order
    formats : of a time, as strptime takes them; none where a contract reads it as it is
    doubtful : another format that reads every text as well
    truths : words that are not the usual ones, and what they mean
    unit : what stood around each number
    nulls : texts that stand for no value
    sentinels : numbers that stand for no value, such as -999
    note : what a person should know of it
    """

    kind: str
    replacements: Replacements = ()
    formats: tuple[str, ...] = ()
    doubtful: str = ""
    truths: tuple[tuple[str, bool], ...] = ()
    unit: str = ""
    nulls: tuple[str, ...] = ()
    sentinels: tuple[float, ...] = ()
    note: str = ""

    @property
    def is_as_read(self) -> bool:
        """Whether a contract reads these texts without a query."""
        return not (self.replacements or self.formats or self.truths or self.sentinels)

    @property
    def is_decimal_comma(self) -> bool:
        """Whether the dialect alone, and no query, says how it is written."""
        return self.replacements == ((",", "."),) and not self.sentinels

    def without(self, nulls: tuple[str, ...]) -> "Form":
        return replace(self, nulls=tuple(dict.fromkeys((*self.nulls, *nulls))))


def read(column: pl.Series, form: Form) -> pl.Series:
    """A column of texts as its form says; null where a text has another form."""
    if (
        form.kind in ("integer", "number")
        and form.is_as_read
        and not any(map(is_number, form.nulls))
    ):
        # as machines write it; only what is left is looked at
        quick = _as_kind(column.cast(pl.Float64, strict=False).fill_nan(None), form)
        rest = (column.is_not_null() & quick.is_null()).arg_true()
        return quick.scatter(rest, _slowly(column.gather(rest), form)) if rest.len() else quick
    return _slowly(column, form)


def is_number(text: str) -> bool:
    """Whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _slowly(column: pl.Series, form: Form) -> pl.Series:
    texts = column.cast(pl.String).str.strip_chars(SPACES)
    texts = texts.set(texts.is_in(["", *form.nulls]).fill_null(value=False), None)
    return _READ[form.kind](texts, form)


def _number(texts: pl.Series, form: Form) -> pl.Series:
    for old, new in form.replacements:
        texts = texts.str.replace_all(old, new, literal=True)
    numbers = texts.cast(pl.Float64, strict=False).fill_nan(None)
    numbers = numbers.set(numbers.is_infinite().fill_null(value=False), None)
    absent = numbers.is_in(list(form.sentinels)).fill_null(value=False)
    return numbers.set(absent, None) if form.sentinels else numbers


def _integer(texts: pl.Series, form: Form) -> pl.Series:
    return _as_kind(_number(texts, form), form)


def _as_kind(numbers: pl.Series, form: Form) -> pl.Series:
    """Numbers of a form; infinite ones are none, and what is not whole is no integer."""
    numbers = numbers.set(numbers.is_infinite().fill_null(value=False), None)
    if form.kind != "integer":
        return numbers
    return numbers.set((numbers != numbers.floor()).fill_null(value=False), None).cast(
        pl.Int64, strict=False
    )


def _boolean(texts: pl.Series, form: Form) -> pl.Series:
    words = TRUTHS | dict(form.truths)
    return texts.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _time(texts: pl.Series, form: Form) -> pl.Series:
    if not form.formats:
        times, _ = instants.read(texts, "UTC")
        return times.cast(pl.Datetime("us", "UTC")).dt.replace_time_zone(None)
    found = [as_times(texts, time_format) for time_format in form.formats]
    return reduce(lambda one, more: one.zip_with(one.is_not_null(), more), found)


def as_times(texts: pl.Series, time_format: str) -> pl.Series:
    """Texts of one format as timestamps; null where they have another."""
    if time_format in ("epoch seconds", "epoch milliseconds"):
        unit = 1_000_000 if time_format == "epoch seconds" else 1_000
        whole = texts.cast(pl.Float64, strict=False) * unit
        return whole.cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    if any(part in time_format for part in ("%H", "%I")):
        return texts.str.to_datetime(time_format, strict=False, time_unit="us")
    return texts.str.to_date(time_format, strict=False).cast(pl.Datetime("us"))


_READ = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "time": _time,
    "text": lambda texts, _: texts,
}


def quoted(text: str, mark: str = "'") -> str:
    """A text or a name in SQL."""
    return mark + text.replace(mark, mark * 2) + mark


def sql(header: str, form: Form, *, strict: bool = True) -> str:
    """The SQL that reads a column as `read` does.

    Parameters
    ----------
    strict : bool
        Whether a text of another form stops the query; else it is no value.
    """
    column = quoted(header, '"')
    if form.kind == "boolean":
        words = {True: [], False: []}
        for word, truth in (TRUTHS | dict(form.truths)).items():
            words[truth].append(quoted(word))
        plain = f"lower(trim(CAST({column} AS VARCHAR)))"
        return (
            f"CASE WHEN {plain} IN ({', '.join(words[True])}) THEN true "
            f"WHEN {plain} IN ({', '.join(words[False])}) THEN false END"
        )
    if form.kind == "time":
        return _sql_time(column, form)
    plain = f"trim(CAST({column} AS VARCHAR))" if form.replacements else column
    for old, new in form.replacements:
        plain = f"replace({plain}, {quoted(old)}, {quoted(new)})"
    number = f"{'CAST' if strict else 'TRY_CAST'}({plain} AS DOUBLE)"
    for sentinel in form.sentinels:
        number = f"nullif({number}, {sentinel:g})"
    return number


def _sql_time(column: str, form: Form) -> str:
    if form.formats in (("epoch seconds",), ("epoch milliseconds",)):
        unit = "1000000" if form.formats[0] == "epoch seconds" else "1000"
        return f"make_timestamp(CAST(CAST({column} AS DOUBLE) * {unit} AS BIGINT))"
    formats = ", ".join(quoted(f) for f in form.formats)
    return f"try_strptime(trim(CAST({column} AS VARCHAR)), [{formats}])"
