"""Proposals: all that is proposed for a table, put together.

It decides in which order things are found out, since each needs the one before:
the columns, the target, the event time, the key, what each column is for, how
the source is read, and the knobs.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from loopbook.project.counts import counted, listed
from loopbook.project.errors import SourceError
from loopbook.proposal import keys, leaks, mixtures, ranges, sizes, sources, targets, wording
from loopbook.proposal.clocks import Clock, clock_of
from loopbook.proposal.columns import GUESS, Column, Table, as_texts
from loopbook.proposal.keys import Key
from loopbook.proposal.made_targets import MadeTarget, made_target
from loopbook.proposal.ranges import Believable
from loopbook.proposal.roles import Roles, roles_of
from loopbook.proposal.targets import Aim
from loopbook.proposal.wishes import (
    Wishes,
    header_of,
    headers_of,
    nothing_left,
    refuse_few,
    refuse_unknown,
)

MOST_OUTSIDE = 0.003  # of the rows, over all columns; else ranges take everything in
MOST_DEGREES = 30  # beyond it a place has no one middle
PLACES = ("latitude", "longitude")


@dataclass(frozen=True, eq=False)
class Proposal:
    """A table, described.

    Attributes
    ----------
    guesses : what nobody said and no value proves, by the contract's key
    notes : what a person should look at
    made : the comparison that makes the target, where one does
    asked_for : the table as it is, and the wishes as a person said them
    """

    table: Table
    target: Column
    aim: Aim
    clock: Clock | None
    key: Key
    roles: Roles
    source: dict[str, Any]
    null_values: list[str]
    ranges: dict[str, Believable]
    knobs: dict[str, float | int]
    wishes: Wishes
    entity: Column | None
    delay_days: float
    guesses: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    made: MadeTarget | None = None
    asked_for: tuple[Table, Wishes] | None = None

    @property
    def coordinates(self) -> dict[str, str] | None:
        """The two features that say where a row is."""
        found = {}
        for column in self.roles.features:
            word = (wording.words(column.header) or [""])[-1]
            for part in PLACES:
                is_it = len(word) > 2 and part.startswith(word)
                if is_it and column.header in self.ranges:
                    low, high = self.ranges[column.header].low, self.ranges[column.header].high
                    if high - low < MOST_DEGREES and part not in found:
                        found[part] = column.name
        return found if len(found) == len(PLACES) else None

    def role(self, header: str) -> tuple[str, str]:
        """What a column is for, and why."""
        if header == self.target.header:
            return "target", self.aim.why
        if self.clock and header in self.clock.headers:
            return "event time", f"{self.clock.why}; {self.clock.told}"
        if header in self.roles.ignored:
            return "ignored", self.roles.ignored[header]
        is_feature = any(header == f.header for f in self.roles.features)
        told = self.table.columns[header].why
        if self.entity is not None and header == self.entity.header:
            return "entity, feature", told
        if header in self.key.headers:
            return ("key, feature" if is_feature else "key"), f"{self.key.why}"
        return ("feature (calendar)" if header in self.roles.calendar else "feature"), told


def proposed(table: Table, wishes: Wishes, *, now: datetime) -> Proposal:
    """A proposal for a table.

    Raises
    ------
    SourceError
        If a column that was named is not there or cannot be what it was named
        for, or nothing is left to predict or to predict from.
    """
    asked_for = table, wishes
    made = made_target(table, wishes.target, headers_of(table))
    if made is not None:
        table, wishes = made.put_into(table), replace(wishes, target=made.name)
    columns = list(table.columns.values())
    named = [column for column in columns if column.header]  # a contract can name no other
    refuse_unknown(table, wishes)
    guesses: dict[str, str] = {}
    clock, notes = (None, []) if wishes.no_time else clock_of(named, wishes.time, now=now)
    if wishes.time and clock is None:
        raise SourceError(
            f"--time {','.join(wishes.time)}: is no time that can be read. Name another column, or "
            "make one by a query: docs/contract.md."
        )
    target = _target(table, wishes, clock, guesses)
    if target.kind == "boolean" and target.is_text:
        target = as_texts(target, table.opened.rows[target.header])
        table = Table(table.opened, table.columns | {target.header: target})
        columns = list(table.columns.values())
    aim = targets.aim_of(target)
    notes += [f"{target.header} {note}" for note in aim.notes]
    labelled = target.values.is_not_null()
    refuse_few(table, target, int(labelled.sum()))
    clock, knobs = _sized(table, clock, labelled, notes)
    if clock and not wishes.time:
        guesses["event_time"] = clock.why
    others = [c for c in columns if c.header and (made is None or c.header != made.header)]
    key = keys.key_of(others, clock, target.header, wishes.key, "source")
    if not wishes.key:
        guesses["key"] = key.why
    found = leaks.questions(others, target, aim, clock)
    out = leaks.left_out(found) | ({made.header: f"{target.header} is made of it"} if made else {})
    roles = roles_of(columns, target, clock, key, out, header_of(table, wishes.entity))
    roles = _with_key(roles, key)
    key = keys.plainly_named(key, [feature.header for feature in roles.features])
    if not roles.features:
        raise SourceError(nothing_left(table, target, roles))
    used = [*roles.features, target, *(table.columns[h] for h in key.headers)]
    read = [*used, table.columns[made.header]] if made else used
    entity = _entity(table, wishes, roles, clock)
    if entity is not None and not wishes.entity:
        guesses["entity"] = f"{entity.distinct:,} values, and its header speaks of a thing"
    delay, why = _delay(columns, clock, wishes)
    if clock and wishes.label_delay_days is None:
        guesses["label_delay_days"] = why
    notes += _notes(table, target, roles, key, found)
    return Proposal(
        table=table, target=target, aim=aim, clock=clock, key=key, roles=roles,
        source=sources.source_of(table.opened, list(dict.fromkeys(used)), clock, key, made),
        null_values=_null_values(read, clock, table), ranges=_ranges(roles, target, aim),
        knobs=knobs, wishes=wishes, entity=entity, delay_days=delay, guesses=guesses,
        notes=[*table.opened.notes, *notes], made=made, asked_for=asked_for,
    )  # fmt: skip


def _target(table: Table, wishes: Wishes, clock: Clock | None, guesses: dict[str, str]) -> Column:
    if wishes.target:
        column = table.columns[header_of(table, wishes.target)]
        if reason := targets.could_be(column):
            raise SourceError(
                f"--target {wishes.target}: {reason}, so nothing can be predicted. Name another column."
            )
        return column
    taken = [*(clock.headers if clock else ()), *(header_of(table, k) for k in wishes.key)]
    column, why = targets.guessed([c for c in table.columns.values() if c.header], taken)
    if column is None:
        raise SourceError(
            f"source {table.opened.told}: no column can be a target: a number, or a text with at most "
            f"{targets.MOST_GUESSED} values. Name one: --target COLUMN"
        )
    guesses["target"] = why
    return column


def _sized(
    table: Table, clock: Clock | None, labelled: pl.Series, notes: list[str]
) -> tuple[Clock | None, dict[str, float | int]]:
    """The knobs; without a clock where its time leaves no part large enough."""
    knobs = sizes.knobs_of(table.height, clock, labelled)
    if knobs is None:
        notes.append(
            f"{' and '.join(clock.headers)} is left out as event time: its rows cannot be parted by "
            "days into parts that teach, compare and judge"
        )
        clock, knobs = None, sizes.knobs_of(table.height, None, labelled)
    return clock, knobs


def _with_key(roles: Roles, key: Key) -> Roles:
    """A column of the key is no ignored one; it may be a feature too where it says more than a name."""
    ignored = {h: reason for h, reason in roles.ignored.items() if h not in key.headers}
    return Roles(roles.features, ignored, roles.calendar, roles.derived)


def _entity(table: Table, wishes: Wishes, roles: Roles, clock: Clock | None) -> Column | None:
    """What the rows are about, where they come again over time."""
    if wishes.entity:
        column = table.columns[header_of(table, wishes.entity)]
        if column.kind != "category":
            raise SourceError(
                f"--entity {wishes.entity}: is read as {column.kind}, and an entity is a category. "
                "Name another column, or write the contract by hand: docs/contract.md."
            )
        return column
    if clock is None:
        return None
    fit = [
        c for c in roles.features
        if c.kind == "category" and c.missing == 0 and 10 <= c.distinct <= table.height / 20
        and (wording.is_code(c.header) or wording.is_identifier(c.header))
    ]  # fmt: skip
    return max(fit, key=lambda c: c.distinct) if fit else None


def _delay(columns: list[Column], clock: Clock | None, wishes: Wishes) -> tuple[float, str]:
    """How long after the event its target is known, by a later time of the same row."""
    if wishes.label_delay_days is not None:
        return wishes.label_delay_days, "named by you"
    if clock is None:
        return 0, ""
    for column in columns:
        later = column.kind == "time" and column.header not in clock.headers
        if later and wording.time_rank(column.header) == -1:
            gaps = (column.values - clock.values).drop_nulls().dt.total_seconds() / 86_400
            if gaps.len() and (gaps >= 0).mean() > 0.95:
                days = round(max(0.0, gaps.quantile(0.95)), 1)
                return days, f"95 % of {column.header} are within {days:g} days"
    return 0, "no column says when the target is known"


def _null_values(used: list[Column], clock: Clock | None, table: Table) -> list[str]:
    """Texts that stand for no value in some column, and are a word in none."""
    headers = {c.header for c in used} | set(clock.headers if clock else ())
    columns = [table.columns[h] for h in table.columns if h in headers]
    found = dict.fromkeys(t for c in columns for t in c.form.nulls)
    return sorted(found)


def _ranges(roles: Roles, target: Column, aim: Aim) -> dict[str, Believable]:
    """What is believable of each number; no range where too many rows would be left out."""
    found = {}
    numbers = [c for c in roles.features if c.is_number]
    if aim.task == "regression":
        numbers.append(target)
    for column in numbers:
        believable = ranges.range_of(column, is_log=column is target and "transform" in aim.keys)
        if believable is not None:
            found[column.header] = believable
    height = target.values.len()
    if sum(b.outside for b in found.values()) > MOST_OUTSIDE * height:
        found = {h: _all_in(b) for h, b in found.items()}
    return found


def _all_in(one: Believable) -> Believable:
    return Believable(min(one.low, one.least), max(one.high, one.most), one.least, one.most)


def _notes(
    table: Table, target: Column, roles: Roles, key: Key, found: list[leaks.Question]
) -> list[str]:
    notes = []
    if key.twice:
        like = (
            counted(key.twice, "row has a key", "rows have a key") + " that another one has"
            if key.headers
            else counted(key.twice, "row is a copy of another", "rows are copies of others")
        )
        notes.append(f"{like}; look whether that means something")
    for column in [*roles.features, target]:
        if column.odd_rows and column.odd:
            shown = ", ".join(map(repr, column.odd))
            fate = "are read as missing" if column.is_often_odd else "will be set aside"
            notes.append(
                f"{column.header}: {counted(column.odd_rows, 'row has', 'rows have')} {shown} there and {fate}"
            )
        if column.form.sentinels:
            shown = ", ".join(f"{s:g}" for s in column.form.sentinels)
            notes.append(
                f"{column.header}: {shown} is read as missing, since it lies far from all others"
            )
        if column.sure == GUESS:
            notes.append(f"{column.header}: {column.why}")
    unread = [h for h in roles.ignored if table.columns[h].kind in ("text", "nested")]
    if unread:
        notes.append(
            f"{listed(unread)}: texts beyond categories, lists and images are not learned from; a query "
            "can make a number or a category of them"
        )
    mixed = mixtures.mixtures_of([*roles.features, target])
    notes += [f"{header} {mixture.told}" for header, mixture in mixed.items()]
    notes += [question.note for question in found]
    return notes
