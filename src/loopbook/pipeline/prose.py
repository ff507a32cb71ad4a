"""Prose: the Markdown of a notebook, which no result depends on.

It decides what of a notebook makes its task run again, which is its code alone,
and how the document of a finished task takes over prose that was written later:
with all outputs as they were. It runs nothing.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from loopbook.pipeline.documents import as_document
from loopbook.pipeline.notebooks import read_notebook
from loopbook.project.errors import NotebookError
from loopbook.project.files import replacing

BETWEEN = "\n# %%\n"  # a cell that was cut in two is another notebook
INJECTED = "injected-parameters"
MARKER = "papermill-error-cell-tag"


def code(cells: Iterable[Mapping[str, Any]]) -> str:
    """The code of some cells, as one text."""
    return BETWEEN.join(_source(cell) for cell in cells if cell["cell_type"] == "code")


def is_behind(notebook: Path, document: Path) -> bool:
    """Whether an executed notebook has other prose than its notebook, and the same code."""
    return _renewed(notebook, document) is not None


def renew(notebook: Path, document: Path) -> None:
    """Give an executed notebook the prose that its notebook has now; outputs stay."""
    if renewed := _renewed(notebook, document):
        with replacing(document) as target:
            target.write_text(nbformat.writes(renewed) + "\n", encoding="utf-8")


def _renewed(notebook: Path, document: Path) -> nbformat.NotebookNode | None:
    try:
        if notebook.stat().st_mtime_ns <= document.stat().st_mtime_ns:
            return None
        now, ran = read_notebook(notebook), read_notebook(document)
    except (OSError, NotebookError):
        return None
    as_document(now)  # read for this alone
    done = [cell for cell in ran["cells"] if MARKER not in _tags(cell)]
    own = [cell for cell in done if INJECTED not in _tags(cell)]
    is_other_code = code(now["cells"]) != code(own)
    if is_other_code or _prose(now["cells"]) == _prose(own):
        return None
    # each code cell as it ran, with what was injected after it
    executed: list[list[Mapping[str, Any]]] = []
    for cell in done:
        if INJECTED in _tags(cell) and executed:
            executed[-1].append(cell)
        elif cell["cell_type"] == "code":
            executed.append([cell])
    cells: list[Mapping[str, Any]] = []
    for cell in now["cells"]:
        cells += executed.pop(0) if cell["cell_type"] == "code" else [cell]
    return nbformat.from_dict({**ran, "cells": cells})


def _prose(cells: Iterable[Mapping[str, Any]]) -> list[str | None]:
    """The text of each cell that is no code, and where the others stand."""
    return [None if cell["cell_type"] == "code" else _source(cell) for cell in cells]


def _source(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return (cell.get("metadata") or {}).get("tags", [])
