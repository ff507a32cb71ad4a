"""Formats: Parquet, CSV and JSON lines as tables, and their text as values.

It decides how a file is read and which words are truth values, days and
instants. It never checks values (that is `validation`).
"""

import csv
from pathlib import Path

import polars as pl

from loopbook.data import headers, landing
from loopbook.project.contract import Contract, Dialect, Source
from loopbook.project.errors import SourceError
from loopbook.project.names import plain_header

SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
SAID_YES, SAID_NO = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
SNIFFED_BYTES = 1 << 16


def format_of(file: Path, source: Source) -> str | None:
    """parquet, csv or jsonl, by the contract or the name; None where neither says it."""
    return source.format or SUFFIXES.get(file.suffix.lower())


def scan_files(files: list[Path], form: str, contract: Contract) -> pl.LazyFrame:
    """The files as one lazy table, so that only named columns are read."""
    if form == "parquet":
        return pl.scan_parquet(files)
    kinds = {name: landing.KINDS[f.type] for name, f in contract.features.items()}
    kinds[contract.target.name] = pl.Float64
    kinds |= {n: pl.String for n in (contract.event_time, contract.known_time) if n}
    kinds = {contract.header_of[name]: kind for name, kind in kinds.items()}
    if form == "jsonl":
        return pl.scan_ndjson(files, schema_overrides=kinds, infer_schema_length=None)
    # there are many ways to write a truth value; `as_declared` reads them
    kinds |= {n: pl.String for n, kind in kinds.items() if kind == pl.Boolean}
    dialect = contract.source.dialect or sniffed(files[0])
    columns, *_ = [headers.written(file, dialect) for file in files]
    plain = {plain_header(header): kind for header, kind in kinds.items()}
    kinds = {c: plain[plain_header(c)] for c in columns if plain_header(c) in plain}
    return pl.scan_csv(
        files,
        separator=dialect.separator,
        quote_char=dialect.quote,
        decimal_comma=dialect.decimal_comma,
        schema_overrides=kinds,
        # polars leaves a quote in a header doubled, as it stands in the file
        with_column_names=lambda names: [
            n.replace(dialect.quote * 2, dialect.quote) for n in names
        ],
        infer_schema_length=10_000,
        raise_if_empty=False,
    )


def sniffed(file: Path) -> Dialect:
    """The dialect of a CSV file, from its first lines: comma, semicolon, tab or bar."""
    with file.open("rb") as opened:
        start = opened.read(SNIFFED_BYTES).decode("utf-8", errors="replace")
    lines = start.splitlines()[:50]
    try:
        separator = csv.Sniffer().sniff("\n".join(lines), delimiters=",;\t|").delimiter
    except csv.Error:
        return Dialect(separator=",")
    # 1,5;2,5 has as many commas as semicolons: the header has no number in it
    most = max(",;\t|", key=lines[0].count)
    return Dialect(separator=most if lines[0].count(most) else separator)


def as_declared(rows: pl.DataFrame, form: str, contract: Contract) -> pl.DataFrame:
    """Text as what the contract says it is: truth values, days and instants."""
    if form == "parquet" and not contract.source.database:
        return rows
    booleans = [n for n, f in contract.features.items() if f.type == "boolean"]
    for name in booleans if form == "csv" else ():
        rows = rows.with_columns(as_truth(rows[name], contract))
    clock = [n for n in (contract.event_time, contract.known_time) if n]
    texts = [rows[name] for name in clock if rows.schema[name] == pl.String]
    return rows.with_columns(as_instants(text, contract) for text in texts)


def as_truth(text: pl.Series, contract: Contract) -> pl.Series:
    """Words as truth values: true, yes, 1 and their opposites; nothing is no value.

    Raises
    ------
    SourceError
        If a word is neither.
    """
    said = text.str.strip_chars().str.to_lowercase()
    wrong = said.filter(~said.is_in([*SAID_YES, *SAID_NO]) & said.is_not_null() & (said != ""))
    if wrong.len():
        raise SourceError(
            f"source {landing.described(contract.source)}: {wrong.len():,} of {text.len():,} rows "
            f"have a {text.name} that is no truth value; first: {wrong[0]!r}. "
            "Expected true or false, yes or no, 1 or 0."
        )
    truths = dict.fromkeys(SAID_YES, True) | dict.fromkeys(SAID_NO, False)
    return said.replace_strict(truths, default=None, return_dtype=pl.Boolean)


def as_instants(text: pl.Series, contract: Contract) -> pl.Series:
    """Days (2014-05-02) as dates; instants (ISO 8601) in UTC, or naive where no offset stands."""
    there = text.drop_nulls()
    if there.str.contains(r"^\d{4}-\d{2}-\d{2}$").all():
        return text.str.to_date("%Y-%m-%d")
    spaced = text.str.replace(" ", "T")
    forms = ("%+", "%Y-%m-%dT%H:%M:%S%.f", "%Y%m%dT%H%M%S")
    for form in forms:
        zone = {"time_zone": "UTC"} if form == "%+" else {}
        instants = spaced.str.to_datetime(form, strict=False, **zone)
        if instants.null_count() == text.null_count():
            return instants
    first = text.filter(text.is_not_null() & text.str.to_date("%Y-%m-%d", strict=False).is_null())
    raise SourceError(
        f"source {landing.described(contract.source)}: {text.name} is no day or instant everywhere; "
        f"first: {first.first()!r}. Expected 2014-05-02 or 2014-05-02T13:00:00Z."
    )
