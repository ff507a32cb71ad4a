"""Prose that is edited: nothing runs, and the document has it."""

import json
from pathlib import Path

import pytest
from small_graph import CELL
from small_graph import project as small_project
from small_house import loopbook

from loopbook.pipeline import graph, prose
from loopbook.project.errors import BuildRunning
from loopbook.project.paths import Project
from loopbook.records import seals

pytestmark = pytest.mark.medium

TWO = """
executor: {dotted_path: loopbook.pipeline.graph.NotebookExecutor, workers: 1}
tasks:
  - source: notebooks/first.ipynb
    name: first
    params: {random_seed: "{{random_seed}}"}
    product: {nb: var/build/first.ipynb, text: var/build/first.txt}
  - {source: notebooks/last.ipynb, name: last, product: {nb: var/build/last.ipynb}}
"""
WRITES = 'from pathlib import Path\nPath(product["text"]).write_text(f"seed {random_seed}")'
LOOKS = 'upstream["first"]'


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def with_cell(path: Path, text: str, at: int, kind: str = "markdown") -> None:
    content = json.loads(path.read_text())
    cell = {"cell_type": kind, "id": f"new{at}{kind}", "metadata": {}, "source": text}
    content["cells"].insert(at, cell if kind == "markdown" else CELL | cell)
    path.write_text(json.dumps(content))


@pytest.fixture
def built(tmp_path, monkeypatch) -> Project:
    here = small_project(tmp_path / "p", TWO, first=(None, WRITES), last=(["first"], LOOKS))
    monkeypatch.chdir(here.root)
    done = loopbook(here.root, "build")
    assert done.returncode == 0, done.stderr[-3000:]
    return here


def test_new_prose_runs_nothing_and_stands_in_the_document_with_all_outputs(built, capsys):
    path, document = (built.root / "notebooks/last.ipynb", built.var / "build/last.ipynb")
    before = [cell for cell in cells(document) if cell["cell_type"] == "code"]
    stamps = {p: p.read_bytes() for p in (built.var / "build").glob(".*.metadata")}
    with_cell(path, "# What is one and one?", 0)
    with_cell(path, "It is two.", 3)
    assert graph.stale_tasks(built) == []
    graph.build(built)
    assert "the documents of last have it now" in capsys.readouterr().out
    after = cells(document)
    assert ["".join(c["source"]) for c in after if c["cell_type"] == "markdown"] == [
        "# What is one and one?",
        "It is two.",
    ]
    assert [cell for cell in after if cell["cell_type"] == "code"] == before
    assert {p: p.read_bytes() for p in stamps} == stamps
    assert seals.read(built).seals["var/build/last.ipynb"] == seals.Seal.of_file(document)
    assert not prose.is_behind(path, document)
    with_cell(path, "2 + 2", 3, kind="code")
    assert graph.stale_tasks(built) == ["last"]


def test_no_document_is_renewed_while_another_build_runs(built):
    from loopbook.pipeline import runs

    with_cell(built.root / "notebooks/first.ipynb", "Words.", 0)
    with runs.only_run(built, "build"), pytest.raises(BuildRunning, match="another build runs"):
        graph.build(built)


def test_a_cell_that_is_cut_in_two_is_other_code_and_a_comment_is_too():
    whole, halves = [CELL | {"source": "a = 1\nb = 2"}], ["a = 1", "b = 2"]
    assert prose.code(whole) != prose.code([CELL | {"source": half} for half in halves])
    assert prose.code([{"cell_type": "markdown", "source": ["x"]}, *whole]) == prose.code(whole)
