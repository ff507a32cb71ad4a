"""The grown table: what came back from the service, each once, and nothing broken."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from made_once import copied
from served import answer, sales

from loopbook.data import served_rows, sources
from loopbook.data.prediction_log import connect
from loopbook.project import clock, contract, paths
from loopbook.records import windows as window_records

START, END = datetime(2015, 3, 2, tzinfo=UTC), datetime(2015, 3, 9, tzinfo=UTC)
LATER = END + timedelta(days=7)


@pytest.fixture(scope="module")
def house(line, tmp_path_factory):
    return copied(line, tmp_path_factory.mktemp("served") / "house")


@pytest.fixture
def here(house, monkeypatch):
    """A project whose source ends before March, and whose log is empty."""
    monkeypatch.chdir(house)
    for name, value in paths.Project(house).environment().items():
        monkeypatch.setenv(name, value)
    for stale in house.glob("var/predictions.db*"):
        stale.unlink()
    monkeypatch.setattr(window_records, "listed", lambda _: [])
    return paths.Project(house)


def grown(here, as_of=LATER, before=START):
    table = contract.read_contract(here.contract)
    raw = sources.read_source(table, here.root).filter(pl.col(table.event_time) < before.date())
    return served_rows.known_rows(here, table, raw, as_of, now=clock.utc_now())


def test_every_served_sale_comes_back_once_and_as_it_was(here):
    rows = sales(START, END)
    answer(rows, keyed=True)
    answer(rows[:40], keyed=True)
    known, _, served = grown(here)
    back = known.filter(pl.col(clock.EVENT_TS) >= START)
    assert back.height == rows.height
    assert served.left_out["asked again"] == 40
    table = contract.read_contract(here.contract)
    expected = sources.read_source(table, here.root).join(back, on=table.key, how="semi")
    assert back.select(table.columns).sort(table.key).equals(expected.sort(table.key))


def test_what_the_source_has_too_stands_once(here):
    answer(sales(START, END), keyed=True)
    alone = grown(here, before=END)[0]
    assert alone.height == grown(here)[0].height
    assert not alone.select("id", "date").is_duplicated().any()


def test_ground_truth_counts_from_when_it_was_known(here):
    answer(sales(START, END), keyed=True)
    known, _, _ = grown(here, as_of=START + timedelta(days=9))
    newest = known[clock.EVENT_TS].max()
    assert newest <= START + timedelta(days=2)


def test_what_was_answered_while_inputs_were_broken_is_left_out(here, monkeypatch):
    rows = sales(START, END)
    answer(rows, keyed=True)
    window = {"as_of": END.isoformat(), "current": [(START - timedelta(days=14)).isoformat()] * 2}
    broken = window | {"verdict": {"level": "investigate"}}
    before = {"as_of": (END - timedelta(days=3)).isoformat(), "verdict": {"level": "healthy"}}
    monkeypatch.setattr(window_records, "listed", lambda _: [before, broken])
    known, _, served = grown(here)
    back = known.filter(pl.col(clock.EVENT_TS) >= START)
    assert back[clock.EVENT_TS].max() < END - timedelta(days=3)
    assert served.left_out["inputs were broken then"] == rows.height - back.height > 0


def test_rows_without_a_key_or_beyond_the_contract_are_counted_and_left_out(here):
    rows = sales(START, END)
    answer(rows[:50])
    answer(rows[50:60], truth=lambda observed: observed * 0 + 1, keyed=True)
    _, _, served = grown(here)
    assert served.rows.is_empty()
    assert sum(served.left_out.values()) == 60
    assert served.left_out["they break the contract"] == 10
    assert "50 were left out" in served.sentence


def test_a_build_knows_that_ground_truth_came(here):
    table = contract.read_contract(here.contract)
    assert served_rows.digest_of(here, table) == "none"
    assert not Path(here.var / "predictions.db").exists()
    answer(sales(START, END)[:3], keyed=True)
    before = served_rows.digest_of(here, table)
    assert before != "none"
    log = connect(here, table)
    log.close()
    assert served_rows.digest_of(here, table) == before
    answer(sales(START, END)[3:4], keyed=True)
    assert served_rows.digest_of(here, table) != before
