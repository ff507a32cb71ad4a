"""Usable rows: which rows of one reading may be used, and which are set aside. Pure.

It decides by the contract's rules and by what people decided about single
rows. A rule of a row sets that row aside; beyond a share of the reading, and
for what is wrong with the whole table, everything is refused. Released rows
are used in spite of their rule, dropped ones never.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import polars as pl

from loopbook.data import aside_rows, instants, rules
from loopbook.data.aside_rows import Reading, Row
from loopbook.data.rules import Failure, Rule
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.counts import counted

READ, TABLE = "source", "table"  # the readings of a build: as it opens the source, and its rows


@dataclass(frozen=True)
class Decisions:
    """What people decided about single rows, by the rows' ids."""

    released: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    dropped_keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sifted:
    """The usable rows of a reading of `of` rows, and what became of the others.

    `refused` has every broken rule if the whole is refused; `why` says so where
    the share of broken rows is too large.
    """

    rows: pl.DataFrame
    of: int
    aside: list[Row] = field(default_factory=list)
    released: int = 0
    dropped: int = 0
    refused: list[Failure] = field(default_factory=list)
    why: str = ""

    @property
    def sentence(self) -> str:
        """What was set aside, for people, with what to type."""
        counts = ((len(self.aside), "set aside"), (self.dropped, "dropped by a person"))
        parts = [f"{counted(n, 'row was', 'rows were')} {what}" for n, what in counts if n]
        if self.released:
            parts.append(
                f"{counted(self.released, 'row was', 'rows were')} used because a person let"
            )
            parts[-1] += " them in"
        told = "; ".join(parts) or "no row was set aside"
        return told + (". See them: loopbook quarantine" if parts else "")


def sift(reading: Reading, decisions: Decisions, *, share: float) -> Sifted:
    """Hold rows against every rule of the contract, and against what people decided.

    Parameters
    ----------
    share : float in [0, 1]
        Of the rows, so many may wait for a decision; of more, all are refused.
    """
    rows, contract = reading.rows, reading.contract
    demanded = rules.rules_for(rows.schema, contract, columns=contract.columns)
    of_a_row = [rule for rule in demanded if rule.kind in rules.OF_A_ROW]
    missing = rules.failures(rows, contract, of_a_row, reading.unreadable)
    broken = [*reading.unreadable, *missing]
    found = sift_broken(reading, decisions, broken, share=share, whole_table=True)
    if found.refused:
        of_the_table = [rule for rule in demanded if rule.kind in rules.OF_THE_TABLE]
        every = [*broken, *rules.failures(rows, contract, of_the_table), *found.refused]
        found = replace(found, refused=list({str(f): f for f in every}.values()))
    return found


def sift_broken(
    reading: Reading,
    decisions: Decisions,
    broken: Sequence[Failure],
    *,
    share: float,
    whole_table: bool = False,
) -> Sifted:
    """The same by failures that are known already; the rules of the table only if asked for."""
    rows, of = reading.rows, reading.rows.height
    out = _dropped(reading, decisions)
    told = {"dropped": int(out.sum())}
    if share < 1 and of and any(failure.mask.all() for failure in broken):
        return Sifted(rows, of, refused=list(broken), **told)
    waiting, released, aside = _judged(reading, decisions, broken, ~out)
    if whole_table and (twice := _repeated(reading, ~(out | waiting))):
        again = _judged(reading, decisions, [twice], ~(out | waiting))
        waiting, released = waiting | again[0], released | again[1]
        aside, broken = [*aside, *again[2]], [*broken, twice]
    told["released"] = int(released.sum())
    kept = rows.filter(~(out | waiting))
    if whole_table and (table := _table_failures(kept, reading)):
        return Sifted(rows, of, refused=table, **told)
    if len(aside) > share * of:
        why = (
            f"{len(aside):,} of {of:,} rows would be set aside ({100 * len(aside) / of:.2f} %), and up to "
            f"{100 * share:.2f} % may be (quarantine_share in env.yaml)."
        )
        return Sifted(rows, of, refused=list(broken), why=why, **told)
    return Sifted(kept, of, aside, **told)


def clock_failures(reading: Reading, now: datetime) -> list[Failure]:
    """Rows that are known at no instant: without a time, or with one that cannot be.

    Parameters
    ----------
    now : datetime in UTC
        The clock on the wall: no event can be more than a day ahead of it.
    """
    rows, contract = reading.rows, reading.contract
    names = [n for n in (contract.event_time, contract.known_time) if n]
    if not names or not all(rows.schema[name].is_temporal() for name in names):
        return []
    at = {name: instants.in_utc(rows[name], contract.time_zone) for name in names}
    event = at[contract.event_time]
    unread = {name: _at([], rows.height) for name in names}
    for failure in reading.unreadable:
        if failure.rule.column in unread:
            unread[failure.rule.column] |= failure.mask
    found = [(name, "has no value", at[name].is_null() & ~unread[name]) for name in names]
    ahead = f"lies in the future (after {now:%Y-%m-%d})"
    found.append((contract.event_time, ahead, event > now + timedelta(days=1)))
    if contract.known_time:
        early = f"is before {contract.event_time}"
        found.append((contract.known_time, early, at[contract.known_time] < event))
    keys = [name for name in contract.key if name in rows.columns]
    told = [(n, text, mask.fill_null(value=False)) for n, text, mask in found]
    return [
        rules.failed(Rule(n, "clock", text, pl.lit(mask)), mask, rows, rows[n], keys)
        for n, text, mask in told
        if mask.any()
    ]


def _table_failures(kept: pl.DataFrame, reading: Reading) -> list[Failure]:
    demanded = rules.rules_for(kept.schema, reading.contract, kinds=rules.OF_THE_TABLE)
    return rules.failures(kept, reading.contract, demanded)


def _repeated(reading: Reading, usable: pl.Series) -> Failure | None:
    """Rows whose key stands more than once among the usable ones; None if there is none."""
    rows, contract = reading.rows, reading.contract
    demanded = rules.rules_for(rows.schema, contract, kinds=("unique",))
    found = rules.failures(rows.filter(usable), contract, demanded)
    if not found:
        return None
    mask = _at([], rows.height).scatter(usable.arg_true(), found[0].mask)
    return Failure(found[0].rule, found[0].text, mask, found[0].first)


def _judged(
    reading: Reading, decisions: Decisions, broken: Sequence[Failure], among: pl.Series
) -> tuple[pl.Series, pl.Series, list[Row]]:
    """Of the broken rows: which wait, which were released, and those that wait as entries."""
    height = reading.rows.height
    marked = _at([], height)
    for failure in broken:
        marked = marked | failure.mask
    places = (marked & among).arg_true().to_list()
    if not places:
        return _at([], height), _at([], height), []
    found = dict(zip(places, aside_rows.entries(reading, broken, places), strict=True))
    free = [p for p, row in found.items() if row.id in decisions.released and row.fixed is None]
    waits = {place: row for place, row in found.items() if place not in set(free)}
    return _at(list(waits), height), _at(free, height), list(waits.values())


def _at(places: Sequence[int], height: int) -> pl.Series:
    mask = pl.repeat(False, height, dtype=pl.Boolean, eager=True)
    return mask.scatter(list(places), True) if places else mask


def _dropped(reading: Reading, decisions: Decisions) -> pl.Series:
    """Which rows a person dropped, whether or not they break a rule still."""
    if not decisions.dropped:
        return _at([], reading.rows.height)
    places = range(reading.rows.height)
    keyed = replace(reading, rows=reading.rows.select(_key_columns(reading)))
    digests = (aside_rows.key_digest(key, reading.contract) for key in keyed.as_was(places))
    places = [p for p, digest in enumerate(digests) if digest in decisions.dropped_keys]
    found = zip(places, reading.as_was(places), strict=True)
    gone = [place for place, row in found if aside_rows.row_id(row) in decisions.dropped]
    return _at(gone, reading.rows.height)


def _key_columns(reading: Reading) -> list[str]:
    names = (*reading.contract.key, EVENT_TS, KNOWN_TS)
    return [name for name in names if name in reading.rows.columns]
