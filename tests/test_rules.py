"""The rules: one meaning at every door, held against the rules written out by hand."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbook.data import rules, validation
from loopbook.project.contract import Contract

TABLE = Contract.model_validate(
    {
        "name": "rows",
        "meaning": "A row.",
        "task": "regression",
        "source": {"path": "rows.parquet"},
        "key": ["id"],
        "target": {"name": "amount", "range": [0, 100], "meaning": "Amount."},
        "features": {
            "width": {
                "type": "number",
                "range": [1, 9],
                "required": True,
                "example": 2,
                "meaning": "W.",
            },
            "depth": {"type": "number", "example": 2.0, "meaning": "Depth."},
            "count": {"type": "integer", "range": [0, 5], "example": 2, "meaning": "Count."},
            "kind": {"type": "category", "categories": ["a", "b"], "example": "a", "meaning": "K."},
        },
    }
)
FLOATS = [None, math.nan, math.inf, -math.inf, 0.0, 1.0, 9.0, 9.5, 100.0, 101.0, 1e308]
ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from([None, *"abcdefgh"]),
        "amount": st.sampled_from(FLOATS),
        "width": st.sampled_from(FLOATS),
        "depth": st.sampled_from(FLOATS),
        "count": st.sampled_from([None, -1, 0, 5, 6]),
        "kind": st.sampled_from([None, "a", "b", "c"]),
    }
)
SCHEMA = {
    "id": pl.String,
    "amount": pl.Float64,
    "width": pl.Float64,
    "depth": pl.Float64,
    "count": pl.Int64,
    "kind": pl.String,
}
GOOD = {"id": "a", "amount": 5.0, "width": 2.0, "depth": 1.0, "count": 1, "kind": "a"}


def frame(*changes: dict) -> pl.DataFrame:
    rows = [GOOD | {"id": f"r{place}", "amount": 5.0 + place} for place in range(len(changes))]
    return pl.DataFrame([r | c for r, c in zip(rows, changes, strict=True)], schema=SCHEMA)


def keeps_contract(rows: pl.DataFrame) -> pl.Series:
    """Whether each row, by itself, keeps every rule: as served rows are held against them."""
    kinds = rules.OF_A_ROW
    broken = validation.checked(rows, TABLE, columns=TABLE.columns, kinds=kinds)[1]
    keeps = pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)
    for failure in broken:
        keeps &= ~failure.mask
    return keeps


def faults(row: dict) -> set[tuple[str, str]]:
    """The contract's rules on one row, in plain Python."""
    row = {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in row.items()}
    least_and_most = {"amount": (0, 100), "width": (1, 9), "count": (0, 5)}
    wrong = {(n, "null") for n in ("id", "amount", "width") if row[n] is None}
    for name, (least, most) in least_and_most.items():
        if row[name] is not None and not least <= row[name] <= most:
            wrong.add((name, "range"))
    if row["depth"] is not None and math.isinf(row["depth"]):
        wrong.add(("depth", "range"))
    if row["kind"] not in (None, "a", "b"):
        wrong.add(("kind", "category"))
    return wrong


@pytest.mark.medium
@given(st.lists(ROW, min_size=1, max_size=12))
def test_a_row_is_refused_at_one_door_when_it_is_at_the_other(rows):
    """Training lists the broken rules, served rows are set aside: the same rows, by one oracle."""
    table = pl.DataFrame(rows, schema=SCHEMA)
    listed = [f for f in validation.validate(table, TABLE) if f.rule.kind in rules.OF_A_ROW]
    by_row = [
        {(f.rule.column, f.rule.kind) for f in listed if f.mask[place]}
        for place in range(table.height)
    ]
    assert by_row == [faults(row) for row in rows]
    kept = keeps_contract(table)
    assert kept.to_list() == [not faults(row) for row in rows]


@pytest.mark.parametrize(("name", "passes"), [("depth", True), ("width", False), ("amount", False)])
def test_nan_is_no_value_for_rows_to_learn_from_and_for_served_rows_alike(name, passes):
    """It passes where no value is needed, and nowhere else."""
    table = frame({}, {name: math.nan})
    assert keeps_contract(table).to_list() == [True, passes]
    assert [f.rule.text for f in validation.validate(table, TABLE)] == ["has no value"] * (
        not passes
    )


def test_a_frame_with_some_columns_is_held_against_their_rules_only():
    """As a request or a file without ground truth is."""
    rows = frame({"width": 12.0}, {"kind": "z"}, {}).select("width", "kind")
    broken = rules.failures(rows, TABLE, rules.rules_for(rows.schema, TABLE))
    assert [str(f) for f in broken] == [
        "1 of 3 rows: width outside [1, 9]; first: row 1 (12.0)",
        "1 of 3 rows: kind not one of a, b; first: row 2 (z)",
    ]


def test_a_column_that_is_not_there_or_of_another_type_is_one_failure_of_every_row():
    rows = frame({}, {}).drop("count").with_columns(width=pl.lit(True))
    broken = validation.validate(rows, TABLE)
    assert [str(f) for f in broken] == [
        "2 of 2 rows: width is of type Boolean, expected number",
        "2 of 2 rows: count is missing",
    ]
    assert not keeps_contract(rows).any()


def test_every_failure_is_counted_and_the_first_three_are_shown():
    rows = frame(*[{"count": 9, "width": None}] * 5)
    null, outside = validation.validate(rows, TABLE)
    assert str(null).startswith("5 of 5 rows: width has no value; first: id r0 (None), id r1")
    assert str(outside).endswith("count outside [0, 5]; first: id r0 (9), id r1 (9), id r2 (9)")
    assert outside.as_dict() == {
        "column": "count",
        "rule": "outside [0, 5]",
        "rows": 5,
        "of": 5,
        "first": ["id r0 (9)", "id r1 (9)", "id r2 (9)"],
    }


def test_a_rule_about_the_table_sets_no_single_row_aside():
    """A key that stands twice, and a target that never changes."""
    rows = frame({"id": "x", "amount": 7.0}, {"id": "x", "amount": 7.0})
    assert [f.rule.kind for f in validation.validate(rows, TABLE)] == ["constant", "unique"]
    assert keeps_contract(rows).all()


def test_a_category_with_braces_stands_in_the_sentence_as_it_is():
    kind = TABLE.features["kind"].model_copy(update={"categories": ["{x}", "{value}"]})
    table = TABLE.model_copy(update={"features": TABLE.features | {"kind": kind}})
    (failure, *_) = validation.validate(frame({}, {}), table)
    assert "kind not one of {x}, {value}" in str(failure)


def test_a_table_without_rows_breaks_no_rule():
    rows = frame({}).head(0)
    assert validation.validate(rows, TABLE) == []
    assert keeps_contract(rows).len() == 0
