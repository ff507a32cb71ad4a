"""The pipeline: the graph of notebooks, run by Ploomber. Its only importer.

It decides how tasks run side by side and what becomes of a task that fails.
What a task is to other engines is `tasks`'. It knows no model and no table.

Three things differ from Ploomber's own parallel executor: waiting does not
burn a core; a task's "up to date" stamp is taken away before it runs and only
its success brings it back, so that no failure, kill or full disk leaves a
half-written product that counts as whole; and one build runs at a time.
"""

import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from papermill.engines import papermill_engines
from ploomber.constants import TaskStatus
from ploomber.dag.dag import DAG
from ploomber.exceptions import DAGBuildError, DAGRenderError
from ploomber.executors.abc import Executor
from ploomber.sources import NotebookSource
from ploomber.spec import DAGSpec

from loopbook.pipeline import (
    back_ends,
    digests,
    graph_files,
    kept_kernels,
    kernels,
    lineage_events,
    planned,
    prose,
    staleness,
)
from loopbook.pipeline.engine import ReportingEngine
from loopbook.pipeline.failures import describe_failure, plain_reason
from loopbook.pipeline.progress import Progress, last_seconds, outcome_lines, window_lines
from loopbook.pipeline.runs import end_kernels, only_run, terminated_like_interrupted
from loopbook.pipeline.tasks import inside
from loopbook.project.contract import read_contract
from loopbook.project.errors import BuildFailed, LoopbookError
from loopbook.project.files import read_json
from loopbook.project.knobs import check_knobs, read_knobs
from loopbook.project.loggers import silent
from loopbook.project.paths import Project, current, tracking_address
from loopbook.project.terminal import say
from loopbook.project.waits import Interrupted
from loopbook.records import seals
from loopbook.records.builds import remember
from loopbook.registry.owners import refuse_anothers
from loopbook.registry.reachable import refuse_unusable

RUNNABLE = {TaskStatus.WaitingExecution}
SETTLED = {TaskStatus.Executed, TaskStatus.Skipped, TaskStatus.Errored, TaskStatus.Aborted}
PLOOMBER_FOOTER = "\nNeed help? https://ploomber.io/community"


class NotebookExecutor(Executor):
    """Runs the notebooks of a graph, at most `workers` at once.

    A worker is a thread that waits for a kernel, which is a process of its
    own. A failure ends the tasks that need the failed one; the others go on.
    """

    def __init__(self, workers: int = 2):
        self.workers = workers
        self.is_debug = False  # whether the kernel of a task that fails is kept
        self.is_forced = False
        # Ploomber compares the Markdown too, and its own code calls that a fault to correct.
        # A graph's executor is made before anything of it is compared.
        NotebookSource.__str__ = _code_of

    def __call__(self, dag: DAG, show_progress: bool) -> list:
        super().__call__(dag)
        project = current()
        _renew_prose(dag, project)
        todo = [task for task in dag.values() if task.exec_status not in SETTLED]
        if not todo:
            return []
        try:
            check_knobs(_knobs_of(dag, project), where=project.knobs.name)
            contract = read_contract(project.contract)
            name = contract.name
            if any(digests.logs(project, Path(task.source.loc)) for task in todo):
                refuse_unusable(tracking_address(project), name)
            refuse_anothers(project, name)
            back_ends.refuse_unusable(project, contract)
            folder = _folder(dag, project)
            with (
                only_run(project, folder),
                silent("ploomber"),  # our report of a failure is the one to read
                terminated_like_interrupted(),
                lineage_events.told(project, folder) as run,
            ):
                return self._run(dag, todo, run)
        except LoopbookError as error:
            raise DAGBuildError(str(error)) from None

    def _run(self, dag: DAG, todo: list, run: lineage_events.Run) -> list:
        executed = {task.name: Path(str(task.product["nb"])) for task in todo}
        progress = Progress(list(executed), last_seconds(executed), self.workers)
        papermill_engines.register(None, ReportingEngine)
        kernels.NURSERY.may_keep = self.is_debug
        kernels.start_from_nursery(planned.sources_of(todo), but=planned.not_needed(todo))
        ReportingEngine.progress = progress
        ReportingEngine.places = self._places(dag, todo)
        reports, failures = [], []
        with progress, ThreadPoolExecutor(self.workers) as pool:
            running: dict[Future, Any] = {}
            begun: set[str] = set()  # one that fails before it runs stays runnable
            try:
                while True:
                    for task in todo:
                        is_free = len(running) < self.workers
                        if is_free and task.exec_status in RUNNABLE and task.name not in begun:
                            begun.add(task.name)
                            running[pool.submit(_build_task, task, progress, run)] = task
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        task = running.pop(future)
                        if error := future.exception():
                            kept = ReportingEngine.places.get(task.name)
                            failures.append(describe_failure(planned.task_of(task), error, kept))
                        else:
                            reports.append(future.result())
            except KeyboardInterrupt:
                end_kernels()
                while wait(running, timeout=0.2).not_done:  # one may have been about to start
                    end_kernels()
                progress.interrupted()
                raise Interrupted from None
        if failures:
            raise DAGBuildError("\n\n".join(failures))
        return reports

    def _places(self, dag: DAG, todo: list) -> dict[str, kept_kernels.Place]:
        """The tasks whose kernel is kept from an earlier build, or may be by this one."""
        project = current()
        folder, may_go_on = _folder(dag, project), not self.is_forced
        places = [
            kept_kernels.Place(project, folder, planned.task_of(task), self.is_debug, may_go_on)
            for task in todo
        ]
        return {p.task.name: p for p in places if p.may_keep or p.is_taken}


def _code_of(source: NotebookSource) -> str:
    """What of a notebook is compared with what ran."""
    return prose.code(source._read_nb_str_unrendered()[1].cells)


def _renew_prose(dag: DAG, project: Project) -> None:
    """Let the documents of tasks that are up to date have the prose of today.

    Their stamps keep their times, so nothing that reads their products runs again.
    """
    done = [task for task in dag.values() if task.exec_status == TaskStatus.Skipped]
    files = {task.name: (Path(task.source.loc), Path(str(task.product["nb"]))) for task in done}
    behind = {name: pair for name, pair in files.items() if prose.is_behind(*pair)}
    if not behind:
        return
    with only_run(project, _folder(dag, project)):
        for name, (notebook, document) in behind.items():
            prose.renew(notebook, document)
            seals.keep(document.resolve(), why=f"new prose in the document of task {name}")
    say(f"New prose, and nothing to run: the documents of {', '.join(behind)} have it now.")


def _build_task(task, progress: Progress, run: lineage_events.Run):
    """Run one task in this thread; its stamp is gone until it has succeeded."""
    threading.current_thread().name = task.name
    task.product.metadata.delete()
    seals.forget(
        *planned.products(task), why=f"task {task.name} begins"
    )  # what it leaves if it fails
    progress.started(task.name)
    try:
        with lineage_events.of_task(run, planned.task_of(task)):
            report, _metadata = task._build(catch_exceptions=True)
    except BaseException:
        progress.failed(task.name)
        raise
    seals.keep(*planned.products(task), why=f"task {task.name}")
    progress.finished(task.name)
    return report


def _folder(dag: DAG, project: Project) -> str:
    """The folder of `var/` in which a graph's products are: `build`, `monitor` or `score`."""
    first = Path(str(next(iter(dag.values())).product["nb"])).resolve()
    return first.relative_to(project.var).parts[0] if project.var in first.parents else "build"


def _knobs_of(dag: DAG, project: Project) -> dict[str, Any]:
    """The knobs that the tasks will really get, on top of those in env.yaml."""
    knobs = read_knobs(project.knobs).model_dump()
    for task in dag.values():
        parameters = task.params.to_json_serializable()
        knobs |= {name: parameters[name] for name in knobs.keys() & parameters.keys()}
    return knobs


def load_graph(
    project: Project, changes: Mapping[str, Any] | None = None, graph: Path | None = None
) -> DAG:
    """The graph of a project (by default for training), with knobs changed for this run only.

    Raises
    ------
    LoopbookError
        The contract, env.yaml, a knob or the source is wrong: nothing has run.
    """
    knobs = read_knobs(project.knobs, changes)
    graph_files.refuse_absent_names(graph or project.graph)
    with inside(project.root):
        try:
            spec = DAGSpec(str((graph or project.graph).name), env={**knobs.model_dump()})
            graph_files.give_kernels(spec["tasks"], project)
            dag = spec.to_dag()
            with warnings.catch_warnings():
                # of a product that somebody deleted; `staleness` says so in a sentence
                warnings.filterwarnings("ignore", "Corrupted product metadata")
                dag.render(show_progress=False)
        except DAGRenderError as error:
            if ours := graph_files.error_of_ours(error):
                raise ours from None
            raise BuildFailed(
                f"{(graph or project.graph).name}: the graph cannot be rendered.\n{error}"
            ) from None
        except Exception as error:
            if ours := graph_files.error_of_ours(error):
                raise ours from None
            if not graph_files.is_about_the_graph(error, __name__):
                raise
            raise BuildFailed(
                f"{(graph or project.graph).name}: cannot be used, and nothing was run. "
                f"Correct it:\n{plain_reason(error)}"
            ) from None
    return dag


def build(
    project: Project,
    changes: Mapping[str, Any] | None = None,
    force: bool = False,
    graph: Path | None = None,
    is_debug: bool = False,
) -> None:
    """Run what is not up to date, and print what came of it.

    With `is_debug`, the kernel of a task that fails is kept for a while.

    Raises
    ------
    BuildFailed
        With one readable block a failed task.
    """
    dag = load_graph(project, changes, graph)
    if isinstance(dag.executor, NotebookExecutor):
        dag.executor.is_debug, dag.executor.is_forced = is_debug, force
    with inside(project.root):
        try:
            dag.build(force=force, show_progress=False)
        except DAGBuildError as error:
            if graph is None:
                remember(project, failed=True)
            raise BuildFailed(str(error).removesuffix(PLOOMBER_FOOTER)) from None
    if graph is None:
        remember(project, failed=False)


def tell_outcome(dag: DAG, report) -> None:
    """Ploomber's `on_finish`: a line a task, the champion and what to type next."""
    seconds = dict(zip(report["name"], report["Elapsed (s)"], strict=True))
    ran = {name for name, did in zip(report["name"], report["Ran?"], strict=True) if did}
    rows = [(name, seconds[name] if name in ran else None) for name in dag]
    decision = Path(str(dag["promote"].product["decision"]))
    say(*outcome_lines(rows, read_json(decision)))


def tell_verdict(dag: DAG) -> None:
    """Ploomber's `on_finish` of the monitoring graph: the verdict and where to look."""
    record = read_json(Path(str(dag["decide"].product["record"])))
    say(*window_lines(record), "next        make reports")


def stale_tasks(project: Project, changes: Mapping[str, Any] | None = None) -> list[str]:
    """The tasks that a build would run now."""
    return list(_stale(load_graph(project, changes)))


def stale_reasons(
    project: Project, changes: Mapping[str, Any] | None = None
) -> dict[str, list[str]]:
    """Why each task that a build would run now is stale."""
    stale = _stale(load_graph(project, changes))
    states = {name: staleness.state_of(task, stale, project) for name, task in stale.items()}
    return {name: staleness.reasons(project, state) for name, state in states.items()}


def _stale(dag: DAG) -> dict[str, Any]:
    return {name: t for name, t in dag.items() if t.exec_status != TaskStatus.Skipped}
