"""Came true: what a version answered, before any level moved it, and what was then observed.

It decides which logged answers say how far a version is off: those of any role
whose ground truth the target can have and was not known yet, each key once at a time (a
person who asks a hundred times is one witness), and until when: a truth counts until it is
corrected, and what was asked or known while inputs or ground truth were broken until they
were called so. What is read is bounded, however long the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from loopbook.data import aside_truths, log_tables
from loopbook.data.prediction_log import PredictionLog
from loopbook.project.clock import to_micros
from loopbook.project.contract import Contract

MOST_ROWS = 50_000
STRETCHES = 400
TOLD = (
    "SELECT p.id, p.key, p.as_of_us, p.received_us, p.inputs, p.answer, p.answered, "
    "p.probabilities, p.raw, p.raw_probabilities, t.observed, t.observed_class, t.known_us, t.seq "
    "FROM predictions p JOIN ground_truth t ON {by} WHERE p.as_of_us >= ? AND p.as_of_us < ? "
    "AND p.version = ? AND p.model = ? AND t.known_us <= ?"
)
NAMES = (
    *("id", "key", "as_of_us", "received_us", "inputs", "answer", "answered"),
    *("probabilities", "raw", "raw_probabilities", "number", "name", "known_us", "seq"),
)


@dataclass(frozen=True)
class Doubts:
    """What is not to be believed.

    Attributes
    ----------
    broken : stretches `(start, end)`; what was asked or known in them counts until their end,
        when they were called broken
    released : entries of the quarantine that a person let in all the same
    """

    broken: Sequence[tuple[datetime, datetime]] = ()
    released: frozenset[str] = frozenset()


NO_DOUBTS = Doubts()


def read(
    log: PredictionLog,
    contract: Contract,
    version: str,
    *,
    since: datetime,
    until: datetime,
    doubts: Doubts = NO_DOUBTS,
) -> pl.DataFrame:
    """What a version answered in `[since, until)` and what was observed by `until`.

    Parameters
    ----------
    version : str
        Its number; the model is the contract's name.
    doubts : Doubts
        What counts for a time, or not at all.

    Returns
    -------
    polars.DataFrame
        `at`, `known_ts`, `raw`, `observed` and `until_ts` (null: it counts still), in no
        order that means anything; of more than 50,000 answers a sample that is spread over
        time as they are.
    """
    lower, upper = to_micros(since), to_micros(until)
    told = [
        row
        for start, end, most in _stretches(log, version, contract.name, lower, upper)
        for row in _told(log, version, contract.name, (start, end, upper), most)
    ]
    return _pairs(told, log, contract, doubts)


def _stretches(
    log: PredictionLog, version: str, model: str, lower: int, upper: int
) -> list[tuple[int, int, int | None]]:
    """Stretches of time with how many answers of each are read; None: all."""
    counted = log.database.sql(
        "SELECT count(*) FROM predictions WHERE as_of_us >= ? AND as_of_us < ? "
        "AND version = ? AND model = ?"
    )

    def count(start: int, end: int) -> int:
        return log.database.read(counted, (start, end, version, model))[0][0]

    whole = count(lower, upper)
    if whole <= MOST_ROWS:
        return [(lower, upper, None)]
    edges = [lower + (upper - lower) * place // STRETCHES for place in range(STRETCHES + 1)]
    sizes = [count(*both) for both in pairwise(edges)]
    return [
        (start, end, -(-size * MOST_ROWS // whole))
        for (start, end), size in zip(pairwise(edges), sizes, strict=True)
        if size
    ]


def _told(
    log: PredictionLog, version: str, model: str, span: tuple[int, int, int], most: int | None
) -> list[tuple]:
    """Answers of a stretch, each beside every ground truth that was known of it."""
    start, end, known = span
    limit = "" if most is None else f" ORDER BY p.id LIMIT {most}"
    return [
        row
        for by in ("t.key = p.key", "t.prediction_id = p.id")
        for row in log.database.read(
            log.database.sql(TOLD.format(by=by) + limit), (start, end, version, model, known)
        )
    ]


def _pairs(
    told: Sequence[tuple],
    log: PredictionLog,
    contract: Contract,
    doubts: Doubts,
) -> pl.DataFrame:
    """Each truth of the newest answer to each key, as what came true, and until when it counts."""
    columns = list(zip(*told, strict=True)) if told else [() for _ in NAMES]
    by_name: dict[str, Any] = dict(zip(NAMES, columns, strict=True))
    classes = contract.target.classes
    observed = [
        log_tables.read_truth(number, name, classes)
        for number, name in zip(by_name["number"], by_name["name"], strict=True)
    ]
    raw = log_tables.answers_of(by_name, log.layouts().classes, classes)["raw"]
    frame = pl.DataFrame(
        {
            "id": pl.Series(by_name["id"], dtype=pl.String),
            "key": pl.Series(by_name["key"], dtype=pl.String),
            "at": _instants(by_name["as_of_us"]),
            "received": pl.Series(by_name["received_us"], dtype=pl.Int64),
            "known_ts": _instants(by_name["known_us"]),
            "seq": pl.Series(by_name["seq"], dtype=pl.Int64),
            "raw": raw,
            "observed": pl.Series(observed, dtype=pl.String if classes else pl.Float64),
        }
    ).drop_nulls(["raw", "observed"])
    believable = aside_truths.without(frame, contract, doubts.released).drop_nulls("observed")
    once = (
        believable.filter(pl.col("at") <= pl.col("known_ts"))
        .with_columns(pl.coalesce(pl.col("key"), pl.col("id")).alias("asked"))
        .sort("asked", "known_ts", "seq", "received", "id")
        .unique(["asked", "known_ts", "seq"], keep="last", maintain_order=True)
        .with_columns(pl.col("known_ts").shift(-1).over("asked").alias("until_ts"))
    )
    for start, end in doubts.broken:
        is_broken = pl.any_horizontal(
            pl.col(clock).is_between(start, end, closed="left") for clock in ("at", "known_ts")
        )
        until = pl.min_horizontal("until_ts", pl.lit(end).cast(log_tables.INSTANT))
        once = once.with_columns(
            pl.when(is_broken).then(until).otherwise("until_ts").alias("until_ts")
        )
    counted = pl.col("until_ts").is_null() | (pl.col("until_ts") > pl.col("known_ts"))
    return once.filter(counted).select("at", "known_ts", "raw", "observed", "until_ts")


def _instants(micros: Sequence[int | None]) -> pl.Series:
    return pl.Series(np.array(micros, dtype=np.int64), dtype=pl.Int64).cast(log_tables.INSTANT)
