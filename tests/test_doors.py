"""What is written means the same by every door: tables, files to score, requests, facts, feedback."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import urlencode

import polars as pl
import pytest
from pydantic import ValidationError

from loopbook.data import sources, validation
from loopbook.features import history
from loopbook.project.clock import from_micros
from loopbook.project.contract import Contract, Source
from loopbook.project.errors import ScoringError, SourceError
from loopbook.serving import exchange, open_inference, rows_to_score
from loopbook.serving.feedback import _known_us
from loopbook.serving.reading import read_json, read_query
from loopbook.serving.refusals import Refusal
from loopbook.serving.schemas import Schemas, feedback_of

REFUSED = "refused"
TABLE = Contract.model_validate(
    {
        "name": "flats",
        "meaning": "A flat.",
        "task": "regression",
        "source": {"path": "flats.csv"},
        "key": ["id"],
        "entity": "category",
        "event_time": "day",
        "null_values": ["NA", "-"],
        "target": {"name": "rent", "meaning": "Rent."},
        "features": {
            "number": {"type": "number", "example": 2.5, "meaning": "N."},
            "integer": {"type": "integer", "example": 2, "alias": "rooms", "meaning": "I."},
            "boolean": {"type": "boolean", "example": True, "meaning": "B."},
            "category": {"type": "category", "example": "a", "meaning": "C."},
        },
        "history": {
            "value": "rent",
            "features": {"seen": {"aggregate": "count", "window_days": 9, "meaning": "Seen."}},
        },
    }
)
SCHEMAS = Schemas(TABLE, 10)
OF_CLASSES = Contract.model_validate(
    TABLE.model_dump(mode="json")
    | {"task": "binary", "history": None}
    | {"target": {"name": TABLE.target.name, "meaning": "What.", "classes": ["no", "yes"]}}
)
DEPLOYMENT = SimpleNamespace(schemas=SCHEMAS)
SERVICE = SimpleNamespace(knobs=SimpleNamespace(serve_batch_rows=10))
MEANT = [
    ("number", 2.5, 2.5),
    ("number", 3, 3.0),
    ("number", "2.5", 2.5),
    ("number", " 2.5 ", 2.5),
    ("number", "1e3", 1000.0),
    ("number", "２.5", 2.5),
    ("number", "1_000", REFUSED),
    ("number", "1,5", REFUSED),
    ("number", "abc", REFUSED),
    ("number", "inf", REFUSED),
    ("number", "nan", None),
    ("number", True, REFUSED),
    ("number", "NA", None),
    ("number", "-", None),
    ("number", "", None),
    ("integer", 3, 3),
    ("integer", 3.0, 3),
    ("integer", "3.0", 3),
    ("integer", 3.7, REFUSED),
    ("integer", "3.7", REFUSED),
    ("integer", "003", 3),
    ("integer", 2**53, REFUSED),
    ("boolean", True, True),
    ("boolean", 0, False),
    ("boolean", 1.0, True),
    ("boolean", "Yes", True),
    ("boolean", "off", False),
    ("boolean", 2, REFUSED),
    ("boolean", "perhaps", REFUSED),
    ("category", "98115", "98115"),
    ("category", 98115, "98115"),
    ("category", 98115.0, "98115"),
    ("category", "98115.0", "98115"),
    ("category", "98115 ", "98115"),
    ("category", "981１５", "98115"),
    ("category", "Cafe\u0301", "Café"),
    ("category", "\u00a0a\ufeff", "a"),
    ("category", "01067", "01067"),
    ("category", 1.5, "1.5"),
    ("category", True, "true"),
    ("category", "  ", None),
    ("category", "NA ", None),
    ("category", "x" * 201, REFUSED),
]  # fmt: skip


def text_of(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def one_row(kind, value) -> dict:
    return (
        {"id": "1", "day": "2025-01-01", "rent": "5"}
        | dict.fromkeys(TABLE.features)
        | {kind: value}
    )


def write_csv(kind, value, path):
    row = {n: "" if v is None else text_of(v) for n, v in one_row(kind, value).items()}
    pl.DataFrame([row]).write_csv(path, quote_style="always")


def write_jsonl(kind, value, path):
    path.write_text(json.dumps(one_row(kind, value)))


def write_parquet(kind, value, path):
    pl.DataFrame([one_row(kind, value)]).write_parquet(path)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def as_source(suffix):
    def door(kind, value, folder):
        WRITERS[suffix](kind, value, folder / f"rows.{suffix}")
        table = TABLE.model_copy(update={"source": Source(path=f"rows.{suffix}")})
        rows = validation.conform(sources.read_source(table, folder), table)
        return rows[kind].item()

    return door


def scored(path):
    """The rows of a file as they are scored."""
    rows, shape = rows_to_score.opened(path, TABLE)
    rows = rows.collect()
    rows_to_score.check(iter([(0, rows)]), shape, TABLE, {}, source=path, with_time=True)
    return rows_to_score.read(rows, shape, TABLE, with_time=True)[0]


def as_score(suffix):
    def door(kind, value, folder):
        path = folder / f"rows.{suffix}"
        WRITERS[suffix](kind, value, path)
        return scored(path)[kind].item()

    return door


def as_json(kind, value, _):
    return exchange.checked(DEPLOYMENT, read_json(json.dumps({kind: value}).encode()))[kind]


def as_query(kind, value, _):
    query = urlencode({kind: text_of(value)}).encode()
    return exchange.checked(DEPLOYMENT, read_query(query))[kind]


def as_tensor(kind, value, _):
    datatypes = {str: "BYTES", float: "FP64", int: "INT64", bool: "BOOL"}
    tensor = {"name": kind, "shape": [1], "datatype": datatypes[type(value)], "data": [value]}
    asked = open_inference.InferenceRequest.model_validate({"inputs": [tensor]})
    (row,) = open_inference._rows(asked, SCHEMAS.names, TABLE.features, SERVICE)
    return exchange.checked(DEPLOYMENT, row)[kind]


DOORS = {
    **{f"source.{suffix}": as_source(suffix) for suffix in WRITERS},
    **{f"score.{suffix}": as_score(suffix) for suffix in WRITERS},
    "json": as_json,
    "query": as_query,
    "tensor": as_tensor,
}


@pytest.mark.medium
@pytest.mark.parametrize(("kind", "value", "meant"), MEANT, ids=repr)
def test_a_value_means_the_same_by_every_door(kind, value, meant, tmp_path):
    found = {}
    for name, door in DOORS.items():
        try:
            found[name] = door(kind, value, tmp_path)
        except (SourceError, ScoringError, Refusal, validation.DataError):
            found[name] = REFUSED
    assert found == dict.fromkeys(DOORS, meant)


@pytest.mark.parametrize(
    ("value", "meant", "table"),
    [
        (v, m, {"number": TABLE, "category": OF_CLASSES}[k])
        for k, v, m in MEANT
        if k in ("number", "category")
    ],
)
def test_an_observed_target_means_in_feedback_what_it_means_in_the_table(value, meant, table):
    """No value is none to tell; a `null_values` text is not one of feedback."""
    try:
        form = feedback_of(table)
        found = form.model_validate({"truths": [{"key": {"id": 1}, "observed": value}]})
        found = found.truths[0].observed
    except ValidationError:
        found = REFUSED
    assert found == (REFUSED if meant is None else meant)


@pytest.mark.parametrize(("value", "meant"), [(v, m) for k, v, m in MEANT if k == "category"])
def test_a_fact_is_about_the_entity_that_a_request_names(value, meant, tmp_path):
    if meant in (REFUSED, None):
        return
    write_csv("category", value, tmp_path / "flats.csv")
    rows = sources.with_clock(sources.read_source(TABLE, tmp_path), TABLE)
    facts = history.facts(validation.conform(rows, TABLE), TABLE)
    assert facts["entity"].to_list() == [as_json("category", value, None)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-07-01 02:00", datetime(2024, 7, 1, tzinfo=UTC)),
        ("2024-07-01", datetime(2024, 6, 30, 22, tzinfo=UTC)),
        ("2024-07-01 02:00+0000", datetime(2024, 7, 1, 2, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", REFUSED),
        ("0001-01-01T00:00:00+14:00", REFUSED),
        ("2024-03-31T02:30:00", REFUSED),
        (1_425_168_000, REFUSED),
    ],
)
def test_a_time_means_the_same_as_as_of_and_as_known_at(text, meant):
    """Without an offset it is of the contract's zone; the last microsecond is not rounded up."""
    table = TABLE.model_copy(update={"time_zone": "Europe/Berlin"})
    deployment = SimpleNamespace(schemas=Schemas(table, 10))
    told = {"truths": [{"prediction_id": "p", "observed": 1, "known_at": text}]}
    try:
        found = exchange.checked(deployment, {"as_of": text})["as_of"]
    except Refusal:
        found = REFUSED
    try:
        known = feedback_of(TABLE).model_validate(told).truths[0].known_at
        known = from_micros(_known_us(SimpleNamespace(contract=table), 0, known))
    except (ValidationError, Refusal):
        known = REFUSED
    assert [found, known] == [meant, meant]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rooms": 3, "integer": 3}, "is given by its name and by its alias"),
        ({"rooms": 3.7}, "rooms: found 3.7, expected a valid integer"),
    ],
)
def test_the_service_and_score_refuse_a_row_in_their_own_words(given, told, tmp_path):
    with pytest.raises(Refusal, match=told):
        exchange.checked(DEPLOYMENT, given)
    path = tmp_path / "rows.parquet"
    pl.DataFrame([given]).write_parquet(path)
    with pytest.raises((ScoringError, SourceError)) as caught:
        scored(path)
    assert str(path) in str(caught.value)
    assert "rooms" in str(caught.value)
