"""Log tables: how the prediction log stands in a database, and how it reads as a frame.

It decides names and types of columns, and how what was logged under another
target reads under today's. What an entry means and when it counts as written
is `prediction_log`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl

from loopbook.data.single_values import reader, text_of

INSTANT = pl.Datetime("us", "UTC")
TABLES = (
    """CREATE TABLE IF NOT EXISTS predictions (
        id TEXT PRIMARY KEY, received_us BIGINT NOT NULL, as_of_us BIGINT NOT NULL,
        model TEXT NOT NULL, version TEXT NOT NULL, role TEXT NOT NULL, shadow_of TEXT,
        route TEXT NOT NULL, key TEXT, request {blob} NOT NULL, features {blob} NOT NULL,
        inputs TEXT NOT NULL, notes {blob} NOT NULL, answer DOUBLE PRECISION NOT NULL,
        latency_us BIGINT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS predictions_when ON predictions (as_of_us, id)",
    "CREATE INDEX IF NOT EXISTS predictions_key ON predictions (key)",
    "CREATE TABLE IF NOT EXISTS inputs (digest TEXT PRIMARY KEY, names TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS classes (digest TEXT PRIMARY KEY, names TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ground_truth (
        seq {serial}, prediction_id TEXT, key TEXT, observed DOUBLE PRECISION NOT NULL,
        known_us BIGINT NOT NULL, received_us BIGINT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS truth_prediction ON ground_truth (prediction_id)",
    "CREATE INDEX IF NOT EXISTS truth_key ON ground_truth (key)",
    """CREATE TABLE IF NOT EXISTS pruned (
        seq {serial}, before_us BIGINT NOT NULL, done_us BIGINT NOT NULL,
        answers BIGINT NOT NULL)""",
)
# what an older log lacks: its numbers have no classes, and its answers were never moved
ADDED = (
    ("predictions", "answered", "TEXT"),
    ("predictions", "probabilities", "{blob}"),
    ("ground_truth", "observed_class", "TEXT"),
    ("predictions", "raw", "DOUBLE PRECISION"),
    ("predictions", "raw_probabilities", "{blob}"),
    ("predictions", "shift", "{blob}"),
    ("predictions", "state_us", "BIGINT"),
    ("predictions", "low", "DOUBLE PRECISION"),
    ("predictions", "high", "DOUBLE PRECISION"),
    ("predictions", "facts_us", "BIGINT"),
    ("predictions", "least", "DOUBLE PRECISION"),
)
COLUMNS = (
    *("id", "received_us", "as_of_us", "model", "version", "role", "shadow_of", "route", "key"),
    *("request", "features", "inputs", "notes", "answer", "latency_us"),
    *("answered", "probabilities"),
    *("raw", "raw_probabilities", "shift", "state_us", "low", "high", "facts_us"),
    "least",
)
NUMBER = reader("number")


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. Instants are microseconds since 1970, UTC; `features` is float32.

    Of a target of classes, `answered` is the class, `answer` its probability,
    and `probabilities` those of all classes, in the order of the version's card.

    Where a calibration state stood behind it, `state_us` is that state's instant,
    `shift` what it added in the link's space, `raw` and `raw_probabilities` what
    the answer would be without, and `low` and `high` the interval that was said; of
    classes `least` is the smallest probability of a class in the set that holds the truth.

    `facts_us` is the instant up to which the feature store knew its facts when it
    was asked; None where it was not, or could not be, and in an older log.
    """

    id: str
    received_us: int
    as_of_us: int
    model: str
    version: str
    role: str
    shadow_of: str | None
    route: str
    key: str | None
    request: Mapping[str, Any]
    features: np.ndarray
    inputs: str
    notes: Mapping[str, list[str]]
    answer: float
    latency_us: int
    answered: str | None = None
    probabilities: np.ndarray | None = None
    raw: float | None = None
    raw_probabilities: np.ndarray | None = None
    shift: np.ndarray | None = None
    state_us: int | None = None
    low: float | None = None
    high: float | None = None
    facts_us: int | None = None
    least: float | None = None


@dataclass(frozen=True)
class Layouts:
    """What logged vectors mean, by the digest of the version's card.

    Attributes
    ----------
    inputs : the features in their order
    classes : the classes in the order of the probabilities, where there are any
    """

    inputs: Mapping[str, list[str]]
    classes: Mapping[str, list[str]]


def stored(observed: float | str) -> tuple[float, str | None]:
    """A ground truth as `observed` and `observed_class`; a class stands there with a 1.

    The number may not be empty in a log that an older loopbook began.
    """
    return (1.0, observed) if isinstance(observed, str) else (observed, None)


def read_truth(
    number: float, name: str | None, classes: Sequence[str] | None
) -> float | str | None:
    """A ground truth as a target with these classes (None: a number) reads it.

    It may have been told when the target was of the other kind: 1 is the class
    `1`, and the class `1` is 1. None where it can be no such value.
    """
    if classes:
        return text_of(number) if name is None else name
    if name is None:
        return number
    try:
        return NUMBER(name)
    except ValueError:
        return None


def as_table(
    answers: Sequence[tuple],
    truths: Mapping[str, list[tuple[float | str, int]]],
    layouts: Layouts,
    classes: Sequence[str] | None,
) -> pl.DataFrame:
    """Answers as a frame, a row each.

    Parameters
    ----------
    answers : sequence of tuple
        Rows of `predictions`, in the order of COLUMNS.
    truths : mapping from an answer's id to (observed, known_us) pairs
        Oldest first; the last one stands, the others were corrected.
    classes : sequence of str or None
        Those of the target; None where it is a number.

    Returns
    -------
    polars.DataFrame
        `answer` is a number, or the probabilities of the classes in their order;
        then `answered` is the class that was said. An answer to another kind of
        target is null. A class that the version did not know has probability 0;
        what it gave to a class that is none any more is left out. `raw` is the
        answer before any shift, of the same kind; `shift` a list as it was added,
        in the order of the version's classes, `state_ts` the instant of the state
        that it is from, `low` and `high` the interval, and `least` the least probability
        of a class in the set: null where there was none.
    """
    columns = dict(zip(COLUMNS, zip(*answers, strict=True), strict=True))
    truths_of = [truths[i] for i in columns["id"]]
    notes = [orjson.loads(bytes(n)) for n in columns["notes"]]
    newest = [pairs[-1] if pairs else (None, None) for pairs in truths_of]
    table = pl.DataFrame(
        {
            "id": columns["id"],
            "received_ts": _instants(columns["received_us"]),
            "as_of_ts": _instants(columns["as_of_us"]),
            **{n: pl.Series(columns[n], dtype=pl.String) for n in ("model", "version", "role")},
            **{n: pl.Series(columns[n], dtype=pl.String) for n in ("shadow_of", "route", "key")},
            "request": [bytes(r).decode() for r in columns["request"]],
            **{
                name: pl.Series([n.get(name, []) for n in notes], dtype=pl.List(pl.String))
                for name in ("imputed", "unknown", "out_of_range")
            },
            **answers_of(columns, layouts.classes, classes),
            "shift": _shifts(columns["shift"]),
            "state_ts": _instants(columns["state_us"]),
            **{n: pl.Series(columns[n], dtype=pl.Float64) for n in ("low", "high", "least")},
            "latency_us": pl.Series(columns["latency_us"], dtype=pl.Int64),
            "observed": pl.Series(
                [observed for observed, _ in newest], dtype=pl.String if classes else pl.Float64
            ),
            "known_ts": _instants([known for _, known in newest]),
            "corrections": pl.Series([max(len(t) - 1, 0) for t in truths_of], dtype=pl.Int64),
        }
    )
    return table.with_columns(_features(columns["features"], columns["inputs"], layouts.inputs))


def answers_of(
    columns: Mapping[str, Sequence], said: Mapping[str, list[str]], classes: Sequence[str] | None
) -> dict[str, pl.Series]:
    """What was answered and what without a shift, as columns; see `as_table`."""
    answered = pl.Series(columns["answered"], dtype=pl.String)
    if not classes:
        is_class = answered.is_not_null()
        said_it = pl.Series(columns["answer"], dtype=pl.Float64).set(is_class, None)
        raw = pl.Series(columns["raw"], dtype=pl.Float64).set(is_class, None)
        return {"answer": said_it, "raw": pl.select(pl.coalesce(raw, said_it)).to_series()}
    places = {digest: _places(names, classes) for digest, names in said.items()}
    values = _probabilities(columns["probabilities"], columns["inputs"], places, len(classes))
    raw = _probabilities(columns["raw_probabilities"], columns["inputs"], places, len(classes))
    raw = np.where(np.isnan(raw), values, raw)
    return {
        "answer": _known_rows(values),
        "answered": answered,
        "raw": _known_rows(raw),
    }


def _probabilities(
    packed: Sequence[bytes | None],
    digests: Sequence[str],
    places: Mapping[str, list[int]],
    width: int,
) -> np.ndarray:
    """Logged probabilities in the order of the target's classes, NaN where there are none."""
    values = np.full((len(packed), width), np.nan)
    for row, (some, digest) in enumerate(zip(packed, digests, strict=True)):
        if some is not None and digest in places:
            with_none = np.append(np.frombuffer(bytes(some), np.float64), 0.0)
            values[row] = with_none[places[digest]]
    return values


def _known_rows(values: np.ndarray) -> pl.Series:
    """Rows of probabilities as a column, null where there are none."""
    is_there = pl.Series(~np.isnan(values).any(axis=1))
    rows = pl.Series(values, dtype=pl.Array(pl.Float64, values.shape[1]))
    return pl.select(pl.when(is_there).then(rows)).to_series()


def _shifts(packed: Sequence[bytes | None]) -> pl.Series:
    shifts = [None if s is None else np.frombuffer(bytes(s), np.float64).tolist() for s in packed]
    return pl.Series(shifts, dtype=pl.List(pl.Float64))


def _places(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Where each class stands among a version's; the last place, which is 0, for none."""
    known = {name: place for place, name in enumerate(names)}
    return [known.get(name, len(names)) for name in classes]


def _instants(micros: Sequence[int | None]) -> pl.Series:
    return pl.Series(micros, dtype=pl.Int64).cast(INSTANT)


def _features(
    packed: Sequence[bytes], inputs: Sequence[str], names: Mapping[str, list[str]]
) -> list[pl.Series]:
    """A column `feature_<name>` for each feature of any version; null where a version has none."""
    vectors = [np.frombuffer(bytes(vector), np.float32) for vector in packed]
    every = dict.fromkeys(name for digest in set(inputs) for name in names[digest])
    places = {digest: {n: i for i, n in enumerate(names[digest])} for digest in set(inputs)}
    features = []
    for name in every:
        values = [
            float(vector[places[digest][name]]) if name in places[digest] else None
            for vector, digest in zip(vectors, inputs, strict=True)
        ]
        features.append(pl.Series(f"feature_{name}", values, dtype=pl.Float32).fill_nan(None))
    return features
