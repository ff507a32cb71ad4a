"""A registry that was moved, or is mounted under another path, has its files where it is."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from made_once import ARTIFACTS
from small_house import loopbook

from loopbook.project.addresses import sqlite_address
from loopbook.project.contract import read_contract
from loopbook.project.errors import TrackingError
from loopbook.registry import moved_files, reader

pytestmark = pytest.mark.medium


@pytest.fixture
def moved(line, tmp_path):
    """A project without a word changed in it, at another place; nothing is where it says."""
    folder = tmp_path / "moved"
    shutil.copytree(line, folder, symlinks=True)
    _say(folder, line.as_uri(), "file:///nowhere/else%20here")
    return folder


def _say(folder, old: str, new: str) -> None:
    with closing(sqlite3.connect(folder / "var/mlflow/mlflow.db")) as opened, opened:
        for table, column in ARTIFACTS:
            opened.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))


def _addresses(folder) -> list[str]:
    with closing(sqlite3.connect(folder / "var/mlflow/mlflow.db")) as opened:
        told = [
            opened.execute(f"SELECT {column} FROM {table}").fetchall()
            for table, column in ARTIFACTS
        ]
    return [address for rows in told for (address,) in rows if address]


def test_the_service_reads_what_is_beside_the_registry_and_changes_nothing(moved):
    before = _addresses(moved)
    registry = reader.connect(sqlite_address(moved / "var/mlflow/mlflow.db"))
    champion = registry.held(read_contract(moved / "contract.yaml").name, "champion")
    assert registry.content(champion, reader.CARD).startswith(b"{")
    assert _addresses(moved) == before


def test_a_command_that_writes_corrects_every_address_once(moved):
    database = moved / "var/mlflow/mlflow.db"
    moved_files.follow(database)
    told = _addresses(moved)
    assert len(told) > 4
    assert all(address.startswith((moved / "var/mlflow/artifacts").as_uri()) for address in told)
    written = database.stat().st_mtime_ns
    moved_files.follow(database)
    assert database.stat().st_mtime_ns == written
    done = loopbook(moved, "verify")
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_that_somebody_keeps_elsewhere_stay_there(moved):
    """Only what lies beside the database is that of the database."""
    _say(moved, "file:///nowhere/else%20here/var/mlflow/artifacts", "s3://bucket/models")
    before = _addresses(moved)
    moved_files.follow(moved / "var/mlflow/mlflow.db")
    assert _addresses(moved) == before


def test_a_registry_that_cannot_be_corrected_says_what_it_wants(moved, monkeypatch):
    def refuse(*_):
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(moved_files, "_replace", refuse)
    with pytest.raises(TrackingError, match=r"it was moved here.*readonly.*Let this user write to"):
        moved_files.follow(moved / "var/mlflow/mlflow.db")
