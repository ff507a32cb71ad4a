"""What stands on the disk while a notebook runs."""

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill import engines, iorw
from papermill.exceptions import PapermillExecutionError

from loopbook.pipeline.engine import ReportingEngine

# a cell that reads the document that it is a cell of
LOOK = """
import json, pathlib
cells = json.loads(pathlib.Path("executed.ipynb").read_text())["cells"]
print([(cell["metadata"]["papermill"]["status"], len(cell.get("outputs", []))) for cell in cells])
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A notebook of these cells, run by a build's engine; the document, and how often it was written."""
    monkeypatch.setitem(engines.papermill_engines._engines, "of a build", ReportingEngine)
    written = []
    monkeypatch.setattr(
        engines,
        "write_ipynb",
        lambda nb, path: written.append(path) or iorw.write_ipynb(nb, path),
    )

    def run(*cells, fails=False):
        path = tmp_path / "executed.ipynb"
        kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
        nbformat.write(new_notebook(cells=list(cells), metadata=kernel), tmp_path / "source.ipynb")
        try:
            papermill.execute_notebook(
                tmp_path / "source.ipynb",
                path,
                engine_name="of a build",
                progress_bar=False,
                cwd=tmp_path,
            )
        except PapermillExecutionError:
            assert fails
        return nbformat.read(path, as_version=4), len(written)

    return run


@pytest.mark.medium
def test_while_a_cell_runs_the_document_has_all_that_was_done_before_it(run):
    text, *after_it = (new_markdown_cell("prose") for _ in range(3))
    document, written = run(new_code_cell("1 + 1"), text, new_code_cell(LOOK), *after_it)
    before, running, after = ("completed", 1), ("running", 0), ("pending", 0)
    seen = [before, ("completed", 0), running, after, after]
    assert document.cells[2].outputs[0].text.strip() == str(seen)
    done = [cell.metadata.papermill.status for cell in document.cells]
    assert done == ["completed"] * 5
    assert written == 4  # at the start, at each of two code cells, at the end


@pytest.mark.medium
def test_a_cell_that_fails_leaves_its_error_and_nothing_of_those_behind_it(run):
    document, _ = run(new_code_cell("1 / 0"), new_code_cell("1 + 1"), fails=True)
    failed, never = (
        cell
        for cell in document.cells
        if cell.cell_type == "code" and cell.source in ("1 / 0", "1 + 1")
    )
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert failed.metadata.papermill.status == "failed"
    assert (never.outputs, never.metadata.papermill.status) == ([], "pending")
