"""What a shell offers at the Tab key is what there is: commands, tasks, knobs, versions."""

import os
import shutil
import subprocess
import sys

import pytest
from small_house import ROOT, make_project

from loopbook.cli import completion
from loopbook.engines.known import ENGINES
from loopbook.loop.scenarios import SCENARIOS
from loopbook.pipeline import tasks
from loopbook.project.paths import Project


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    here = Project(make_project(tmp_path / "house"))
    shutil.copy(ROOT / "tune.yaml", here.root)
    monkeypatch.chdir(here.root)
    monkeypatch.delenv("LOOPBOOK_PROJECT", raising=False)
    return here


def words(complete: completion.Complete, begun: str = "") -> list[str]:
    return [word for word, _ in complete(begun)]


@pytest.mark.medium
def test_tasks_scenarios_and_engines_are_those_that_there_are(project):
    planned = {task.name for task in tasks.resolve(project, only="")}
    assert set(words(completion.tasks)) == planned
    assert words(completion.tasks, "train-r") == ["train-ridge", "train-robust"]
    assert set(completion.SCENARIOS) == set(SCENARIOS)
    assert set(completion.ENGINES) == set(ENGINES)


def test_a_knob_is_offered_with_the_value_that_it_has(project):
    told = dict(completion.knobs("gate_mar"))
    assert told == {"gate_margin=": "0.015 in env.yaml"}
    assert words(completion.tuned, "hist") == ["hist_gradient_boosting"]


def test_where_nothing_can_be_read_nothing_is_offered_and_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOOPBOOK_PROJECT", raising=False)
    for complete in (completion.knobs, completion.tasks, completion.versions, completion.snapshots):
        assert complete("") == []
    assert words(completion.named_versions) == ["champion", "newest"]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("loopbook sta", "status"),
        ("loopbook replay bad-ch", "bad-champion"),
        ("loopbook build --set gate_lat", "gate_latency_ms="),
    ],
)
def test_bash_is_told_the_words(project, typed, expected):
    asked = {
        "_LOOPBOOK_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    code = "from loopbook.cli.main import app; app(prog_name='loopbook')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, text=True, capture_output=True
    )
    assert done.stdout.split() == [expected], done.stderr
