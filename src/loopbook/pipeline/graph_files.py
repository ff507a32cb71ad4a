"""Graph files: what a pipeline.yaml names, and whether all of it is here.

It decides what a person is told of a `pipeline.yaml` that cannot be used. It
never runs or resolves a graph.
"""

import re
import traceback
from collections.abc import Collection, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from loopbook.pipeline import notebooks
from loopbook.project.errors import BuildFailed, LoopbookError
from loopbook.project.files import conflict_line
from loopbook.project.paths import Project


def give_kernels(tasks: Iterable[Any], project: Project) -> None:
    """Let each notebook of Ploomber's tasks run in the kernel that `notebooks.kernel_of` says.

    Raises
    ------
    NotebookError
        If one cannot be read.
    """
    for task in tasks:
        path = project.root / str(task.data.get("source", ""))  # Ploomber has made it absolute
        if path.suffix == ".ipynb":
            notebook = notebooks.read_notebook(path)
            task.data.setdefault("kernelspec_name", notebooks.kernel_of(notebook))


def refuse_absent_names(graph: Path, but: Collection[str] = ()) -> None:
    """Refuse a graph's file that names what this loopbook does not have, `but` some modules.

    Raises
    ------
    BuildFailed
        With the names, and where to take them from.
    """
    if absent := absent_names(graph, but):
        raise BuildFailed(
            f"{graph.name}: names {', '.join(absent)}, which this loopbook does "
            "not have. Nothing was run. Take these names from the file of the same name that "
            "comes with this version; your grid and your knobs can stay."
        )


def absent_names(graph: Path, but: Collection[str] = ()) -> list[str]:
    """The dotted names of loopbook in a graph's file that this version does not have.

    A file of an earlier version names modules where they were then.
    """
    text = re.sub(r"#.*", "", _text_of(graph))
    names = re.findall(r"\bloopbook(?:\.\w+)+(?:::\w+)?", text)
    asked = [n for n in dict.fromkeys(names) if n.replace("::", ".").rpartition(".")[0] not in but]
    return [name for name in asked if not _exists(name)]


def _text_of(graph: Path) -> str:
    try:
        text = graph.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        why = getattr(reason, "strerror", None) or "it is not UTF-8 text"
        raise BuildFailed(
            f"{graph.name}: cannot be read ({why}), so nothing was run. "
            "Put it back, or take the one that comes with this loopbook."
        ) from None
    if not text.strip():
        raise BuildFailed(f"{graph.name}: is empty. Put it back: git checkout -- {graph.name}")
    if line := conflict_line(text):
        raise BuildFailed(f"{graph.name}: a merge conflict stands in line {line}. Resolve it.")
    return text


def _exists(name: str) -> bool:
    module, _, attribute = name.replace("::", ".").rpartition(".")
    try:
        return hasattr(import_module(module), attribute)
    except ModuleNotFoundError:
        return False


def is_about_the_graph(error: BaseException, runner: str) -> bool:
    """Whether it was raised where no code of ours was at work but the module `runner`.

    Then it is Ploomber's or YAML's word on the file. An error of our own code stays one.
    """
    modules: set[str] = set()
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.walk_tb(cause.__traceback__)
        modules |= {frame.f_globals.get("__name__", "") for frame, _ in frames}
        cause = cause.__cause__
    return not any(name.startswith("loopbook.") for name in modules - {runner})


def error_of_ours(error: BaseException | None) -> LoopbookError | None:
    """The error of loopbook among an error and its causes."""
    while error is not None:
        if isinstance(error, LoopbookError):
            return error
        error = error.__cause__
    return None
