"""The clock: instants in UTC, and the two columns that say when.

It decides how an instant is read and stored. Time is an argument everywhere:
`utc_now` stamps records and is never called inside a rule.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_TS = "event_ts"  # when a row happened
KNOWN_TS = "known_ts"  # when it became known

# ISO 8601 as people, PostgreSQL and spreadsheets write it; polars reads the same patterns
DAY = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_HOUR, _SIXTY = r"(?:[01][0-9]|2[0-3])", r"[0-5][0-9]"
OFFSET = rf"(?: ?(?:[Zz]|UTC|[+-]{_HOUR}(?::?{_SIXTY})?))"
_TIME = rf"{_HOUR}:{_SIXTY}(?::{_SIXTY}(?:[.,][0-9]{{1,9}})?)?"
_COMPACT = rf"[0-9]{{8}}T{_HOUR}{_SIXTY}{_SIXTY}"
TIME = rf"^(?:{DAY}(?:[Tt ]{_TIME}{OFFSET}?)?|{_COMPACT}{OFFSET}?)$"
_A_TIME = re.compile(TIME)
FIRST_YEAR, LAST_YEAR = 100, 9899  # a window or a delay is ten years at most
TIME_EXPECTED = "a day such as 2014-05-02 or an instant such as 2014-05-02T13:00:00Z"


def utc_now() -> datetime:
    """The clock on the wall, for stamping records; never used inside a rule."""
    return datetime.now(UTC).replace(microsecond=0)


def parse_instant(value: str | date | datetime, zone: str | None = None) -> datetime:
    """A day (its first instant) or an instant in ISO 8601, as an instant in UTC.

    What bears no zone is taken to be in `zone`, or else in UTC. Of a time that
    came twice, when the clocks went back, the earlier instant is meant.

    Raises
    ------
    ValueError
        If it is neither, if the clocks of `zone` skipped it, or if it lies
        outside the years 1 to 9999.
    """
    if isinstance(value, str):
        value = read_time(value.strip())
    try:
        return _placed(value, zone or "UTC")
    except OverflowError:
        raise ValueError("an instant of the years 1 to 9999") from None


def parse_moment(value: Any) -> datetime:
    """The instant that a person asks to look from, with room for windows on both sides.

    Raises
    ------
    ValueError
        If it is no day and no instant, or too near to an end of the calendar.
    """
    try:
        moment = parse_instant(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("a day such as 2014-10-01") from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"a day of the years {FIRST_YEAR} to {LAST_YEAR}, such as 2014-10-01")
    return moment


def _placed(value: date | datetime, zone: str) -> datetime:
    if not isinstance(value, datetime):
        return first_instant(value, zone)
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is not None:
        return value.astimezone(UTC)
    located = value.replace(tzinfo=ZoneInfo(zone))
    instant = located.astimezone(UTC)
    if instant.astimezone(located.tzinfo).replace(tzinfo=None) != value:
        raise ValueError(f"a time that {zone} had (its clocks skipped this one)")
    return instant


def read_time(text: str) -> date | datetime:
    """A text in one of the forms of `TIME`, as it says; of a fraction of a second, the microseconds.

    Raises
    ------
    ValueError
        If it is in none of them.
    """
    plain = text
    if " " in text or text[10:11] == "t" or text[-1:] in ("z", "C"):
        plain = f"{text[:10]}{text[10:].replace('UTC', 'Z')}".upper()
        plain = plain if plain[10:11] != " " else f"{plain[:10]}T{plain[11:]}"
        plain = plain.replace(" ", "")
    try:
        if not _A_TIME.match(text):
            raise ValueError
        value = datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(TIME_EXPECTED) from None
    return value.date() if len(plain) == len("2014-05-02") else value


def first_instant(day: date, zone: str) -> datetime:
    """The instant at which a day begins in a zone: its midnight, where the clocks had one.

    Raises
    ------
    OverflowError
        If it lies outside the years 1 to 9999.
    """
    place, midnight = ZoneInfo(zone), datetime(day.year, day.month, day.day)
    late = midnight.replace(tzinfo=place).astimezone(UTC)
    early = midnight.replace(tzinfo=place, fold=1).astimezone(UTC)
    # the clocks skipped midnight: the day begins somewhere in (early, late]
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        early, late = (early, middle) if middle.astimezone(place).date() >= day else (middle, late)
    return late


def to_micros(instant: datetime) -> int:
    """An instant as whole microseconds since 1970; a double would round the last of the year 9999 up."""
    return (instant - EPOCH) // timedelta.resolution


def from_micros(micros: int) -> datetime:
    """The instant of so many microseconds since 1970."""
    return EPOCH + micros * timedelta.resolution


def both_clocks(as_of: str | None, done_at: str | None) -> str:
    """Both moments of what was done: as of which by the clock of the data, and when on the wall.

    Parameters
    ----------
    as_of, done_at : str or None
        ISO 8601; a table without an event time has no `as_of`. The same minute is told once.
    """
    done = f"done at {to_the_minute(done_at)}"
    return done if is_one_moment(as_of, done_at) else f"as of {to_the_minute(as_of)}, {done}"


def is_one_moment(as_of: str | None, done_at: str | None) -> bool:
    """Whether the clock of the data has nothing to add: it has no moment, or the same minute."""
    return as_of in (None, "", "none") or to_the_minute(as_of) == to_the_minute(done_at)


def to_the_minute(text: str | None) -> str:
    """An instant in ISO 8601 as people read it."""
    return f"{text[:16].replace('T', ' ')} UTC" if text and text != "none" else "an unknown time"
