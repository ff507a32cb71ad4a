"""What cannot be used is set aside with its reasons, stops nothing, and a person decides."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from loopbook.cli import main
from loopbook.data import (
    aside_rows,
    aside_truths,
    prediction_log,
    quarantine,
    usable_rows,
    validation,
    values,
)
from loopbook.data.aside_rows import Reading
from loopbook.data.prediction_log import Entry, Truth
from loopbook.data.usable_rows import Decisions
from loopbook.project.contract import Contract
from loopbook.project.errors import DataError, QuarantineError
from loopbook.project.paths import Project

NOW = datetime(2025, 6, 1, tzinfo=UTC)
TABLE = Contract.model_validate(
    {
        "name": "flats",
        "meaning": "A flat.",
        "task": "regression",
        "source": {"path": "data/flats.csv"},
        "key": ["id"],
        "target": {"name": "price", "range": [1.0, 1000.0], "transform": "log", "meaning": "Price."},
        "features": {
            "size": {"type": "integer", "range": [10.0, 500.0], "required": True, "example": 50, "meaning": "Size."},
            "zone": {"type": "category", "example": "a", "meaning": "Zone."},
            "income": {"type": "number", "range": [0.0, 9.0], "sensitive": "hash", "example": 1.0, "meaning": "Income."},
        },
    }
)  # fmt: skip

MADE = {"features": np.array([1], np.float32), "inputs": "d", "notes": {}, "answer": 1.0}
MADE |= {"latency_us": 1}


def flats(rows: int = 200, **broken: tuple[int, object]) -> pl.DataFrame:
    """Sound rows, but for one value a column: (its place, the value)."""
    columns = {
        "id": list(range(rows)),
        "size": [50 + i % 100 for i in range(rows)],
        "zone": ["a"] * rows,
        "income": [1.0] * rows,
        "price": [100.0 + i for i in range(rows)],
    }
    for name, (place, value) in broken.items():
        columns[name][place] = value
    return pl.DataFrame(columns)


def sift(rows, decisions=None, share=0.01):
    typed, unreadable = values.converted(rows, TABLE)
    reading = Reading(typed, TABLE, unreadable=unreadable, raw=rows)
    return usable_rows.sift(reading, decisions or Decisions(), share=share)


@pytest.fixture
def here(tmp_path):
    return Project(tmp_path)


def test_one_broken_row_is_set_aside_with_its_reason_and_the_others_are_used():
    found = sift(flats(size=(7, 9000)))
    assert found.refused == []
    assert found.rows.height == 199
    assert 7 not in found.rows["id"]
    (row,) = found.aside
    assert (row.key, row.reasons) == ("id 7", ["size outside [10, 500] (9000)"])
    assert "1 row was set aside" in found.sentence


def test_beyond_the_share_everything_is_refused_with_every_failure():
    rows = flats(size=(7, 9000), price=(8, 0.5), zone=(9, "b"))
    found = sift(
        rows.with_columns(pl.when(pl.col("id") < 2).then(5).otherwise("size").alias("size"))
    )
    assert found.aside == []
    assert {failure.rule.column for failure in found.refused} == {"size", "price"}
    with pytest.raises(DataError, match=r"4 of 200 rows would be set aside \(2.00 %\)"):
        quarantine.refuse_if_broken(found, TABLE)


@pytest.mark.parametrize(
    "change",
    [{"zone": pl.lit([1.5])}, {"price": pl.lit(5.0)}, {"size": pl.lit(None, dtype=pl.Int64)}],
    ids=["a type", "a constant target", "a column of nothing"],
)
def test_what_is_wrong_with_the_whole_table_is_refused_at_any_share(change):
    found = sift(flats().with_columns(**change), share=0.5)
    assert found.refused


def test_a_missing_column_is_refused_at_any_share():
    assert "is missing" in str(sift(flats().drop("zone"), share=0.5).refused[0])


def test_of_rows_with_one_key_all_are_set_aside_until_one_is_let_in():
    rows = pl.concat([flats(), flats(1).with_columns(size=pl.lit(77, dtype=pl.Int64))])
    found = sift(rows)
    assert [row.key for row in found.aside] == ["id 0", "id 0"]
    assert found.rows.height == 199
    one = found.aside[1]
    let_in = sift(rows, Decisions(released=frozenset([one.id])))
    assert let_in.rows.filter(pl.col("id") == 0)["size"].to_list() == [77]
    assert len(let_in.aside) == 1
    both = Decisions(released=frozenset(row.id for row in found.aside))
    assert "stands more than once" in str(sift(rows, both).refused[0])


def test_a_released_row_is_used_in_spite_of_its_rule_and_a_dropped_one_stays_out():
    rows = flats(size=(7, 9000))
    (row,) = sift(rows).aside
    released = sift(rows, Decisions(released=frozenset([row.id])))
    assert (released.rows.height, released.released, released.aside) == (200, 1, [])
    gone = Decisions(dropped=frozenset([row.id]), dropped_keys=frozenset([row.key_digest]))
    dropped = sift(rows, gone)
    assert (dropped.rows.height, dropped.dropped, dropped.aside) == (199, 1, [])


def test_a_dropped_row_stays_out_when_its_rule_is_widened_and_its_key_may_come_again():
    rows = flats(size=(7, 400))
    (row,) = aside_rows.entries(Reading(rows, TABLE), [], [7])
    gone = Decisions(dropped=frozenset([row.id]), dropped_keys=frozenset([row.key_digest]))
    assert 7 not in sift(rows, gone).rows["id"]
    assert 7 in sift(flats(), gone).rows["id"]


def test_a_row_has_one_id_however_its_columns_are_stored():
    rows = flats(size=(7, 9000))
    small = {"size": pl.Int16, "id": pl.Float64, "income": pl.Float32}
    (one,), (two,) = sift(rows).aside, sift(rows.cast(small)).aside
    assert one.id == two.id


def test_nothing_sensitive_stands_in_the_quarantine():
    (row,) = sift(flats(income=(3, 1234.5))).aside
    assert "1234" not in str(row)
    assert row.content["income"] == aside_rows.HIDDEN
    assert row.reasons == ["income outside [0, 9]"]


@pytest.mark.parametrize(
    ("broken", "fixed"),
    [
        ({"price": (3, None)}, "price has no value"),
        ({"price": (3, -1.0)}, "price has no logarithm"),
        ({"income": (3, float("inf"))}, "income is infinite"),
    ],
)
def test_what_no_model_could_learn_from_is_never_released(here, broken, fixed):
    found = sift(flats(**broken))
    quarantine.keep(here, found.aside, reading="table", now=NOW)
    store = quarantine.connect(here)
    with pytest.raises(QuarantineError, match=fixed):
        store.decide([found.aside[0].id], quarantine.RELEASED, "", now=NOW)
    store.decide([found.aside[0].id], quarantine.DROPPED, "", now=NOW)
    store.close()


def test_a_row_that_is_found_again_is_one_entry_and_a_corrected_one_is_gone(here):
    def read(rows, day):
        return quarantine.sifted(
            here, Reading(rows, TABLE), share=0.02, name="table", now=NOW + timedelta(days=day),
            is_whole=True,
        )  # fmt: skip

    read(flats(size=(7, 9000), price=(8, 0.5)), 0)
    read(flats(size=(7, 9000)), 3)
    (entry,) = quarantine.connect(here).waiting()
    assert entry.row.key == "id 7"
    assert (entry.first_seen, entry.last_seen) == (NOW, NOW + timedelta(days=3))


def test_decisions_hold_from_their_instant_on_and_may_be_taken_back(here):
    read = Reading(flats(size=(7, 9000)), TABLE)
    found = quarantine.sifted(here, read, share=0.01, name="table", now=NOW)
    before = quarantine.digest_of(here)
    store, name = quarantine.connect(here), found.aside[0].id
    store.decide([name[:6]], quarantine.RELEASED, "a barn", now=NOW + timedelta(days=1))
    released = quarantine.digest_of(here)
    store.decide([name], quarantine.DROPPED, "no flat", now=NOW + timedelta(days=2))
    assert store.decisions(NOW) == Decisions()
    assert store.decisions(NOW + timedelta(days=1)).released == {name}
    assert store.decisions().dropped == {name}
    assert len({before, released, quarantine.digest_of(here)}) == 3
    assert store.waiting() == []


def test_an_unknown_id_and_an_ambiguous_one_say_where_the_ids_are(here):
    read = Reading(flats(size=(7, 9000), price=(8, 0.5)), TABLE)
    quarantine.sifted(here, read, share=0.5, name="table", now=NOW)
    store = quarantine.connect(here)
    for name in ("nothing", ""):
        with pytest.raises(QuarantineError, match=r"0 rows.*loopbook quarantine"):
            store.find(name)


def test_a_value_that_cannot_be_read_is_not_called_missing_and_not_released():
    raw = flats().with_columns(size=pl.Series(["x7" if i == 7 else "60" for i in range(200)]))
    rows = raw.with_columns(pl.col("size").cast(pl.Int64, strict=False))
    rule = validation.rules.Rule("size", "type", "cannot be read as integer", pl.lit(True))
    mask = pl.Series([i == 7 for i in range(200)])
    unreadable = [validation.rules.Failure(rule, rule.text, mask, ["id 7 (x7)"])]
    reading = Reading(rows, TABLE, unreadable=unreadable, raw=raw)
    found = usable_rows.sift(reading, Decisions(), share=0.01)
    (row,) = found.aside
    assert row.reasons == ["size cannot be read as integer (x7)"]
    assert row.content["size"] == "x7"
    assert row.fixed


@pytest.fixture
def typed(here, monkeypatch):
    """What a person reads of a command in a project with one broken row, and the row's id."""
    for name in ("contract.yaml", "pipeline.yaml"):
        (here.root / name).touch()
    monkeypatch.chdir(here.root)
    monkeypatch.setenv("LOOPBOOK_PROJECT", str(here.root))

    def run(*words: str) -> str:
        done = CliRunner().invoke(main.app, ["quarantine", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_person_lists_looks_at_and_decides_about_a_row(here, typed):
    assert "No row is set aside" in typed()
    strange = flats(zone=(7, "a\x1b[2J"), size=(7, 9000))
    read = Reading(strange, TABLE)
    (row,) = quarantine.sifted(here, read, share=0.01, name="table", now=NOW).aside
    assert typed() == typed("list")
    assert f"{row.id}  waiting   source    2025-06-01 00:00  id 7: size outside" in typed()
    assert "1 wait for a decision" in typed()
    shown = typed("show", row.id[:5])
    assert "\x1b" not in shown
    assert "  size: 9000" in shown
    assert "1 row is released" in typed("release", row.id, "--reason", "a hangar")
    assert "None waits" in typed()
    assert ": a hangar" in typed("show", row.id)
    (listed,) = json.loads(typed("--json"))
    assert (listed["state"], listed["content"]["zone"]) == ("released", "a\x1b[2J")
    assert "1 row is dropped" in typed("drop", row.id)


def test_a_truth_that_the_target_cannot_be_waits_and_is_in_the_log_once_released(here, typed):
    told = Truth("p1", None, 5_000.0, None, 10**15)
    log = prediction_log.connect(here, TABLE)
    log.know_inputs("d", ["size"])
    now = 10**15 - 60_000_000
    entry = Entry("p1", now, now, "m", "1", "champion", None, "predict", None, {}, **MADE)
    log.append([entry])
    ((outcome, known),) = log.told([replace(told, is_aside=True)])
    assert (outcome, known, log.truth_count()[0]) == ("set_aside", None, 0)
    assert log.told([replace(told, prediction_id="nobody", is_aside=True)])[0][0] == "unknown"
    assert aside_truths.faults([5.0, 5_000.0, 0.5], TABLE) == [
        None, "price outside [1, 1,000] (5000.0)", "price outside [1, 1,000] (0.5)",
    ]  # fmt: skip
    row = aside_truths.as_row(told, aside_truths.faults([5_000.0], TABLE)[0], TABLE)
    quarantine.keep(here, [row, row], reading="feedback", now=NOW)
    (waiting,) = quarantine.connect(here).waiting()
    assert waiting.row.key == "prediction p1"
    logged = pl.DataFrame({"id": ["p1", "p2"], "key": ["a", None], "observed": [5_000.0, 5.0]})
    left = aside_truths.without(logged, TABLE, frozenset())["observed"]
    let_in = aside_truths.without(logged, TABLE, frozenset([waiting.row.id]))["observed"]
    assert (left.to_list(), let_in.to_list()) == ([None, 5.0], [5_000.0, 5.0])
    aside_truths.let_in([waiting.row], log, TABLE)
    aside_truths.let_in([waiting.row], log, TABLE)
    assert log.truth_count()[0] == 1
    assert aside_truths.as_row(replace(told, observed=-1.0), "x", TABLE).fixed
    log.close()
