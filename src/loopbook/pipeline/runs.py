"""Runs: one of a kind at a time, and none that leaves a kernel behind.

It decides who may run (the holder of the project's lock) and how a run ends
early. What runs is `graph`'s.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from filelock import FileLock, Timeout

from loopbook.project.errors import BuildRunning
from loopbook.project.paths import Project


@contextmanager
def only_run(project: Project, graph: str) -> Iterator[None]:
    """Hold the lock of a graph of the project; the system frees it however we end."""
    project.var.mkdir(parents=True, exist_ok=True)
    holder, lock = project.var / f"{graph}.pid", project.var / f"{graph}.lock"
    try:
        with FileLock(lock, timeout=0):
            holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
            yield
            holder.unlink(missing_ok=True)
    except Timeout:
        pid = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
        raise BuildRunning(
            f"{lock}: another {graph} runs (pid {pid}), so this one did not "
            f"start and nothing was changed. Wait for it, or end it: kill {pid}"
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
