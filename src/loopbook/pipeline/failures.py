"""Failures: what a person reads when a task has failed.

It decides what is said of an error: the notebook, the cell, the section and
how to go on. It stops nothing and starts nothing.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from papermill.exceptions import PapermillExecutionError

from loopbook.pipeline.tasks import EXECUTED, Task
from loopbook.project.errors import LoopbookError
from loopbook.project.files import read_json

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def describe_failure(task: Task, error: BaseException) -> str:
    """One readable block: notebook, cell, error, the executed notebook, how to go on."""
    notebook, product = task.notebook, Path(task.products[EXECUTED])
    executed = _relative(product)
    cause = _of_a_cell(error)
    if cause is None:
        where = f"{task.name} failed in {notebook}"
    else:
        heading = _heading_above(product, cause.cell_index)
        where = f"{task.name} failed in {notebook}, code cell {cause.exec_count} ({heading})"
    return (
        f"{where}\n\n{reason_of(error)}\n\n"
        f"What it did until then:  {executed}\n"
        f"Open it:                 jupyter lab '{executed}'\n"
        "Then build again: what was built stays valid, and the build resumes here."
    )


def reason_of(error: BaseException) -> str:
    """Why a task or a run has failed: what its failing cell said, or the first cause."""
    cause = _of_a_cell(error)
    return _root_cause(error) if cause is None else _reason(cause)


def _of_a_cell(error: BaseException) -> PapermillExecutionError | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PapermillExecutionError):
        cause = cause.__cause__
    return cause


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def plain_reason(error: BaseException) -> str:
    """What an error and its causes say, without where in the code they were raised."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = ANSI.sub("", str(cause))
        if type(cause).__module__ == "builtins":  # a KeyError says nothing but the key
            text = f"{type(cause).__name__}: {text}"
        said += [line for line in text.splitlines() if line.strip()]
        cause = cause.__cause__
    return "\n".join(f"  {line}" for line in dict.fromkeys(said))


def _reason(error: PapermillExecutionError) -> str:
    """Our own errors and a notebook's checks speak for themselves; others have their last frames."""
    ours = {cls.__name__ for cls in _subclasses(LoopbookError)}
    if error.ename in ours:
        return f"{error.ename}: {error.evalue}"
    if error.ename == "AssertionError" and error.evalue:
        return f"A check of the notebook does not hold: {error.evalue}"
    lines = ANSI.sub("", "\n".join(error.traceback)).rstrip().splitlines()
    return "\n".join(lines[-25:])


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _heading_above(executed: Path, cell_index: int) -> str:
    """The last heading before a cell of an executed notebook."""
    try:
        cells = read_json(executed)["cells"]
    except (OSError, ValueError):
        return "unknown section"
    for cell in reversed(cells[: cell_index + 1]):
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("#") and "exec" not in cell["metadata"].get("tags", []):
                    text = re.sub(r"<[^>]+>", "", line).strip("# ").strip()
                    if text and not text.startswith("An Exception was"):
                        return text
    return "before the first heading"


def _relative(path: str | Path) -> str:
    try:
        return str(Path(path).resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
