"""What is said of a failing cell: its line, the error, and no wall of frames."""

import json

import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill.exceptions import PapermillExecutionError

from loopbook.pipeline.failures import describe_failure
from loopbook.pipeline.tasks import Task


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """What is said of a cell that was run and has failed, as a kernel tells it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.syspath_prepend(str(tmp_path))
    shell, told = InteractiveShell.instance(), []
    shell.history_manager.enabled = False
    monkeypatch.setattr(shell, "_showtraceback", lambda *error: told.append(error))

    def fail(cell: str) -> str:
        shell.run_cell(cell, store_history=True)
        name, value, lines = told[-1]
        markdown = {"cell_type": "markdown", "metadata": {}, "source": "## Is it so?"}
        code = {"cell_type": "code", "metadata": {}, "source": cell}
        (tmp_path / "out.ipynb").write_text(json.dumps({"cells": [markdown, code]}))
        error = PapermillExecutionError(1, 1, cell, name.__name__, str(value), lines)
        task = Task("evaluate", "notebooks/e.ipynb", {}, {}, {"nb": str(tmp_path / "out.ipynb")})
        return describe_failure(task, error)

    yield fail
    InteractiveShell.clear_instance()


@pytest.mark.medium
def test_the_line_of_the_cell_stands_beside_its_number_and_the_error(failed):
    said = failed("rows = 3\nshare = rows / none_of_it\nprint(share)")
    assert said.startswith(
        "evaluate failed in notebooks/e.ipynb, code cell 1 (Is it so?), line 2:\n\n"
        "    share = rows / none_of_it\n\n"
        "NameError: name 'none_of_it' is not defined\n\n"
    )


@pytest.mark.medium
def test_frames_of_packages_are_counted_and_a_line_of_the_persons_own_file_is_named(
    failed, tmp_path
):
    (tmp_path / "mine.py").write_text(
        "import json\n\ndef read(text):\n    return json.loads(text)\n"
    )
    said = failed("import mine\nmine.read('{')")
    assert "    mine.read('{')\n\nJSONDecodeError: Expecting property name" in said
    assert "  in mine.py, line 4\n  raised in json/decoder.py, line" in said
    assert "more frames: see the executed notebook)" in said or "more frame: see" in said
    assert len(said.splitlines()) < 14


@pytest.mark.medium
def test_a_cell_that_is_no_python_and_the_last_error_of_a_chain_have_their_own_line(failed):
    assert "line 2:\n\n    x = = 3\n\nSyntaxError: " in failed("y = 1\nx = = 3")
    chained = "try:\n    {}['a']\nexcept KeyError as gone:\n    raise ValueError('no a') from gone"
    assert "line 4:\n\n    raise ValueError('no a') from gone\n\nValueError: no a\n\n" in failed(
        chained
    )
