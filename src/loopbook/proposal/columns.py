"""Columns: what each column of a table seems to hold, how sure that is and why.

It decides the kind of a column from its values, and from its name where these
leave it open. It never decides what the column is for (`roles` does).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import polars as pl

from loopbook.data.single_values import WHOLE
from loopbook.proposal import texts, wording
from loopbook.proposal.forms import Form, quoted, read, sql
from loopbook.proposal.opened import Opened

SAMPLE_ROWS = 50_000  # whose texts are looked at; every text is read afterwards
MOST_ODD = 0.002  # of the rows may be unreadable and wait for a person; more are read as missing
FREE_WORDS, FREE_SIGNS = 5, 40  # from here on a text is none that stands for a class
MOST_CATEGORIES = 10_000
FEW = 12
DENSE = 2  # numbers from the least to the most, against rows that have one
OFTEN = 5  # rows of a text among numbers that is no slip
LIKELY, SURE, GUESS = "likely", "sure", "guess"
MISSING_SHOWN = 0.5


@dataclass(frozen=True, eq=False)
class Column:
    """One column, as far as its values and its header tell.

    Attributes
    ----------
    header, name : what the source calls it, and what the contract does
    kind : `integer`, `number`, `boolean`, `category`, `time`, `text` (free text),
        `constant`, `nothing` (no value at all) or `nested` (lists, structures)
    form : how its texts are written
    values : every row's value, read
    sure, why : how sure the kind is, and from what
    odd, odd_rows : some texts that have another form, and in how many rows one stands
    is_zoned : of times, whether each names its zone
    """

    header: str
    name: str
    kind: str
    form: Form
    values: pl.Series
    is_text: bool
    sure: str = SURE
    why: str = ""
    odd: tuple[str, ...] = ()
    odd_rows: int = 0
    is_zoned: bool = False

    @cached_property
    def missing(self) -> float:
        return self.values.null_count() / max(self.values.len(), 1)

    @cached_property
    def distinct(self) -> int:
        return self.values.drop_nulls().n_unique() if self.kind != "nested" else 0

    @property
    def is_number(self) -> bool:
        return self.kind in ("integer", "number")

    @property
    def is_plain_text(self) -> bool:
        """Whether the contract reads it as it stands in the source."""
        return self.form.is_as_read and not self.is_often_odd

    @property
    def is_often_odd(self) -> bool:
        return self.odd_rows > MOST_ODD * self.values.len()

    @property
    def sql(self) -> str:
        """The SQL by which a query reads it."""
        if self.form.kind in ("integer", "number") and self.is_often_odd and self.form.is_as_read:
            number = f"TRY_CAST({quoted(self.header, chr(34))} AS DOUBLE)"
            return f"CASE WHEN isfinite({number}) THEN {number} END"
        return sql(self.header, self.form, strict=not self.is_often_odd)


def columns_of(table: Opened) -> list[Column]:
    """Every column of a table, in its order."""
    rows = table.rows
    some = rows if rows.height <= SAMPLE_ROWS else rows.sample(SAMPLE_ROWS, seed=0)
    is_text = {h: _is_text(rows.schema[h]) for h in rows.columns}
    looked = {h: some[h].cast(pl.String) for h in rows.columns if is_text[h]}
    forms = {h: texts.form_of(column) for h, column in looked.items()}
    if is_comma := texts.is_comma_of(list(forms.values())):
        forms = {h: texts.form_of(column, is_comma=is_comma) for h, column in looked.items()}
    names = wording.names_of(rows.columns)
    found = []
    for header in rows.columns:
        column = _first(rows[header], names[header], forms.get(header), is_text[header])
        found.append(_refined(column))
    return found


def _is_text(kind: pl.DataType) -> bool:
    return kind in (pl.String, pl.Null) or isinstance(kind, pl.Categorical | pl.Enum)


def _first(stored: pl.Series, name: str, form: Form | None, is_text: bool) -> Column:
    """A column by its form alone."""
    if form is None:
        return _of_stored(stored, name)
    form = _with_numbers_as_times(stored, form)
    values = read(stored, form)
    odd = _odd(stored, values, form)
    if more := tuple(t for t in odd.unique() if t.lower() in (*texts.SIGNS, *texts.WORDS)):
        form = form.without(more)
        values = read(stored, form)
        odd = _odd(stored, values, form)
    if form.kind in ("integer", "number") and _are_amounts(values, odd):
        form = Form("text", nulls=form.nulls)
        values = read(stored, form)
        odd = odd.clear()
    if form.kind in ("integer", "number"):
        form = texts.with_sentinels(form, values)
        values = read(stored, form) if form.sentinels else values
    kind = {"text": "category"}.get(form.kind, form.kind)
    shown = tuple(odd.unique(maintain_order=True).head(3))
    column = Column(
        stored.name, name, kind, form, values, is_text, why=form.note, odd=shown, odd_rows=odd.len()
    )
    is_zoned = kind == "time" and not form.formats and _names_zones(stored)
    return replace(
        column,
        is_zoned=is_zoned or form.formats[:1] in (("epoch seconds",), ("epoch milliseconds",)),
    )


def _names_zones(stored: pl.Series) -> bool:
    """Whether every time of a column of texts says where it is from; a day alone does not."""
    zoned = (
        stored.drop_nulls()
        .cast(pl.String)
        .str.strip_chars()
        .str.contains(r"\d[T ].*(?:Z|UTC|[+-]\d\d:?\d*)$")
    )
    return bool(zoned.all())


def _are_amounts(values: pl.Series, odd: pl.Series) -> bool:
    """Whether texts among few numbers are amounts in words, such as `3 or more` after 0, 1 and 2."""
    counts = odd.value_counts(name="n")
    if not 0 < counts.height <= FEW or values.drop_nulls().n_unique() > FEW:
        return False
    return bool(odd.str.contains(r"\d").all()) and counts["n"].min() >= OFTEN


def _odd(stored: pl.Series, values: pl.Series, form: Form) -> pl.Series:
    """Texts that stand there and were not read."""
    odd = stored.cast(pl.String).filter(values.is_null()).drop_nulls()
    odd = odd.str.strip_chars()
    odd = odd.filter((odd != "") & ~odd.is_in(list(form.nulls)))
    return odd.filter(
        ~odd.cast(pl.Float64, strict=False).is_in(list(form.sentinels)).fill_null(value=False)
    )


def _with_numbers_as_times(stored: pl.Series, form: Form) -> Form:
    """Whole numbers that are days (20140502) or seconds since 1970, where the header says so."""
    if form.kind not in ("integer", "number") or wording.time_rank(stored.name) < 1:
        return form
    numbers = stored.cast(pl.String).cast(pl.Float64, strict=False).drop_nulls()
    return _as_time(numbers, form)


def _as_time(numbers: pl.Series, form: Form) -> Form:
    if numbers.is_empty():
        return form
    low, high = numbers.quantile(0.01), numbers.quantile(0.99)
    if low >= 19_000_101 and high <= 21_001_231 and numbers.n_unique() > 1:
        days = numbers.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        if days.is_not_null().mean() > 0.99:
            return Form("time", formats=("%Y%m%d",), note="written as 20140502")
    for unit, size in (("epoch seconds", 1), ("epoch milliseconds", 1000)):
        if 0.3e9 * size <= low and high <= 4.2e9 * size:
            return Form("time", formats=(unit,), note=f"counted in {unit.split()[1]} since 1970")
    return form


def _of_stored(stored: pl.Series, name: str) -> Column:
    """A column that is stored as what it is: from Parquet."""
    kind, why = stored.dtype, f"stored as {stored.dtype}"
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        return Column(stored.name, name, "nested", Form("text"), stored, False, why=why)
    if kind in (pl.Time, pl.Duration):
        texts_of = stored.cast(pl.String, strict=False)
        return Column(stored.name, name, "text", Form("text"), texts_of, False, why=why)
    if kind == pl.Boolean:
        return Column(stored.name, name, "boolean", Form("boolean"), stored, False, why="stored so")
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return _of_stored_times(stored, name)
    return _of_stored_numbers(stored, name)


def _of_stored_times(stored: pl.Series, name: str) -> Column:
    zone = getattr(stored.dtype, "time_zone", None)
    values = stored.cast(pl.Datetime("us", zone), strict=False)
    if zone:
        values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    form, is_zoned = Form("time"), zone is not None
    return Column(
        stored.name, name, "time", form, values, False, why="stored so", is_zoned=is_zoned
    )


def _of_stored_numbers(stored: pl.Series, name: str) -> Column:
    numbers = stored.cast(pl.Float64, strict=False).fill_nan(None)
    infinite = numbers.is_infinite().fill_null(value=False)
    numbers = numbers.set(infinite, None) if infinite.any() else numbers
    known = numbers.drop_nulls()
    is_whole = stored.dtype.is_integer() or bool((known == known.floor()).all())
    form = Form("integer" if is_whole else "number")
    if is_whole and wording.time_rank(stored.name) > 0:
        timed = _as_time(known, form)
        if timed.kind == "time":
            whole = stored.cast(pl.Int64, strict=False).cast(pl.String)
            column = Column(stored.name, name, "time", timed, read(whole, timed), False)
            return replace(column, why=timed.note, is_zoned=timed.formats[0].startswith("epoch"))
    form = texts.with_sentinels(form, numbers)
    if form.sentinels:
        numbers = numbers.set(numbers.is_in(list(form.sentinels)).fill_null(value=False), None)
    exact = stored if stored.dtype.is_integer() and not form.sentinels else numbers
    values = exact.cast(pl.Int64, strict=False) if is_whole else numbers
    column = Column(stored.name, name, form.kind, form, values, False, why="stored so")
    return replace(column, odd_rows=int(infinite.sum()))


def _refined(column: Column) -> Column:
    """What a column's values and name say beyond its form."""
    if column.kind in ("nested", "text"):
        return column
    if column.distinct == 0:
        return replace(column, kind="nothing", why="has no value in any row")
    if column.distinct == 1:
        return replace(column, kind="constant", why=_constant(column))
    look = {"category": _refined_text, "integer": _refined_integer, "time": _refined_time}
    return look[column.kind](column) if column.kind in look else column


def _refined_time(column: Column) -> Column:
    other = column.form.doubtful
    if not other:
        return column
    return replace(column, sure=GUESS, why=f"{column.why}; {other} would read it as well")


def _constant(column: Column) -> str:
    value = column.values.drop_nulls()[0]
    others = f", and none in {100 * column.missing:.0f} %" if column.missing else ""
    return f"is {str(value)[:40]!r} in every row{others}"


def _refined_text(column: Column) -> Column:
    plain = column.values.drop_nulls()
    if column.form.note:
        return replace(column, sure=LIKELY, why=column.form.note)
    some = plain.head(SAMPLE_ROWS)
    long = some.str.len_chars().mean()
    spaces = some.str.count_matches(" ").mean()
    share = column.distinct / plain.len()
    if share > MISSING_SHOWN and (spaces >= FREE_WORDS - 1 or long >= FREE_SIGNS):
        return replace(
            column, kind="text", why=f"free text: {column.distinct:,} texts of {long:.0f} signs"
        )
    return replace(column, why=f"{column.distinct:,} texts")


def _refined_integer(column: Column) -> Column:
    if column.distinct == 2 and set(column.values.drop_nulls().unique()) == {0, 1}:
        return replace(column, kind="boolean", why="only 0 and 1")
    if wording.is_code(column.header):
        text = column.values.cast(pl.String)
        why = f"{column.distinct:,} whole numbers, and the header speaks of a code"
        return replace(column, kind="category", values=text, sure=LIKELY, why=why)
    return column


def as_texts(column: Column, stored: pl.Series) -> Column:
    """A column of texts as the texts that stand there: a class is called what the table calls it."""
    form = Form("text", nulls=column.form.nulls)
    values = read(stored, form).str.replace(WHOLE, "${1}")
    return replace(column, kind="category", form=form, values=values, odd=(), odd_rows=0)


def is_row_count(column: Column) -> bool:
    """Whether a column only numbers the rows: whole numbers, each once, hardly any left out.

    No amount falls so by chance. A rank is no mere number of a row.
    """
    if column.values.dtype == pl.String:
        return False
    numbers = column.values
    if not numbers.dtype.is_integer() or numbers.null_count() or wording.is_rank(column.header):
        return False
    rows = numbers.len()
    return rows > FEW and column.distinct == rows and numbers.max() - numbers.min() < DENSE * rows


@dataclass(frozen=True)
class Table:
    """The columns of a source, by header."""

    opened: Opened
    columns: dict[str, Column] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return self.opened.rows.height


def read_table(table: Opened) -> Table:
    """A source with every column looked at."""
    return Table(table, {column.header: column for column in columns_of(table)})
