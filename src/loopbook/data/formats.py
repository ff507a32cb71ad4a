"""Formats: Parquet, CSV and JSON lines as tables.

It decides how a file is opened. What stands in its cells is read by `values`.
"""

import csv
import glob
from pathlib import Path

import polars as pl
import polars.selectors as cs

from loopbook.data import headers
from loopbook.project.source import Dialect, Place

SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
NAMES = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}
SNIFFED_BYTES = 1 << 16


def format_of(file: Path, place: Place) -> str | None:
    """parquet, csv or jsonl, by the contract or the name; None where neither says it."""
    return place.format or SUFFIXES.get(file.suffix.lower())


def scan(file: Path, form: str, place: Place) -> pl.LazyFrame:
    """A file as a lazy table, so that only named columns are read.

    Parquet has its columns as stored. CSV and JSON lines are text throughout:
    what a text means is for `values`, and not for a guess from the first rows.
    """
    if form == "parquet":
        return pl.scan_parquet(file, glob=False)
    if form == "jsonl":
        pattern = glob.escape(str(file))
        schema = pl.scan_ndjson(pattern, infer_schema_length=None).collect_schema()
        texts = {name: pl.String for name, kind in schema.items() if not kind.is_nested()}
        return pl.scan_ndjson(pattern, schema_overrides=texts, infer_schema_length=None)
    dialect = dialect_of(file, place)
    headers.written(file, dialect)
    table = pl.scan_csv(
        file,
        separator=dialect.separator,
        quote_char=dialect.quote,
        infer_schema=False,
        # polars leaves a quote in a header doubled, as it stands in the file
        with_column_names=lambda names: [
            n.replace(dialect.quote * 2, dialect.quote) for n in names
        ],
        raise_if_empty=False,
        glob=False,
    )
    # an empty line, as editors leave one at the end and spreadsheets a few, is no row
    is_row = ~pl.all_horizontal(cs.all().is_null())
    return table.filter(is_row) if len(table.collect_schema()) > 1 else table


def dialect_of(file: Path, place: Place) -> Dialect:
    """How a CSV file is written: as the contract says, or as its first lines show."""
    return place.dialect or sniffed(file)


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


def unknown(where: str, key: str) -> str:
    """What to say of a file whose format nobody says."""
    return (
        f"{where}: its name ends in no known format, expected {', '.join(SUFFIXES)}. "
        f"Say {key} in contract.yaml: parquet, csv or jsonl."
    )


def unreadable(where: str, form: str, reason: Exception) -> str:
    """What to say of a file that is not of its format, without what programmers are told."""
    first = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    return (
        f"{where}: is no readable {NAMES[form]} file ({first}). "
        "Write it again, or correct source in contract.yaml."
    )
