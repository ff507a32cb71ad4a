"""Notebooks: their files, read or refused in a sentence, and the kernel that each runs in.

It decides what a notebook file must be to run in a pipeline, and in which
kernel it runs. Editors save much that does not matter (their kernel's name, no
metadata at all, other line ends), and some that nothing can read.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopbook.project.errors import NotebookError
from loopbook.project.files import conflict_line

OURS = "python3"  # the kernel of this environment, which ipykernel always brings
PYTHON = ("python", "python3", "ipython", "")


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook file of format 4.

    Raises
    ------
    NotebookError
        If it cannot be read: what it is instead, and what to do.
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise NotebookError(f"{shown}: is not UTF-8 text. Save it as UTF-8.") from None
    except OSError as reason:
        raise NotebookError(
            f"{shown}: cannot be read ({reason.strerror}). Put it back, for example from git: "
            f"git checkout -- '{shown}'"
        ) from None
    if not text.strip("\ufeff \r\n\t"):
        raise NotebookError(f"{shown}: is empty. Put it back: git checkout -- '{shown}'")
    if text.startswith("\ufeff"):
        raise NotebookError(
            f"{shown}: begins with a byte order mark, which no notebook has. "
            "Save it as UTF-8 without one (in an editor: UTF-8, not UTF-8 with BOM)."
        )
    if line := conflict_line(text):
        raise NotebookError(
            f"{shown}: a merge conflict stands in line {line}. Resolve it: nbdime mergetool, or take "
            f"one side with git checkout --ours '{shown}' (or --theirs)."
        )
    try:
        content = json.loads(text)
    except ValueError as reason:
        at = f"line {reason.lineno}: {reason.msg}" if hasattr(reason, "lineno") else str(reason)
        raise NotebookError(
            f"{shown}: is no notebook ({at}). Put it back: git checkout -- '{shown}'"
        ) from None
    return _checked(content, shown)


def _checked(content: Any, shown: str) -> dict[str, Any]:
    """A notebook's content, if it has the parts that everything here relies on."""
    number = content.get("nbformat") if isinstance(content, dict) else None
    if number in (1, 2, 3):
        raise NotebookError(
            f"{shown}: is of notebook format {number}, expected 4. "
            f"Convert it: jupyter nbconvert --to notebook --inplace '{shown}'"
        )
    if number != 4:
        found = f"format {number}" if number is not None else "no notebook format"
        raise NotebookError(
            f"{shown}: has {found}, expected a notebook of format 4. "
            "Save it with JupyterLab: make lab"
        )
    cells = content.get("cells")
    is_whole = isinstance(cells, list) and all(_is_cell(cell) for cell in cells)
    if not is_whole or not isinstance(content.get("metadata"), dict):
        raise NotebookError(
            f"{shown}: is no whole notebook, expected metadata and a list of cells, each with a "
            f"type and a source. Put it back: git checkout -- '{shown}'"
        )
    return content


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
        return False
    source = cell.get("source")
    return isinstance(source, str) or (
        isinstance(source, list) and all(isinstance(line, str) for line in source)
    )


def kernel_of(notebook: dict[str, Any]) -> str:
    """The kernel that a notebook runs in: this environment's, unless it is of another language.

    An editor saves the name of its own kernel, which is that of a folder on
    one machine, or of an environment that has no loopbook.
    """
    metadata = notebook.get("metadata", {})
    saved = metadata.get("kernelspec") or {}
    language = saved.get("language") or (metadata.get("language_info") or {}).get("name") or ""
    if str(language).lower() not in PYTHON and saved.get("name"):
        return str(saved["name"])
    return OURS


def code_of(path: Path) -> str:
    """All the code of a notebook, as Python: magics are what IPython makes of them.

    Raises
    ------
    NotebookError
        If it cannot be read, or a cell is no Python.
    """
    return "\n".join(_python_of(path))


def _python_of(path: Path) -> Iterator[str]:
    cells = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        try:
            ast.parse(source)
        except (SyntaxError, ValueError):
            source = _without_magics(source, f"{path.name}, code cell {number}")
        yield source


def _without_magics(source: str, where: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        python = TransformerManager().transform_cell(source)
        ast.parse(python)
    except (SyntaxError, ValueError) as reason:
        line = getattr(reason, "lineno", None)
        at = f", line {line}" if line else ""
        message = getattr(reason, "msg", None) or str(reason)
        raise NotebookError(
            f"{where}{at}: is no Python ({message}). Nothing was run; correct the cell."
        ) from None
    return python
