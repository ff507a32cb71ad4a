"""Checkpoints: what a kernel held before the cell that failed, and whether it can again.

It runs in the kernel of a task under `loopbook build --debug`. Before each cell
it remembers every variable, and how the value looked. After a failure it can put
all of it back, so that the corrected cell finds what a clean run would give it;
or it says what it cannot vouch for, and then the task has to run from its
beginning. Names are put back however often they were bound anew. A value that
was changed in place is found, and so are the working directory, the environment
and the state of the random generators.
"""

import ast
import hashlib
import os
import pickle
import random
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

MOST_BYTES = 2_000_000_000  # a variable that is larger is not compared
CODE = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, type)
KERNELS_OWN = {"In", "Out", "exit", "quit", "get_ipython", "open"}
EVERY_NAME = "*"


@dataclass(frozen=True)
class _State:
    """What there was before a cell; `looks` has for each name how its value looked, None: unknown."""

    count: int
    names: Mapping[str, Any]
    looks: Mapping[str, Any]
    around: Mapping[str, Any]


class Checkpoints:
    """The state of a shell before its last cell that did not fail after another had."""

    def __init__(self, shell: Any):
        self.shell = shell
        self.has_failed = False
        self.state: _State | None = None
        self.since: list[str] = []  # code that ran from there on: the cell, and what a person typed
        self.watched: int | None = None
        shell.events.register("pre_run_cell", self.before)
        shell.events.register("post_run_cell", self.after)

    def before(self, info: Any) -> None:
        if not self.has_failed:
            self.since = []
            self.state = _state(self.shell)
        self.since.append(info.transformed_cell or info.raw_cell or "")

    def after(self, result: Any) -> None:
        self.has_failed = self.has_failed or not result.success

    def restore(self) -> str:
        """Put everything back; or the reason why that would not be as in a clean run."""
        if self.state is None or not self.has_failed:
            return "no cell of it has failed"
        if reason := _obstacle(self.state, self.since):
            return reason
        names = self.shell.user_ns
        for name in [name for name in names if name not in self.state.names]:
            del names[name]
        names.update(self.state.names)
        _set_random_states(self.state.around)
        _forget_history(self.shell, self.state.count)
        self.has_failed = False
        return ""

    def end_with(self, pid: int) -> None:
        """End this kernel when a process ends; with 0, no more."""
        self.watched = pid or None
        if pid:
            threading.Thread(target=self._watch, args=(pid,), daemon=True).start()

    def _watch(self, pid: int) -> None:
        import psutil

        while self.watched == pid:
            if not psutil.pid_exists(pid):
                os._exit(1)
            time.sleep(0.5)


def begin(shell: Any) -> None:
    """Let a shell remember what it held before each cell, from now on."""
    shell.loopbook_checkpoints = Checkpoints(shell)


def _own(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The variables of cells, without what the shell keeps among them."""
    for name, value in names.items():
        if not name.startswith("_") and name not in KERNELS_OWN:
            yield name, value


def _state(shell: Any) -> _State:
    names = dict(shell.user_ns)
    looks = {name: _look(value) for name, value in _own(names)}
    return _State(shell.execution_count - 1, names, looks, _around())


def _look(value: Any) -> Any:
    """What tells whether a value is as it was: a copy that costs nothing, or a digest."""
    if isinstance(value, CODE):
        return id(value)
    if type(value).__module__.startswith("polars.") and hasattr(value, "clone"):
        return value.clone()  # shares the columns until one of both is changed
    digest = _Digest()
    try:
        pickle.Pickler(digest, protocol=5).dump(value)
    except Exception:  # whatever a value says when it is asked: then nobody can tell
        return None
    return digest.state.digest()


def _is_as_it_was(value: Any, look: Any) -> bool:
    if not hasattr(look, "clone"):
        return _look(value) == look
    if type(value) is not type(look):
        return False
    if not hasattr(look, "equals"):  # a lazy frame, which nothing changes
        return True
    same_kind = getattr(value, "schema", None) == getattr(look, "schema", None)
    return same_kind and value.equals(look, null_equal=True)


class _Digest:
    """A file that keeps the digest of what is written to it."""

    def __init__(self):
        self.state = hashlib.blake2b()
        self.bytes = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.bytes += size
        if self.bytes > MOST_BYTES:
            raise ValueError("too large to compare")
        self.state.update(data)
        return size


def _around() -> dict[str, Any]:
    """What cells can change beside variables."""
    around: dict[str, Any] = {
        "the working directory": str(Path.cwd()),
        "the environment": dict(os.environ),
        "random": random.getstate(),
    }
    if numpy := sys.modules.get("numpy"):
        around["numpy"] = numpy.random.get_state()
    if matplotlib := sys.modules.get("matplotlib"):
        with suppress(Exception):
            around["the style of figures"] = dict(matplotlib.rcParams)
    return around


def _set_random_states(around: Mapping[str, Any]) -> None:
    random.setstate(around["random"])
    if "numpy" in around:
        sys.modules["numpy"].random.set_state(around["numpy"])


def _obstacle(state: _State, since: list[str]) -> str:
    """What stands against going on, in a clause; empty if nothing does."""
    now = _around()
    for what in ("the working directory", "the environment", "the style of figures"):
        if what in state.around and now.get(what) != state.around[what]:
            return f"{what} was changed"
    used, altered = _names_of(since)
    if EVERY_NAME in altered:
        return "it set a part of something that only a run can name"
    for name, look in state.looks.items():
        value = state.names[name]
        if isinstance(value, CODE):
            if name in altered:
                return f"something of {name} was replaced"
        elif look is None:
            if name in used:
                return f"{name} was used, and nobody can compare it with what it was"
        elif not _is_as_it_was(value, look):
            return f"{name} was changed in place"
    return ""


def _names_of(since: list[str]) -> tuple[set[str], set[str]]:
    """The names that some code uses, and those of which it sets or deletes a part."""
    used: set[str] = set()
    altered: set[str] = set()
    for code in since:
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError):
            continue  # it did not run
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                used.add(node.id)
                if node.id in ("setattr", "delattr", "exec", "eval", "globals", "vars"):
                    altered.add(EVERY_NAME)
            elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(
                node.ctx, ast.Load
            ):
                altered.add(_root(node))
    return used, altered


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else EVERY_NAME


def _forget_history(shell: Any, count: int) -> None:
    """Let the next cell have the number of the one that failed."""
    history = shell.history_manager
    for inputs in (history.input_hist_parsed, history.input_hist_raw):
        del inputs[count:]
    history.db_input_cache[:] = [entry for entry in history.db_input_cache if entry[0] < count]
    for number in [number for number in history.output_hist if number >= count]:
        del history.output_hist[number]
    shell.execution_count = count


def sources() -> str:
    """The files of the modules that are imported here and that no package brought, a line each."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths = {Path(file) for file in files if isinstance(file, str)}
    brought = (sys.prefix, sysconfig.get_path("stdlib"))
    own = [path for path in paths if not any(path.is_relative_to(one) for one in brought)]
    return "\n".join(sorted(str(path) for path in own))


BEGIN = "__import__('loopbook.pipeline.checkpoints', fromlist=['begin']).begin(get_ipython())"
HERE = "get_ipython().loopbook_checkpoints"
SOURCES = "__import__('loopbook.pipeline.checkpoints', fromlist=['sources']).sources()"
