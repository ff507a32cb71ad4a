"""The grown table: what came back from the service, each once, and nothing broken."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_once import copied
from served import answer, sales

from loopbook.data import quarantine, served_rows, sources
from loopbook.data.aside_rows import Reading
from loopbook.data.prediction_log import connect
from loopbook.project import clock, contract, paths
from loopbook.records import windows as window_records

pytestmark = pytest.mark.medium

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
    for stale in [*house.glob("var/predictions.db*"), *house.glob("var/quarantine.db*")]:
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


def strange(rows: pl.DataFrame, **values: object) -> pl.DataFrame:
    """Rows of which the first has these values."""
    first = pl.int_range(pl.len()) == 0
    return rows.with_columns(
        pl.when(first).then(pl.lit(value)).otherwise(name).alias(name)
        for name, value in values.items()
    )


@pytest.mark.parametrize(
    "value", ["<img src=x onerror=alert(1)>", "\x00\x1b[2J", "9" * 5_000, "nan", "98115.5"]
)
def test_a_category_that_the_source_could_not_hold_stops_nothing(here, value):
    """Once answered and given its truth, it ended monitor, features materialize and every build."""
    answer(sales(START, END)[:20], lambda rows: strange(rows, zipcode=value), keyed=True)
    known, _, served = grown(here)
    back = known.filter(pl.col(clock.EVENT_TS) >= START).height
    assert back + len(served.aside) == 20
    assert back >= 19


@pytest.mark.parametrize("observed", [-5.0, 0.0, 1e308, 1e-300])
def test_a_truth_that_cannot_be_is_set_aside_and_may_be_looked_at(here, observed):
    def told(prices):
        return np.concatenate([[observed], prices[1:]])

    answer(sales(START, END)[:20], truth=told, keyed=True)
    known, _, served = grown(here)
    assert known.filter(pl.col(clock.EVENT_TS) >= START).height == 19
    (entry,) = quarantine.connect(here).waiting()
    assert entry.row.origin == "served"
    assert entry.row.reasons[0].startswith("price outside [10,000, 20,000,000]")
    assert served.left_out["they break the contract"] == 1


def test_a_released_served_row_comes_back_and_a_dropped_one_stays_out(here):
    answer(sales(START, END)[:20], lambda rows: strange(rows, bedrooms=33), keyed=True)
    grown(here)
    store = quarantine.connect(here)
    (entry,) = store.waiting()
    store.decide([entry.row.id], quarantine.RELEASED, "", now=LATER)
    known = grown(here)[0].filter(pl.col(clock.EVENT_TS) >= START)
    assert known["bedrooms"].max() == 33
    table = contract.read_contract(here.contract)
    sifted = quarantine.sifted(here, Reading(known, table), share=0, name="table", now=LATER)
    assert (sifted.rows.height, sifted.released) == (20, 1)
    store.decide([entry.row.id], quarantine.DROPPED, "", now=LATER)
    known, _, served = grown(here)
    assert known.filter(pl.col(clock.EVENT_TS) >= START).height == 19
    assert served.left_out["a person dropped them"] == 1


@pytest.mark.parametrize("day", [date(9999, 12, 31), date(2019, 5, 1)])
def test_a_day_that_a_request_only_says_does_not_move_a_build(here, day):
    rows = strange(sales(START, END)[:20], date=day)
    answer(rows, keyed=True)
    known, meant, served = grown(here, as_of=None)
    assert meant <= END
    assert known[clock.EVENT_TS].max() <= END
    assert sum(served.left_out.values()) >= 1


def test_what_came_back_is_a_sentence_of_none_one_and_many():
    rows = pl.DataFrame({"a": [1, 2]})
    assert served_rows.Served().sentence == "No served row with ground truth came back"
    assert served_rows.Served(rows.head(1)).sentence == "1 served row with ground truth came back"
    left = served_rows.Served(rows, {"without a key": 1, "broken": 2, "twice": 0}).sentence
    assert left == (
        "2 served rows with ground truth came back; 1 was left out (without a key); "
        "2 were left out (broken)"
    )
