"""PostgreSQL tables: copied in one snapshot, and put back in one transaction.

It decides the form on the way, PostgreSQL's own text of COPY, which every version
of the server reads, and that numbers handed out go on where they stopped. Sources:
PostgreSQL 17, "COPY" and "SET TRANSACTION".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from loopbook.backups.stores import REGISTRY, VARIABLES, Store
from loopbook.project.database import told_as
from loopbook.project.errors import BackupError

Columns = Mapping[str, Sequence[str]]
COLUMNS = """SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attnum"""
VERSION = "alembic_version"  # MLflow's, of its tables


def copied(stores: Sequence[Store], folder: Path) -> dict[str, dict[str, list[str]]]:
    """Copy the tables of stores that lie in one database, all as of one moment.

    Returns
    -------
    dict of dict of list of str
        The columns of each table that is there, by store.
    """
    from psycopg import IsolationLevel, sql

    columns: dict[str, dict[str, list[str]]] = {}
    with _opened(stores[0]) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for store in stores:
            there = columns[store.name] = {}
            for table in (*store.tables, VERSION) if store.name == REGISTRY else store.tables:
                if not (names := _columns(connection, table)):
                    continue
                there[table] = names
                asked = sql.SQL("COPY {} ({}) TO STDOUT").format(
                    sql.Identifier(table), _listed(names)
                )
                path = place(folder, store, table)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file, connection.cursor().copy(asked) as rows:
                    for block in rows:
                        file.write(block)
    return columns


def place(folder: Path, store: Store, table: str) -> Path:
    return folder / "databases" / store.name / f"{table}.copy"


def filled(store: Store, but: Iterable[str] = ()) -> list[str]:
    """The tables of a store that have rows already."""
    from psycopg import sql

    with _opened(store) as connection:
        asked = sql.SQL("SELECT EXISTS (SELECT FROM {})")
        return [
            table
            for table in store.tables
            if table not in but
            and _columns(connection, table)
            and connection.execute(asked.format(sql.Identifier(table))).fetchone()[0]
        ]


def put_back(stores: Sequence[Store], columns: Mapping[str, Columns], folder: Path) -> None:
    """Fill the tables of stores that lie in one database, all or none.

    The tables are there, and hold at most what MLflow writes into a new database.

    Raises
    ------
    BackupError
        If MLflow's tables are of another version than the backup's.
    """
    from psycopg import sql

    with _opened(stores[0]) as connection:
        for store in stores:
            held = columns[store.name]
            if VERSION in held:
                _refuse_other_version(connection, store, place(folder, store, VERSION))
            ours = [table for table in store.tables if table in held]
            for table in reversed(ours):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for table in ours:
                put = sql.SQL("COPY {} ({}) FROM STDIN").format(
                    sql.Identifier(table), _listed(held[table])
                )
                file = place(folder, store, table)
                with file.open("rb") as rows, connection.cursor().copy(put) as into:
                    while block := rows.read(2**20):
                        into.write(block)
                _go_on_counting(connection, table, held[table])


def _refuse_other_version(connection: Any, store: Store, file: Path) -> None:
    said = file.read_text(encoding="utf-8").split()
    here = [row[0] for row in connection.execute(f"SELECT version_num FROM {VERSION}")]
    if here != said:
        raise BackupError(
            f"{store.where}: MLflow's tables are of version {', '.join(here)} here and "
            f"{', '.join(said)} in the backup, so nothing was put back. Install the MLflow that the "
            "backup names, restore, then: mlflow db upgrade"
        )


def _go_on_counting(connection: Any, table: str, columns: Sequence[str]) -> None:
    """Let the next number of each serial column be one that no row has."""
    from psycopg import sql

    for column in columns:
        asked = "SELECT pg_get_serial_sequence(%s, %s)"
        (sequence,) = connection.execute(asked, (f'"{table}"', column)).fetchone()
        if sequence:
            newest = sql.SQL("SELECT setval(%s, max({})) FROM {} HAVING max({}) IS NOT NULL")
            names = (sql.Identifier(column), sql.Identifier(table), sql.Identifier(column))
            connection.execute(newest.format(*names), (sequence,))


def _columns(connection: Any, table: str) -> list[str]:
    return [name for (name,) in connection.execute(COLUMNS, (f'"{table}"',))]


def _listed(names: Sequence[str]) -> Any:
    from psycopg import sql

    return sql.SQL(", ").join(map(sql.Identifier, names))


@contextmanager
def _opened(store: Store) -> Iterator[Any]:
    """A connection; what it did counts when the block ends well."""
    with told_as(BackupError, store.where, VARIABLES[store.name]):
        import psycopg

        # without the driver that SQLAlchemy is told of
        address = urlunsplit(urlsplit(store.address)._replace(scheme="postgresql"))
        with psycopg.connect(address, connect_timeout=5) as connection:
            yield connection
