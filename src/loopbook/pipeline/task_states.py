"""Task states: how the last run of each task ended, when, and how long it took.

It decides a state from the executed notebook alone, without Ploomber. Whether a
task would run again is `graph`'s to know, which is asked in a process of its own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopbook.pipeline import tasks
from loopbook.pipeline.tasks import EXECUTED
from loopbook.project.errors import BuildFailed
from loopbook.project.paths import Project

DONE, FAILED, UNFINISHED, NEVER = "done", "failed", "not finished", "never run"
STALE = "stale"  # done, and a build would run it again
NO_DIGESTS = ""  # of no task: they cost seconds, and a page shows none
PATIENCE_S = 120
ASK = """
import json
from loopbook.pipeline import graph
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import current
try:
    print(json.dumps({"stale": graph.stale_reasons(current())}))
except LoopbookError as error:
    print(json.dumps({"fault": str(error)}))
"""


@dataclass(frozen=True)
class TaskState:
    """A task with what its executed notebook says of its last run.

    Attributes
    ----------
    executed : the executed notebook; absent where it has never run
    began : ISO 8601 in UTC, None where it has never run
    seconds : None where the run did not come to its end
    error : what stopped it, one line
    """

    name: str
    notebook: str
    upstream: Sequence[str]
    executed: Path
    state: str = NEVER
    began: str | None = None
    seconds: float | None = None
    error: str = ""


def of_graph(project: Project, graph: Path | None = None) -> list[TaskState]:
    """The tasks of a graph (by default for training) in their order, with their states.

    Raises
    ------
    LoopbookError
        The contract, env.yaml or the graph is wrong.
    """
    return [
        TaskState(
            task.name,
            task.notebook,
            task.upstream,
            Path(task.products[EXECUTED]),
            **_last_run(Path(task.products[EXECUTED])),
        )
        for task in tasks.resolve(project, graph=graph, only=NO_DIGESTS)
    ]


def why_stale(project: Project) -> dict[str, list[str]]:
    """Why each task that a build would run now is stale, as `loopbook status` says it.

    Raises
    ------
    BuildFailed
        If that cannot be said: why.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=project.root,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as reason:
        kind = type(reason).__name__
        raise BuildFailed(
            f"What is stale could not be asked ({kind}). Ask in a terminal: loopbook status"
        ) from None
    if "fault" in told:
        raise BuildFailed(told["fault"])
    return told["stale"]


def _last_run(executed: Path) -> dict[str, Any]:
    """What an executed notebook says of its run; one that cannot be read was cut off."""
    if not executed.exists():
        return {}
    try:
        document = json.loads(executed.read_bytes())
        told = document["metadata"].get("papermill", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"state": UNFINISHED}
    about = {"began": told.get("start_time"), "seconds": told.get("duration")}
    if told.get("exception"):
        return about | {"state": FAILED, "error": _error(document)}
    return about | {"state": DONE if told.get("end_time") else UNFINISHED}


def _error(document: Mapping[str, Any]) -> str:
    for cell in document.get("cells", []):
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                said = str(output.get("evalue", "")).strip().partition("\n")[0]
                return f"{output.get('ename', 'error')}: {said}".removesuffix(": ")
    return ""
