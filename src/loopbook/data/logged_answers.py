"""Logged answers: answers of the prediction log, as they were written.

It decides what an export of those received in a span has, and what is known of an id
that the log does not hold: whether it was pruned, and when, or never written. It
changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import polars as pl

from loopbook.data import prediction_log
from loopbook.data.log_tables import COLUMNS, as_table
from loopbook.data.prediction_log import PredictionLog
from loopbook.data.truths import ASKED_AT_ONCE, known_truths, parts
from loopbook.project.clock import from_micros, to_micros
from loopbook.project.counts import counted

LONGEST_ID = 32


@dataclass(frozen=True)
class LoggedAnswer:
    """A row of the log.

    Attributes
    ----------
    columns : the numbers and texts under the names of the log's columns
    request : as it was received; sensitive values hashed or left out
    features : float32, as the model took them; NaN where there was no value, or a sensitive one
    names : the inputs in the order of `features`; empty where the log no longer says
    truths : (observed, known_us) pairs, oldest first; the last one stands
    broken : columns that nobody wrote so; they stand empty here
    """

    columns: Mapping[str, Any]
    request: Mapping[str, Any]
    features: np.ndarray
    names: list[str]
    notes: Mapping[str, list[str]]
    truths: list[tuple[float | str, int]]
    broken: list[str]

    def __getitem__(self, column: str) -> Any:
        return self.columns[column]


def count_of(log: PredictionLog, role: str, since: datetime, until: datetime) -> int:
    """How many answers a role gave with `as_of` in `[since, until)`."""
    asked = "SELECT count(*) FROM predictions WHERE as_of_us >= ? AND as_of_us < ? AND role = ?"
    span = (to_micros(since), to_micros(until), role)
    return log.database.read(log.database.sql(asked), span)[0][0]


def read(log: PredictionLog, name: str) -> LoggedAnswer | None:
    """The answer of that id, or None; one look at an index, however long the log is."""
    asked = log.database.sql(f"SELECT {', '.join(COLUMNS)} FROM predictions WHERE id = ?")
    rows = log.database.read(asked, (name,))
    if not rows:
        return None
    columns = dict(zip(COLUMNS, rows[0], strict=True))
    truths = known_truths(log.database, rows, log.classes)[name]
    held, broken = _unpacked(columns)
    request, features, notes = (held.pop(column) for column in ("request", "features", "notes"))
    names = log.layouts().inputs.get(columns["inputs"], [])
    return LoggedAnswer(held, request, features, names, notes, truths, broken)


def _unpacked(columns: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A row's columns as values, and those that cannot be read."""
    held, broken = dict(columns), []
    for column, read_one in READERS.items():
        content = columns[column]
        try:
            content = content.encode() if isinstance(content, str) else content
            held[column] = None if content is None else read_one(bytes(content))
        except ValueError:
            broken.append(column)
            held[column] = None
    empty = {"request": {}, "notes": {}, "features": np.zeros(0, np.float32)}
    return held | {n: value for n, value in empty.items() if held[n] is None}, broken


def _mapping(content: bytes) -> dict[str, Any]:
    found = orjson.loads(content)
    if not isinstance(found, dict):
        raise ValueError("no fields and values")
    return found


READERS: Mapping[str, Callable[[bytes], Any]] = {
    "request": _mapping,
    "notes": _mapping,
    "features": partial(np.frombuffer, dtype=np.float32),
    **dict.fromkeys(
        ("probabilities", "raw_probabilities", "shift"), partial(np.frombuffer, dtype=np.float64)
    ),
}


def truth_count(log: PredictionLog, most: int) -> int:
    """How many ground truths the log holds, counted up to `most`."""
    asked = "SELECT count(*) FROM (SELECT 1 FROM ground_truth LIMIT ?) AS some"
    return log.database.read(log.database.sql(asked), (most,))[0][0]


def with_truth(
    log: PredictionLog, since: datetime, until: datetime | None, *, known_until: datetime | None
) -> list[pl.DataFrame]:
    """Answers with `as_of` in `[since, until)` that have ground truth, as `log.rows` gives them.

    They are found by their ground truth: quick where that is little, however long the log is.
    """
    lower, upper = to_micros(since), to_micros(until) if until else 2**62
    latest = to_micros(known_until) if known_until else 2**62
    told = "SELECT DISTINCT prediction_id, key FROM ground_truth WHERE known_us <= ?"
    names = log.database.read(log.database.sql(told), (latest,))
    found: dict[str, tuple] = {}
    for column, place in (("id", 0), ("key", 1)):
        wanted = [name[place] for name in names if name[place] is not None]
        for part in parts(wanted, ASKED_AT_ONCE):
            marks = ", ".join("?" * len(part))
            asked = (
                f"SELECT {', '.join(COLUMNS)} FROM predictions WHERE {column} IN ({marks}) "
                "AND as_of_us >= ? AND as_of_us < ?"
            )
            rows = log.database.read(log.database.sql(asked), (*part, lower, upper))
            found |= {row[0]: row for row in rows}
    if not found:
        return []
    answers = sorted(found.values(), key=itemgetter(COLUMNS.index("as_of_us"), 0))
    truths = known_truths(log.database, answers, log.classes, known_until=known_until)
    return [as_table(answers, truths, log.layouts(), log.classes)]


def received(
    log: PredictionLog, since: datetime | None, until: datetime | None
) -> Iterator[pl.DataFrame]:
    """Answers received in `[since, until)` with their truth, some thousand at a time.

    In the order of their ids, which is that in which they were asked for. All parts have
    the same columns: the inputs of every version that answered then, null where
    one has none. What is answered while this reads is left out.
    """
    within = "received_us >= ? AND received_us < ?"
    lower, upper = to_micros(since) if since else -(2**62), to_micros(until) if until else 2**62
    asked = (
        "SELECT inputs, min(received_us) AS first, max(received_us) FROM predictions "
        f"WHERE {within} GROUP BY inputs ORDER BY first, inputs"
    )
    used = log.database.read(log.database.sql(asked), (lower, upper))
    upper = max((newest for *_, newest in used), default=lower) + 1
    layouts, last = log.layouts(), ""
    inputs = [f"feature_{name}" for digest, *_ in used for name in layouts.inputs[digest]]
    page = log.database.sql(
        f"SELECT {', '.join(COLUMNS)} FROM predictions WHERE id > ? AND {within} ORDER BY id LIMIT ?"
    )
    while answers := log.database.read(page, (last, lower, upper, prediction_log.EXPORT_ROWS)):
        last = answers[-1][0]
        table = as_table(
            answers, known_truths(log.database, answers, log.classes), layouts, log.classes
        )
        others = [name for name in table.columns if not name.startswith("feature_")]
        absent = set(inputs) - set(table.columns)
        table = table.with_columns(pl.lit(None, pl.Float32).alias(name) for name in absent)
        yield table.select(*others, *dict.fromkeys(inputs))


def why_absent(log: PredictionLog, name: str) -> str:
    """Why the log does not hold an id, as far as it can be known, and what to do."""
    made = made_at(name)
    if made is None:
        return (
            "ids of this log have 32 hexadecimal digits. Copy the id from the field prediction_id "
            "of an answer."
        )
    rows = log.database.read("SELECT before_us, done_us, answers FROM pruned ORDER BY seq")
    for before, done, answers in rows:
        if to_micros(made) < before <= done:
            return (
                f"it was made at {made:%Y-%m-%d %H:%M} UTC, and the log was pruned of {counted(answers, 'answer')} "
                f"received before {from_micros(before):%Y-%m-%d %H:%M} UTC, done at "
                f"{from_micros(done):%Y-%m-%d %H:%M} UTC. Look for it in a copy from before: "
                "LOOPBOOK_PREDICTION_LOG=… names the database to read."
            )
    return (
        f"its own time is {made:%Y-%m-%d %H:%M} UTC, and no prune is recorded that deleted it. "
        "Was it answered by another project, or logged in another database "
        "(LOOPBOOK_PREDICTION_LOG)?"
    )


def made_at(name: str) -> datetime | None:
    """When an id was made, by its first 48 bits; None for what is no id."""
    if len(name) != LONGEST_ID or not name.isascii():
        return None
    try:
        int(name, 16)
        return datetime.fromtimestamp(int(name[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
