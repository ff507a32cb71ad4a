"""Task runs: one notebook of the graph, run for an engine that knows the order.

It decides what a task run by another engine leaves behind: what the same task
of a build does. Its parameters are resolved when it begins, its products are
sealed, a failure is told in one block and ends in exit code 1. It never looks
whether the task is up to date, which is the engine's to know.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
from papermill.engines import papermill_engines

from loopbook.pipeline import digests, lineage_events, notebooks, tasks
from loopbook.pipeline.engine import ReportingEngine
from loopbook.pipeline.failures import describe_failure
from loopbook.pipeline.progress import Progress
from loopbook.pipeline.runs import end_kernels, only_task, terminated_like_interrupted
from loopbook.pipeline.tasks import EXECUTED, Task
from loopbook.project.contract import read_contract
from loopbook.project.errors import BuildFailed, KnobError
from loopbook.project.git import answer
from loopbook.project.paths import Project, tracking_address
from loopbook.project.waits import Interrupted
from loopbook.records import seals
from loopbook.records.builds import remember
from loopbook.registry.owners import refuse_anothers
from loopbook.registry.reachable import refuse_unusable


def run(
    project: Project,
    name: str,
    changes: Mapping[str, Any] | None = None,
    signature: str | None = None,
) -> None:
    """Run one task of the training graph; those before it have run.

    Parameters
    ----------
    signature : str, optional
        What the engine's file says that this task is; another one is refused.

    Raises
    ------
    BuildFailed
        With one readable block, if the notebook stopped; or if this is no task
        of the graph as it is now, or what it needs is not there.
    """
    graph = tasks.resolve(project, changes, only=name)
    task = _chosen(project, graph, name, signature)
    with (
        tasks.inside(project.root),
        only_task(project, "build", name),
        terminated_like_interrupted(),
    ):
        _refuse_without_needs(project, task)
        _refuse_unusable_registry(project, task)
        try:
            _run(project, task)
        except BuildFailed:
            remember(project, failed=True)
            raise
    if not any(name in other.needs for other in graph):  # it is the last
        remember(project, failed=False)


def _chosen(project: Project, graph: list[Task], name: str, signature: str | None) -> Task:
    """The task of this name, if it is still what an engine's file says."""
    by_name = {task.name: task for task in graph}
    task = by_name.get(name)
    commit = (answer(project.root, "rev-parse", "--short", "HEAD") or b"").decode().strip()
    here = f"pipeline.yaml{f' of commit {commit}' if commit else ''}"
    if task is None and signature is None:
        raise KnobError(f"no task {name!r}; there are {', '.join(by_name)}.")
    if task is None or signature not in (None, task.signature(project)):
        found = "has no such task" if task is None else "says otherwise what it needs or writes"
        raise BuildFailed(
            f"task {name}: the engine's file was written for another graph: {here} {found}. "
            "Nothing was run. Write the file anew: loopbook export ENGINE"
        )
    return task


def _refuse_without_needs(project: Project, task: Task) -> None:
    absent = {
        name: tasks.relative(project, path)
        for name, products in task.needs.items()
        for path in products.values()
        if not Path(path).exists()
    }
    if absent:
        name, path = next(iter(absent.items()))
        raise BuildFailed(
            f"task {task.name}: needs {path}, which is not there. Run first: "
            f"{', '.join(absent)} (loopbook task {name})"
        )


def _refuse_unusable_registry(project: Project, task: Task) -> None:
    """Ask the registry before the first task, and before each that writes to it."""
    contract = read_contract(project.contract).name
    if not task.needs or digests.logs(project, project.root / task.notebook):
        refuse_unusable(tracking_address(project), contract)
        refuse_anothers(project, contract)


def _run(project: Project, task: Task) -> None:
    products = [Path(path) for path in task.products.values()]
    for product in products:
        product.parent.mkdir(parents=True, exist_ok=True)
        # Ploomber would trust its old stamp, and take these products for its own
        product.with_name(f".{product.name}.metadata").unlink(missing_ok=True)
    seals.forget(*products, why=f"task {task.name} begins")
    with lineage_events.alone(project, "build", task), Progress([task.name]) as progress:
        progress.started(task.name)
        try:
            _execute(project, task, progress)
            if absent := [tasks.relative(project, str(p)) for p in products if not p.exists()]:
                raise BuildFailed(f"it ended without {', '.join(absent)}")
        except KeyboardInterrupt:
            end_kernels()
            progress.interrupted()
            raise Interrupted from None
        except Exception as error:
            progress.failed(task.name)
            raise BuildFailed(describe_failure(task, error)) from error
        progress.finished(task.name)
    seals.keep(*products, why=f"task {task.name}")


def _execute(project: Project, task: Task, progress: Progress) -> None:
    """The notebook by Papermill; its copy with all outputs is a product."""
    papermill_engines.register(None, ReportingEngine)
    ReportingEngine.progress = progress
    threading.current_thread().name = task.name  # by which the engine knows the task
    source = project.root / task.notebook
    kernel = notebooks.kernel_of(notebooks.read_notebook(source))
    papermill.execute_notebook(
        str(source),
        task.products[EXECUTED],
        task.parameters,
        kernel_name=kernel,
        # an editor may have saved none
        language="python" if kernel == notebooks.OURS else None,
        progress_bar=False,
    )
