"""The plan without Ploomber: it says what Ploomber would run, and one task of it runs alone."""

import json
import re
import subprocess
import sys
import warnings

import pytest
from small_graph import project as small_project
from small_house import ROOT, environment

from loopbook.pipeline import graph, runs, task_runs, tasks
from loopbook.pipeline.planned import task_of
from loopbook.project.errors import BuildFailed, BuildRunning, KnobError
from loopbook.project.paths import Project
from loopbook.records import seals

GRAPH = """
executor: {dotted_path: loopbook.pipeline.graph.NotebookExecutor, workers: 1}
tasks:
  - {source: notebooks/last.ipynb, name: last, product: {nb: var/build/last.ipynb}}
  - source: notebooks/grid.ipynb
    name: of-[[kind]]
    grid:
      - {kind: [long, short], size: [1]}
      - {kind: {dotted_path: "builtins::list", iterable: x}, size: 3}
    params: {random_seed: "{{random_seed}}", text: "seed {{random_seed}}", fixed: [1, {a: b}]}
    product: {nb: "var/build/[[kind]].ipynb", rows: "var/build/[[kind]].tar.gz"}
  - source: notebooks/grid.ipynb
    name: numbered
    grid: {random_seed: [5, 6]}
    product: {nb: var/build/numbered.ipynb}
  - {source: notebooks/first.ipynb, name: first, product: {nb: var/build/first.ipynb}}
"""
NOTEBOOKS = {
    "last": (["numbered*", "first"], "1"),
    "grid": (["first"], "2"),
    "first": (None, "3"),
}
TWO = """
tasks:
  - source: notebooks/first.ipynb
    name: first
    params: {random_seed: "{{random_seed}}"}
    product: {nb: var/build/first.ipynb, text: var/build/first.txt}
  - {source: notebooks/last.ipynb, name: last, product: {nb: var/build/last.ipynb}}
"""
WRITES = 'from pathlib import Path\nPath(product["text"]).write_text(f"seed {random_seed}")'
READS = 'text = open(upstream["first"]["text"]).read()\nassert text == "seed 7", "another seed"'


def planned(here: Project, path=None) -> dict[str, tasks.Task]:
    return {task.name: task for task in tasks.resolve(here, graph=path)}


def same(ours: dict[str, tasks.Task], dag) -> None:
    """Whether each task of ours is Ploomber's, but for the moment in which it was resolved."""
    theirs = {name: task_of(task) for name, task in dag.items()}
    assert ours.keys() == theirs.keys()
    for name, task in theirs.items():
        for one in (task, ours[name]):
            (one.parameters.get("depends_on") or {}).pop("moment", None)
        assert (task.parameters, task.needs) == (ours[name].parameters, ours[name].needs)
        assert (task.notebook, task.products) == (ours[name].notebook, ours[name].products)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["graph", "monitor_graph"])
def test_the_plan_of_a_graph_here_is_what_ploomber_resolves(name):
    here = Project(ROOT)
    path = getattr(here, name)
    same(planned(here, path), graph.load_graph(here, graph=path))


def test_a_grid_of_any_form_and_any_parameter_is_what_ploomber_resolves(tmp_path, monkeypatch):
    text = GRAPH.replace('{dotted_path: "builtins::list", iterable: x}', "[wide]")
    here = small_project(tmp_path / "p", text, **NOTEBOOKS)
    monkeypatch.chdir(here.root)
    warnings.filterwarnings("ignore", "These parameters are not used")  # of the little notebooks
    ours = planned(here)
    assert next(iter(ours)) == "first"
    assert ours["of-short"].knobs == ("random_seed",)
    assert ours["of-wide"].products["rows"].endswith("var/build/wide-2.tar.gz")
    same(ours, graph.load_graph(here))


WRONG = {
    "serializer": ("tasks:", "serializer: x\ntasks:", "serializer, which only Ploomber knows"),
    "client": ("name: first,", "name: first, client: x,", "'first' has client, which only"),
    "script": ("first.ipynb, name", "first.py, name", "expected a notebook as its source"),
    "no products": ("{nb: var/build/first.ipynb}", "var/build/x.ipynb", "expected products by name"),
    "no knob": ("seed {{random_seed}}", "{{nothing}}", "'nothing' is no knob of env.yaml"),
    "no function": ('{dotted_path: "builtins::list", iterable: x}', "{dotted_path: a.b}", "a.b cannot"),
    "two": ("name: numbered", "name: first", "names 'numbered*' as upstream"),
    "no list": ("tasks:", "things:", "expected a list `tasks`"),
    "no yaml": ("tasks:", "tasks: [", "cannot be used, and nothing was run"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_what_a_graphs_file_may_not_say_is_refused_in_a_sentence(fault, tmp_path):
    old, new, said = WRONG[fault]
    text = GRAPH.replace('{dotted_path: "builtins::list", iterable: x}', "[wide]")
    text = text if old not in GRAPH or "dotted" not in old else GRAPH
    here = small_project(tmp_path / "p", text.replace(old, new), **NOTEBOOKS)
    with pytest.raises(BuildFailed, match=re.escape(said)):
        tasks.resolve(here)


def test_tasks_that_wait_for_each_other_are_named(tmp_path):
    both = {"first": (["last"], "1"), "last": (["first"], "1")}
    here = small_project(tmp_path / "p", TWO, **both)
    with pytest.raises(BuildFailed, match="first, last wait for each other"):
        tasks.resolve(here)


@pytest.fixture
def two(tmp_path, monkeypatch) -> Project:
    """Two notebooks: the first writes its seed, the last reads it."""
    here = small_project(tmp_path / "p", TWO, first=(None, WRITES), last=(["first"], READS))
    monkeypatch.chdir(here.root)
    return here


@pytest.mark.medium
def test_a_task_runs_alone_as_in_a_build_and_ploomber_is_not_imported(two):
    code = (
        "import sys; sys.modules['ploomber'] = None\n"
        "from loopbook.cli import main; sys.argv = ['loopbook', 'task', sys.argv[1]]; main.main()"
    )
    for name in ("first", "last"):
        words = [sys.executable, "-c", code, name]
        done = subprocess.run(
            words, cwd=two.root, env=environment(two.root), text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert (two.var / "build/first.txt").read_text() == "seed 7"
    assert {"var/build/first.txt", "var/build/last.ipynb"} <= seals.read(two).seals.keys()
    assert json.loads((two.var / "build/outcome.json").read_text())["failed"] is False
    assert graph.stale_tasks(two) == ["first", "last"]  # Ploomber takes nothing on trust


@pytest.mark.medium
def test_a_task_that_fails_is_told_in_one_block_and_leaves_no_seal(two):
    task_runs.run(two, "first", {"random_seed": "8"})
    with pytest.raises(BuildFailed) as failed:
        task_runs.run(two, "last")
    assert "last failed in notebooks/last.ipynb, code cell" in str(failed.value)
    assert "A check of the notebook does not hold: another seed" in str(failed.value)
    assert "var/build/last.ipynb" not in seals.read(two).seals
    assert json.loads((two.var / "build/outcome.json").read_text())["failed"] is True


def test_a_task_without_what_it_needs_or_of_another_graph_is_refused(two):
    with pytest.raises(KnobError, match="no task 'middle'; there are first, last"):
        task_runs.run(two, "middle")
    with pytest.raises(BuildFailed, match=r"needs var/build/first\.\w+, which is not there"):
        task_runs.run(two, "last")
    signature = planned(two)["first"].signature(two)
    two.graph.write_text(TWO.replace("first.txt", "first.csv"))
    with pytest.raises(BuildFailed, match=r"written for another graph: .* says other"):
        task_runs.run(two, "first", signature=signature)
    with pytest.raises(BuildFailed, match="yaml has no such task"):
        task_runs.run(two, "gone", signature=signature)
    assert not (two.var / "build").exists()


def test_a_signature_is_the_tasks_own_and_no_value_of_a_knob_counts(two):
    before = planned(two)
    again = {task.name: task for task in tasks.resolve(two, {"random_seed": "8"})}
    two.graph.write_text(TWO.replace("first.txt", "first.csv"))
    after = planned(two)
    assert before["first"].signature(two) == again["first"].signature(two)
    assert before["first"].signature(two) != after["first"].signature(two)
    assert before["last"].signature(two) == after["last"].signature(two)


def test_tasks_run_side_by_side_and_never_beside_a_build(two):
    with runs.only_task(two, "build", "a"), runs.only_task(two, "build", "b"):
        with pytest.raises(BuildRunning, match="task a runs"), runs.only_task(two, "build", "a"):
            raise AssertionError("it began")
        with pytest.raises(BuildRunning, match=r"task [ab] runs"), runs.only_run(two, "build"):
            raise AssertionError("it began")
    with (
        runs.only_run(two, "build"),
        pytest.raises(BuildRunning, match=r"a build runs \(pid \d+\)"),
        runs.only_task(two, "build", "a"),
    ):
        raise AssertionError("it began")
