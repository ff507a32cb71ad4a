"""Task inputs: all that a task depends on beside its files, as one small file a task.

It decides what makes a task run again where the engine compares files: the
code of its notebook, its parameters, the digests of what it reads. A
file whose task has not changed stays byte for byte, on every machine.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopbook.models import own_candidates
from loopbook.pipeline import digests, prose, tasks
from loopbook.pipeline.notebooks import read_notebook
from loopbook.pipeline.tasks import EXECUTED, Task
from loopbook.project.files import write_json
from loopbook.project.paths import Project

LEFT_OUT = ("upstream", "product")  # files, which engines compare themselves


def write(project: Project, folder: Path, changes: Mapping[str, Any] | None = None) -> list[Path]:
    """Write the inputs of every task of the training graph to a folder.

    Where the registry has lost the version of the last build, the executed
    notebooks of the tasks that write to it are deleted, so that they run again.
    """
    graph = tasks.resolve(project, changes)
    if digests.has_registry_lost_the_challenger(project):
        for task in graph:
            if digests.logs(project, project.root / task.notebook):
                Path(task.products[EXECUTED]).unlink(missing_ok=True)
    written = [folder / f"{task.name}.json" for task in graph]
    for path, task in zip(written, graph, strict=True):
        write_json(path, inputs(project, task))
    return written


def inputs(project: Project, task: Task) -> dict[str, Any]:
    """What a task depends on beside the products of others."""
    told = {key: value for key, value in task.parameters.items() if key not in LEFT_OUT}
    cells = read_notebook(project.root / task.notebook)["cells"]
    code = hashlib.sha256(prose.code(cells).encode()).hexdigest()
    told = {"notebook": code, "parameters": told}
    candidate = task.parameters.get("candidate")
    if candidate in own_candidates.functions(project):  # not in the digests of a grid
        told["recipe"] = own_candidates.digest(candidate, project)
    return told
