"""Kept kernels: the kernel of a task that failed, with its variables, until its cell is corrected.

It decides whether a kernel that `loopbook build --debug` kept may go on: only if
everything that its task read, wrote and imported until the failed cell is as it
was. There is one a task at most. Its record is also the connection file by which
JupyterLab finds it.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loopbook.models import own_candidates
from loopbook.pipeline.settings import digest
from loopbook.pipeline.tasks import EXECUTED, Task
from loopbook.project.counts import counted
from loopbook.project.files import read_json, replacing
from loopbook.project.paths import Project

FOLDER = "kept"  # below var/; JupyterLab's setting names it too
# long enough to find a fault; a kernel holds a table in memory, and nobody may come back to it
KEPT_S = 3600
OURS = "loopbook"  # the key of the record beside those of a connection file
ALSO_READ = (own_candidates.FILE, "contract.yaml", "tune.yaml")


@dataclass(frozen=True)
class Place:
    """Where the kernel of a task is kept, and what a build may do with it."""

    project: Project
    graph: str  # the folder of the graph's products in var/
    task: Task
    may_keep: bool = False
    may_go_on: bool = True

    @property
    def file(self) -> Path:
        return self.project.var / FOLDER / f"{self.graph}.{self.task.name}.kernel.json"

    @property
    def is_taken(self) -> bool:
        return self.file.exists()


@dataclass(frozen=True)
class Kept:
    """A kernel that is kept.

    Attributes
    ----------
    cells : the code cells before the one that failed, as they were executed
    files : what the task had read, written and imported, with time, size and inode
    """

    pid: int
    born: float
    until: float
    cells: Sequence[Mapping[str, Any]]
    files: Mapping[str, Any]
    settings: str
    connection: Mapping[str, Any]

    def is_alive(self) -> bool:
        try:
            return psutil.Process(self.pid).create_time() == self.born and time.time() < self.until
        except psutil.NoSuchProcess:
            return False

    def end(self) -> None:
        with suppress(psutil.NoSuchProcess):
            kernel = psutil.Process(self.pid)
            if kernel.create_time() == self.born:
                kernel.kill()
                kernel.wait(5)

    def obstacle(self, cells: Sequence[str]) -> str:
        """Why it cannot go on with a notebook of these code cells, in a clause; or nothing."""
        done = [cell["source"] for cell in self.cells]
        if digest(os.environ) != self.settings:
            return "the environment has changed"
        if changed := [file for file, was in self.files.items() if _stamp(file) != was]:
            return f"{Path(changed[0]).name} has changed"
        if len(cells) <= len(done) or list(cells[: len(done)]) != done:
            return "its parameters or a cell before the one that failed have changed"
        return ""


def keep(
    place: Place, kernel: Mapping[str, Any], cells: Sequence[Any], read: Iterable[str]
) -> None:
    """Write the record of a kernel that outlives this build.

    Parameters
    ----------
    kernel : its process id as `pid`, and its `connection`
    cells : the executed code cells before the one that failed
    read : files of the modules that it has imported
    """
    task = place.task
    files = {*read, *(str(place.project.root / name) for name in ALSO_READ)}
    files |= {path for products in task.needs.values() for path in products.values()}
    files |= {path for key, path in task.products.items() if key != EXECUTED}
    told = {
        "pid": kernel["pid"],
        "born": psutil.Process(kernel["pid"]).create_time(),
        "until": kernel.get("until") or time.time() + KEPT_S,
        "cells": cells,
        "files": {file: _stamp(file) for file in sorted(files)},
        "settings": digest(os.environ),
    }
    place.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(place.file) as target:
        target.touch(mode=0o600)  # who has the key can run code as this user
        target.write_text(json.dumps({**kernel["connection"], OURS: told}), encoding="utf-8")


def take(place: Place) -> Kept | None:
    """The kernel that is kept for a task, which is no longer listed; None if there is none."""
    try:
        content = read_json(place.file)
        told = content.pop(OURS)
        kept = Kept(**told, connection=content)
    except (OSError, ValueError, KeyError, TypeError):
        kept = None
    place.file.unlink(missing_ok=True)
    return kept


def told(place: Place, number: int | None) -> str:
    """What a person can do with the kernel that is kept for a failed task; empty without one."""
    if not place.is_taken:
        return ""
    content = read_json(place.file)
    kept = content[OURS]
    minutes = max(1, round((kept["until"] - time.time()) / 60))
    return (
        f"Its kernel is kept for {counted(minutes, 'minute')}, with its variables (pid {kept['pid']}).\n"
        f"Look at them:            make lab, open {place.task.notebook}, then\n"
        "                         Kernel > Change Kernel... > Connect to Existing python Kernel,\n"
        f"                         the one that is called {content['kernel_name']}\n"
        f"Correct the cell, then:  loopbook build goes on from code cell {number}."
    )


def _stamp(file: str) -> list[int] | None:
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return [stat.st_mtime_ns, stat.st_size, stat.st_ino]
