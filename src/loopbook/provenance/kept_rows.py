"""Kept rows: the prediction log in sealed stretches, and whether a row was changed since.

It decides where a stretch ends and what its digest is over. A stretch is sealed
once nothing can be written into it any more, by the loop and never by the
service: whoever writes an answer does nothing for it. Rows after the last
stretch are not sealed yet. Rows that a person prunes leave their stretch on purpose.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from loopbook.data.log_tables import COLUMNS
from loopbook.data.prediction_log import PredictionLog
from loopbook.project.clock import to_micros, utc_now
from loopbook.project.counts import counted
from loopbook.project.database import Database
from loopbook.project.paths import Project
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.records import seals
from loopbook.records.seals import Ledger, Seal
from loopbook.registry import state_store

LOG = "log/"
SETTLED = timedelta(minutes=15)  # longer than any request may take (serve_timeout_s)
BLOCK = 1_000  # rows that have a part of a seal of their own, so that a change is placed
LIFE = "loopbook log prune deletes rows on purpose; else restore the database from a backup"


@dataclass(frozen=True)
class Table:
    """A table that only grows, in the order of `column`; `written` says when a row was written."""

    name: str
    column: str
    columns: tuple[str, ...]
    written: str
    least: Any  # before the first row

    def as_column(self, text: str) -> Any:
        """The end of a stretch as it stands in a name."""
        return type(self.least)(text)


TABLES = (
    Table("predictions", "id", COLUMNS, "received_us", ""),
    Table(
        "ground_truth",
        "seq",
        ("seq", "prediction_id", "key", "observed", "known_us", "received_us", "observed_class"),
        "received_us",
        -1,
    ),
    Table("pruned", "seq", ("seq", "before_us", "done_us", "answers"), "done_us", -1),
    Table(
        "calibration_states",
        "seq",
        ("seq", "model", "version", "as_of_us", "made_us", "digest", "state"),
        "made_us",
        -1,
    ),
)
# what an older answer means, by the digest of its version's card: written once, never changed
LAYOUTS = ("inputs", "classes")


@dataclass(frozen=True)
class Stretch:
    """Rows after `after` and up to `until`, and the name under which they are sealed."""

    table: Table
    after: Any
    until: Any

    @property
    def name(self) -> str:
        return f"{LOG}{self.table.name}/{self.until}"


def seal(project: Project, log: PredictionLog, *, until: datetime | None = None) -> int:
    """Seal what was written since the last time; how many rows.

    Parameters
    ----------
    until : datetime in UTC, optional
        Rows that were written later stay open; by default those of the last 15 minutes.
    """
    ledger, limit = seals.read(project), to_micros(until or utc_now() - SETTLED)
    _make_tables(log.database)
    sealed, count = {}, 0
    for table in TABLES:
        after = max((s.until for s in stretches(ledger, table)), default=table.least)
        end = _end(log.database, table, after, limit)
        if end is not None:
            stretch = Stretch(table, after, end)
            sealed[stretch.name], rows = _sealed(log.database, stretch)
            count += rows
    sealed |= _layouts(log.database, ledger)
    seals.put(project, sealed, why="log")
    return count


def stretches(ledger: Ledger, table: Table) -> list[Stretch]:
    """The sealed stretches of a table, oldest first."""
    beginning = f"{LOG}{table.name}/"
    ends = [table.as_column(name.removeprefix(beginning)) for name in ledger.below(beginning)]
    before, found = table.least, []
    for end in sorted(ends):
        found.append(Stretch(table, before, end))
        before = end
    return found


def check(
    log: PredictionLog, ledger: Ledger, *, newest_only: bool = False
) -> tuple[list[Finding], int]:
    """What of the sealed rows is no longer as it was, and how many stretches were looked at."""
    _make_tables(log.database)
    findings, count = [], 0
    for table in TABLES:
        every = stretches(ledger, table)
        for stretch in every[-1:] if newest_only else every:
            findings += _differs(log.database, stretch, ledger.seals[stretch.name])
            count += 1
    return findings + _layout_findings(log.database, ledger), count


def lost(ledger: Ledger) -> Finding:
    """The finding where there are seals of a log and no log."""
    rows = len(ledger.below(LOG))
    return Finding(MISSING, "prediction log", "no log", f"{rows} sealed stretches of it", LIFE)


def open_rows(log: PredictionLog, ledger: Ledger) -> int:
    """How many answers are in no stretch yet."""
    table = TABLES[0]
    after = max((s.until for s in stretches(ledger, table)), default=table.least)
    asked = log.database.sql(f"SELECT count(*) FROM {table.name} WHERE {table.column} > ?")
    return log.database.read(asked, (after,))[0][0]


def prune(project: Project, log: PredictionLog, before: datetime) -> int:
    """Delete answers as `PredictionLog.prune` does, and seal what is left; how many were deleted.

    A stretch that was changed before keeps its seal, so that it is still found.
    """
    ledger = seals.read(project)
    _make_tables(log.database)
    sound = {
        stretch: _count(log.database, stretch)
        for table in TABLES
        for stretch in stretches(ledger, table)
        if not _differs(log.database, stretch, ledger.seals[stretch.name])
    }
    deleted = log.prune(before)
    cut = [stretch for stretch, rows in sound.items() if _count(log.database, stretch) != rows]
    sealed = {stretch.name: _sealed(log.database, stretch)[0] for stretch in cut}
    seals.put(project, sealed, why=f"answers received before {before.isoformat()} were pruned")
    return deleted


def _make_tables(database: Database) -> None:
    with database.transaction() as cursor:
        for statement in state_store.TABLES:
            cursor.execute(database.sql(statement))


def _end(database: Database, table: Table, after: Any, limit: int) -> Any:
    """The last row that nothing can be written before any more; None if there is no new one."""
    asked = database.sql(
        f"SELECT {table.column} FROM {table.name} WHERE {table.column} > ? AND {table.written} < ? "
        f"ORDER BY {table.column} DESC LIMIT 1"
    )
    found = database.read(asked, (after, limit))
    return found[0][0] if found else None


def _count(database: Database, stretch: Stretch) -> int:
    table = stretch.table
    asked = database.sql(
        f"SELECT count(*) FROM {table.name} WHERE {table.column} > ? AND {table.column} <= ?"
    )
    return database.read(asked, (stretch.after, stretch.until))[0][0]


def _blocks(database: Database, stretch: Stretch) -> Iterator[list[tuple]]:
    table, after = stretch.table, stretch.after
    asked = database.sql(
        f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {table.column} > ? "
        f"AND {table.column} <= ? ORDER BY {table.column} LIMIT {BLOCK}"
    )
    place = table.columns.index(table.column)
    while rows := database.read(asked, (after, stretch.until)):
        yield rows
        after = rows[-1][place]


def _sealed(database: Database, stretch: Stretch) -> tuple[Seal, int]:
    """The seal of a stretch and how many rows it has; each part ends with the row that names it."""
    place = stretch.table.columns.index(stretch.table.column)
    whole, parts, count = hashlib.sha256(), {}, 0
    for rows in _blocks(database, stretch):
        digest = hashlib.sha256(b"\n".join(map(row_bytes, rows))).hexdigest()
        whole.update(digest.encode())
        parts[str(rows[-1][place])] = digest[:16]
        count += len(rows)
    return Seal(whole.hexdigest(), None, {"rows": str(count)} | parts), count


def row_bytes(row: Sequence[Any]) -> bytes:
    """A row as bytes, the same in SQLite and PostgreSQL, and with columns that came later, empty."""
    values = [bytes(v) if isinstance(v, memoryview) else v for v in row]
    while values and values[-1] is None:
        values.pop()
    return ascii(values).encode()


def _differs(database: Database, stretch: Stretch, seal_of: Seal) -> list[Finding]:
    now, _ = _sealed(database, stretch)
    if now.sha256 == seal_of.sha256:
        return []
    before, after = dict(seal_of.parts), dict(now.parts)
    rows = before.pop("rows", "?"), after.pop("rows")
    ends = sorted(before.keys() | after.keys(), key=stretch.table.as_column)
    wrong = next((end for end in ends if before.get(end) != after.get(end)), str(stretch.until))
    earlier = [end for end in ends if stretch.table.as_column(end) < stretch.table.as_column(wrong)]
    is_first = not earlier and stretch.after == stretch.table.least
    start = "the first" if is_first else earlier[-1] if earlier else str(stretch.after)
    where = f"prediction log, {stretch.table.name}, {stretch.table.column} {start} to {wrong}"
    fewer = int(rows[1]) < int(rows[0]) if rows[0].isdigit() else False
    return [
        Finding(
            MISSING if fewer else CHANGED,
            where,
            f"{counted(int(rows[1]), 'row')} with another digest ({now.sha256[:12]}…)",
            f"{rows[0]} rows with digest {seal_of.sha256[:12]}…",
            LIFE,
        )
    ]


def _layouts(database: Database, ledger: Ledger) -> dict[str, Seal]:
    """The layouts that are not sealed yet."""
    rows = {
        f"{LOG}{table}/{digest}": Seal.of_bytes(names.encode())
        for table in LAYOUTS
        for digest, names in database.read(f"SELECT digest, names FROM {table}")
    }
    return {name: made for name, made in rows.items() if name not in ledger.seals}


def _layout_findings(database: Database, ledger: Ledger) -> list[Finding]:
    findings = []
    for table in LAYOUTS:
        there = dict(database.read(f"SELECT digest, names FROM {table}"))
        for name, sealed in ledger.below(f"{LOG}{table}/").items():
            digest = name.rpartition("/")[2]
            now = Seal.of_bytes(there[digest].encode()) if digest in there else None
            if now is None or now.sha256 != sealed.sha256:
                found = "nothing" if now is None else f"digest {now.sha256[:12]}…"
                where = f"prediction log, {table} of the card {digest[:12]}…"
                what = MISSING if now is None else CHANGED
                findings.append(Finding(what, where, found, f"digest {sealed.sha256[:12]}…", LIFE))
    return findings
