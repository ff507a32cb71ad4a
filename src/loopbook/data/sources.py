"""Sources: the user's rows, as the contract says where they are.

It decides how a table is read, whatever holds it: the files of a place, or the
result of the query over several. It never checks values (that is `validation`).
"""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from loopbook.data import formats, headers, instants, queries, rules, validation, values
from loopbook.data.aside_rows import Reading
from loopbook.data.places import described, places_of
from loopbook.data.source_files import digest_of_files, files_of
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import SourceError, listed


def source_files(contract: Contract, root: Path) -> list[Path]:
    """The files that hold the rows: of the one place, or of the query's result.

    Raises
    ------
    SourceError
        If there is none, or the query over the places cannot be answered.
    """
    if contract.source.is_queried:
        return [queries.queried(contract, root)]
    (named,) = places_of(contract)
    return files_of(named, root)


def read(contract: Contract, root: Path) -> Reading:
    """All rows of the source, with only what the contract names, read as it says.

    Returns
    -------
    Reading
        The columns of the contract, in its order (see `values.converted`), and
        where a value stands that cannot be read; known faults are not told.

    Raises
    ------
    SourceError
        If it cannot be opened, is empty, or its columns differ from the contract.
    """
    where, place = described(contract.source), contract.source
    files = source_files(contract, root)
    form = "parquet" if place.is_queried else formats.format_of(files[0], place)
    if form is None:
        raise SourceError(formats.unknown(f"source {where}", "source.format"))
    if not files[0].is_file():
        digest_of_files(places_of(contract)[0], files)
    try:
        tables = [_named(formats.scan(f, form, place), contract, where) for f in files]
        rows_raw = pl.concat(tables, how="vertical_relaxed").collect()
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as reason:
        raise SourceError(formats.unreadable(f"source {where}", form, reason)) from None
    if rows_raw.is_empty():
        raise SourceError(
            f"source {where}: found 0 rows, expected at least one. "
            "Fill the table, or correct source in contract.yaml."
        )
    dialects = [named.place.dialect for named in places_of(contract)]
    comma = form == "csv" or place.is_queried
    comma &= any(dialect is not None and dialect.decimal_comma for dialect in dialects)
    rows, failures = values.converted(rows_raw, contract, decimal_comma=comma)
    if failures and contract.known_faults:
        is_meant = ~validation.is_known_fault(rows, contract)
        failures = [
            values.failure(f.rule, f.mask & is_meant, rows, rows_raw, contract) for f in failures
        ]
    unreadable = [failure for failure in failures if failure.rows]
    return Reading(rows, contract, unreadable=unreadable, raw=rows_raw)


def _named(table: pl.LazyFrame, contract: Contract, where: str) -> pl.LazyFrame:
    """A file's columns under the names of the contract, in its order."""
    names = headers.source_names(table.collect_schema().names(), contract, where)
    return headers.renamed(table, names).select(contract.columns)


def read_source(contract: Contract, root: Path) -> pl.DataFrame:
    """All rows of the source, each value read as the contract says.

    Raises
    ------
    SourceError
        As `read` does, and if a value cannot be read; every such column is told.
    """
    found = read(contract, root)
    if found.unreadable:
        raise SourceError(
            f"source {described(contract.source)}: found values that cannot be read as "
            f"contract '{contract.name}' says.\n{listed([str(f) for f in found.unreadable])}\n"
            "Correct them there, list what stands for no value under null_values in contract.yaml, "
            "or single rows under known_faults."
        )
    return found.rows


def times_in_doubt(found: Reading) -> list[rules.Failure]:
    """Times that the clocks showed twice: no faults, but somebody should know how they were read."""
    contract, zone = found.contract, found.contract.time_zone
    doubts = []
    for name in (contract.event_time, contract.known_time):
        if name is None or found.raw is None or zone is None:
            continue
        column = values.plain(found.raw[name], contract.null_values)
        mask = instants.came_twice(column, zone)
        text = f"is a time that the clocks of {zone} showed twice; the earlier instant is meant"
        rule = rules.Rule(name, "clock", text, pl.lit(mask))
        doubts += (
            [values.failure(rule, mask, found.rows, found.raw, contract)] if mask.any() else []
        )
    return doubts


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


def instant(rows: pl.DataFrame, name: str, contract: Contract) -> pl.Series:
    """A column of days or timestamps as instants in UTC.

    Raises
    ------
    SourceError
        If it is neither, or names times that are none (see `instants.read`).
    """
    rows, failures = values.converted(rows, contract, [name])
    if failures:
        raise SourceError(f"source {described(contract.source)}: {failures[0]}.")
    return instants.in_utc(rows[name], contract.time_zone)


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

    A row that was corrected since stands once for each version known by then.
    Rows are ordered by event time and key, so that the same rows in another
    order are the same snapshot. Without an event time all rows are known.

    Parameters
    ----------
    as_of : datetime in UTC or None
        None means the newest event of the table.
    now : datetime in UTC
        The clock on the wall: no event can be more than a day ahead of it.
    served : polars.DataFrame or None
        More rows, with their clock (see `served_rows`). Where the source has a
        key too, its row is kept.

    Raises
    ------
    SourceError
        If the clock is missing or ahead somewhere, or nothing was known by then.
    """
    rows = with_clock(rows, contract)
    if EVENT_TS not in rows.columns:
        return _grown(rows, served, contract).sort(contract.key), as_of
    _refuse_unclocked(rows, contract, now)
    meant = as_of or max(newest_event(t) for t in (rows, served) if t is not None)
    known = rows.filter(pl.col(KNOWN_TS) <= meant)
    if served is not None:
        known = _grown(known, served.filter(pl.col(KNOWN_TS) <= meant), contract)
    if known.is_empty():
        raise SourceError(_none_known(rows, meant, contract))
    return known.sort(EVENT_TS, *contract.key, KNOWN_TS), meant


def _none_known(rows: pl.DataFrame, as_of: datetime, contract: Contract) -> str:
    first = rows[KNOWN_TS].min()
    return (
        f"contract '{contract.name}': none of {rows.height:,} rows was known at "
        f"{as_of:%Y-%m-%d}; the first became known on {first:%Y-%m-%d}. Choose a later as_of."
    )


def _refuse_unclocked(rows: pl.DataFrame, contract: Contract, now: datetime) -> None:
    """Rows without a time, or with one that has not come yet, are known at no `as_of`."""
    for name, clock in ((contract.event_time, EVENT_TS), (contract.known_time, KNOWN_TS)):
        absent = rows[clock].null_count() if name else 0
        if not absent:
            continue
        raise SourceError(
            f"contract '{contract.name}': {absent:,} of {rows.height:,} rows have no "
            f"{name}. Without it a row is known at no time: fill it in, "
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
