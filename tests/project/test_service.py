"""The service answers the contract's own example, and refuses what it does not know."""

import math

import pytest

from loopbook.project.contract import read_contract

pytestmark = pytest.mark.slow


@pytest.fixture
def contract(built):
    return read_contract(built.contract)


@pytest.fixture
def example(contract) -> dict:
    """The contract's example of a row, at an instant where the contract knows one."""
    row = {name: feature.example for name, feature in contract.features.items()}
    return row | ({"as_of": "2030-01-01T00:00:00+00:00"} if contract.event_time else {})


def test_it_answers_the_contracts_example_with_a_number(service, contract, example):
    answer = service.post("/predict", json=example)
    assert answer.status_code == 200, answer.text
    assert math.isfinite(answer.json()[f"predicted_{contract.target.name}"])


def test_the_same_row_as_a_query_gets_the_same_answer(service, contract, example):
    query = {n: str(v).lower() if isinstance(v, bool) else v for n, v in example.items()}
    asked = service.get("/predict", params=query).json()
    sent = service.post("/predict", json=example).json()
    name = f"predicted_{contract.target.name}"
    assert asked[name] == sent[name]


def test_an_unknown_field_is_refused_by_its_name(service, example):
    answer = service.post("/predict", json=example | {"no_such_field": 1})
    assert answer.status_code == 422
    assert "no_such_field" in answer.text


def test_ground_truth_is_taken_by_the_predictions_id(service, contract, example):
    name = service.post("/predict", json=example).json()["prediction_id"]
    observed = sum(contract.target.range or (0, 1)) / 2
    answer = service.post("/feedback", json={"prediction_id": name, "observed": observed})
    assert answer.json()["accepted"] == 1
