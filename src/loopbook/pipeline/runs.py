"""Runs: one of a kind at a time, and none that leaves a kernel behind.

It decides who may run (the holder of the project's lock) and how a run ends
early. A build holds the lock of its graph. Where another engine runs the graph
task by task, each task holds a lock of its own, so that several may run side by
side; no build begins then, and none of them while a build runs. What runs is
`graph`'s and `task_runs`'.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from loopbook.project.errors import BuildRunning
from loopbook.project.paths import Project

GATE_S = 10


@contextmanager
def only_run(project: Project, graph: str) -> Iterator[None]:
    """Hold the lock of a graph of the project; the system frees it however we end."""
    holder = project.var / f"{graph}.pid"
    with ExitStack() as held:
        with _alone_for_a_moment(project, graph):
            _hold(held, _lock(project, graph), f"another {graph}", holder)
            for other in _tasks(project, graph).glob("*.lock"):
                with ExitStack() as briefly:
                    _hold(briefly, other, f"task {other.stem}")
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
        holder.unlink(missing_ok=True)


@contextmanager
def only_task(project: Project, graph: str, task: str) -> Iterator[None]:
    """Hold the lock of one task of a graph, while no build of that graph runs."""
    with ExitStack() as held:
        with _alone_for_a_moment(project, graph) as briefly:
            _hold(briefly, _lock(project, graph), f"a {graph}", project.var / f"{graph}.pid")
            _tasks(project, graph).mkdir(exist_ok=True)
            _hold(held, _tasks(project, graph) / f"{task}.lock", f"task {task}")
        yield


def _lock(project: Project, graph: str) -> Path:
    return project.var / f"{graph}.lock"


def _tasks(project: Project, graph: str) -> Path:
    return project.var / f"{graph}.tasks"


@contextmanager
def _alone_for_a_moment(project: Project, graph: str) -> Iterator[ExitStack]:
    """While a run looks who else runs and takes its own lock, so that no two miss each other."""
    project.var.mkdir(parents=True, exist_ok=True)
    with ExitStack() as briefly:
        gate = project.var / f"{graph}.gate"
        _hold(briefly, gate, "another run that is about to begin", timeout_s=GATE_S)
        yield briefly


def _hold(
    held: ExitStack, lock: Path, who: str, holder: Path | None = None, timeout_s: float = 0
) -> None:
    """Take a lock until `held` ends, or say who has it."""
    try:
        held.enter_context(FileLock(lock, timeout=timeout_s))
    except Timeout:
        pid = holder.read_text(encoding="utf-8").strip() if holder and holder.exists() else ""
        number, end = (f" (pid {pid})", f", or end it: kill {pid}") if pid else ("", "")
        raise BuildRunning(
            f"{lock}: {who} runs{number}, so this one did not "
            f"start and nothing was changed. Wait for it{end}"
        ) from None


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end a build as Ctrl-C does: with its kernels."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_signal):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_kernels() -> None:
    """Kill every process that this one has started."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
