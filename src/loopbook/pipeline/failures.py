"""Failures: what a person reads when a task has failed.

It decides what is said of an error: the notebook, the cell, its line, the
section and how to go on. Frames in packages, ours among them, are counted and
not shown: all of them stand in the executed notebook. It stops nothing and
starts nothing.
"""

import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from papermill.exceptions import PapermillExecutionError

from loopbook.pipeline import kept_kernels
from loopbook.pipeline.kept_kernels import Place
from loopbook.pipeline.tasks import EXECUTED, Task
from loopbook.project.errors import LoopbookError
from loopbook.project.files import read_json

ANSI = re.compile(r"\x1b\[[0-9;]*m")
# how IPython heads each frame: `Cell In[3], line 2`, or `File ~/x.py:12, in f(...)`
FRAME = re.compile(
    r"^\s*(?:Cell In\s?\[\d+\], line (?P<in_cell>\d+)|File (?P<file>[^\n]+?):(?P<line>\d+)(?:, in |$))",
    re.MULTILINE,
)
CHAINED = re.compile(
    r"The above exception was the direct cause|During handling of the above exception"
)
# our library and Python's own: whoever wrote a notebook did not write these
LIBRARIES = (Path(__file__).parents[2], Path(sysconfig.get_path("stdlib")))


@dataclass(frozen=True)
class _Frame:
    """A line of somebody's code that an error went through; `cell` is one of the notebook."""

    place: str
    line: int
    is_cell: bool = False


def describe_failure(task: Task, error: BaseException, place: Place | None = None) -> str:
    """One readable block: notebook, cell, its line, error, the executed notebook, how to go on.

    `place` is where the kernel of the task may have been kept.
    """
    notebook, product = task.notebook, Path(task.products[EXECUTED])
    executed = _relative(product)
    cause = _of_a_cell(error)
    if cause is None:
        where = f"{task.name} failed in {notebook}"
    else:
        heading = _heading_above(product, cause.cell_index)
        where = f"{task.name} failed in {notebook}, code cell {cause.exec_count} ({heading})"
        where += _failing_line(cause)
    kept = kept_kernels.told(place, cause.exec_count) if place and cause else ""
    return (
        f"{where}\n\n{reason_of(error)}\n\n"
        f"What it did until then:  {executed}\n"
        f"Open it:                 jupyter lab '{executed}'\n"
        + (kept or "Then build again: what was built stays valid, and the build resumes here.")
    )


def _failing_line(error: PapermillExecutionError) -> str:
    """The line of the cell at which it stopped, with its number."""
    numbers = [frame.line for frame in _frames(error) if frame.is_cell]
    lines = (error.source or "").splitlines()
    if not numbers or not 0 < numbers[-1] <= len(lines):
        return ""
    return f", line {numbers[-1]}:\n\n    {lines[numbers[-1] - 1].strip()}"


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
    """Our own errors and a notebook's checks speak for themselves; others say where they began."""
    ours = {cls.__name__ for cls in _subclasses(LoopbookError)}
    if error.ename in ours:
        return f"{error.ename}: {error.evalue}"
    if error.ename == "AssertionError" and error.evalue:
        return f"A check of the notebook does not hold: {error.evalue}"
    said = ANSI.sub("", f"{error.ename}: {error.evalue}" if error.evalue else str(error.ename))
    return "\n".join([said, *_folded(_frames(error))])


def _frames(error: PapermillExecutionError) -> list[_Frame]:
    """The frames of the error itself, outermost first; those of its causes are left out."""
    text = ANSI.sub("", "\n".join(error.traceback or ()))
    text = re.split(CHAINED, text)[-1]
    return [
        _Frame(
            str(Path(match["file"]).expanduser()) if match["file"] else "",
            int(match["in_cell"] or match["line"]),
            is_cell=not match["file"],
        )
        for match in FRAME.finditer(text)
    ]


def _folded(frames: list[_Frame]) -> list[str]:
    """Where below the cell it was raised: lines of the project's own files; the rest is counted."""
    below = [frame for frame in frames if not frame.is_cell]
    if not below:
        return []
    own = [frame for frame in below if not _is_installed(frame.place)]
    lines = [f"  in {_relative(frame.place)}, line {frame.line}" for frame in own]
    if last := below[-1] if below[-1] not in own else None:
        lines.append(f"  raised in {_module_of(last.place)}, line {last.line}")
    folded = len(below) - len(lines)
    told = f"  ({folded} more {'frame' if folded == 1 else 'frames'}: see the executed notebook)"
    return lines + ([told] if folded else [])


def _is_installed(place: str) -> bool:
    """Whether a file is a package's, Python's or our library's, and not the person's."""
    parts = Path(place).parts
    return place.startswith("<") or "site-packages" in parts or _is_below(place, LIBRARIES)


def _is_below(place: str, folders: tuple[Path, ...]) -> bool:
    return any(Path(place).is_relative_to(folder) for folder in folders)


def _module_of(place: str) -> str:
    """An installed file from its package on."""
    path = Path(place)
    for folder in LIBRARIES:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    parts = path.parts
    if "site-packages" in parts:
        return "/".join(parts[parts.index("site-packages") + 1 :])
    return place


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
