"""The rehearsal: `loopbook check` says of the table what the build would say."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from loopbook.data import rehearsal, validation
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import DataError, LoopbookError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTRACT = {
    "name": "flats",
    "meaning": "One row is a flat.",
    "task": "regression",
    "source": {"path": "flats.csv"},
    "key": ["id"],
    "event_time": "day",
    "target": {"name": "rent", "range": [1, 9999], "meaning": "Rent."},
    "features": {
        "size": {"type": "number", "range": [1, 999], "example": 50.0, "meaning": "Size."},
        "lift": {"type": "integer", "example": 1, "meaning": "Lift."},
        "zone": {"type": "category", "example": "a", "meaning": "Zone."},
    },
}


def flats(rows: int = 400) -> pl.DataFrame:
    """A flat a day; only the last twenty have a lift."""
    return pl.DataFrame(
        {
            "id": [f"{i:04d}" for i in range(rows)],
            "day": [date(2024, 1, 1) + timedelta(days=i) for i in range(rows)],
            "size": [20.0 + i % 90 for i in range(rows)],
            "lift": [1 if i > rows - 20 else None for i in range(rows)],
            "zone": ["ab"[i % 2] for i in range(rows)],
            "rent": [300.0 + i for i in range(rows)],
        }
    )


@pytest.fixture
def told(tmp_path):
    """What a rehearsal of these rows says, in a project of its own."""

    def tell(rows: pl.DataFrame, change: dict | None = None, **knobs) -> list[str]:
        rows.write_csv(tmp_path / "flats.csv")
        (tmp_path / "contract.yaml").write_text(yaml.safe_dump(CONTRACT | (change or {})))
        contract = read_contract(tmp_path / "contract.yaml")
        wanted = {"test_days": 40, "validation_days": 40, "gate_min_rows": 40} | knobs
        set_knobs = read_knobs(ROOT / "env.yaml", wanted)
        done = rehearsal.rehearse(Project(tmp_path), contract, set_knobs, now=NOW)
        assert not (tmp_path / "var").exists()
        return list(done.lines())

    return tell


def test_a_sound_table_is_told_with_its_rows_and_parts(told):
    assert told(flats()) == [
        "flats.csv: 400 rows, 400 usable as of 2025-02-03 00:00 UTC.",
        "  Parts: train 320, validation 40, test 40.",
        "  Note: no row that teaches has a value of lift: no model learns from that.",
    ]


def test_a_query_is_asked_and_its_table_told(tmp_path):
    """As the build reads it; what is wrong with the query is told instead."""
    flats().rename({"rent": "cents"}).write_csv(tmp_path / "raw.csv")
    query = "SELECT * EXCLUDE (cents), CAST(cents AS DOUBLE) AS rent FROM raw WHERE id < '0300'"
    parts = {"raw": {"path": "raw.csv"}}
    knobs = {"test_days": 40, "validation_days": 40, "gate_min_rows": 40}

    def lines(query: str) -> list[str]:
        contract = Contract.model_validate(CONTRACT | {"source": {"parts": parts, "query": query}})
        read_for = Project(tmp_path), contract, read_knobs(ROOT / "env.yaml", knobs)
        return list(rehearsal.rehearse(*read_for, now=NOW).lines())

    assert lines(query)[0] == "raw: 300 rows, 300 usable as of 2024-10-26 00:00 UTC."
    with pytest.raises(
        LoopbookError, match=r'column "scents" not found.*; raw has|raw has id, day'
    ):
        lines(query.replace("CAST(cents", "CAST(scents"))
    with pytest.raises(LoopbookError, match=r"source raw: found 7 columns.*not in the contract: c"):
        lines(query.replace("* EXCLUDE (cents)", "*"))


def test_a_gate_that_will_never_open_is_told(told):
    assert any("the gate asks for 200 rows" in line for line in told(flats(), gate_min_rows=200))


ROWS = pl.col("id").cast(pl.Int32)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop("id"), "missing: id"),
        (lambda t: t.with_columns(rent=pl.lit("cheap")), "rent"),
        (lambda t: t.with_columns(size=pl.when(ROWS > 9).then(pl.lit("NA")).otherwise("size")), "NA"),
        (lambda t: t.with_columns(rent=pl.when(ROWS > 9).then("rent")), "10 of 400 rows: rent has no value"),
        (lambda t: t.with_columns(rent=7.0), "is 7 everywhere, so there is nothing to learn"),
        (lambda t: t.head(120), "train has 40 rows, expected at least 60"),
        (lambda t: t.with_columns(day=pl.lit("soon")), "soon"),
        (lambda t: t.with_columns(day=pl.lit(date(2031, 1, 1))), "400 of 400 rows: day lies in the future"),
    ],
)  # fmt: skip
def test_a_table_that_the_build_would_refuse_is_refused(told, change, said):
    with pytest.raises(LoopbookError) as caught:
        told(change(flats()))
    assert said in str(caught.value)


def test_a_table_of_the_first_days_is_refused_with_a_sentence(told):
    """Its windows would begin before the calendar does."""
    with pytest.raises(LoopbookError, match="train has 0 rows"):
        told(flats().with_columns(day=pl.lit("0001-01-02")))


def test_rows_that_a_build_would_set_aside_are_counted_with_the_first(told):
    """One cannot be read, one is out of range; nothing is kept (see `told`)."""
    size = (
        pl.when(ROWS == 7).then(pl.lit("big")).when(ROWS == 8).then(pl.lit("0")).otherwise("size")
    )
    lines = told(flats().with_columns(size=size))
    assert lines[0].startswith("flats.csv: 400 rows, 398 usable")
    assert lines[1].startswith("  2 rows would be set aside; first: id 0007: size is no number")
    assert "id 0008: size outside [1, 999]" in lines[1]


def test_a_text_that_stands_for_no_value_is_none_where_the_contract_says_so(told):
    rows = flats().with_columns(lift=pl.when(ROWS > 9).then(pl.lit("NA")).otherwise(pl.lit("-")))
    assert told(rows, {"null_values": ["NA", "-"]})[0].startswith("flats.csv: 400 rows, 400 usable")


def test_rows_without_a_target_are_refused_with_the_way_out(told):
    rows = flats().with_columns(rent=pl.when(ROWS > 99).then("rent"))
    with pytest.raises(DataError, match="Rows without a target can be left out: unlabelled: drop"):
        told(rows)


def test_rows_without_a_target_are_dropped_and_counted_where_the_contract_says_so(told):
    rows = flats().with_columns(rent=pl.when(ROWS > 99).then("rent"))
    lines = told(rows, {"unlabelled": "drop"})
    assert lines[0].startswith("flats.csv: 400 rows, 300 usable")
    assert lines[1] == "  100 rows left out: no target (unlabelled: drop)"


def test_a_target_that_was_taken_back_leaves_no_earlier_one():
    """Row 1 had a rent, and its correction has none; row 2 came without and got one."""
    change = {"known_time": "known", "unlabelled": "drop"}
    table = Contract.model_validate(CONTRACT | change)
    known = [datetime(2024, 1, d, tzinfo=UTC) for d in (1, 2, 1, 2)]
    rows = pl.DataFrame({"id": [1, 1, 2, 2], "known_ts": known, "rent": [5.0, None, None, 7.0]})
    kept, left_out = validation.without_known_faults(rows, table)
    assert kept["rent"].to_list() == [7.0]
    assert left_out[-1]["rows"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.with_columns(id=pl.struct("id")),
        lambda t: t.with_columns(rent=pl.concat_list("rent")),
        lambda t: t.with_columns(zone=pl.col("zone").cast(pl.Binary)),
        lambda t: t.with_columns(size=pl.duration(days=pl.col("size").cast(pl.Int64))),
        lambda t: t.with_columns(day=pl.lit(20240101)),
        lambda t: t.with_columns(rent=pl.lit(None)),
        lambda t: t.with_columns(rent=pl.lit(float("nan"))),
        lambda t: t.with_columns(id=pl.lit(None)),
        lambda t: t.with_columns(id=pl.lit("1")),
        lambda t: t.clear(),
    ],
)
def test_no_table_ends_in_anything_but_a_sentence(tmp_path, change):
    change(flats()).write_parquet(tmp_path / "flats.parquet")
    contract = Contract.model_validate(CONTRACT | {"source": {"path": "flats.parquet"}})
    with pytest.raises(LoopbookError, match=r"flats.*\n?.*[.)]"):
        rehearsal.rehearse(Project(tmp_path), contract, read_knobs(ROOT / "env.yaml"), now=NOW)
