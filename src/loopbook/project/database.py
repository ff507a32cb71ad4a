"""A database: SQLite or PostgreSQL, by the same statements.

It decides the few differences between the two (placeholders, blobs, serial
numbers), what a transaction is, and how a driver's error is worded. It knows no
table.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from loopbook.project.errors import LoopbookError
from loopbook.project.files import make_private

T = TypeVar("T")
KINDS = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}


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
        first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        raise error(
            f"{what}: cannot be used ({first_line}). Nothing was changed; "
            f"start the server, free space, or correct {variable}."
        ) from None


class Database:
    """One connection, for any thread, one transaction at a time; renewed when a server was restarted. Statements have `?` for values, `{blob}` and `{serial}` for types."""

    def __init__(self, address: str, variable: str, error: type[LoopbookError]):
        self.kind = KINDS[urlsplit(address).scheme]
        self.address, self.variable, self.error = address, variable, error
        self.what = shown(address)
        self._one_at_a_time, self._connecting = threading.Lock(), threading.Lock()
        with self._refusing():
            self.connection = _sqlite(address) if self.kind == "sqlite" else _postgresql(address)

    def _refusing(self):
        return told_as(self.error, self.what, self.variable)

    def sql(self, text: str) -> str:
        if self.kind == "sqlite":
            types = {"blob": "BLOB", "serial": "INTEGER PRIMARY KEY AUTOINCREMENT"}
            return text.format(**types)
        types = {"blob": "BYTEA", "serial": "BIGSERIAL PRIMARY KEY"}
        return text.format(**types).replace("?", "%s")

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor; what it did counts when the block ends well, or not at all."""
        with self._one_at_a_time, self._refusing(), closing(self._lasting(self._begun)) as cursor:
            try:
                yield cursor
            except BaseException:
                if self._is_in_transaction(cursor.connection):
                    cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def _begun(self, connection: Any) -> Any:
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE" if self.kind == "sqlite" else "BEGIN")
        return cursor

    def _is_in_transaction(self, connection: Any) -> bool:
        return connection.in_transaction if self.kind == "sqlite" else not connection.closed

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        """Rows, without a transaction of our own: a reader keeps no writer waiting."""
        with self._refusing():
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
    connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit is in the kernel's hands, so no kill of the process loses it. To
    # survive a power cut as well it would take an fsync (FULL), 10 ms a commit.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _postgresql(address: str) -> Any:
    import psycopg

    return psycopg.connect(address, autocommit=True, connect_timeout=5)
