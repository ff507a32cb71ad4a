"""One SQLite file that several threads read and write, and others beside them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from loopbook.project.database import Busy, Database, connect_database
from loopbook.project.errors import PredictionLogError

PAIRS = 1_500
PUT = "INSERT INTO pairs VALUES (?, ?)"


def opened(folder) -> Database:
    return connect_database(f"sqlite:///{folder / 'pairs.db'}", "LOG", PredictionLogError)


def test_what_is_written_is_whole_while_threads_read_and_another_process_has_the_lock(tmp_path):
    """A refused beginning was once taken for one that went well, where a thread read just then."""
    with closing(opened(tmp_path)) as log, closing(opened(tmp_path)) as others:
        with log.transaction() as cursor:
            cursor.execute("CREATE TABLE pairs (number INTEGER PRIMARY KEY, half TEXT)")
        is_done = threading.Event()

        def read() -> None:
            while not is_done.is_set():
                ((count,),) = log.read("SELECT count(*) FROM pairs")
                assert count % 2 == 0

        def write_too() -> None:
            while not is_done.is_set():
                with others.transaction() as cursor:
                    cursor.execute("UPDATE pairs SET half = half")

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


def write(log: Database, number: int) -> None:
    """Two rows, both or none, as soon as nobody else writes."""
    while True:
        try:
            with log.transaction(0) as cursor:
                assert cursor.connection.in_transaction
                cursor.execute(PUT, (number, "a"))
                cursor.execute(PUT, (number + 1, "b"))
        except Busy:
            continue
        return
