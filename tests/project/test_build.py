"""A build on a sample of the rows ends with a decision of the gate that can be read."""

import json

import pytest

from loopbook.project.files import read_json

pytestmark = pytest.mark.slow


def test_a_build_ends_with_a_decision_and_its_reasons(built):
    decision = read_json(built.var / "build/decision.json")
    assert decision["challenger"]["label"]
    assert decision["sentence"]


def test_a_second_build_runs_nothing(check):
    assert "nothing would run" in check


def test_every_candidate_was_compared_on_the_same_rows(built):
    runs = [read_json(path) for path in sorted(built.var.glob("build/train/*.json"))]
    names = {run["candidate"] for run in runs if "candidate" in run}
    assert {"baseline", "ridge"} <= names


def test_the_executed_notebook_of_each_task_is_kept(built):
    for name in ("ingest", "validate", "evaluate", "promote"):
        notebook = json.loads((built.var / f"build/{name}.ipynb").read_text(encoding="utf-8"))
        assert any(cell.get("execution_count") for cell in notebook["cells"]), name
