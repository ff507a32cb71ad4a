"""Roles: what each column is for, and why the others are for nothing.

It decides which columns are features and which are ignored, once the target,
the event time and the key are known. A reason is part of the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loopbook.project.computed import CalendarPart
from loopbook.project.counts import counted
from loopbook.proposal import twins, wording
from loopbook.proposal.clocks import Clock
from loopbook.proposal.columns import MOST_CATEGORIES, Column, is_row_count
from loopbook.proposal.keys import Key

MOST_MISSING = 0.99
LEAST_EACH = 3  # rows of each value of a category, on average
DERIVED = {"hour": "hour_of_day", "weekday": "day_of_week", "month": "month_of_year"}
SPAN_DAYS = {"hour": 2, "weekday": 28, "month": 540}  # before a part has come around often enough


@dataclass(frozen=True)
class Roles:
    """What columns are for, by header.

    Attributes
    ----------
    features : the columns that a prediction may know
    ignored : the others, each with the reason
    calendar : features that follow from the time
    derived : columns read off the event time, by name
    """

    features: tuple[Column, ...]
    ignored: Mapping[str, str]
    calendar: frozenset[str]
    derived: Mapping[str, CalendarPart]


def roles_of(
    columns: Sequence[Column],
    target: Column,
    clock: Clock | None,
    key: Key,
    leaks: Mapping[str, str],
    entity: str = "",
) -> Roles:
    """Features and ignored columns of a table.

    Parameters
    ----------
    leaks : mapping
        Headers of columns that know the target, with the evidence.
    entity : str
        The header that a person named: a category, whatever it looks like.
    """
    made_of = set(clock.headers) if clock else set()
    left = [c for c in columns if c.header not in made_of and c is not target]
    asked = [c for c in left if not entity or c.header != entity]
    ignored = {c.header: reason for c in asked if (reason := _useless(c))}
    ignored |= {h: reason for h, reason in leaks.items() if h not in ignored}
    left = [c for c in left if c.header not in ignored]
    parts: Mapping[str, CalendarPart] = {}
    follows: list[str] = []
    if clock is not None:
        parts, follows = twins.calendar_of(left, clock)
        told = " and ".join(clock.headers)
        ignored |= {h: f"is the {part.replace('_', ' ')} of {told}" for h, part in parts.items()}
    left = [c for c in left if c.header not in ignored]
    ignored |= {h: r for h, r in twins.twins_of(left).items() if h != entity}
    named = {h for h in ignored if h in key.headers}
    features = tuple(c for c in left if c.header not in ignored)
    kept = {h: reason for h, reason in ignored.items() if h not in named}
    return Roles(features, kept, frozenset(follows), _derived(clock, columns))


def _useless(column: Column) -> str:
    """Why a column can be no feature; empty where it can."""
    if not column.header:
        told = ", and numbers the rows" if is_row_count(column) else "; to use it, give it one"
        return f"has no header{told}"
    if column.kind in ("nothing", "constant", "nested", "text"):
        return column.why
    if column.kind == "time":
        return "is a time beside the event's; a query can make a number of it"
    if column.missing > MOST_MISSING:
        return f"has no value in {100 * column.missing:.1f} % of the rows"
    return "counts the rows" if is_row_count(column) else _names_rows(column)


def _names_rows(column: Column) -> str:
    rows = column.values.len()
    told = f"{counted(column.distinct, 'different value')} in {counted(rows, 'row')}"
    if column.kind == "category" and column.distinct > rows / LEAST_EACH:
        return f"names rows: {told}"
    if column.kind == "category" and column.distinct > MOST_CATEGORIES:
        return f"has {told}, too many to learn from"
    is_named = wording.is_row_name(column.header) or wording.is_identifier(column.header)
    if column.kind == "integer" and is_named and column.distinct == rows:
        return f"names rows: {told}"
    return ""


def _derived(clock: Clock | None, columns: Sequence[Column]) -> dict[str, CalendarPart]:
    """Parts of the time that have come around often enough to be learned from."""
    if clock is None:
        return {}
    times = clock.values.drop_nulls()
    span = (times.max() - times.min()).days
    taken = {column.name.lower() for column in columns}
    found: dict[str, CalendarPart] = {}
    for part, name in DERIVED.items():
        if span < SPAN_DAYS[part] or (part == "hour" and clock.is_daily):
            continue
        values = getattr(times.dt, part)()
        if values.n_unique() > 1:
            found[name if name not in taken else f"{name}_of_event"] = part
    return found
