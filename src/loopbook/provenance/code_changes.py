"""Code changes: which cells and modules two versions were not made alike by.

It decides what counts: cells by their text, not a notebook's JSON; outputs,
execution counts and the cell that a run's parameters were put into do not
count. Of a module, comments and layout do not. Pure: no file, no git.
"""

import ast
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loopbook.pipeline.documents import HIDE_INPUT, as_written
from loopbook.project.counts import counted
from loopbook.provenance.field_changes import ADDED, CHANGED, REMOVED

INJECTED = "injected-parameters"  # the tag that Papermill gives the cell with a run's parameters
MOST_LINES = 40  # of one difference


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook: its type, its tag (empty without one) and its text."""

    kind: str
    tag: str
    source: str

    @property
    def is_code(self) -> bool:
        return self.kind == "code"


@dataclass(frozen=True)
class CodeChange:
    """One cell, or one part of a module, that differs.

    Attributes
    ----------
    file : the notebook, or the module
    part : which cell, or which function or class
    can_matter : False for prose, and for code whose comments or layout alone differ
    lines : the difference, as `diff -u` writes it without its head
    """

    file: str
    part: str
    kind: str
    can_matter: bool
    lines: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def cells(notebook: Mapping[str, Any]) -> list[Cell]:
    """The cells of a notebook, without the one that a run put its parameters into."""
    found = []
    for cell in notebook["cells"]:
        tags = [tag for tag in cell.get("metadata", {}).get("tags", []) if tag != HIDE_INPUT]
        if INJECTED not in tags:
            text = as_written("".join(cell["source"])).rstrip()
            found.append(Cell(cell["cell_type"], tags[0] if tags else "", text))
    return found


def parameters(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """What a run put into a notebook, by name; empty for one that was not run by Papermill."""
    papermill = notebook.get("metadata", {}).get("papermill") or {}
    return dict(papermill.get("parameters") or {})


def compare_notebooks(
    before: Mapping[str, Sequence[Cell]], after: Mapping[str, Sequence[Cell]]
) -> list[CodeChange]:
    """The cells that differ, notebook by notebook."""
    found = []
    for name in dict.fromkeys([*after, *before]):
        if name not in before or name not in after:
            kind = ADDED if name in after else REMOVED
            count = len(after.get(name) or before.get(name) or [])
            found.append(
                CodeChange(name, f"the notebook, {counted(count, 'cell')}", kind, True, [])
            )
        else:
            found += _cell_changes(name, before[name], after[name])
    return found


def _cell_changes(name: str, before: Sequence[Cell], after: Sequence[Cell]) -> list[CodeChange]:
    one, other = ([(cell.kind, cell.source) for cell in side] for side in (before, after))
    found = []
    for how, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if how != "equal":
            found += list(_block(name, list(enumerate(before))[a:b], list(enumerate(after))[c:d]))
    return found


def _block(
    name: str, before: list[tuple[int, Cell]], after: list[tuple[int, Cell]]
) -> Iterator[CodeChange]:
    """Cells that stand at one place and are no pair of equals: those that are alike belong together."""
    left = list(before)
    for place, cell in after:
        twin = max(left, key=lambda held: _alike(held[1], cell), default=None)
        if twin is None or _alike(twin[1], cell) < 0.5:
            yield _change(name, place, None, cell)
            continue
        left.remove(twin)
        yield _change(name, place, twin[1], cell)
    for place, cell in left:
        yield _change(name, place, cell, None)


def _alike(one: Cell, other: Cell) -> float:
    """From 0 to 1; cells of one tag stand in for each other, whatever is in them."""
    if one.kind != other.kind:
        return 0.0
    return 1.0 if one.tag and one.tag == other.tag else _ratio(one.source, other.source)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def _change(name: str, place: int, before: Cell | None, after: Cell | None) -> CodeChange:
    cell = after or before
    kind = CHANGED if before and after else ADDED if after else REMOVED
    tag = f" ({cell.tag})" if cell.tag else ""
    texts = [side.source if side else "" for side in (before, after)]
    matters = cell.is_code and not _same_code(*texts)
    what = "cell" if cell.is_code else "text cell"
    return CodeChange(name, f"{what} {place + 1}{tag}", kind, matters, lines_of(*texts))


def compare_modules(before: Mapping[str, str], after: Mapping[str, str]) -> list[CodeChange]:
    """The modules whose code differs, and what in them.

    Parameters
    ----------
    before, after : mapping from a module's name or file to its text
    """
    found = []
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            kind = ADDED if one is None else REMOVED
            found.append(CodeChange(name, "the module", kind, True, []))
        elif not _same_code(one, other):
            parts = ", ".join(_parts_that_differ(one, other)) or "the module"
            found.append(CodeChange(name, parts, CHANGED, True, lines_of(one, other)))
    return found


def _same_code(one: str, other: str) -> bool:
    """Whether two texts are the same code, whatever their comments and layout."""
    if one == other:
        return True
    try:
        return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    except (SyntaxError, ValueError):  # a magic of IPython, or no Python at all
        return False


def _parts_that_differ(one: str, other: str) -> list[str]:
    """Functions, classes and names at the top of a module that are others."""
    try:
        before, after = _tops(one), _tops(other)
    except (SyntaxError, ValueError):
        return []
    return [n for n in dict.fromkeys([*after, *before]) if before.get(n) != after.get(n)]


def _tops(source: str) -> dict[str, str]:
    tops: dict[str, str] = {}
    for node in ast.parse(source).body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        name = getattr(node, "name", None) or getattr(targets[0], "id", None)
        if name is None:
            name = "imports" if isinstance(node, ast.Import | ast.ImportFrom) else "the module"
        tops[name] = tops.get(name, "") + ast.dump(node)
    return tops


def lines_of(before: str, after: str) -> list[str]:
    """The lines that differ, with two lines around; of many the first, and how many more."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))
    lines = lines[2:]  # the names of the files
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"… and {len(lines) - MOST_LINES} lines more"]
