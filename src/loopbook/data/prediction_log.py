"""The prediction log: what was answered, to what, by which version, and what came true.

It decides what an entry holds and when it counts as written: `append` returns
after the database has taken it, and only then does the service answer. So an
answer that a client has received is in the log, also when the process is
killed. An id is written at most once. Ground truth is appended, never changed:
a later, different value is a correction, and both stay visible.

The embedded default is SQLite below `var/`; `LOOPBOOK_PREDICTION_LOG` names a
PostgreSQL database instead.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from loopbook.data import log_migration, log_pruning
from loopbook.data.log_tables import COLUMNS, TABLES, Entry, Layouts, as_table
from loopbook.data.row_keys import RowKeys
from loopbook.data.truths import (
    DAY_US,
    FIRST_US,
    LAST_US,
    Outcome,
    Truth,
    known_truths,
    tell,
)
from loopbook.project.clock import to_micros
from loopbook.project.contract import Contract
from loopbook.project.database import Database, connect_database
from loopbook.project.errors import PredictionLogError
from loopbook.project.paths import Project

ADDRESS = "LOOPBOOK_PREDICTION_LOG"
EXPORT_ROWS = 20_000
STRATA = 400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PredictionLog:
    """Append-only; safe for several processes."""

    def __init__(self, database: Database, contract: Contract, keys: RowKeys):
        self.database, self.keys = database, keys
        self.classes = contract.target.classes
        self.delay_us = round(contract.label_delay_days * DAY_US)
        self.hidden = {
            called: feature.sensitive
            for name, feature in contract.features.items()
            for called in (name, feature.alias)
            if called and feature.sensitive != "no"
        }
        log_migration.refuse_anothers(database)
        with database.transaction() as cursor:
            for statement in TABLES:
                cursor.execute(database.sql(statement))
        log_migration.migrate(database, contract)
        marks = ", ".join("?" * len(COLUMNS))
        self._put = database.sql(f"INSERT INTO predictions ({', '.join(COLUMNS)}) VALUES ({marks})")

    def know_inputs(
        self, digest: str, names: Sequence[str], classes: Sequence[str] | None = None
    ) -> None:
        """Keep the order of a version's inputs and classes, so that what is logged can be named."""
        with self.database.transaction() as cursor:
            for table, named in (("inputs", names), ("classes", classes)):
                if named is not None:
                    put = f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT DO NOTHING"
                    row = (digest, orjson.dumps(list(named)).decode())
                    cursor.execute(self.database.sql(put), row)

    def append(self, entries: Sequence[Entry], wait_s: float | None = None) -> None:
        """Write answers, all or none; returns when the database has them.

        Parameters
        ----------
        wait_s : float or None
            How long a locked database is waited for; None: as long as `database` says.

        Raises
        ------
        PredictionLogError
            If it cannot be written. Then nothing may be answered.
        Busy
            If `wait_s` is 0 and somebody else writes just now.
        """
        rows = [self._row(entry) for entry in entries]
        with self.database.transaction(wait_s) as cursor:
            cursor.executemany(self._put, rows)

    def _row(self, e: Entry) -> tuple:
        request = {
            n: self._shown(n, v) for n, v in e.request.items() if self.hidden.get(n) != "omit"
        }
        return (
            *(e.id, e.received_us, e.as_of_us, e.model, e.version, e.role, e.shadow_of, e.route),
            *(e.key, orjson.dumps(request, default=str), e.features.tobytes(), e.inputs),
            *(orjson.dumps(e.notes), e.answer, e.latency_us, e.answered, _packed(e.probabilities)),
            *(e.raw, _packed(e.raw_probabilities), _packed(e.shift), e.state_us, e.low, e.high),
            e.facts_us,
            e.least,
        )

    def _shown(self, name: str, value: Any) -> Any:
        if name in self.hidden and value is not None:
            return self.keys.hashed(value)
        return value

    def tell(self, truths: Sequence[Truth]) -> list[str]:
        """Append ground truth: `accepted`, `unchanged`, `corrected` or `unknown`, each in turn.

        The same value again changes nothing; another one is a correction.
        """
        return [outcome for outcome, _ in self.told(truths)]

    def told(self, truths: Sequence[Truth]) -> list[Outcome]:
        """The same, each with when it became known; None where nothing was written."""
        return tell(self.database, truths, delay_us=self.delay_us)

    def count(self) -> int:
        """How many answers are in the log."""
        return self.database.read("SELECT count(*) FROM predictions")[0][0]

    def truth_count(self) -> tuple[int, int]:
        """How many ground truths are in the log, and the number of the last."""
        count, last = self.database.read("SELECT count(*), max(seq) FROM ground_truth")[0]
        return count, last or 0

    def rows(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        known_until: datetime | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Answers with `as_of` in `[since, until)`, some thousand at a time, oldest first.

        Ground truth that became known after `known_until` is left out.

        Returns
        -------
        iterator of polars.DataFrame
            What was answered (see `log_tables.as_table`), `received_ts` and
            `as_of_ts` in UTC, the request as JSON, the features under
            `feature_<name>`, the newest known ground truth as `observed` with
            `known_ts`, and `corrections`, how often it was changed.
        """
        layouts = self.layouts()
        upper = to_micros(until) if until else 2**62
        last: tuple[int, str] = (to_micros(since) if since else -(2**62), "")
        while answers := self._after(last, upper, EXPORT_ROWS):
            last = (answers[-1][COLUMNS.index("as_of_us")], answers[-1][0])
            yield self._table(answers, layouts, known_until)

    def _after(self, last: tuple[int, str], upper: int, most: int, which: str = "") -> list[tuple]:
        """The answers that come after `(as_of_us, id)` and before `upper`, in that order."""
        asked = self.database.sql(
            f"SELECT {', '.join(COLUMNS)} FROM predictions WHERE "
            "(as_of_us, id) > (?, ?) AND as_of_us < ? ORDER BY as_of_us, id LIMIT ?"
        )
        return self.database.read(asked, (*last, upper, most))

    def newest(self, until: datetime | None = None) -> datetime | None:
        """The latest `as_of` of any answer, not after `until`; None if there is none."""
        asked = self.database.sql("SELECT max(as_of_us) FROM predictions WHERE as_of_us <= ?")
        latest = self.database.read(asked, (to_micros(until) if until else 2**62,))[0][0]
        return None if latest is None else _instant(latest)

    def dated(self, most: int) -> list[tuple[datetime, datetime]]:
        """When the last answers were asked for and for which instant, the newest first."""
        # ids sort by time, and are indexed
        asked = self.database.sql(
            "SELECT received_us, as_of_us FROM predictions ORDER BY id DESC LIMIT ?"
        )
        rows = self.database.read(asked, (most,))
        return [(_instant(received), _instant(at)) for received, at in rows]

    def count_from(self, since: datetime) -> int:
        """How many answers are for `since` or later."""
        asked = self.database.sql("SELECT count(*) FROM predictions WHERE as_of_us >= ?")
        return self.database.read(asked, (to_micros(since),))[0][0]

    def sample(
        self,
        since: datetime,
        until: datetime,
        *,
        most_rows: int,
        seed: int,
        known_until: datetime | None = None,
    ) -> tuple[pl.DataFrame | None, int]:
        """Answers with `as_of` in `[since, until)`, all or a sample, and how many there are.

        Of more than `most_rows`, as many are read from each of 400 equal
        stretches of time as it has a share of the answers, from a random
        instant in it on and around its end. So what is read does not grow with the log.
        Answers to another kind of target (a number, where there are classes
        now) are left out.

        Returns
        -------
        polars.DataFrame as `rows` gives it or None, int
        """
        lower, upper = to_micros(since), to_micros(until)
        between = "SELECT count(*) FROM predictions WHERE as_of_us >= ? AND as_of_us < ?"
        between = self.database.sql(between)
        count = self.database.read(between, (lower, upper))[0][0]
        if count <= most_rows:
            parts = list(self.rows(since=since, until=until, known_until=known_until))
            return (_of_this_target(pl.concat(parts, how="diagonal")) if parts else None), count
        draw = np.random.default_rng(seed)
        edges = np.linspace(lower, upper, STRATA + 1).astype(np.int64).tolist()
        drawn: list[tuple] = []
        seen = 0
        for start, end in pairwise(edges):
            seen += self.database.read(between, (start, end))[0][0]
            wanted = most_rows * seen // count - len(drawn)
            if wanted and end > start:
                middle = int(draw.integers(start, end))
                part = self._after((middle, ""), end, wanted)
                drawn += part + self._after((start, ""), middle, wanted - len(part))
        return _of_this_target(self._table(drawn, self.layouts(), known_until)), count

    def _table(
        self, answers: Sequence[tuple], layouts: Layouts, known_until: datetime | None
    ) -> pl.DataFrame:
        truths = known_truths(self.database, answers, self.classes, known_until=known_until)
        return as_table(answers, truths, layouts, self.classes)

    def layouts(self) -> Layouts:
        """The order of inputs and classes of every version that answered."""
        inputs, classes = (
            {
                digest: orjson.loads(names)
                for digest, names in self.database.read(f"SELECT digest, names FROM {table}")
            }
            for table in ("inputs", "classes")
        )
        return Layouts(inputs, classes)

    def prune(self, before: datetime) -> int:
        """Delete answers received before an instant, with the ground truth of them alone.

        See `log_pruning`; how many answers were deleted.
        """
        return log_pruning.prune(self.database, before)

    def close(self) -> None:
        self.database.close()


def _packed(numbers: np.ndarray | None) -> bytes | None:
    return None if numbers is None else numbers.astype(np.float64).tobytes()


def _of_this_target(answers: pl.DataFrame) -> pl.DataFrame:
    return answers.filter(pl.col("answer").is_not_null())


def _instant(micros: int) -> datetime:
    """What was logged as an instant, within what a calendar can say."""
    within = min(max(micros, FIRST_US), LAST_US)
    return EPOCH + timedelta(microseconds=within)


def connect(project: Project, contract: Contract) -> PredictionLog:
    """The log that `LOOPBOOK_PREDICTION_LOG` names, or SQLite below `var/`.

    Raises
    ------
    PredictionLogError
        If the address is of no known kind, or the server is away.
    """
    address = os.environ.get(ADDRESS) or f"sqlite:///{_default_file(project)}"
    return at(address, contract, project.var)


def at(address: str, contract: Contract, var: Path) -> PredictionLog:
    """The log at an address, of the project whose products are below `var`."""
    keys = RowKeys(contract, var)
    return PredictionLog(connect_database(address, ADDRESS, PredictionLogError), contract, keys)


def connect_if_there(project: Project, contract: Contract) -> PredictionLog | None:
    """The log, or None where none was ever written."""
    if not os.environ.get(ADDRESS) and not _default_file(project).exists():
        return None
    return connect(project, contract)


def _default_file(project: Project) -> Path:
    return project.var / "predictions.db"
