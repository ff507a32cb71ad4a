"""A registry that was moved, or is mounted under another path: its addresses follow its files.

MLflow writes down where each run's files are, from the root of the file system
on. It decides which of these addresses are of files that now lie beside the
database, and corrects those alone: what was never there is somebody's own
choice. The service does not need it, it reads what is beside the registry.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from loopbook.project.errors import TrackingError
from loopbook.registry.artifacts import folder_of

COLUMNS = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri")),
    *(("logged_models", "artifact_location"), ("model_versions", "storage_location")),
)
BELOW_VAR = ("mlflow", "artifacts")


def follow(database: Path) -> None:
    """Correct the addresses of the files that lie beside a database, if they lead elsewhere.

    Raises
    ------
    TrackingError
        If there are such addresses and the database cannot be changed.
    """
    store = database.absolute().parent / "artifacts"
    if not store.is_dir():
        return
    try:
        with closing(sqlite3.connect(database)) as opened:
            if not list(_elsewhere(opened, store)):
                return
        with (
            FileLock(database.with_suffix(".lock")),
            closing(sqlite3.connect(database)) as opened,
            opened,
        ):
            for root in list(_elsewhere(opened, store)):
                _replace(opened, root, store.as_uri())
    except (sqlite3.Error, OSError) as reason:
        raise TrackingError(
            f"{database}: it was moved here, and its addresses cannot be corrected ({reason}). "
            f"Let this user write to {database.parent}, then try again."
        ) from None


def _elsewhere(opened: sqlite3.Connection, store: Path) -> Iterator[str]:
    """The roots of addresses whose files are in `store`."""
    table = "SELECT 1 FROM sqlite_master WHERE name = 'experiments'"
    if opened.execute(table).fetchone() is None:
        return
    known = opened.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    roots = {root for (address,) in known if (root := _root(address or ""))}
    for root in sorted(roots):
        if folder_of(root) != store and _lie_in(opened, root, store):
            yield root


def _root(address: str) -> str | None:
    """The part of an experiment's address that is of `var/mlflow/artifacts`; None where none is."""
    for root in (address.rstrip("/"), address.rstrip("/").rpartition("/")[0]):
        if folder_of(root).parts[-2:] == BELOW_VAR:
            return root
    return None


def _lie_in(opened: sqlite3.Connection, root: str, store: Path) -> bool:
    """Whether the files of runs that an address names are in `store`."""
    asked = (
        "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ? "
        "ORDER BY start_time DESC LIMIT 100"
    )
    runs = opened.execute(asked, (len(root) + 1, f"{root}/")).fetchall()
    if not runs:
        return not folder_of(root).is_dir()
    return any((store / folder_of(uri[len(root) + 1 :])).is_dir() for (uri,) in runs)


def _replace(opened: sqlite3.Connection, root: str, here: str) -> None:
    for table, column in COLUMNS:
        opened.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (here, len(root) + 1, root, len(root) + 1, f"{root}/"),
        )
