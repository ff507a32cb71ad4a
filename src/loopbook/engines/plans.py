"""Plans: the tasks of the training graph, as an engine's file names them.

It decides what every engine gets of a task: the command that runs it, and its
files by paths from the project's folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loopbook.pipeline import tasks
from loopbook.pipeline.tasks import Task
from loopbook.project.contract import read_contract
from loopbook.project.errors import EngineError
from loopbook.project.files import replacing
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.project.template import safe_name

WRITTEN_BY = "written by `loopbook export {engine}`"


@dataclass(frozen=True)
class Plan:
    """The tasks in an order in which they can run; `name` suits any engine."""

    project: Project
    name: str
    as_of: str  # of env.yaml
    tasks: list[Task]

    def command(self, task: Task) -> list[str]:
        """What runs a task, in the project's folder; another graph than this one is refused."""
        return ["loopbook", "task", task.name, "--signature", task.signature(self.project)]

    def path(self, path: str) -> str:
        """A file of the project, from the project's folder."""
        return tasks.relative(self.project, path)


def plan_of(project: Project) -> Plan:
    """The plan of a project; its source is not read.

    Raises
    ------
    LoopbookError
        The contract, env.yaml, the graph or a notebook is wrong.
    """
    name = safe_name(read_contract(project.contract).name)
    return Plan(
        project, name, str(read_knobs(project.knobs).as_of), tasks.resolve(project, only="")
    )


def identifiers(tasks_: list[Task], form: Callable[[str], str] = safe_name) -> dict[str, str]:
    """A name that an engine takes for each task's name, each another one.

    Without `form`: lower case, digits and hyphens.
    """
    made: dict[str, str] = {}
    for task in tasks_:
        name, number = form(task.name), 2
        while name in made.values():
            name, number = f"{form(task.name)}-{number}", number + 1
        made[task.name] = name
    return made


def write(path: Path, text: str, engine: str) -> Path:
    """Write an engine's file, whole or not at all.

    Raises
    ------
    EngineError
        If a file of that name is there which no export has written, or it cannot be written.
    """
    mark = WRITTEN_BY.format(engine=engine)
    if path.exists() and mark not in path.read_text(encoding="utf-8", errors="replace"):
        raise EngineError(
            f"{path}: is there, and `loopbook export {engine}` did not write it, so it stays. "
            f"Move it away, or write elsewhere: loopbook export {engine} --to FOLDER"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as target:
            target.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise EngineError(
            f"{path}: cannot be written ({reason.strerror}). "
            f"Name a folder: loopbook export {engine} --to FOLDER"
        ) from None
    return path
