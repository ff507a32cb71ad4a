"""Registry addresses: where MLflow's database says that files are.

It decides what has to be said anew when files have another place after a restore:
MLflow keeps whole addresses. One that begins with an old folder begins with the
new one afterwards; all others stay.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

from loopbook.registry.artifacts import folder_of

COLUMNS = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri")),
    *(("logged_models", "artifact_location"), ("model_versions", "storage_location")),
)
DATASETS = "datasets"
# MLflow's own first experiment has an address, and mostly no run
ROOTS = """SELECT DISTINCT e.artifact_location FROM experiments e
    WHERE EXISTS (SELECT 1 FROM runs r WHERE r.experiment_id = e.experiment_id)"""


def engine(address: str) -> sa.Engine:
    """MLflow's database; no file of it stays open."""
    return sa.create_engine(address, poolclass=sa.pool.NullPool)


def roots(opened: sa.Engine) -> list[str]:
    """The addresses below which the files of its runs are."""
    with opened.connect() as connection:
        if not sa.inspect(connection).has_table("experiments"):
            return []
        rows = connection.execute(sa.text(ROOTS))
        return sorted({row[0] for row in rows if row[0]})


def local_folder(address: str) -> Path | None:
    """The folder on this machine that an address means; None of one elsewhere."""
    if urlsplit(address).scheme not in ("", "file"):
        return None
    folder = folder_of(address)
    return folder if folder.is_absolute() else None


def move(opened: sa.Engine, places: Mapping[Path, Path]) -> None:
    """Let every address at or below one folder be at or below another."""
    changed = [(old, new) for old, new in places.items() if old != new]
    with opened.begin() as connection:
        there = set(sa.inspect(connection).get_table_names())
        for old, new in changed:
            for table, column in COLUMNS:
                if table in there:
                    _move(connection, table, column, (str(old), str(new)))
                    _move(connection, table, column, (old.as_uri(), new.as_uri()))
            if DATASETS in there:  # an address within JSON
                change = (
                    f"UPDATE {DATASETS} SET dataset_source = replace(dataset_source, :old, :new)"
                )
                about = {"old": f'"{old.as_uri()}/', "new": f'"{new.as_uri()}/'}
                connection.execute(sa.text(change), about)


def _move(connection: sa.Connection, table: str, column: str, place: tuple[str, str]) -> None:
    old, new = place
    below = f"{column} = :old OR substr({column}, 1, :length + 1) = :below"
    change = f"UPDATE {table} SET {column} = :new || substr({column}, :length + 1) WHERE {below}"
    about = {"old": old, "below": f"{old}/", "new": new, "length": len(old)}
    connection.execute(sa.text(change), about)
