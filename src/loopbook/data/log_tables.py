"""Log tables: how the prediction log stands in a database, and how it reads as a frame.

It decides names and types of columns. What an entry means and when it counts
as written is `prediction_log`'s.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson
import polars as pl

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
    """CREATE TABLE IF NOT EXISTS ground_truth (
        seq {serial}, prediction_id TEXT, key TEXT, observed DOUBLE PRECISION NOT NULL,
        known_us BIGINT NOT NULL, received_us BIGINT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS truth_prediction ON ground_truth (prediction_id)",
    "CREATE INDEX IF NOT EXISTS truth_key ON ground_truth (key)",
)
COLUMNS = (
    *("id", "received_us", "as_of_us", "model", "version", "role", "shadow_of", "route", "key"),
    *("request", "features", "inputs", "notes", "answer", "latency_us"),
)


def as_table(
    answers: Sequence[tuple],
    truths: Mapping[str, list[tuple[float, int]]],
    names: Mapping[str, list[str]],
) -> pl.DataFrame:
    """Answers as a frame, a row each.

    Parameters
    ----------
    answers : sequence of tuple
        Rows of `predictions`, in the order of COLUMNS.
    truths : mapping from an answer's id to (observed, known_us) pairs
        Oldest first; the last one stands, the others were corrected.
    names : mapping from an inputs' digest to the features in their order
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
            "answer": pl.Series(columns["answer"], dtype=pl.Float64),
            "latency_us": pl.Series(columns["latency_us"], dtype=pl.Int64),
            "observed": pl.Series([observed for observed, _ in newest], dtype=pl.Float64),
            "known_ts": _instants([known for _, known in newest]),
            "corrections": pl.Series([max(len(t) - 1, 0) for t in truths_of], dtype=pl.Int64),
        }
    )
    return table.with_columns(_features(columns["features"], columns["inputs"], names))


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
