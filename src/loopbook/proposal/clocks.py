"""Clocks: when a row happened, from one column or made of several.

It decides which column, or which of year, month, day and hour together, say
when the event was, from values and names, and the SQL that puts several
together. Whether it is the event's time, only a person knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from loopbook.project.counts import counted
from loopbook.proposal import wording
from loopbook.proposal.columns import GUESS, LIKELY, Column
from loopbook.proposal.forms import quoted

MOST_MISSING = 0.005
LEAST_YEARS = 10  # before a year alone is a time
LEAST_TIMES = 3
NAME = "event_time"
PARTS = {
    "year": {"year", "yr", "yyyy", "jahr", "annee", "ano", "anno"},
    "quarter": {"quarter", "qtr", "quartal"},
    "month": {"month", "mon", "mnth", "mm", "monat", "mois", "mes"},
    "day": {"day", "dd", "tag", "jour", "dayofmonth", "mday", "dom"},
    "hour": {"hour", "hr", "hh", "stunde", "heure", "hora", "time", "uhrzeit", "hrmn", "clock"},
    "minute": {"minute", "min", "mins"},
}
BOUNDS = {"quarter": (1, 4), "month": (1, 12), "day": (1, 31), "hour": (0, 24), "minute": (0, 59)}
CLOCK = r"^(\d{1,2})(?::(\d{2}))?(?::\d{2})?\s*([AaPp])?\.?(?:[Mm]\.?)?$"
CLOCK_FORMATS = ("%I%p", "%I:%M%p", "%I %p", "%I:%M %p", "%I:%M:%S %p", "%H:%M", "%H:%M:%S", "%H")


@dataclass(frozen=True, eq=False)
class Clock:
    """When rows happened.

    Attributes
    ----------
    name : what the contract calls it
    headers : the columns that it is made of; one, where it is a column
    sql : what makes it; None where it is a column that a contract reads as it is
    values : of each row, without a zone; UTC where the column names one
    is_daily : whether it shows days and no time of day
    needs_zone : whether its times are those of some place's clocks
    """

    name: str
    headers: tuple[str, ...]
    sql: str | None
    values: pl.Series
    is_daily: bool
    needs_zone: bool
    sure: str
    why: str

    @property
    def missing(self) -> float:
        return self.values.null_count() / max(self.values.len(), 1)

    @property
    def told(self) -> str:
        """From when to when."""
        return f"{self.values.min():%Y-%m-%d} to {self.values.max():%Y-%m-%d}"


def clock_of(
    columns: Sequence[Column], named: Sequence[str], *, now: datetime
) -> tuple[Clock | None, list[str]]:
    """The likeliest event time, and why others are none.

    Parameters
    ----------
    named : sequence of str
        The header that a person named, or several that belong together; empty: none.
    now : datetime
        No event lies ahead of it.
    """
    clock, reasons = _likeliest(columns, named, now)
    if clock and clock.name == NAME:
        others = [column.header for column in columns if column.header not in clock.headers]
        clock = replace(clock, name=wording.free_name(NAME, others))
    return clock, reasons


def _likeliest(
    columns: Sequence[Column], named: Sequence[str], now: datetime
) -> tuple[Clock | None, list[str]]:
    chosen = [column for column in columns if column.header in named or column.name in named]
    if chosen:
        found = list(_made(chosen)) or [_single(c) for c in chosen if c.kind == "time"]
        return (found[0] if found else None), []
    reasons, fit = [], []
    for clock in [*_made(columns), *(_single(c) for c in columns if c.kind == "time")]:
        reason = _unfit(clock, now)
        if reason:
            reasons.append(f"{' and '.join(clock.headers)} is no event time: {reason}")
        else:
            fit.append(clock)
    if not fit:
        fit = [clock for clock in _years(columns) if not _unfit(clock, now)]
    return (max(fit, key=_rank) if fit else None), reasons


def _rank(clock: Clock) -> tuple:
    """Names first, then one that shows the time of day, in one column; of several the earliest."""
    names = [wording.time_rank(header) for header in clock.headers]
    median = clock.values.median()
    early = -median.timestamp() if isinstance(median, datetime) else 0.0
    return min(max(names), 2), not clock.is_daily, len(clock.headers) == 1, early


def _unfit(clock: Clock, now: datetime) -> str:
    if clock.missing > MOST_MISSING:
        return f"{100 * clock.missing:.1f} % of the rows have none"
    if clock.values.drop_nulls().n_unique() < LEAST_TIMES:
        return f"it has {counted(clock.values.drop_nulls().n_unique(), 'value')}"
    if all(wording.time_rank(header) <= -2 for header in clock.headers):
        return "it is older than what the row is about"
    ahead = (clock.values > (now + timedelta(days=1)).replace(tzinfo=None)).sum()
    if ahead > MOST_MISSING * clock.values.len():
        return f"{counted(ahead, 'row lies', 'rows lie')} in the future"
    return ""


def _single(column: Column) -> Clock:
    is_daily = _is_daily(column.values)
    is_read = column.is_plain_text
    sql = None
    if not is_read:
        sql = f"CAST({column.sql} AS DATE)" if is_daily else column.sql
    zoned = column.is_zoned
    sure = (
        GUESS if column.sure == GUESS else LIKELY if wording.time_rank(column.header) > 0 else GUESS
    )
    first = column.why or "a time"
    return Clock(
        column.name,
        (column.header,),
        sql,
        column.values,
        is_daily,
        not (is_daily or zoned),
        sure,
        first,
    )


def _is_daily(values: pl.Series) -> bool:
    return bool((values.dt.truncate("1d") == values).all())


def _made(columns: Sequence[Column]) -> Iterator[Clock]:
    """A day and an hour; or year, month, day and hour."""
    for day in columns:
        if day.kind == "time" and _is_daily(day.values):
            for hour in columns:
                made = _day_and_hour(day, hour)
                if made is not None:
                    yield made
    parts = _parts(columns)
    if {"year", "month"} <= parts.keys():
        yield _of_parts(parts)
    elif {"year", "quarter"} <= parts.keys():
        yield _of_quarters(parts)


def _part_of(column: Column, part: str) -> bool:
    found = wording.words(column.header)
    return bool(found) and (found[-1] in PARTS[part] or "".join(found) in PARTS[part])


def _parts(columns: Sequence[Column]) -> dict[str, Column]:
    """Columns that are parts of a time: by name, and by their values."""
    parts: dict[str, Column] = {}
    for part in PARTS:
        for column in columns:
            if part in parts or not _part_of(column, part):
                continue
            numbers = _numbers(column)
            if numbers is None or numbers.null_count() > MOST_MISSING * numbers.len():
                continue
            low, high = BOUNDS.get(part, (1500, 2200))
            if low <= numbers.min() and numbers.max() <= high:
                parts[part] = column
    return parts


MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _numbers(column: Column) -> pl.Series | None:
    """Whole numbers; of months also by their names."""
    if column.kind in ("integer", "boolean") or (
        column.kind == "constant" and column.values.dtype.is_numeric()
    ):
        return column.values.cast(pl.Int64)
    if column.kind == "category" and column.values.dtype == pl.String:
        short = column.values.str.to_lowercase().str.slice(0, 3)
        months = short.replace_strict(
            list(MONTHS), list(range(1, 13)), default=None, return_dtype=pl.Int64
        )
        return months if months.null_count() == column.values.null_count() else None
    return None


def _day_and_hour(day: Column, hour: Column) -> Clock | None:
    if hour is day or not _part_of(hour, "hour"):
        return None
    minutes, sql = _minutes(hour)
    if minutes is None or minutes.null_count() > MOST_MISSING * minutes.len():
        return None
    date = f"CAST({day.sql if day.form.formats else quoted(day.header, chr(34))} AS DATE)"
    values = day.values + pl.Series(minutes * 60_000_000).cast(pl.Duration("us"))
    made = sql.format(day=date)
    why = f"the day of {day.header} and the time of {hour.header}"
    return Clock(NAME, (day.header, hour.header), made, values, False, True, LIKELY, why)


def _minutes(hour: Column) -> tuple[pl.Series | None, str]:
    """Minutes of the day, and the SQL of the instant with a place for the day."""
    column = quoted(hour.header, '"')
    if hour.kind == "integer":
        low, high = hour.values.min(), hour.values.max()
        if low >= 0 and high <= 24:
            return hour.values * 60, f"{{day}} + to_hours(CAST({column} AS BIGINT))"
        if low >= 0 and high <= 2400 and (hour.values % 100 < 60).all():
            whole = f"CAST({column} AS BIGINT)"
            made = f"{{day}} + to_minutes(({whole} // 100) * 60 + {whole} % 100)"
            return hour.values // 100 * 60 + hour.values % 100, made
        return None, ""
    if hour.values.dtype != pl.String:
        return None, ""
    parts = hour.values.str.extract_groups(CLOCK).struct.unnest()
    hours, minutes, half = parts.get_columns()
    if (
        hours.null_count() > hour.values.null_count()
        or not (half.is_not_null() | minutes.is_not_null()).any()
    ):
        return None, ""
    is_late = half.str.to_lowercase() == "p"
    whole = hours.cast(pl.Int64)
    whole = pl.select(
        pl.when(half.is_not_null()).then(whole % 12 + 12 * is_late.cast(pl.Int64)).otherwise(whole)
    ).to_series()
    formats = ", ".join(quoted(f"%Y-%m-%d {f}") for f in _clock_formats(hour.values))
    made = f"try_strptime(CAST({{day}} AS VARCHAR) || ' ' || trim({column}), [{formats}])"
    return whole * 60 + minutes.cast(pl.Int64).fill_null(0), made


def _clock_formats(texts: pl.Series) -> list[str]:
    """The formats that read the times of day which occur."""
    needed = dict.fromkeys(CLOCK_FORMATS, False)
    for text in texts.drop_nulls().unique().sort():
        for time_format in CLOCK_FORMATS:
            try:
                datetime.strptime(text.replace(".", ""), time_format)
            except ValueError:
                continue
            needed[time_format] = True
            break
    return [time_format for time_format, is_needed in needed.items() if is_needed]


def _text(column: Column) -> str:
    """A part as text in SQL; whole numbers without a point."""
    name = quoted(column.header, '"')
    if column.values.dtype == pl.String:
        return f"substr(CAST({name} AS VARCHAR), 1, 3)"
    return f"CAST(CAST({name} AS BIGINT) AS VARCHAR)"


def _of_parts(parts: dict[str, Column]) -> Clock:
    used = [p for p in ("year", "month", "day", "hour", "minute") if p in parts]
    if "day" not in used:
        used = used[:2]
    elif "hour" not in used:
        used = used[:3]
    numbers = {p: _numbers(parts[p]) for p in used}
    day = numbers.get("day")
    day = day if day is not None else pl.Series([1]).new_from_index(0, numbers["year"].len())
    texts = [numbers["year"], numbers["month"], day]
    built = pl.select(
        pl.concat_str(*[pl.lit(t.cast(pl.String)) for t in texts], separator="-")
    ).to_series()
    values = built.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    month = "%b" if parts["month"].values.dtype == pl.String else "%m"
    days = _text(parts["day"]) if "day" in used else "'1'"
    joined = f"{_text(parts['year'])} || '-' || {_text(parts['month'])} || '-' || {days}"
    sql = f"try_strptime({joined}, '%Y-{month}-%d')"
    if "hour" not in used:
        sql = f"CAST({sql} AS DATE)"
    for part, size, made in (("hour", 60, "to_hours"), ("minute", 1, "to_minutes")):
        if part in used:
            values = values + pl.Series(numbers[part] * size * 60_000_000).cast(pl.Duration("us"))
            sql += f" + {made}(CAST({quoted(parts[part].header, chr(34))} AS BIGINT))"
    headers = tuple(parts[p].header for p in used)
    why = f"made of {', '.join(headers)}"
    return Clock(NAME, headers, sql, values, "hour" not in used, "hour" in used, LIKELY, why)


def _of_quarters(parts: dict[str, Column]) -> Clock:
    year, quarter = _numbers(parts["year"]), _numbers(parts["quarter"])
    values = pl.select(pl.datetime(year, quarter * 3 - 2, 1)).to_series().cast(pl.Datetime("us"))
    months = f"CAST({quoted(parts['quarter'].header, chr(34))} AS BIGINT) * 3 - 2"
    sql = f"make_date(CAST({quoted(parts['year'].header, chr(34))} AS BIGINT), {months}, 1)"
    headers = (parts["year"].header, parts["quarter"].header)
    return Clock(NAME, headers, sql, values, True, False, LIKELY, "made of year and quarter")


def _years(columns: Sequence[Column]) -> Iterator[Clock]:
    """A year alone, where it is called so and there are many."""
    for column in columns:
        if (
            column.kind != "integer"
            or len(wording.words(column.header)) != 1
            or not _part_of(column, "year")
        ):
            continue
        years = column.values
        is_year = years.min() >= 1500 and years.max() <= 2200
        if is_year and column.distinct >= LEAST_YEARS:
            values = pl.select(pl.datetime(years, 1, 1)).to_series().cast(pl.Datetime("us"))
            sql = f"make_date(CAST({quoted(column.header, chr(34))} AS BIGINT), 1, 1)"
            why = f"{column.distinct} years"
            yield Clock(NAME, (column.header,), sql, values, True, False, GUESS, why)
