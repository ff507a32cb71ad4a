"""The contract and the knobs are in order, and the source is as the contract says."""

import re

import pytest

from loopbook.data import sources
from loopbook.project.contract import read_contract
from loopbook.project.errors import ContractError
from loopbook.project.knobs import read_knobs


def test_the_contract_and_every_knob_can_be_read(project):
    assert read_contract(project.contract).name
    assert read_knobs(project.knobs).random_seed >= 0


def test_the_source_has_every_column_of_the_contract(project):
    contract = read_contract(project.contract)
    rows = sources.read_source(contract, project.root)
    assert set(contract.columns) <= set(rows.columns)
    assert rows.height > 0


def test_a_key_that_nobody_knows_is_refused(project, tmp_path):
    """A slip of the pen in the contract is found before anything runs."""
    path = tmp_path / "contract.yaml"
    path.write_text(project.contract.read_text(encoding="utf-8") + "\nevent_tme: day\n")
    with pytest.raises(ContractError, match=re.escape("event_tme: unknown key")):
        read_contract(path)
