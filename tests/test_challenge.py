"""Who may judge whom: rows that a champion knows by heart do not count."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from small_house import ROOT

from loopbook.data import splits
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import LoopbookError
from loopbook.registry.challenge import Champion, check_contract, seen_by_champion, unseen_rows
from loopbook.registry.tracking import Version

START = datetime(2025, 1, 1, tzinfo=UTC)
ROWS = pl.DataFrame({"event_ts": [START + timedelta(days=d) for d in range(100)]})


def champion(until: int) -> Champion:
    end = (START + timedelta(days=until)).isoformat()
    fitted = {"since": START.isoformat(), "until": end, "key_fraction": None}
    return Champion(Version("m", "1", "r", {}), b"", {"fitted": fitted})


def test_only_rows_after_the_champions_training_judge():
    contract = Contract.model_construct(key=["id"])
    judged = unseen_rows(ROWS, champion(60), contract, None)
    assert judged.height == 40
    assert seen_by_champion(judged, champion(60), contract, None) == 0


def test_a_contract_that_changed_while_the_build_ran_promotes_nothing():
    table = read_contract(ROOT / "contract.yaml")
    known = {"contract": table.digest()[:16]}
    check_contract(table, known)
    check_contract(table, None)
    changed = table.model_copy(update={"label_delay_days": 8})
    with pytest.raises(LoopbookError, match="changed while this build ran"):
        check_contract(changed, known)


def test_where_the_champion_has_seen_nearly_all_rows_the_gate_is_told():
    """All rows come back to be looked at, and 90 of 100 do not count."""
    contract = Contract.model_construct(key=["id"])
    judged = unseen_rows(ROWS, champion(90), contract, None)
    assert judged.height == 100
    assert judged.height - seen_by_champion(judged, champion(90), contract, None) == 10


def test_a_champion_is_judged_on_the_groups_that_it_was_not_fitted_on():
    """By the group of its own build, whatever the contract says now."""
    rows = pl.DataFrame({"id": range(400), "bird": [str(n // 4) for n in range(400)]})
    fitted = {"since": None, "until": None, "key_fraction": 0.3, "group": "bird"}
    held = Champion(Version("m", "1", "r", {}), b"", {"fitted": fitted})
    judged = unseen_rows(rows, held, Contract.model_construct(key=["id"], group=None), None)
    expected = splits.key_fraction(rows, ["bird"]) < 0.3
    assert judged["id"].to_list() == rows.filter(expected)["id"].to_list()
    assert 30 <= judged.height < 400
