"""The state store: the calibration states of every version, append-only.

It decides which state a version has as of an instant. States lie in the
database of the prediction log, beside the answers and the truths that they are
made of: one backup holds all, and every service that writes there reads the
same. It never computes a state, and it changes and deletes none.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter

import orjson

from loopbook.data import prediction_log
from loopbook.models.calibration_states import State
from loopbook.models.truths import DAY_US
from loopbook.project.clock import from_micros, to_micros
from loopbook.project.contract import Contract
from loopbook.project.database import Database
from loopbook.project.errors import LoopbookError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project

TABLES = (
    """CREATE TABLE IF NOT EXISTS calibration_states (
        seq {serial}, model TEXT NOT NULL, version TEXT NOT NULL, as_of_us BIGINT NOT NULL,
        made_us BIGINT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL)""",
    """CREATE INDEX IF NOT EXISTS calibration_states_when
        ON calibration_states (model, version, as_of_us, seq)""",
)
OF_A_VERSION = "FROM calibration_states WHERE model = ? AND version = ?"


@dataclass(frozen=True)
class States:
    """The states of one version, by their instants; of two with the same, the one written last.

    Attributes
    ----------
    instants : of each state, in microseconds since 1970, ascending
    seqs : their numbers in the store
    """

    instants: tuple[int, ...] = ()
    seqs: tuple[int, ...] = ()
    every: tuple[State, ...] = ()
    _aged: dict[tuple[int, int], State] = field(default_factory=dict, compare=False, repr=False)

    def at(self, instant_us: int) -> State | None:
        """The newest one whose instant is not after this one, as old as it is by then.

        None before the first. Rows of one day share one object.
        """
        place = bisect_right(self.instants, instant_us) - 1
        if place < 0:
            return None
        where = place, (instant_us - self.instants[place]) // DAY_US
        if where not in self._aged:
            self._aged[where] = self.every[place].aged(where[1])
        return self._aged[where]

    @classmethod
    def of(cls, states: Sequence[State]) -> "States":
        """States in the order of their instants, and of their writing."""
        instants = tuple(to_micros(state.as_of) for state in states)
        return cls(instants, tuple(range(1, len(states) + 1)), tuple(states))

    @property
    def newest(self) -> State | None:
        return self.every[-1] if self.every else None


class StateStore:
    """Append-only; safe for several processes."""

    def __init__(self, database: Database):
        self.database = database
        with database.transaction() as cursor:
            for statement in TABLES:
                cursor.execute(database.sql(statement))

    def add(self, model: str, version: str, state: State) -> bool:
        """Append a state; False if it is there already.

        The same instant with the same digest is the same state. With another
        digest it is appended, and stands from then on.
        """
        where = (model, version, to_micros(state.as_of))
        asked = f"SELECT digest {OF_A_VERSION} AND as_of_us = ? ORDER BY seq DESC LIMIT 1"
        put = (
            "INSERT INTO calibration_states (model, version, as_of_us, made_us, digest, state) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        text = orjson.dumps(state.as_json()).decode()
        with self.database.transaction() as cursor:
            there = cursor.execute(self.database.sql(asked), where).fetchone()
            if there and there[0] == state.digest:
                return False
            now = to_micros(datetime.now(UTC))
            cursor.execute(self.database.sql(put), (*where, now, state.digest, text))
        return True

    def at(self, model: str, version: str, instant: datetime) -> State | None:
        """The newest state of a version that is not after an instant, as written; None before the first."""
        asked = f"SELECT state {OF_A_VERSION} AND as_of_us <= ? ORDER BY as_of_us DESC, seq DESC LIMIT 1"
        values = (model, version, to_micros(instant))
        found = self.database.read(self.database.sql(asked), values)
        return State.of_json(orjson.loads(found[0][0])) if found else None

    def states(self, model: str, version: str, known: States | None = None) -> States:
        """All states of a version; what is `known` already is not read again.

        Parameters
        ----------
        known : States, optional
            What an earlier call gave. Where some of it is no longer there, as in
            a store that was lost or restored, everything is read anew.
        """
        known = known or States()
        asked = self.database.sql(f"SELECT count(*), max(seq), min(seq) {OF_A_VERSION}")
        ((count, last, first),) = self.database.read(asked, (model, version))
        if count == len(known.seqs) and (not count or last == max(known.seqs)):
            return known
        more = self._after(model, version, max(known.seqs, default=0))
        if len(known.seqs) + len(more) != count or (known.seqs and first != min(known.seqs)):
            known, more = States(), self._after(model, version, 0)
        rows = [*zip(known.instants, known.seqs, known.every, strict=True), *more]
        rows.sort(key=itemgetter(0, 1))
        return States(*zip(*rows, strict=True)) if rows else States()

    def listed(self, model: str, version: str) -> list[State]:
        """All states of a version, by instant and by when they were written."""
        return list(self.states(model, version).every)

    def close(self) -> None:
        self.database.close()

    def _after(self, model: str, version: str, seq: int) -> Sequence[tuple[int, int, State]]:
        asked = self.database.sql(f"SELECT as_of_us, seq, state {OF_A_VERSION} AND seq > ?")
        rows = self.database.read(asked, (model, version, seq))
        return [(at, number, State.of_json(orjson.loads(text))) for at, number, text in rows]


def written(
    database: Database, model: str, version: str, as_of_us: int
) -> list[tuple[datetime, State]]:
    """The states of exactly one instant, each with when it was written, the newest first.

    One that cannot be read any more is left out. Nothing is made where there is no store.
    """
    asked = f"SELECT made_us, state {OF_A_VERSION} AND as_of_us = ? ORDER BY seq DESC"
    states = []
    with suppress(LoopbookError):
        found = database.read(database.sql(asked), (model, version, as_of_us))
        for made, text in found:
            with suppress(ValueError, LookupError, TypeError):
                states.append((from_micros(made), State.of_json(orjson.loads(text))))
    return states


def read_if_there(project: Project, contract: Contract, version: str) -> States:
    """The states by which a version of the project's model answers.

    None where no log was ever written, and with `calibration: false` in env.yaml.
    """
    log = prediction_log.connect_if_there(project, contract)
    if log is None:
        return States()
    store = StateStore(log.database)
    if not read_knobs(project.knobs).calibration:
        store.close()
        return States()
    try:
        return store.states(contract.name, version)
    finally:
        store.close()


def connect(project: Project, contract: Contract) -> StateStore:
    """The store in the database of the prediction log (`LOOPBOOK_PREDICTION_LOG`).

    Raises
    ------
    PredictionLogError
        If it cannot be used.
    """
    return StateStore(prediction_log.connect(project, contract).database)
