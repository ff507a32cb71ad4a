"""Reached code: which cells and modules of a version's code its build ran.

It decides what of a tree counts: the notebooks of the pipeline, and each module
that one of them imports, directly or through others. An executed notebook
stands before the file of that name, since it is what ran.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loopbook.models import own_candidates
from loopbook.pipeline.digests import CANDIDATES
from loopbook.pipeline.module_code import PACKAGE
from loopbook.provenance import code_changes
from loopbook.provenance.code_changes import Cell
from loopbook.provenance.git_trees import Tree
from loopbook.provenance.version_parts import LIBRARY, VersionParts


def task_of_notebook(task: Mapping[str, Any]) -> str:
    """A task of pipeline.yaml as its executed notebook is called; one of a grid by its beginning."""
    return str(task.get("name", "")).partition("-[[")[0]


def sources(parts: VersionParts) -> dict[str, str]:
    """From each task of the pipeline to its notebook's path; empty where no pipeline was kept."""
    tasks = (parts.pipeline or {}).get("tasks") or []
    return {task_of_notebook(t): str(t.get("source")) for t in tasks if isinstance(t, dict)}


def notebooks(parts: VersionParts) -> dict[str, Sequence[Cell]]:
    """The cells of each notebook by its task: as executed, else as the tree has it."""
    found = {task: code_changes.cells(told) for task, told in parts.notebooks.items()}
    for task, path in sources(parts).items():
        content = parts.tree.content.get(path) if parts.tree else None
        if task not in found and content is not None:
            cells = _cells_of(content)
            found |= {task: cells} if cells is not None else {}
    return found


def _cells_of(content: bytes) -> list[Cell] | None:
    import json

    try:
        return code_changes.cells(json.loads(content))
    except (ValueError, LookupError, TypeError):
        return None


def modules(tree: Tree, cells: Iterable[Cell]) -> dict[str, str]:
    """The text of every module that some cells reach, by its path in the tree."""
    waiting = {name for cell in cells if cell.is_code for name in _imported(cell.source)}
    found: dict[str, str] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name == f"{PACKAGE}.{CANDIDATES}":  # it runs the project's own, wherever it is itself
            waiting.add(own_candidates.MODULE)
        if path := _path_of(tree, name):
            found[path] = tree.text(path) or ""
            waiting |= _imported(found[path])
    return found


def _path_of(tree: Tree, name: str) -> str | None:
    """The file of a module in the tree: of the library, or beside the project's contract."""
    inside = name.replace(".", "/")
    if name.partition(".")[0] == PACKAGE:
        inside = f"{LIBRARY}{inside.removeprefix(PACKAGE)}"
    return next((p for p in (f"{inside}.py", f"{inside}/__init__.py") if p in tree.names), None)


def _imported(source: str) -> set[str]:
    """What a text imports, each with every package above it; nothing of what is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    dotted: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            dotted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in dotted]
    return {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
