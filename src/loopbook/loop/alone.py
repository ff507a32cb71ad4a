"""Alone: one turn at a time for all machines whose services share a log.

It decides who may take a turn where the lock of a folder does not reach. The lock is
the log's database's own, of this connection: it is free as soon as its process or
its machine ends. Source: PostgreSQL 17, "Advisory Locks".
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from loopbook.data import prediction_log
from loopbook.project.contract import Contract
from loopbook.project.database import KINDS, Database, connect_database
from loopbook.project.errors import LoopError, PredictionLogError

LOCK = "SELECT pg_try_advisory_lock(hashtext('loopbook turn'), hashtext(%s))"


@contextmanager
def only_turn(contract: Contract) -> Iterator[None]:
    """Hold the lock of a model's turns in the PostgreSQL database of the log; nothing elsewhere.

    A database that is away is told by the turn itself, in its record.

    Raises
    ------
    LoopError
        If another loop takes a turn just now.
    """
    database = _shared()
    try:
        if database is not None and not database.read(LOCK, (contract.name,))[0][0]:
            raise LoopError(
                f"{prediction_log.ADDRESS} ({database.what}): another loop takes a turn of "
                f"{contract.name!r} just now, perhaps on another machine, so this one did not start "
                "and nothing was changed. Let one machine run the loop."
            )
        yield
    finally:
        if database is not None:
            database.close()


def _shared() -> Database | None:
    address = os.environ.get(prediction_log.ADDRESS, "")
    if KINDS.get(urlsplit(address).scheme) != "postgresql":
        return None
    with suppress(PredictionLogError):
        return connect_database(address, prediction_log.ADDRESS, PredictionLogError)
    return None
