"""A database: SQLite or PostgreSQL, by the same statements.

It decides the few differences between the two (placeholders, blobs, serial
numbers), what a transaction is, and how a driver's error is worded. It knows no
table.
"""

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from loopbook.project import volumes
from loopbook.project.errors import LoopbookError
from loopbook.project.files import make_private

T = TypeVar("T")
KINDS = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
WAIT_S = 10.0  # how long a locked database is waited for
LOOK_AGAIN_S = 0.01
WAITED = "another transaction of this program has not ended"


def shown(address: str) -> str:
    """An address for people: without user, password and options."""
    if address.startswith("sqlite:///"):
        return address  # a path has neither, and may hold `?` and `#`
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path}"


@contextmanager
def told_as(error: type[LoopbookError], what: str, variable: str) -> Iterator[None]:
    """A driver's error as one of ours."""
    try:
        yield
    except LoopbookError:
        raise
    except ImportError as reason:
        extra = "redis" if reason.name == "redis" else "postgresql"
        raise error(
            f"{variable}: needs the package {reason.name}, which is not installed. "
            f"Install it: pip install 'loopbook[{extra}]'"
        ) from None
    except Exception as reason:
        driver = type(reason).__module__.split(".")[0]
        if not isinstance(reason, OSError) and driver not in ("sqlite3", "psycopg", "redis"):
            raise
        if isinstance(reason, OSError) and (told := volumes.told(reason, None)):
            raise error(told) from None
        first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        raise error(
            f"{what}: cannot be used ({first_line}). Nothing was changed; "
            f"start the server, free space, or correct {variable}."
        ) from None


class Busy(Exception):
    """Somebody else writes, and whoever asked would not wait."""


class Database:
    """A database for any thread, one transaction at a time. Statements have `?` for values, `{blob}` and `{serial}` for types.

    No two threads are on one connection at a time: what is read would be part of the
    other's transaction, and SQLite keeps the code of the last error by connection, so
    that a beginning that was refused would be taken for one that went well. PostgreSQL
    has one connection, renewed when a server was restarted; SQLite has another one that
    is read from, so that reading keeps no writer waiting. A locked SQLite database is
    waited for `wait_s` seconds; a read of another thread, which waits for nobody, in any case.
    """

    def __init__(self, address: str, variable: str, error: type[LoopbookError]):
        self.wait_s = WAIT_S
        self.kind = KINDS[urlsplit(address).scheme]
        self.address, self.variable, self.error = address, variable, error
        self.what = shown(address)
        self._one_at_a_time, self._connecting = threading.Lock(), threading.Lock()
        with self._refusing():
            self.connection = _sqlite(address) if self.kind == "sqlite" else _postgresql(address)
            self._reader = _sqlite(address) if self.kind == "sqlite" else None
        self._reading = threading.Lock() if self._reader else self._one_at_a_time
        # whoever forgets to close it is no reason for a warning, as psycopg and Python 3.13 give one
        for held in filter(None, (self.connection, self._reader)):
            weakref.finalize(self, held.close).atexit = False

    def _refusing(self):
        return told_as(self.error, self.what, self.variable)

    def sql(self, text: str) -> str:
        if self.kind == "sqlite":
            types = {"blob": "BLOB", "serial": "INTEGER PRIMARY KEY AUTOINCREMENT"}
            return text.format(**types)
        types = {"blob": "BYTEA", "serial": "BIGSERIAL PRIMARY KEY"}
        return text.format(**types).replace("?", "%s")

    @contextmanager
    def transaction(self, wait_s: float | None = None) -> Iterator[Any]:
        """A cursor; what it did counts when the block ends well, or not at all.

        With `wait_s` of 0 a transaction that cannot begin at once raises `Busy`.
        """
        until = time.monotonic() + (self.wait_s if wait_s is None else wait_s)
        with self._refusing(), closing(self._alone(until, is_now=wait_s == 0)) as cursor:
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._is_in_transaction(cursor.connection):
                    cursor.execute("ROLLBACK")
                raise
            finally:
                self._one_at_a_time.release()

    def _alone(self, until: float, *, is_now: bool) -> Any:
        """A cursor in a transaction, with nobody else's on this connection."""
        while self._one_at_a_time.acquire(timeout=max(until - time.monotonic(), 0)):
            try:
                return self._lasting(self._begun)
            except BaseException as reason:
                self._one_at_a_time.release()
                if not _is_locked(reason) or (not is_now and time.monotonic() >= until):
                    raise
            if is_now:
                break
            time.sleep(LOOK_AGAIN_S)
        if is_now:
            raise Busy
        raise TimeoutError(WAITED)

    def _begun(self, connection: Any) -> Any:
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE" if self.kind == "sqlite" else "BEGIN")
        return cursor

    def _is_in_transaction(self, connection: Any) -> bool:
        return connection.in_transaction if self.kind == "sqlite" else not connection.closed

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        """Rows that are committed; not to be asked for within a transaction."""
        until, least_s = time.monotonic() + self.wait_s, WAIT_S if self._reader else 0.0
        with self._refusing():
            while self._reading.acquire(timeout=max(until - time.monotonic(), least_s)):
                try:
                    return self._found(statement, values)
                except sqlite3.OperationalError as reason:
                    if not _is_locked(reason) or time.monotonic() >= until:
                        raise
                finally:
                    self._reading.release()
                time.sleep(LOOK_AGAIN_S)
            raise TimeoutError(WAITED)

    def _found(self, statement: str, values: Sequence[Any]) -> list[tuple]:
        if self._reader is not None:
            return self._reader.execute(statement, values).fetchall()
        return self._lasting(lambda held: held.execute(statement, values).fetchall())

    def _lasting(self, do: Callable[[Any], T]) -> T:
        """What changes nothing, on our connection; if a server has ended that, on another one."""
        held = self.connection
        try:
            return do(held)
        except Exception:
            if self.kind == "sqlite" or not held.broken:
                raise
        with self._connecting:
            if self.connection is held:
                self.connection = _postgresql(self.address)
        return do(self.connection)

    def close(self) -> None:
        self.connection.close()
        if self._reader is not None:
            self._reader.close()


def connect_database(address: str, variable: str, error: type[LoopbookError]) -> Database:
    """Open an address, or say which kinds there are."""
    kind = urlsplit(address).scheme
    if kind not in KINDS:
        raise error(
            f"{variable}: found an address of kind {kind!r}, expected sqlite or postgresql."
        )
    return Database(address, variable, error)


def _sqlite(address: str) -> sqlite3.Connection:
    path = Path(address.removeprefix("sqlite:///"))
    # SQLite gives the files beside it (-wal, -shm) the rights of this one
    make_private(path)
    for beside in ("-wal", "-shm"):
        if (written := path.with_name(path.name + beside)).exists():
            make_private(written)
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=WAIT_S, check_same_thread=False
    )
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode == "wal":  # elsewhere a commit can meet a lock too, and SQLite waits better
        connection.execute("PRAGMA busy_timeout = 0")
    # A commit is in the kernel's hands, so no kill of the process loses it. To
    # survive a power cut as well it would take an fsync (FULL), 10 ms a commit.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def is_of_the_rows(reason: BaseException) -> bool:
    """Whether a database refused what was written, and would take something else."""
    cause = reason.__context__ or reason  # an error of ours hides the driver's
    return any(kind.__name__ in ("DataError", "IntegrityError") for kind in type(cause).__mro__)


def _is_locked(reason: BaseException) -> bool:
    """Whether SQLite says that another connection has the database."""
    if not isinstance(reason, sqlite3.OperationalError):
        return False
    return (reason.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _postgresql(address: str) -> Any:
    import psycopg

    return psycopg.connect(address, autocommit=True, connect_timeout=5)
