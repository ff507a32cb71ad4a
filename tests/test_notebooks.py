"""Notebooks as editors save them: what matters not is taken, what cannot be read is named."""

import json
import shutil

import pytest
from small_house import ROOT

from loopbook.pipeline import graph, notebooks, prose
from loopbook.project.errors import BuildFailed, ContractError, LoopbookError, NotebookError
from loopbook.project.mappings import read_mapping
from loopbook.project.paths import Project

VS_CODE = {
    "display_name": "Python 3.11.2 ('venv')",
    "language": "python",
    "name": "python3112jvsc7",
}
CODE = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
CELLS = [
    CODE | {"id": "p", "metadata": {"tags": ["parameters"]}, "source": "upstream = None\nproduct = None"},
    CODE | {"source": ["from pathlib import Path\n", "Path(product['nb'])"]},
]  # fmt: skip
GRAPH = """
executor: {dotted_path: loopbook.pipeline.graph.NotebookExecutor, workers: 2}
tasks:
  - {source: notebooks/a.ipynb, name: a, product: {nb: var/build/a.ipynb}}
"""


def content(**parts) -> dict:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": CELLS} | parts


def written(**parts) -> bytes:
    return json.dumps(content(**parts), indent=1).encode()


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A project whose graph is one notebook."""
    for name in ("contract.yaml", "env.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pipeline.yaml").write_text(GRAPH)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_bytes(written())
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


@pytest.mark.medium
@pytest.mark.parametrize(
    "saved",
    [
        written(metadata={"kernelspec": VS_CODE}),
        written(metadata={"kernelspec": {"name": "gone"}, "language_info": {"name": "python"}}),
        written(metadata={}),
        written(nbformat_minor=2, cells=[{k: v for k, v in c.items() if k != "id"} for c in CELLS]),
        written().replace(b"\n", b"\r\n"),
    ],
    ids=["vs code", "a kernel that is gone", "no kernelspec", "no cell ids", "crlf"],
)
def test_a_notebook_that_an_editor_saved_its_own_way_is_the_same_task(project, saved):
    (project.root / "notebooks" / "a.ipynb").write_bytes(saved)
    dag = graph.load_graph(project)
    assert str(dag["a"].source) == prose.BETWEEN.join("".join(cell["source"]) for cell in CELLS)
    assert dag["a"].source.nb_obj_rendered.metadata.kernelspec.name == "python3"
    assert (project.root / "notebooks" / "a.ipynb").read_bytes() == saved


UNREADABLE = {
    "begins with a byte order mark": b"\xef\xbb\xbf" + written(),
    "a merge conflict stands in line 2": b"{\n<<<<<<< HEAD\n=======\n>>>>>>> theirs\n}",
    "is empty": b" \n",
    "is no notebook (line 1: Expecting value)": b"hello",
    "is no notebook (line 3": written()[:30],
    "of notebook format 3, expected 4. Convert it: jupyter nbconvert": written(nbformat=3),
    "has format 5, expected a notebook of format 4": written(nbformat=5),
    "has no notebook format": b"[]",
    "expected metadata and a list of cells": written(cells=None),
    "expected metadata and a list of cells, each": written(cells=[{"cell_type": "code"}]),
    "is not UTF-8 text": written().decode().encode("utf-16"),
    "code cell 3, line 1: is no Python": written(cells=[*CELLS, CODE | {"source": "a = ("}]),
}


@pytest.mark.medium
@pytest.mark.parametrize(("reason", "saved"), UNREADABLE.items(), ids=list(UNREADABLE))
def test_a_notebook_that_cannot_be_read_is_one_sentence_with_its_name(project, reason, saved):
    path = project.root / "notebooks" / "a.ipynb"
    path.write_bytes(saved)
    with pytest.raises(NotebookError) as told:
        notebooks.code_of(path)
    assert reason in str(told.value)
    assert "a.ipynb" in str(told.value)
    if "no Python" not in reason:
        with pytest.raises(NotebookError, match=r"notebooks/a\.ipynb"):
            graph.load_graph(project)


def test_a_notebook_that_is_gone_is_named(project):
    (project.root / "notebooks" / "a.ipynb").unlink()
    with pytest.raises(NotebookError, match=r"notebooks/a\.ipynb: cannot be read \(No such file"):
        graph.load_graph(project)


def test_magics_are_no_reason_to_stop(project):
    path = project.root / "notebooks" / "a.ipynb"
    path.write_bytes(written(cells=[*CELLS, CODE | {"source": "%matplotlib inline\n!ls"}]))
    assert "run_line_magic('matplotlib', 'inline')" in notebooks.code_of(path)


def test_a_notebook_of_another_language_keeps_its_kernel():
    r = content(metadata={"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}})
    assert notebooks.kernel_of(r) == "ir"


WRONG_GRAPHS = {
    "a merge conflict stands in line 1": "<<<<<<< HEAD\n=======\n>>>>>>> theirs\n",
    "Got invalid YAML": "tasks: [",
    "is empty": "\n",
    "KeyError: 'source'": "tasks: [{name: a, product: {nb: x}}]",
    "unexpected keyword argument 'nope'": GRAPH.replace("workers: 2", "nope: 2"),
    "has no attribute 'items'": GRAPH.replace("name: a,", "name: a, params: text,"),
    "cannot be used": "tasks: a",
    "Missing": GRAPH.replace("product: {nb: var/build/a.ipynb}", "params: {}"),
    "none.ipynb": GRAPH.replace("notebooks/a.ipynb", "notebooks/none.ipynb"),
    "upstream": GRAPH.replace("name: a,", "name: a, upstream: [b],"),
}


@pytest.mark.medium
@pytest.mark.parametrize(("reason", "text"), WRONG_GRAPHS.items(), ids=list(WRONG_GRAPHS))
def test_a_graph_that_cannot_be_used_is_told_by_its_files_name(project, reason, text):
    project.graph.write_text(text)
    with pytest.raises(LoopbookError, match=r"pipeline\.yaml|none\.ipynb") as told:
        graph.load_graph(project)
    assert reason in str(told.value)


def test_a_graph_that_is_gone_is_named(project):
    with pytest.raises(BuildFailed, match=r"pipeline\.monitor\.yaml: cannot be read"):
        graph.load_graph(project, graph=project.monitor_graph)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\n<<<<<<< HEAD\n", "a merge conflict stands in line 2"),
        ("a: {{b}}\n", "line 1: found a list or a mapping as a key"),
        ("a: 2024-13-45\n", "month must be in 1..12"),
        ("a: " + "[" * 3000, "YAML"),
    ],
)
def test_a_yaml_file_that_cannot_be_read_is_one_sentence(tmp_path, text, reason):
    (tmp_path / "contract.yaml").write_text(text)
    with pytest.raises(ContractError, match=r"^contract\.yaml: ") as told:
        read_mapping(tmp_path / "contract.yaml", ContractError)
    assert reason in str(told.value)


def test_a_byte_order_mark_and_crlf_in_yaml_are_taken(tmp_path):
    (tmp_path / "contract.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_mapping(tmp_path / "contract.yaml", ContractError) == {"a": 1, "b": 2}
