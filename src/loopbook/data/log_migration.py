"""Log migration: a log that an older loopbook wrote, in the form of today.

It decides what is brought up to date, once. The columns for a target of classes,
for a shift, for the store's moment and for sets are added, empty: what is there stays as it is. Keys are written as now: two keys
could have one text, `a|b`, `c` and `a`, `b|c`. What was sent is in the log, so
each such key is written anew from it, with its ground truth. A ground truth of
which nobody knows to which of two keys it belonged goes to both, as it did
before. A key with a sensitive part stays: what was sent is not in the log.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import orjson

from loopbook.data.log_tables import ADDED
from loopbook.data.row_keys import BETWEEN, ESCAPE, escaped
from loopbook.project.contract import Contract
from loopbook.project.database import Database
from loopbook.project.errors import PredictionLogError

FORM = 6
TABLE = "CREATE TABLE IF NOT EXISTS log_form (form INTEGER NOT NULL)"
DOUBTFUL = f"""SELECT id, key, request FROM predictions WHERE key IS NOT NULL AND (
    length(key) - length(replace(key, '{BETWEEN}', '')) <> ?
    OR length(key) <> length(replace(key, '{ESCAPE}', '')))"""


def refuse_anothers(database: Database) -> None:
    """Refuse MLflow's own database: a table of its has the name of one of the log's.

    Raises
    ------
    PredictionLogError
        With the database to make instead.
    """
    if database.kind != "postgresql":
        return
    asked = """SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema()
        AND table_name = 'inputs' AND column_name = 'destination_id'"""
    if database.read(asked):
        raise PredictionLogError(
            f"{database.variable} ({database.what}): is MLflow's database, and both have a table "
            "'inputs'. Nothing was changed. Give the log a database of its own on the same server: "
            f"CREATE DATABASE loopbook; then {database.variable}=postgresql://…/loopbook"
        )


def migrate(database: Database, contract: Contract) -> None:
    """Bring a log to today's form, all or nothing, once; a log that has it is left alone."""
    with database.transaction() as cursor:
        cursor.execute(TABLE)
        if database.kind == "postgresql":
            cursor.execute("LOCK TABLE log_form IN EXCLUSIVE MODE")
        form = cursor.execute("SELECT max(form) FROM log_form").fetchone()[0] or 1
        if form >= FORM:
            return
        _add_columns(database, cursor)
        if form < 2 and len(contract.key) > 1:
            _escape_keys(database, cursor, contract)
        cursor.execute(database.sql("INSERT INTO log_form VALUES (?)"), (FORM,))


def _add_columns(database: Database, cursor: Any) -> None:
    """The columns that came later, where they are not there."""
    for table, column, kind in ADDED:
        there = cursor.execute(f"SELECT * FROM {table} LIMIT 0").description
        if column not in {about[0] for about in there}:
            cursor.execute(database.sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}"))


def _escape_keys(database: Database, cursor: Any, contract: Contract) -> None:
    named = defaultdict(set)
    doubtful = cursor.execute(database.sql(DOUBTFUL), (len(contract.key) - 1,)).fetchall()
    for name, key, request in doubtful:
        parts = _parts(orjson.loads(bytes(request)), contract)
        if parts is None or BETWEEN.join(parts) != key:
            continue
        text = escaped(parts)
        named[key].add(text)
        cursor.execute(database.sql("UPDATE predictions SET key = ? WHERE id = ?"), (text, name))
    for key, texts in named.items():
        first, *others = sorted(texts)
        for text in others:
            copied = (
                "INSERT INTO ground_truth "
                "(prediction_id, key, observed, observed_class, known_us, received_us) SELECT "
                "prediction_id, ?, observed, observed_class, known_us, received_us "
                "FROM ground_truth WHERE key = ? ORDER BY seq"
            )
            cursor.execute(database.sql(copied), (text, key))
        cursor.execute(database.sql("UPDATE ground_truth SET key = ? WHERE key = ?"), (first, key))


def _parts(request: Mapping[str, Any], contract: Contract) -> list[str] | None:
    """The key of a request as it was sent, by the names or the aliases of its columns."""
    parts = []
    for name in contract.key:
        feature = contract.features.get(name)
        value = request.get(name, request.get(feature.alias) if feature and feature.alias else None)
        if value is None or (feature and feature.sensitive != "no"):
            return None
        parts.append(str(value))
    return parts
