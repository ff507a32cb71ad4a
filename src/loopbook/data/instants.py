"""Instants: a column of times, however it is written or stored, as instants in UTC.

It decides what a table's times mean, as `project.clock` does for a single one:
the same forms, the same zone for what names none, the earlier instant where the
clocks showed a time twice. A time that means nothing is null, and told.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from loopbook.project.clock import EPOCH, TIME, TIME_EXPECTED, first_instant

INSTANT = pl.Datetime("us", "UTC")
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
DAYS = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
USUAL = "^[0-9-]{10}[T ][0-9:]{8}(?:[.][0-9]+)?(?:Z|[+-][0-9:]+)?$"
UNREAD = f"is not {TIME_EXPECTED}"
UNPLACED = (
    "has timestamps without a zone, so their instants are unknown. "
    "Set time_zone in contract.yaml, such as UTC"
)

Faults = list[tuple[str, pl.Series]]  # what is wrong, and in which rows


def read(column: pl.Series, zone: str | None) -> tuple[pl.Series, Faults]:
    """Times as they are stored, or text as times, and where there is none though something stands.

    Parameters
    ----------
    column : polars.Series
        Text without spaces around it, dates or timestamps.
    zone : str or None
        Where times are from that name no zone themselves. None: a day is one
        of UTC, and a timestamp without a zone is a fault.

    Returns
    -------
    times, faults
        Of type Date where all are days, else instants in UTC; from Parquet and
        databases as stored. Null where a fault is told.
    """
    there, early_or_late = column.is_not_null(), beyond(column)
    if early_or_late.any():
        column = column.set(early_or_late, None)
    faults: Faults = []
    if column.dtype == pl.String:
        times, is_naive, is_sound = _from_text(column, zone)
        faults.append((UNREAD, there & ~is_sound))
    else:
        times = column
        is_naive = there & (isinstance(column.dtype, pl.Datetime) and not column.dtype.time_zone)
        is_sound = column.is_not_null()
    if zone is None:
        faults.append((UNPLACED, is_naive & is_sound))
        times = times.set(is_naive, None) if is_naive.any() else times
    instants = in_utc(times, zone)
    if zone is not None:
        skipped = is_naive & is_sound & instants.is_null()
        faults.append((f"is a time that the clocks of {zone} skipped", skipped))
    early_or_late |= ~instants.is_between(FIRST, LAST).fill_null(value=True)
    faults.append(("lies outside the years 1 to 9999", early_or_late))
    wrong = [(text, mask) for text, mask in faults if mask.any()]
    if wrong:
        times = times.set(there & (instants.is_null() | early_or_late), None)
    return times, wrong


def beyond(column: pl.Series) -> pl.Series:
    """Which stored times are of no year that Python and its libraries know; see `LAST`."""
    if column.dtype == pl.Date:
        step = timedelta(days=1)
    elif isinstance(column.dtype, pl.Datetime) and column.dtype.time_unit != "ns":
        step = timedelta(milliseconds=1) if column.dtype.time_unit == "ms" else timedelta.resolution
    else:  # what nanoseconds reach is near
        return pl.repeat(False, column.len(), dtype=pl.Boolean, eager=True)
    least, most = (FIRST - EPOCH) // step, (LAST - EPOCH) // step
    return ~column.to_physical().is_between(least, most).fill_null(value=True)


def in_utc(times: pl.Series, zone: str | None) -> pl.Series:
    """Days or timestamps as instants; null where the clocks of the zone skipped them."""
    place = zone or "UTC"
    if times.dtype == pl.Date:
        return _days(times, place)
    times = times.dt.cast_time_unit("us")
    if times.dtype.time_zone is None:
        return _placed(times, place)
    return times.dt.convert_time_zone("UTC")


def came_twice(column: pl.Series, zone: str | None) -> pl.Series:
    """Which times without an offset the clocks of the zone showed twice; the earlier is meant.

    Parameters
    ----------
    column : polars.Series
        As for `read`, before it is read: an instant no longer shows that it was in doubt.
    """
    naive = column
    if column.dtype == pl.String:
        fits = column.str.contains(TIME).fill_null(value=False)
        naive = _naive(_canonical(column.set(~fits, None)))
    if zone is None or not isinstance(naive.dtype, pl.Datetime) or naive.dtype.time_zone:
        return pl.repeat(False, column.len(), dtype=pl.Boolean, eager=True)
    latest = naive.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
    return (_placed(naive, zone) != latest.dt.convert_time_zone("UTC")).fill_null(value=False)


def _naive(plain: pl.Series) -> pl.Series:
    return plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us")


def _placed(times: pl.Series, zone: str) -> pl.Series:
    located = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return located.dt.convert_time_zone("UTC")


def _days(days: pl.Series, zone: str) -> pl.Series:
    """The first instant of each day: its midnight, or where the clocks skipped that, what followed."""
    instants = _placed(days.cast(pl.Datetime("us")), zone)
    skipped = days.filter(instants.is_null() & days.is_between(FIRST.date(), LAST.date())).unique()
    if skipped.is_empty():
        return instants
    first = pl.Series([first_instant(day, zone) for day in skipped], dtype=INSTANT)
    begun = days.replace_strict(skipped, first, default=None, return_dtype=INSTANT)
    return instants.zip_with(instants.is_not_null(), begun)


def _from_text(text: pl.Series, zone: str | None) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Text as times, and which of it names no zone, and which is a time at all."""
    if text.null_count() < text.len() and text.str.contains(DAYS).all():  # as most are
        days = text.str.to_date("%Y-%m-%d", strict=False)
        return days, pl.repeat(False, text.len(), eager=True), days.is_not_null()
    fits = text.str.contains(TIME).fill_null(value=False)
    is_day = fits & (text.str.len_bytes() == len("2014-05-02")).fill_null(value=False)
    days = text.str.to_date("%Y-%m-%d", strict=False).set(~is_day, None)
    if is_day.sum() == fits.sum():
        return days, pl.repeat(False, text.len(), eager=True), days.is_not_null()
    plain = _canonical(text.set(~fits | is_day, None))
    has_offset = plain.str.contains("T.*(?:Z|[+-][0-9:]+)$").fill_null(value=False)
    naive = _naive(plain.set(has_offset, None))
    placed = plain.set(~has_offset, None).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us", time_zone="UTC"
    )
    instants = _placed(naive, zone or "UTC")
    for more in (placed, _days(days, zone or "UTC")):
        instants = instants.zip_with(instants.is_not_null(), more)
    is_sound = days.is_not_null() | naive.is_not_null() | placed.is_not_null()
    return instants, naive.is_not_null(), is_sound


def _canonical(text: pl.Series) -> pl.Series:
    """Texts in one of the forms of `TIME` in one: 2014-05-02T13:00:00.5+01, or without the offset."""
    one = text.str.replace(" ", "T", literal=True)
    rest = ~text.str.contains(USUAL).fill_null(value=True)
    if not rest.any():
        return one
    return one.scatter(rest.arg_true(), _rewritten(text.filter(rest)))


def _rewritten(text: pl.Series) -> pl.Series:
    """What is not written as usual: without seconds, without dashes, with spaces or small letters."""
    one = text.str.replace("UTC", "Z", literal=True).str.replace("^(.{10}) ", "${1}T")
    one = one.str.replace(" ", "", literal=True).str.to_uppercase()
    one = one.str.replace(",", ".", literal=True).str.replace(
        "^([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})", "${1}-${2}-${3}T${4}:${5}:"
    )
    return one.str.replace("^(.{16})([Z+-].*)?$", "${1}:00${2}")
