"""A file to score is read as the source is, and refused as the service would refuse its rows."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml

from loopbook.features.rows import input_names
from loopbook.models.task import task_of
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project
from loopbook.serving import scoring

TABLE = {
    "name": "flats",
    "meaning": "A flat.",
    "task": "regression",
    "source": {"path": "f.csv", "dialect": {"separator": ";", "decimal_comma": True}},
    "key": ["id"],
    "event_time": "day",
    "null_values": ["NA"],
    "target": {"name": "rent", "meaning": "Rent."},
    "features": {
        "size": {"type": "number", "required": True, "example": 2.5, "meaning": "S."},
        "rooms": {"type": "integer", "example": 2, "alias": "Zimmer", "meaning": "R."},
        "zone": {"type": "category", "example": "a", "meaning": "Z."},
    },
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A project whose champion answers the sum of its inputs, in parts of two rows."""
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(TABLE))
    inputs = input_names(Contract.model_validate(TABLE))
    about = Contract.model_validate(TABLE)
    champion = SimpleNamespace(
        number="7",
        inputs=inputs,
        card={"categories": {"zone": ["a", "b"]}},
        contract=about,
        task=task_of(about),
        predict_both=lambda matrix, shift: (np.nan_to_num(matrix).sum(axis=1).astype(float),) * 2,
        decided=lambda answers: answers.tolist(),
    )
    monkeypatch.setattr(scoring, "champion", lambda *_: champion)
    monkeypatch.setattr(scoring, "PART_ROWS", 2)
    return Project(tmp_path)


def score(here, name, text, target="out.csv"):
    (here.root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    table = read_contract(here.contract)
    return scoring.score(here, table, here.root / name, here.root / target)


def test_a_file_is_read_as_the_source_is_whatever_its_columns_order(here):
    """Its dialect, a byte order mark, an alias, a column of its own, and keys as they stand."""
    text = "\ufeffnote;id;Zimmer;size;zone\r\n1,5;01;3,0;1,5; b\r\nx;02;;NA;a\r\n".replace(
        "NA", "2"
    )
    score(here, "rows.csv", text)
    scored = pl.read_csv(here.root / "out.csv", infer_schema=False)
    assert scored.rows() == [
        ("1,5", "01", "3", "1.5", "b", "5.5", None, None, "7"),
        ("x", "02", None, "2.0", "a", "2.0", None, None, "7"),
    ]


def test_rows_with_a_category_that_the_model_has_not_seen_are_counted(here):
    """Spaces and full-width letters are none; the first is named by its row."""
    rows = "size;zone\n1;a \n1;ａ\n1;\n1;c\n1;a\n1;d\n"
    (unknown,) = score(here, "rows.csv", rows).unknown
    assert str(unknown) == (
        "zone: 2 rows have a category that the model has not seen; first: row 4 ('c')"
    )


REFUSED = [
    ("rows.csv", "size;rooms\n1;3,7\n1;2\n1;x\n", "rooms is no integer, or beyond 9,007,199,254,740,991 in 2 rows; first: row 1 (3,7), row 3 (x)"),
    ("rows.csv", "size;rooms\n1;2\n1;2\nNA;2\n", "size has no value in 1 row; first: row 3 (NA)"),
    ("rows.csv", "size\n1.500\n", "size is no number in 1 row; first: row 1 (1.500)"),
    ("rows.csv", "size\ninf\n", "size is infinite in 1 row; first: row 1 (inf)"),
    ("rows.csv", "size;day\n1;2015-02-29\n", "day is not a day such as 2014-05-02"),
    ("rows.csv", "size;day\n1;\n", "day has no value in 1 row; first: row 1 (None)"),
    ("rows.csv", "size;rooms;Zimmer\n1;2;2\n", "are the one column 'rooms'"),
    ("rows.csv", "rooms\n2\n", "lacks size, which every row needs"),
    ("rows.csv", "size\n1;2\n", "cannot be read"),
    ("rows.csv", "size;rooms\n", "found 0 rows"),
    ("rows.csv", "", "lacks size"),
    ("rows.parquet", b"PAR1", "cannot be read"),
    ("rows.jsonl", '{"size": ', "cannot be read"),
    ("rows.jsonl", '{"size": [1]}', "size holds lists or mappings"),
    ("rows.ods", "size\n1\n", "its name ends in no known format"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "told"), REFUSED)
def test_a_file_is_refused_in_its_own_name_before_anything_is_computed(here, name, text, told):
    with pytest.raises(LoopbookError) as caught:
        score(here, name, text)
    assert name in str(caught.value)
    assert told in str(caught.value)
    assert not (here.root / "out.csv").exists()
    assert not list((here.var / "scoring").glob("*"))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("out.jsonl", "ends in .jsonl, expected .parquet or .csv"),
        ("out", "expected .parquet or .csv"),
        ("out.csv", "note holds lists or mappings, which the CSV file .* cannot hold"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_computed(here, target, told):
    pl.DataFrame({"size": [1.0], "note": [[1]]}).write_parquet(here.root / "rows.parquet")
    bytes_ = (here.root / "rows.parquet").read_bytes()
    with pytest.raises(LoopbookError, match=told):
        score(here, "rows.parquet", bytes_, target)
    assert not (here.root / target).exists()


def test_parquet_comes_back_as_it_was_stored(here):
    rows = pl.DataFrame(
        {"size": [1.0, 2.0], "rooms": [3.0, None], "zone": ["a ", "b"]},
        schema_overrides={"size": pl.Float32},
    )
    rows.write_parquet(here.root / "rows.parquet")
    score(here, "rows.parquet", (here.root / "rows.parquet").read_bytes(), "out.parquet")
    scored = pl.read_parquet(here.root / "out.parquet")
    assert scored.drop("model_version", pl.selectors.starts_with("predicted_rent")).equals(rows)
    assert scored["predicted_rent"].to_list() == [4.0, 3.0]
