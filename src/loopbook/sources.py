"""Sources: the user's rows, as the contract says where they are.

It decides how a table is read. It never checks values (that is `validation`)
and never writes.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from loopbook.contract import Contract
from loopbook.errors import SourceError

EVENT_TS = "event_ts"
KNOWN_TS = "known_ts"


def source_path(contract: Contract, root: Path) -> Path:
    """Where the source's file is; a relative path is relative to the project."""
    return (root / contract.source.path).resolve()


def source_digest(contract: Contract, root: Path) -> str:
    """SHA-256 of the source's bytes, read in blocks.

    Raises
    ------
    SourceError
        If there is no such file, or it cannot be read.
    """
    path = source_path(contract, root)
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
        The columns of the contract, in its order, with their types as stored.

    Raises
    ------
    SourceError
        If it cannot be read, is empty, or its columns differ from the contract.
    """
    path = source_path(contract, root)
    if not path.is_file():
        source_digest(contract, root)
    try:
        table = pl.scan_parquet(path)
        found = table.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as reason:
        first_line = str(reason).splitlines()[0]
        raise SourceError(
            f"source {contract.source.path}: is no readable Parquet file ({first_line}). "
            "Write it again, or correct source.path in contract.yaml."
        ) from None
    _check_columns(found, contract)
    rows = table.select(contract.columns).collect()
    if rows.is_empty():
        raise SourceError(
            f"source {contract.source.path}: found 0 rows, expected at least one. "
            "Fill the table, or correct source.path in contract.yaml."
        )
    return rows


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
            f"source {contract.source.path}: found {len(found)} columns that are not those of "
            f"contract '{contract.name}' ({'; '.join(faults)}). Correct the table, describe the "
            "column under features, or list it under ignored in contract.yaml."
        )


def with_clock(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Add `event_ts` and `known_ts` in UTC; a day is its midnight.

    Without an event time there is no clock, and `rows` come back as they are.

    Raises
    ------
    SourceError
        If the event time is not a day or an instant.
    """
    if contract.event_time is None:
        return rows
    kind = rows.schema[contract.event_time]
    if kind == pl.Date:
        event = pl.col(contract.event_time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    elif isinstance(kind, pl.Datetime):
        column = pl.col(contract.event_time).dt.cast_time_unit("us")
        event = (
            column.dt.convert_time_zone("UTC")
            if kind.time_zone
            else column.dt.replace_time_zone("UTC")
        )
    else:
        raise SourceError(
            f"source {contract.source.path}: event_time {contract.event_time} is of type {kind}, "
            "expected a date or a timestamp. Convert the column, or name another."
        )
    delay = pl.duration(microseconds=round(contract.label_delay_days * 86_400_000_000))
    return rows.with_columns(event.alias(EVENT_TS)).with_columns(
        (pl.col(EVENT_TS) + delay).alias(KNOWN_TS)
    )


def newest_event(rows: pl.DataFrame) -> datetime | None:
    """The instant of the newest event, or None without a clock."""
    return rows[EVENT_TS].max() if EVENT_TS in rows.columns else None


def known_by(
    rows: pl.DataFrame, as_of: datetime | None, contract: Contract, *, now: datetime
) -> tuple[pl.DataFrame, datetime | None]:
    """The rows that were known at `as_of`, oldest first, and the `as_of` meant.

    Parameters
    ----------
    as_of : datetime in UTC or None
        None means the newest event of the table.
    now : datetime in UTC
        The clock on the wall: no event can be more than a day ahead of it.

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
        return rows.sort(contract.key), as_of
    absent = rows[EVENT_TS].null_count()
    if absent:
        raise SourceError(
            f"contract '{contract.name}': {absent:,} of {rows.height:,} rows have no "
            f"{contract.event_time}. Without it nobody can say when a row was known: fill it in, "
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
    meant = as_of or newest_event(rows)
    known = rows.filter(pl.col(KNOWN_TS) <= meant)
    if known.is_empty():
        first = rows[KNOWN_TS].min()
        raise SourceError(
            f"contract '{contract.name}': none of {rows.height:,} rows was known at "
            f"{meant:%Y-%m-%d}; the first became known on {first:%Y-%m-%d}. Choose a later as_of."
        )
    return known.sort(EVENT_TS, *contract.key), meant


def utc_now() -> datetime:
    """The clock on the wall, for stamping records; never used inside a rule."""
    return datetime.now(UTC).replace(microsecond=0)
