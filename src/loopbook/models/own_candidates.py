"""Own candidates: the kinds of model that a project brings, from its candidates.py.

It decides what of that file is a candidate (each public function at its top
level) and which of its code a candidate depends on. It reads the file without
running it; only `load` runs it, in the notebook that trains and in the trial.
"""

import ast
import difflib
import hashlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from loopbook.project.errors import CandidateError, listed
from loopbook.project.paths import Project

FILE = "candidates.py"
MODULE = "candidates"  # under this name skops and pickle find a class that the file defines
# what followed a level by itself, before every version had a calibration state
FOLLOWED = ("relative", "recalibrated")
LET_GO = "calibration does now what it did, so take it out (docs/candidates.md)."


def functions(project: Project) -> dict[str, ast.FunctionDef]:
    """The candidates of a project by name; none if it has no candidates.py.

    Raises
    ------
    CandidateError
        If the file is no Python, defines a candidate twice, or imports a file
        beside it.
    """
    path = project.root / FILE
    if not path.exists():
        return {}
    tree = _tree(path, path.stat().st_mtime_ns)
    public = [node for node in tree.body if _is_candidate(node)]
    defined = Counter(name for node in tree.body for name in _defined(node))
    faults = [
        f"{name} is defined {defined[name]} times; rename or delete all but one"
        for name in dict.fromkeys(node.name for node in public)
        if defined[name] > 1
    ]
    faults += [
        f"it imports {name}, a file beside it: an edit there would rerun no task. "
        f"Move that code into {FILE}, or into a package that is installed"
        for name in sorted(_imported(tree))
        if (project.root / f"{name}.py").exists() or (project.root / name / "__init__.py").exists()
    ]
    if faults:
        raise CandidateError(f"{FILE}: nothing was run.\n{listed(faults)}")
    return {node.name: node for node in public}


def check_names(names: Sequence[str], library: Sequence[str], project: Project) -> list[str]:
    """Those of `names`, from the grid in pipeline.yaml, that are the project's own.

    Raises
    ------
    CandidateError
        With every name that is unknown, listed twice, or taken by the library.
    """
    own = functions(project)
    faults = [
        f"{FILE}: {name} is also a candidate of the library; give yours another name"
        for name in own
        if name in library
    ]
    faults += [
        f"pipeline.yaml: the grid has {name} {count} times; keep one"
        for name, count in Counter(names).items()
        if count > 1
    ]
    for name in dict.fromkeys(names):
        if name not in own and name not in library:
            near = difflib.get_close_matches(name, [*own, *library], n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"define it in {FILE}."
            remedy = LET_GO if name in FOLLOWED else remedy
            faults.append(
                f"pipeline.yaml: found no candidate {name!r}; {remedy} "
                f"There are {', '.join([*library, *own])}"
            )
    if faults:
        raise CandidateError(f"Candidates: nothing was run.\n{listed(faults)}")
    return [name for name in names if name in own]


def digest(name: str, project: Project) -> str | None:
    """SHA-256 over the code that a candidate depends on; None if it is not the project's own.

    Candidates that it does not call do not count, nor do comments and layout.
    All else at the top level of the file counts: imports, constants, classes,
    private functions.
    """
    own = functions(project)
    if name not in own:
        return None
    path = project.root / FILE
    tree = _tree(path, path.stat().st_mtime_ns)
    shared = [node for node in tree.body if not _is_candidate(node)]
    used: set[str] = set()
    waiting = {name} | _named(shared) & own.keys()
    while waiting:
        used |= waiting
        waiting = _named([own[other] for other in waiting]) & own.keys() - used
    kept = [node for node in tree.body if not _is_candidate(node) or node.name in used]
    code = ast.dump(ast.Module(kept, []))
    return hashlib.sha256(f"{name}\0{code}".encode()).hexdigest()


def load(project: Project) -> dict[str, Callable]:
    """Run candidates.py; its candidates by name.

    Raises
    ------
    CandidateError
        If the file is wrong, or running it raises.
    """
    names = functions(project)
    if not names:
        return {}
    path = project.root / FILE
    try:
        module = _module(path, path.stat().st_mtime_ns)
    except (Exception, SystemExit) as reason:
        line = _line_of(reason, path)
        raise CandidateError(
            f"{FILE}{line}: importing it raised {type(reason).__name__}: {reason}. "
            "Correct it; a package that is missing goes into the environment."
        ) from reason
    return {name: getattr(module, name) for name in names}


def described(reason: BaseException, project: Project) -> str:
    """An exception of a project's code in a few words: where, which, what it says."""
    said = str(reason).strip().splitlines()
    line = _line_of(reason, project.root / FILE)
    return f"{FILE}{line}: {type(reason).__name__}{f': {said[0]}' if said else ''}"


@lru_cache(maxsize=8)
def _tree(path: Path, _modified_ns: int) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as reason:
        raise CandidateError(
            f"{FILE}, line {reason.lineno}: {reason.msg}. Nothing was run. Correct the line."
        ) from None
    except (UnicodeDecodeError, ValueError) as reason:
        raise CandidateError(
            f"{FILE}: is no Python text ({reason}). Nothing was run. Save it as UTF-8."
        ) from None


@lru_cache(maxsize=1)
def _module(path: Path, _modified_ns: int) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


def _is_candidate(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_")


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement at the top level gives a meaning to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _named(nodes: Sequence[ast.AST]) -> set[str]:
    """Every name that is read somewhere in these nodes."""
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _imported(tree: ast.AST) -> Iterator[str]:
    """The first part of each module that is imported, a relative one by its own name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def _line_of(reason: BaseException, path: Path) -> str:
    """`, line 7` of the file where an exception passed through it last; else nothing."""
    last, frame = None, reason.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(path):
            last = frame.tb_lineno
        frame = frame.tb_next
    return f", line {last}" if last else ""
