"""Sources: the user's rows, as the contract says where they are.

It decides how a table is read: Parquet, CSV, JSON lines, a folder of them, and
what `landing` brings from a URL or a database. It never checks values (that is
`validation`).
"""

import csv
import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from loopbook.data import landing
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract, Dialect, Source
from loopbook.project.errors import SourceError

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
THE_SOURCE = "source"  # where a file is asked for: the rows that the contract names


def landing_folder(root: Path) -> Path:
    return root / "var" / "landing"


def source_files(contract: Contract, root: Path) -> list[Path]:
    """The files that hold the rows: one, or those of a folder by name.

    A relative path is relative to the project. What is elsewhere is landed.

    Raises
    ------
    SourceError
        If there is no such file, or the folder holds none of one format.
    """
    source = contract.source
    if landing.is_remote(source):
        return [landing.landed(contract, landing_folder(root))]
    path = (root / source.path).resolve()
    if not path.is_dir():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name[0] not in "._")
    formats = {_format_of(f, source) for f in files}
    if len(formats) != 1 or None in formats:
        found = ", ".join(sorted(str(f.relative_to(path)) for f in files)[:5]) or "no file"
        raise SourceError(
            f"source {source.path}: found {found} in the folder, expected files of one format. "
            "Say source.format in contract.yaml, or move the others away."
        )
    return files


def source_digest(contract: Contract, root: Path) -> str:
    """SHA-256 of the source's bytes as they are now; what is elsewhere is landed.

    Raises
    ------
    SourceError
        If there is no such file, or it cannot be read or reached.
    """
    if landing.is_remote(contract.source):
        return landing.land(contract, landing_folder(root))
    files = source_files(contract, root)
    digests = [_file_digest(file, contract) for file in files]
    if len(files) == 1:
        return digests[0]
    named = "".join(f"{f.name} {d}\n" for f, d in zip(files, digests, strict=True))
    return hashlib.sha256(named.encode()).hexdigest()


def _file_digest(path: Path, contract: Contract) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as reason:
        raise SourceError(
            f"source {contract.source.path}: {reason.strerror} ({path}). "
            "Put the file there, or correct source.path in contract.yaml."
        ) from None


def read_source(contract: Contract, root: Path) -> pl.DataFrame:
    """All rows of the source, with only what the contract names.

    Returns
    -------
    polars.DataFrame
        The columns of the contract, in its order. From Parquet and databases
        with their types as stored; from text with the contract's.

    Raises
    ------
    SourceError
        If it cannot be read, is empty, or its columns differ from the contract.
    """
    where = landing.described(contract.source)
    files = source_files(contract, root)
    form = _format_of(files[0], contract.source)
    if form is None:
        raise SourceError(
            f"source {where}: the name tells no format, expected {', '.join(SUFFIXES)}. "
            "Say source.format in contract.yaml: parquet, csv or jsonl."
        )
    if not files[0].is_file():
        _file_digest(files[0], contract)
    try:
        table = _scan(files, form, contract)
        found = table.collect_schema().names()
        _check_columns(found, contract)
        rows = _as_declared(table.select(contract.columns).collect(), form, contract)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as reason:
        first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        names = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}
        raise SourceError(
            f"source {where}: is no readable {names[form]} file ({first_line}). "
            f"Write it again, or correct source in contract.yaml."
        ) from None
    if rows.is_empty():
        raise SourceError(
            f"source {where}: found 0 rows, expected at least one. "
            "Fill the table, or correct source in contract.yaml."
        )
    return rows


def _format_of(file: Path, source: Source) -> str | None:
    return source.format or SUFFIXES.get(file.suffix.lower())


def _scan(files: list[Path], form: str, contract: Contract) -> pl.LazyFrame:
    """The files as one lazy table, so that only named columns are read."""
    if form == "parquet":
        return pl.scan_parquet(files)
    kinds = {name: landing.KINDS[f.type] for name, f in contract.features.items()}
    kinds[contract.target.name] = pl.Float64
    kinds |= {n: pl.String for n in (contract.event_time, contract.known_time) if n}
    if form == "jsonl":
        return pl.scan_ndjson(files, schema_overrides=kinds, infer_schema_length=None)
    # there are many ways to write a truth value; `_as_declared` reads them
    kinds |= {n: pl.String for n, kind in kinds.items() if kind == pl.Boolean}
    dialect = contract.source.dialect or sniffed(files[0])
    return pl.scan_csv(
        files,
        separator=dialect.separator,
        quote_char=dialect.quote,
        decimal_comma=dialect.decimal_comma,
        schema_overrides=kinds,
        infer_schema_length=10_000,
        raise_if_empty=False,
    )


def sniffed(file: Path) -> Dialect:
    """The dialect of a CSV file, from its first lines: comma, semicolon, tab or bar."""
    with file.open("rb") as opened:
        start = opened.read(SNIFFED_BYTES).decode("utf-8", errors="replace")
    lines = start.splitlines()[:50]
    try:
        found = csv.Sniffer().sniff("\n".join(lines), delimiters=",;\t|").delimiter
    except csv.Error:
        return Dialect(separator=",")
    # 1,5;2,5 has as many commas as semicolons: the header has no number in it
    most = max(",;\t|", key=lines[0].count)
    return Dialect(separator=most if lines[0].count(most) else found)


def scan(contract: Contract) -> pl.LazyFrame:
    """The one file of a contract's source, lazily, whatever columns it has.

    Raises
    ------
    SourceError
        If its name tells no format.
    """
    path = Path(contract.source.path)
    form = _format_of(path, contract.source)
    if form is None:
        raise SourceError(f"{path}: the name tells no format, expected {', '.join(SUFFIXES)}.")
    return _scan([path], form, contract)


def _as_declared(rows: pl.DataFrame, form: str, contract: Contract) -> pl.DataFrame:
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
        found = spaced.str.to_datetime(form, strict=False, **zone)
        if found.null_count() == text.null_count():
            return found
    first = text.filter(text.is_not_null() & text.str.to_date("%Y-%m-%d", strict=False).is_null())
    raise SourceError(
        f"source {landing.described(contract.source)}: {text.name} is no day or instant everywhere; "
        f"first: {first.first()!r}. Expected 2014-05-02 or 2014-05-02T13:00:00Z."
    )


def _check_columns(found: list[str], contract: Contract) -> None:
    missing = [name for name in contract.columns if name not in found]
    added = [n for n in found if n not in contract.columns and n not in contract.ignored]
    faults = []
    if missing:
        faults.append(f"missing: {', '.join(missing)}")
    if added:
        faults.append(f"not in the contract: {', '.join(added)}")
    if missing and added:
        faults.append("a column may have been renamed")
    if faults:
        raise SourceError(
            f"source {landing.described(contract.source)}: found {len(found)} columns that are not those of "
            f"contract '{contract.name}' ({'; '.join(faults)}). Correct the table, describe the "
            "column under features, or list it under ignored in contract.yaml."
        )


def with_clock(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Add `event_ts` and `known_ts` in UTC.

    A day is its midnight, in UTC or in the contract's `time_zone`. A row is
    known `label_delay_days` after its event, or when its `known_time` says.
    Without an event time there is no clock, and `rows` come back as they are.

    Raises
    ------
    SourceError
        If a time is not a day or an instant, has no zone and the contract
        names none, or a row was known before it happened.
    """
    if contract.event_time is None:
        return rows
    rows = rows.with_columns(instant(rows, contract.event_time, contract).alias(EVENT_TS))
    if contract.known_time is None:
        delay = pl.duration(microseconds=round(contract.label_delay_days * 86_400_000_000))
        return rows.with_columns((pl.col(EVENT_TS) + delay).alias(KNOWN_TS))
    rows = rows.with_columns(instant(rows, contract.known_time, contract).alias(KNOWN_TS))
    early = rows.filter(pl.col(KNOWN_TS) < pl.col(EVENT_TS))
    if early.height:
        raise SourceError(
            f"contract '{contract.name}': {early.height:,} of {rows.height:,} rows were known "
            f"({contract.known_time}) before they happened ({contract.event_time}); first: "
            f"{early.select(contract.key).row(0, named=True)}. Correct the rows."
        )
    return rows


def instant(rows: pl.DataFrame, name: str, contract: Contract) -> pl.Expr:
    """A column of days or timestamps as instants in UTC.

    Raises
    ------
    SourceError
        If it is neither, or has no zone and the contract names none.
    """
    kind = rows.schema[name]
    zone = contract.time_zone or "UTC"
    column = pl.col(name)
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
    if not isinstance(kind, pl.Datetime):
        raise SourceError(
            f"source {landing.described(contract.source)}: {name} is of type {kind}, "
            "expected a date or a timestamp. Convert the column, or name another."
        )
    column = column.dt.cast_time_unit("us")
    if kind.time_zone is None and contract.time_zone is None:
        raise SourceError(
            f"source {landing.described(contract.source)}: {name} has timestamps without a zone, "
            "so nobody can say which instant they are. Say time_zone in contract.yaml, such as UTC."
        )
    if kind.time_zone is None:
        column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return column.dt.convert_time_zone("UTC")


def newest_versions(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Each key once, as it was last known; rows keep their order."""
    if contract.known_time is None:
        return rows
    newest = pl.col(KNOWN_TS) == pl.col(KNOWN_TS).max().over(contract.key)
    return rows.filter(newest)


def newest_event(rows: pl.DataFrame) -> datetime | None:
    """The instant of the newest event, or None without a clock."""
    return rows[EVENT_TS].max() if EVENT_TS in rows.columns else None


def known_by(
    rows: pl.DataFrame,
    as_of: datetime | None,
    contract: Contract,
    *,
    now: datetime,
    served: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, datetime | None]:
    """The rows that were known at `as_of`, oldest first, and the `as_of` meant.

    A row that was corrected since stands once for every version known by then.

    Parameters
    ----------
    as_of : datetime in UTC or None
        None means the newest event of the table.
    now : datetime in UTC
        The clock on the wall: no event can be more than a day ahead of it.
    served : polars.DataFrame or None
        More rows, with their clock (see `served_rows`). Where the source has a
        key too, its row stands.

    Notes
    -----
    Rows are ordered by event time and key, so that the same rows in another
    order are the same snapshot. Without an event time all rows are known.

    Raises
    ------
    SourceError
        If the clock is missing or ahead somewhere, or nothing was known by then.
    """
    rows = with_clock(rows, contract)
    if EVENT_TS not in rows.columns:
        return _grown(rows, served, contract).sort(contract.key), as_of
    for name, clock in ((contract.event_time, EVENT_TS), (contract.known_time, KNOWN_TS)):
        absent = rows[clock].null_count() if name else 0
        if not absent:
            continue
        raise SourceError(
            f"contract '{contract.name}': {absent:,} of {rows.height:,} rows have no "
            f"{name}. Without it nobody can say when a row was known: fill it in, "
            "or leave these rows out of the source."
        )
    ahead = rows.filter(pl.col(EVENT_TS) > now + timedelta(days=1))
    if ahead.height:
        first = ahead.select(contract.key).row(0, named=True)
        raise SourceError(
            f"contract '{contract.name}': {ahead.height:,} of {rows.height:,} rows have a "
            f"{contract.event_time} in the future (after {now:%Y-%m-%d}); first: {first}. "
            "Correct the rows, or the clock of this machine."
        )
    newest = [newest_event(rows)] + ([newest_event(served)] if served is not None else [])
    meant = as_of or max(newest)
    known = rows.filter(pl.col(KNOWN_TS) <= meant)
    if served is not None:
        known = _grown(known, served.filter(pl.col(KNOWN_TS) <= meant), contract)
    if known.is_empty():
        first = rows[KNOWN_TS].min()
        raise SourceError(
            f"contract '{contract.name}': none of {rows.height:,} rows was known at "
            f"{meant:%Y-%m-%d}; the first became known on {first:%Y-%m-%d}. Choose a later as_of."
        )
    return known.sort(EVENT_TS, *contract.key, KNOWN_TS), meant


def _grown(rows: pl.DataFrame, served: pl.DataFrame | None, contract: Contract) -> pl.DataFrame:
    """Rows of the source, and those served rows whose key it does not have."""
    if served is None:
        return rows
    schema = {name: rows.schema[name] for name in rows.columns}
    zone = contract.time_zone or "UTC"
    for name in (contract.event_time, contract.known_time):
        if name and not isinstance(schema[name], pl.Datetime):  # a day is one of its own zone
            served = served.with_columns(pl.col(name).dt.convert_time_zone(zone))
        elif name and schema[name].time_zone is None:
            local = pl.col(name).dt.convert_time_zone(zone).dt.replace_time_zone(None)
            served = served.with_columns(local)
    served = served.select(pl.col(name).cast(kind) for name, kind in schema.items())
    fresh = served.join(rows, on=contract.key, how="anti")
    return pl.concat([rows, fresh])
