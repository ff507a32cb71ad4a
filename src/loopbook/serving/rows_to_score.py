"""Rows to score: a file as the service would read its rows.

It decides which column of a file is which feature, what its values mean, and
which rows the service would refuse. Those are told by row, column and value,
all at once, before anything is computed. It never computes a prediction.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from loopbook.data import formats, headers, instants, rules, values
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.errors import ScoringError, listed

PARTS = tuple[int, pl.DataFrame]  # the number of rows before, and some rows


@dataclass(frozen=True)
class Shape:
    """How the columns of a file are read: their names by what the file calls them."""

    names: tuple[tuple[str, str], ...]
    is_text: bool = False
    decimal_comma: bool = False

    def called(self, name: str) -> str:
        """What the file calls a column."""
        return next((header for header, its in self.names if its == name), name)


@dataclass
class Unknown:
    """Categories of one column that the model has not seen: in how many rows, and the first."""

    column: str
    rows: int
    first_row: int
    first: str

    def __str__(self) -> str:
        rows = f"{self.rows:,} row{'s have' if self.rows != 1 else ' has'}"
        return (
            f"{self.column}: {rows} a category that the model has not seen; "
            f"first: row {self.first_row:,} ({self.first})"
        )


@dataclass
class Broken:
    """What some rows of a file may not have: in how many, and the first of them."""

    what: str
    rows: int = 0
    first: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        first = f"; first: {', '.join(self.first)}" if self.first else ""
        return f"{self.what} in {counted(self.rows, 'row')}{first}"


def opened(source: Path, contract: Contract) -> tuple[pl.LazyFrame, Shape]:
    """A file with its columns as they stand, and how they are read.

    Raises
    ------
    ScoringError, SourceError
        If it is not there, is no table, or has one column under two names.
    """
    if not source.is_file():
        raise ScoringError(f"{source}: there is no such file.")
    form = formats.format_of(source, contract.source.model_copy(update={"format": None}))
    form = form or contract.source.format
    if form is None:
        known = ", ".join(formats.SUFFIXES)
        raise ScoringError(f"{source}: its name ends in no known format, expected {known}.")
    try:
        table = formats.scan(source, form, contract.source)
        columns = table.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as reason:
        raise unread(source, reason) from None
    names = headers.given_names(columns, contract, str(source))
    comma = form == "csv" and formats.dialect_of(source, contract.source).decimal_comma
    shape = Shape(tuple(names.items()), form != "parquet", comma)
    required = [n for n, f in contract.features.items() if f.required]
    absent = [contract.header_of[n] for n in required if n not in names.values()]
    if absent:
        raise ScoringError(
            f"{source}: lacks {headers.quoted(absent)}, which every row needs. Add the column."
        )
    return table, shape


def unread(source: Path, reason: Exception) -> ScoringError:
    """What to say of a file that is no table."""
    first = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    return ScoringError(f"{source}: cannot be read ({first}). Write it again.")


def read(
    rows: pl.DataFrame, shape: Shape, contract: Contract, *, with_time: bool
) -> tuple[pl.DataFrame, list[rules.Failure]]:
    """The features that the rows have, and their event time, under the contract's names."""
    names = dict(shape.names)
    named = headers.renamed(rows.lazy(), names).collect()
    wanted = [name for name in contract.features if name in named.columns]
    if with_time and contract.event_time in named.columns:
        wanted.append(contract.event_time)
    keyless = contract.model_copy(update={"key": []})  # rows are told by their number
    return values.converted(
        named.select(list(dict.fromkeys(wanted))),
        keyless,
        wanted,
        decimal_comma=shape.decimal_comma,
    )


def as_output(rows: pl.DataFrame, shape: Shape, contract: Contract) -> pl.DataFrame:
    """The rows as they are given back: of text, the features as what they mean."""
    if not shape.is_text:
        return rows
    typed, _ = read(rows, shape, contract, with_time=False)
    return rows.with_columns(typed[name].alias(shape.called(name)) for name in typed.columns)


def prepare(
    typed: pl.DataFrame, contract: Contract, as_of: datetime | None, *, now: datetime | None = None
) -> pl.DataFrame:
    """Rows with every feature, of one type a kind, and their `event_ts`.

    Parameters
    ----------
    as_of : datetime in UTC or None
        The instant to answer for. None: each row's event time, or `now`
        without one.
    """
    columns = [
        typed[name]
        if name in typed.columns
        else pl.lit(None, values.KINDS[feature.type]).alias(name)
        for name, feature in contract.features.items()
    ]
    if as_of is None and contract.event_time in typed.columns:
        when = instants.in_utc(typed[contract.event_time], contract.time_zone)
    else:
        when = pl.lit(as_of or now or datetime.now(UTC), dtype=instants.INSTANT)
    return typed.select(*columns, when.alias(EVENT_TS))


def check(
    parts: Iterator[PARTS],
    shape: Shape,
    contract: Contract,
    vocabulary: Mapping[str, Sequence[str]],
    *,
    source: Path,
    with_time: bool,
) -> list[Unknown]:
    """Hold all rows against what the service asks of a request.

    Returns
    -------
    list of Unknown
        The columns in which some rows have a category that is not in `vocabulary`.

    Raises
    ------
    ScoringError
        With every column that has a value which the service would refuse.
    """
    broken: dict[str, Broken] = {}
    unknown: dict[str, Unknown] = {}
    for before, rows in parts:
        typed, unreadable = read(rows, shape, contract, with_time=with_time)
        demanded = rules.of_a_request(typed.schema, contract)
        if with_time and contract.event_time in typed.columns:
            demanded += rules.rules_for(
                typed.schema, contract, columns=[contract.event_time], kinds=["null"]
            )
        failures = [*unreadable, *rules.failures(typed, contract, demanded, unreadable)]
        for failure in failures:
            called = shape.called(failure.rule.column)
            text = f"{headers.quoted([called])} {failure.text}"
            _add(broken.setdefault(text, Broken(text)), failure.mask, rows, called, before)
        _count_unknown(unknown, typed, vocabulary, shape, before)
    if broken:
        raise ScoringError(
            f"{source}: rows that the service would refuse, so none was scored.\n"
            f"{listed([str(b) for b in broken.values()])}\n"
            "Correct the values, or list what stands for no value under null_values in contract.yaml."
        )
    return list(unknown.values())


def _add(broken: Broken, mask: pl.Series, rows: pl.DataFrame, called: str, before: int) -> None:
    broken.rows += mask.sum()
    for place in mask.arg_true().head(rules.SHOWN - len(broken.first)):
        value = f" ({rules.told(rows[called][place])})" if called in rows.columns else ""
        broken.first.append(f"row {before + place + 1:,}{value}")


def _count_unknown(
    unknown: dict[str, Unknown],
    typed: pl.DataFrame,
    vocabulary: Mapping[str, Sequence[str]],
    shape: Shape,
    before: int,
) -> None:
    for name in vocabulary:
        if name not in typed.columns:
            continue
        column = typed[name]
        unseen = (column.is_not_null() & ~column.is_in(list(vocabulary[name]))).arg_true()
        if unseen.is_empty():
            continue
        first = int(unseen[0])
        about = unknown.setdefault(
            name, Unknown(shape.called(name), 0, before + first + 1, repr(column[first]))
        )
        about.rows += unseen.len()
