"""Leaks: columns that know the target, as questions to a person.

It decides what is asked of a suspicion, and which suspicions are answered by
leaving the column out until somebody says otherwise. What is suspected, and
why, is found by `loopbook.models.leaks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from loopbook.models import leaks, sentinel, split_leaks
from loopbook.proposal import twins
from loopbook.proposal.clocks import Clock
from loopbook.proposal.columns import Column
from loopbook.proposal.targets import Aim

TIME, TARGET = " time", " target"  # no header ends so


@dataclass(frozen=True)
class Question:
    """A suspicion about columns, by header; `is_out` where they are left out until it is answered."""

    headers: tuple[str, ...]
    is_out: bool
    told: str

    @property
    def note(self) -> str:
        if self.is_out:
            return f"{self.told}. Left out; if it is known when a prediction is asked for, take it out of ignored"
        return (
            f"{self.told}. If it is known only afterwards, put it under ignored with known: after"
        )


def questions(
    columns: Sequence[Column], target: Column, aim: Aim, clock: Clock | None
) -> list[Question]:
    """The suspicions about columns that could be features."""
    made_of = set(clock.headers) if clock else set()
    looked = [c for c in columns if c is not target and c.header not in made_of and _can_tell(c)]
    if not looked:
        return []
    goal = target.values if aim.task == "regression" else target.values.cast(pl.String)
    # by a mapping, since in a list a column without a header gets one
    rows = pl.DataFrame({c.header: c.values for c in looked} | {TARGET: goal})
    if clock:
        rows = rows.with_columns(clock.values.alias(TIME))
    names = [c.header for c in looked]
    found = sentinel.of_rows(rows, names, TARGET, time=TIME if clock else None)
    if clock and any(leak.kind == "time" for leak in found):
        # a month explains no month that has not come, and is right
        parts, follows = twins.calendar_of(looked, clock)
        known = {*parts, *follows}
        found = [leak for leak in found if leak.kind != "time" or not known & set(leak.columns)]
    if clock:
        named = {name for leak in found for name in leak.columns}
        rest = [c for c in looked if c.header not in named]
        times = [c for c in columns if c.kind == "time" and c.header not in made_of]
        found += _later([c for c in (*rest, *times) if c is not target], clock)
    return [_asked(leak) for leak in found]


def _later(columns: Sequence[Column], clock: Clock) -> Iterator[leaks.Leak]:
    """Columns of times that had not come; where nobody knows whose clocks, by more than a day."""
    for column in columns:
        is_known = column.is_zoned != clock.needs_zone
        own = clock.values.dt.replace_time_zone("UTC")
        own = own if is_known else own + timedelta(days=1)
        rows = pl.DataFrame([column.values.alias(column.header), own.alias(TIME)])
        yield from split_leaks.later(rows, [column.header], TIME, None)


def _can_tell(column: Column) -> bool:
    return column.kind in ("integer", "number", "boolean", "category") and column.distinct > 1


def _asked(leak: leaks.Leak) -> Question:
    is_out = leak.certainty == leaks.PROVEN or (
        leak.is_likely and leak.kind in ("missingness", "explains", "later")
    )
    return Question(leak.columns, is_out, leak.evidence)


def left_out(found: Sequence[Question]) -> dict[str, str]:
    """Headers that are left out, each with the evidence."""
    return {h: question.told for question in found if question.is_out for h in question.headers}
