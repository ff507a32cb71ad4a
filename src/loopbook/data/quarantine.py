"""The quarantine: rows that are set aside, why, since when, and what a person decided.

It decides how an entry is kept: once by what is in the row, however often and
by however many tasks it is found; decisions are appended with their instant,
never changed, so that what held at an earlier instant can be asked. Which rows
are set aside is `usable_rows`'.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from loopbook.data import usable_rows, validation
from loopbook.data.aside_rows import Reading, Row
from loopbook.data.usable_rows import Decisions, Sifted
from loopbook.project.clock import from_micros, to_micros
from loopbook.project.contract import Contract
from loopbook.project.database import Database, connect_database
from loopbook.project.errors import DataError, QuarantineError, listed
from loopbook.project.paths import Project

_IS_LOOKED_AT: ContextVar[bool] = ContextVar("is_looked_at", default=False)
WAITING, RELEASED, DROPPED = "waiting", "released", "dropped"
TABLES = (
    """CREATE TABLE IF NOT EXISTS set_aside (
        id TEXT PRIMARY KEY, origin TEXT NOT NULL, reading TEXT NOT NULL, key TEXT NOT NULL,
        key_digest TEXT NOT NULL, content TEXT NOT NULL, reasons TEXT NOT NULL, fixed TEXT,
        first_us BIGINT NOT NULL, last_us BIGINT NOT NULL, is_there INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS decisions (
        seq {serial}, id TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
        decided_us BIGINT NOT NULL)""",
)
PUT = """INSERT INTO set_aside VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
    ON CONFLICT (id) DO UPDATE SET reading = excluded.reading, reasons = excluded.reasons,
    fixed = excluded.fixed, last_us = excluded.last_us, is_there = 1"""


@dataclass(frozen=True)
class Entry:
    """A row of the quarantine as a person sees it."""

    row: Row
    reading: str
    first_seen: datetime
    last_seen: datetime
    state: str
    decided_at: datetime | None
    why: str


class Quarantine:
    """The rows of one project that were set aside; safe for several processes."""

    def __init__(self, database: Database):
        self.database = database
        with database.transaction() as cursor:
            for statement in TABLES:
                cursor.execute(database.sql(statement))

    def set_aside(
        self, rows: Sequence[Row], *, reading: str, now: datetime, is_whole: bool = False
    ) -> None:
        """Keep rows with their reasons; a row that is here already is seen again.

        Parameters
        ----------
        reading : str
            What was read: `source`, `table`, `served` or `feedback`.
        is_whole : bool
            All that this reading has is in `rows`: entries of the same reading
            that are not among them have been corrected, and are no longer listed.
        """
        at = to_micros(now)
        entries = [
            (
                *(r.id, r.origin, reading, r.key, r.key_digest),
                *(orjson.dumps(r.content).decode(), orjson.dumps(r.reasons).decode()),
                *(r.fixed, at, at),
            )
            for r in rows
        ]
        with self.database.transaction() as cursor:
            if is_whole:
                gone = "UPDATE set_aside SET is_there = 0 WHERE reading = ?"
                cursor.execute(self.database.sql(gone), (reading,))
            if entries:
                cursor.executemany(self.database.sql(PUT), entries)

    def decide(self, ids: Sequence[str], state: str, reason: str, *, now: datetime) -> list[Entry]:
        """Release or drop rows; all or none. Ids may be cut short while they are of one row.

        Raises
        ------
        QuarantineError
            If an id is of no row or of several, or a row cannot be released.
        """
        entries = [self.find(name) for name in dict.fromkeys(ids)]
        fixed = [f"{e.row.id}: {e.row.fixed}" for e in entries if e.row.fixed]
        if state == RELEASED and fixed:
            raise QuarantineError(
                f"quarantine: {len(fixed)} of {len(entries)} rows cannot be released, and nothing "
                f"was changed.\n{listed(fixed)}\nCorrect them where they come from, or drop them: "
                "loopbook quarantine drop ID"
            )
        put = "INSERT INTO decisions (id, state, reason, decided_us) VALUES (?, ?, ?, ?)"
        with self.database.transaction() as cursor:
            cursor.executemany(
                self.database.sql(put), [(e.row.id, state, reason, to_micros(now)) for e in entries]
            )
        return entries

    def decisions(self, until: datetime | None = None) -> Decisions:
        """What had been decided at an instant (None: by now)."""
        state = self._states(until)
        released = frozenset(i for i, (s, _, _) in state.items() if s == RELEASED)
        dropped = frozenset(i for i, (s, _, _) in state.items() if s == DROPPED)
        if not dropped:
            return Decisions(released)
        keys = self.database.read("SELECT id, key_digest FROM set_aside")
        return Decisions(released, dropped, frozenset(k for i, k in keys if i in dropped))

    def _states(self, until: datetime | None = None) -> dict[str, tuple[str, str, int]]:
        latest = to_micros(until) if until else 2**62
        asked = (
            "SELECT id, state, reason, decided_us FROM decisions WHERE decided_us <= ? ORDER BY seq"
        )
        rows = self.database.read(self.database.sql(asked), (latest,))
        return {name: (state, reason, at) for name, state, reason, at in rows}

    def entries(self) -> list[Entry]:
        """Every row that is there, or about which somebody decided; newest first."""
        states = self._states()
        rows = self.database.read(
            "SELECT id, origin, reading, key, key_digest, content, reasons, fixed, first_us, "
            "last_us, is_there FROM set_aside ORDER BY last_us DESC, origin, key, id"
        )
        return [_entry(row, states.get(row[0])) for row in rows if row[10] or row[0] in states]

    def waiting(self) -> list[Entry]:
        """The rows that wait for a decision."""
        return [entry for entry in self.entries() if entry.state == WAITING]

    def find(self, name: str) -> Entry:
        """The one row whose id begins so.

        Raises
        ------
        QuarantineError
            If there is none, or more than one.
        """
        matching = [e for e in self.entries() if name and e.row.id.startswith(name)]
        if len(matching) != 1:
            raise QuarantineError(
                f"quarantine: {len(matching)} rows have an id that begins with {name[:40]!r}, "
                "expected one. The ids are listed by: loopbook quarantine"
            )
        return matching[0]

    def close(self) -> None:
        self.database.close()


def _entry(row: tuple, decided: tuple[str, str, int] | None) -> Entry:
    name, origin, reading, key, key_digest, content, reasons, fixed, first, last, _ = row
    aside = Row(name, origin, key, key_digest, orjson.loads(content), orjson.loads(reasons), fixed)
    state, why, at = decided or (WAITING, "", None)
    seen = from_micros(first), from_micros(last)
    return Entry(aside, reading, *seen, state, at and from_micros(at), why)


def connect(project: Project) -> Quarantine:
    """The quarantine of a project, made if there is none."""
    address = f"sqlite:///{_file(project)}"
    return Quarantine(connect_database(address, str(_file(project)), QuarantineError))


def connect_if_there(project: Project) -> Quarantine | None:
    """The quarantine of a project, or None where nothing was ever set aside."""
    return connect(project) if _file(project).exists() else None


def _file(project: Project):
    return project.var / "quarantine.db"


def decisions_of(project: Project, until: datetime | None = None) -> Decisions:
    """What people decided about rows of a project by an instant (None: by now)."""
    store = connect_if_there(project)
    if store is None:
        return Decisions()
    try:
        return store.decisions(until)
    finally:
        store.close()


def digest_of(project: Project) -> str:
    """A text that changes when a decision changes, and not when a row is set aside."""
    made = decisions_of(project)
    if not made.released and not made.dropped:
        return "none"
    content = orjson.dumps([sorted(made.released), sorted(made.dropped)])
    return hashlib.sha256(content).hexdigest()[:16]


def waiting_count(project: Project) -> int:
    """How many rows of a project wait for a decision."""
    store = connect_if_there(project)
    if store is None:
        return 0
    try:
        return len(store.waiting())
    finally:
        store.close()


@contextmanager
def looked_at() -> Iterator[None]:
    """Inside, rows are sifted as ever and none is kept: for whoever only wants to know."""
    before = _IS_LOOKED_AT.set(True)
    try:
        yield
    finally:
        _IS_LOOKED_AT.reset(before)


def keep(
    project: Project,
    rows: Sequence[Row],
    *,
    reading: str,
    now: datetime,
    is_whole: bool = False,
) -> None:
    """Set rows aside in a project; without any, no quarantine is made."""
    if _IS_LOOKED_AT.get():
        return
    store = connect(project) if rows else connect_if_there(project)
    if store is None:
        return
    try:
        store.set_aside(rows, reading=reading, now=now, is_whole=is_whole)
    finally:
        store.close()


def sifted(
    project: Project,
    reading: Reading,
    *,
    share: float,
    name: str,
    now: datetime,
    is_whole: bool = False,
) -> Sifted:
    """The usable rows of a reading; the others are kept with their reasons.

    Where the whole is refused nothing is set aside: see `Sifted.refused`.
    """
    found = usable_rows.sift(reading, decisions_of(project), share=share)
    if not found.refused:
        keep(project, found.aside, reading=name, now=now, is_whole=is_whole)
    return found


def readable(
    project: Project, reading: Reading, *, share: float, now: datetime, is_whole: bool = False
) -> Sifted:
    """The rows of the source that can be read and are known at some instant.

    Those that break a rule are among them: see `sifted`, which comes after it
    is known which rows count.

    Raises
    ------
    DataError
        If more than the share cannot be used, with every reason.
    """
    failures = [*reading.unreadable, *usable_rows.clock_failures(reading, now)]
    if reading.contract.known_faults and failures:
        meant = ~validation.is_known_fault(reading.rows, reading.contract)
        failures = [replace(failure, mask=failure.mask & meant) for failure in failures]
    found = usable_rows.sift_broken(reading, decisions_of(project), failures, share=share)
    refuse_if_broken(found, reading.contract)
    keep(project, found.aside, reading=usable_rows.READ, now=now, is_whole=is_whole)
    return found


def refuse_if_broken(found: Sifted, contract: Contract) -> None:
    """Raise a DataError with every broken rule, if the whole reading is refused."""
    if found.refused:
        raise DataError(refusal(found, contract))


def refusal(found: Sifted, contract: Contract) -> str:
    """The message about a reading that is refused as a whole."""
    return "\n".join(filter(None, [validation.refusal(found.refused, contract), found.why]))
