"""Sources, snapshots, validation, features and splits, on small tables with known answers."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbook.data import snapshots, sources, splits, validation
from loopbook.features import rows as row_features
from loopbook.project import files
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import DataError, SourceError, SplitError

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXAMPLE_SHA256 = "33726fed816d4a8816e1c421b0fb9b00241aec514031cdb923da25379a0f803b"
TABLE = Contract.model_validate(
    {
        "name": "small",
        "meaning": "A sale.",
        "task": "regression",
        "source": {"path": "table.parquet"},
        "key": ["id"],
        "event_time": "day",
        "label_delay_days": 7,
        "entity": "zone",
        "target": {"name": "price", "range": [1, 1e9], "transform": "log", "meaning": "Price."},
        "features": {
            "size": {
                "type": "number",
                "range": [10, 500],
                "required": True,
                "example": 100,
                "meaning": "Size.",
            },
            "zone": {"type": "category", "example": "a", "meaning": "Zone."},
        },
        "derived": {"age": {"formula": "log(size - 10) + event_year", "meaning": "Any."}},
        "known_faults": [{"where": {"id": 0}, "reason": "known"}],
    }
)


def table(rows: int = 400) -> pl.DataFrame:
    days = np.datetime64("2025-01-01") + np.arange(rows) // 4
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "day": days,
            "size": 10.0 + np.arange(rows) % 200,
            "zone": np.array(["a", "b"])[np.arange(rows) % 2],
            "price": 1000.0 + np.arange(rows),
        }
    )


def clocked(rows: pl.DataFrame) -> pl.DataFrame:
    return sources.with_clock(rows, TABLE)


def test_the_examples_table_keeps_its_contract_but_for_the_known_fault():
    stored = (ROOT / "data/house_sales.parquet").read_bytes()
    assert hashlib.sha256(stored).hexdigest() == EXAMPLE_SHA256
    contract = read_contract(ROOT / "contract.yaml")
    rows = sources.with_clock(sources.read_source(contract, ROOT), contract)
    assert rows.height == 21_613
    (violation,) = validation.validate(rows, contract)
    assert str(violation).startswith(
        "1 of 21,613 rows: bedrooms outside [0, 15]; first: id 2402100895"
    )
    kept, faults = validation.without_known_faults(rows, contract)
    assert faults[0]["rows"] == 1
    assert validation.validate(kept, contract) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.rename({"size": "area"}), "missing: size; not in the contract: area"),
        (lambda t: t.with_columns(extra=1), "not in the contract: extra"),
        (lambda t: t.head(0), "found 0 rows"),
    ],
)
def test_columns_and_rows_that_are_not_the_contracts_are_refused(tmp_path, change, told):
    change(table()).write_parquet(tmp_path / "table.parquet")
    with pytest.raises(SourceError, match=r"table\.parquet") as caught:
        sources.read_source(TABLE, tmp_path)
    assert told in str(caught.value)


def test_a_missing_and_an_unreadable_source_say_what_to_do(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        sources.read_source(TABLE, tmp_path)
    (tmp_path / "table.parquet").write_text("no parquet at all")
    with pytest.raises(SourceError, match="is no readable Parquet file"):
        sources.read_source(TABLE, tmp_path)


@pytest.mark.medium
@given(st.integers(0, 120))
def test_a_row_is_known_when_its_delay_has_passed_and_not_before(days):
    """Against the rule written out by hand, row by row."""
    as_of = datetime(2025, 1, 1, tzinfo=UTC) + (NOW - NOW.replace(day=1)) + _days(days)
    expected = [r for r in clocked(table()).to_dicts() if r["event_ts"] + _days(7) <= as_of]
    if not expected:
        with pytest.raises(SourceError, match="none of 400 rows was known"):
            sources.known_by(table(), as_of, TABLE, now=NOW)
        return
    known, meant = sources.known_by(table(), as_of, TABLE, now=NOW)
    assert known["id"].to_list() == [r["id"] for r in expected]
    assert meant == as_of


def _days(count: int):
    from datetime import timedelta

    return timedelta(days=count)


def test_an_event_in_the_future_stops():
    with pytest.raises(SourceError, match="rows have a day in the future"):
        sources.known_by(table(), None, TABLE, now=datetime(2025, 2, 1, tzinfo=UTC))


@pytest.mark.medium
def test_the_same_rows_are_the_same_snapshot_and_a_changed_file_is_found(tmp_path):
    first = snapshots.write_snapshot(clocked(table()), tmp_path, NOW, now=NOW)
    again = snapshots.write_snapshot(clocked(table()), tmp_path, NOW, now=NOW)
    assert first == again
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert snapshots.read_snapshot(first).equals(clocked(table()))
    Path(first.path).unlink()
    Path(first.path).write_bytes(b"other bytes")
    with pytest.raises(SourceError, match="so it was changed"):
        snapshots.read_snapshot(first)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "product.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"new": float("nan")})
    assert files.read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": pl.lit(501.0)}, "400 of 400 rows: size outside [10, 500]; first: id 0"),
        ({"size": pl.lit(float("inf"))}, "400 of 400 rows: size outside [10, 500]"),
        ({"size": pl.lit(float("nan"))}, "400 of 400 rows: size has no value"),
        ({"size": pl.lit("big")}, "400 of 400 rows: size is no number; first: id 0 (big)"),
        ({"size": pl.lit(True)}, "400 of 400 rows: size is of type Boolean, expected number\n"),
        ({"price": pl.lit(5.0)}, "price is 5 everywhere, so there is nothing to learn"),
        ({"price": pl.lit(None, pl.Float64)}, "400 of 400 rows: price has no value"),
        ({"id": pl.lit(3)}, "key (id) stands more than once; first: id 3"),
    ],
)
def test_rows_that_break_a_rule_are_counted_and_the_first_are_shown(change, told):
    with pytest.raises(DataError) as caught:
        validation.conform(clocked(table()).with_columns(**change), TABLE)
    assert told in str(caught.value)
    assert "Correct the rows, widen the rule in contract.yaml" in str(caught.value)


def test_a_derived_column_follows_its_formula_and_is_missing_where_it_has_no_value():
    """log(size - 10) has none for a size of 10."""
    rows = row_features.with_derived(clocked(table()), TABLE)
    expected = np.log(rows["size"].to_numpy()[1] - 10) + 2025
    assert rows["age"][1] == pytest.approx(expected)
    assert rows["age"][0] is None


def test_an_unknown_category_and_a_missing_number_are_nan_to_the_model():
    rows = pl.DataFrame({"size": [1.0, None], "zone": ["b", "never seen"]})
    matrix = row_features.encode(rows, ["size", "zone"], {"zone": ["a", "b"]})
    assert matrix.dtype == np.float32
    assert matrix[0].tolist() == [1, 1]
    assert np.isnan(matrix[1]).all()


def test_windows_are_half_open_and_the_newest_rows_judge():
    options = {"validation_days": 20, "test_days": 10, "holdout_share": 0.2}
    parted, bounds = splits.split(clocked(table()), TABLE, **options)
    ends = parted.group_by("part").agg(pl.col("event_ts").min().alias("a"))
    starts = dict(ends.iter_rows())
    assert starts["test"] == bounds.test_start
    assert starts["validation"] == bounds.validation_start
    assert parted.filter(pl.col("part") == "test").height == 40


def test_where_the_newest_days_are_thin_the_newest_window_is_longer_but_not_without_end():
    thick = clocked(table())
    newest = thick["event_ts"].max()
    thin = thick.filter(
        (pl.col("event_ts") <= newest - timedelta(days=12)) | (pl.col("event_ts") == newest)
    )
    options = {"validation_days": 20, "test_days": 10, "holdout_share": 0.2}
    parted, bounds = splits.split(thin, TABLE, **options, least_rows=40)
    judge = parted.filter(pl.col("part") == "test")
    assert judge.height >= 40
    assert timedelta(days=10) < bounds.end - bounds.test_start < timedelta(days=40)
    _, bounds = splits.split(thick, TABLE, **options, least_rows=10_000)
    assert bounds.end - bounds.test_start == timedelta(days=40)


def test_without_an_event_time_a_row_keeps_its_part_when_the_table_grows():
    timeless = TABLE.model_copy(update={"event_time": None})
    options = {"validation_days": 1, "test_days": 1, "holdout_share": 0.2}
    before, _ = splits.split(table(400), timeless, **options)
    after, _ = splits.split(table(800), timeless, **options)
    assert after.head(400)["part"].equals(before["part"])


def test_too_few_rows_to_judge_from_say_which_knob_to_turn():
    options = {"validation_days": 20, "test_days": 1, "holdout_share": 0.2}
    with pytest.raises(SplitError, match=r"test has 4 rows.*Change validation_days and test_days"):
        splits.split(clocked(table()), TABLE, **options)
