"""One database that several threads read and write, and another program beside them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from loopbook.project.database import Busy, Database, connect_database
from loopbook.project.errors import FeatureStoreError, PredictionLogError

PAIRS = 1_500
PUT = "INSERT INTO pairs VALUES (?, ?)"


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return f"sqlite:///{tmp_path / 'pairs.db'}"


@pytest.fixture
def log(address) -> Iterator[Database]:
    with closing(connect_database(address, "LOG", PredictionLogError)) as opened:
        with opened.transaction() as cursor:
            cursor.execute("CREATE TABLE pairs (number INTEGER PRIMARY KEY, half TEXT)")
        yield opened


@pytest.mark.medium
def test_what_is_written_is_whole_while_threads_read_and_another_program_writes(log, address):
    """A refused beginning was once taken for one that went well, where a thread read just then."""
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            ((count,),) = log.read("SELECT count(*) FROM pairs")
            assert count % 2 == 0

    def write_too() -> None:
        with closing(connect_database(address, "LOG", PredictionLogError)) as another:
            while not is_done.is_set():
                with another.transaction() as cursor:
                    cursor.execute("UPDATE pairs SET half = half WHERE number = 0")

    with ThreadPoolExecutor(3) as threads:
        beside = [threads.submit(work) for work in (read, read, write_too)]
        try:
            for number in range(0, 2 * PAIRS, 2):
                write(log, number)
        finally:
            is_done.set()
        for work in beside:
            work.result()
    assert log.read("SELECT count(*) FROM pairs") == [(2 * PAIRS,)]


def test_whoever_waits_for_no_other_program_waits_for_a_thread_of_this_one(tmp_path):
    """A service's lookup met its own look at the store's state, and took the store for away."""
    with closing(connect_database(f"sqlite:///{tmp_path / 'a.db'}", "A", FeatureStoreError)) as one:
        one.wait_s = 0.0
        with ThreadPoolExecutor(4) as threads:
            told = [threads.submit(one.read, "SELECT ?", (number,)) for number in range(4_000)]
            assert [read.result() for read in told] == [[(number,)] for number in range(4_000)]


def test_whoever_opens_it_again_ends_no_lock_of_this_process(tmp_path):
    """Closing any descriptor of a file ends all locks that its process has on it."""
    file = tmp_path / "pairs.db"
    address = f"sqlite:///{file}"
    begin = f"import sqlite3; sqlite3.connect({str(file)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with closing(connect_database(address, "LOG", PredictionLogError)) as one, one.transaction():
        connect_database(address, "LOG", PredictionLogError).close()
        done = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True)
    assert "database is locked" in done.stderr


def write(log: Database, number: int) -> None:
    """Two rows, both or none; on SQLite as the service does it, which does not wait for others."""
    while True:
        try:
            with log.transaction(0 if log.kind == "sqlite" else None) as cursor:
                cursor.execute(log.sql(PUT), (number, "a"))
                cursor.execute(log.sql(PUT), (number + 1, "b"))
        except Busy:
            continue
        return
