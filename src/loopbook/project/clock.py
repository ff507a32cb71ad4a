"""The clock: instants in UTC, and the two columns that say when.

It decides how an instant is read and stored. Time is an argument everywhere:
`utc_now` stamps records and is never called inside a rule.
"""

from datetime import UTC, date, datetime

EVENT_TS = "event_ts"  # when a row happened
KNOWN_TS = "known_ts"  # when it became known


def utc_now() -> datetime:
    """The clock on the wall, for stamping records; never used inside a rule."""
    return datetime.now(UTC).replace(microsecond=0)


def parse_instant(value: str | date | datetime) -> datetime:
    """A day (its midnight) or an instant in ISO 8601, as an instant in UTC.

    What bears no zone is taken to be in UTC already.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def to_micros(instant: datetime) -> int:
    """An instant as whole microseconds since 1970."""
    return round(instant.timestamp() * 1_000_000)
