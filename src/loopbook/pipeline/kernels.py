"""Kernels: a notebook's process, forked from one that has imported what notebooks import.

Much of a short notebook's time is its imports: three seconds for scikit-learn,
MLflow and polars, four more for Evidently. A nursery, a process of its own,
imports them once; each kernel is a fork of it that starts in a tenth of a
second. It imports packages of others only, so a kernel reads our own modules
as they are on the disk, and it never computes, so that no lock and no thread
pool of theirs is in use when it forks. One that lives for a single build, as a
fork of a warm process does, imports our modules as that build finds them.

A kernel that is kept outlives the build, and its nursery with it: that ends the
kernel when its time is over.

Where the nursery cannot serve (another kernel than Python's own, a system
without fork, a nursery that died), a kernel starts as everywhere.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from loopbook.pipeline import imports
from loopbook.pipeline.settings import lasting

PROVISIONER = "loopbook-nursery"
LAUNCHER = ["-m", "ipykernel_launcher"]
STARTS_S = 30
LOOKS_S = 0.5


class Nursery:
    """The process that kernels are forked from. Threads may share one."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | Forked | None = None
        self._line: Connection | None = None
        self._environment: dict[str, str] = {}
        self.may_keep = False  # whether kernels may outlive this process

    def prepare(self, modules: Iterable[str]) -> None:
        """Let it import modules, in the background; those that it has cost nothing."""
        with self._lock, suppress(OSError):
            self._start(os.environ)
            self._tell({"import": list(modules)})

    def fork(self, words: list[str], environment: Mapping[str, str], folder: str) -> int | None:
        """The process id of a new kernel with these arguments, or None if there is none."""
        with self._lock:
            try:
                self._start(environment)
                told = {"words": words, "environment": dict(environment), "folder": folder}
                self._tell(told | {"may_stay": self.may_keep})
                if self._line.poll(STARTS_S):
                    return json.loads(self._line.recv_bytes())["pid"]
            except (OSError, EOFError):
                pass
            self.end()
            return None

    def keep(self, pid: int, seconds: float) -> bool:
        """Let a kernel live on when this process has ended; whether the nursery will see to it."""
        with self._lock:
            if not self._process or pid not in _children(self._process.pid):
                return False
            try:
                self._tell({"keep": pid, "seconds": seconds})
            except OSError:
                return False
            return True

    def is_warm(self) -> bool:
        """Whether it is a fork of a process that had imported what all notebooks need."""
        return isinstance(self._process, Forked) and self._process.poll() is None

    def fork_here(
        self,
        environment: Mapping[str, str],
        closing: Iterable[int] = (),
        ours: Iterable[str] = (),
    ) -> None:
        """Take a fork of this process, which has imported all, for the nursery of one build.

        Parameters
        ----------
        closing : open files that are not for it
        ours : modules of ours, which it imports while the build looks what is to do
        """
        self.end()
        self._line, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            self._line.close()
            for file in closing:
                os.close(file)
            try:
                nurse(theirs, ours)
            finally:
                os._exit(0)
        theirs.close()
        self._process, self._environment = Forked(pid), lasting(environment)

    def _start(self, environment: Mapping[str, str]) -> None:
        """A nursery under this environment: settings are often read at import."""
        wanted = lasting(environment)
        if self._process and self._process.poll() is None and wanted == self._environment:
            return
        self.end()
        self._line, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loopbook.pipeline.kernels", str(theirs.fileno())],
                env=wanted,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._environment = wanted

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._line.send_bytes(json.dumps(message).encode())

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def end(self) -> None:
        """End it; kernels that it forked end themselves when they see that."""
        if self._process:
            self._line.close()
            self._process.kill()
            self._process.wait()
            self._process = None


NURSERY = Nursery()


def _children(pid: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children()}
    except psutil.NoSuchProcess:
        return set()


class Forked:
    """A kernel of the nursery, as `LocalProvisioner` wants its process."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid
        self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """None while it lives. The nursery is its parent, so nobody here knows how it ended."""
        return None if self._process.is_running() else 0

    def wait(self) -> int:
        self._process.wait()
        return 0

    def send_signal(self, number: int) -> None:
        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class NurseryProvisioner(LocalProvisioner):
    """Starts kernels of this Python as forks, and all others as everywhere."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any):
        pid = None
        if Path(cmd[0]).name.startswith("python") and cmd[1:3] == LAUNCHER and hasattr(os, "fork"):
            folder = str(kwargs.get("cwd") or Path.cwd())
            pid = NURSERY.fork(cmd[3:], kwargs.get("env") or os.environ, folder)
        try:
            self.process = Forked(pid) if pid else None
        except psutil.NoSuchProcess:
            self.process = None
        if self.process is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = pid  # it leads a session of its own
        self.cwd = kwargs.get("cwd") or Path.cwd()
        return self.connection_info


def start_from_nursery(sources: Iterable[str], but: Iterable[str] = ()) -> None:
    """Let this process start its kernels from the nursery, which imports what these sources do.

    `but` names packages that no kernel will import, although a source could. The
    sources are not read for a nursery that is warm.
    """
    factory = KernelProvisionerFactory.instance()
    target = f"{NurseryProvisioner.__module__}:{NurseryProvisioner.__name__}"
    factory.provisioners[PROVISIONER] = EntryPoint(PROVISIONER, target, factory.GROUP_NAME)
    factory.default_provisioner_name = PROVISIONER
    if not NURSERY.is_warm():
        NURSERY.prepare(imports.packages(sources, but))


# -- in the nursery's process ----------------------------------------------


def nurse(line: Connection, ours: Iterable[str] = ()) -> None:
    """Import and fork as told, until the other end is closed; a fork goes before imports."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets ended kernels for us
    waiting = ["ipykernel.kernelapp", *ours]
    kept: dict[int, float] = {}  # until when, by process id
    while True:
        if waiting and not line.poll():
            imports.import_quietly(waiting.pop(0))
            continue
        try:
            message = json.loads(line.recv_bytes())
        except EOFError:
            _stay_with(kept)
            return
        if "import" in message:
            waiting += message["import"]
            continue
        if "keep" in message:
            kept[message["keep"]] = time.monotonic() + message["seconds"]
            continue
        pid = os.fork()
        if pid == 0:
            line.close()
            _become(message)
        line.send_bytes(json.dumps({"pid": pid}).encode())


def _stay_with(kept: Mapping[int, float]) -> None:
    """End all kernels but those that are kept, and those when their time is over."""
    _let_go_of_the_terminal()
    while living := psutil.Process().children():
        for child in living:
            if time.monotonic() >= kept.get(child.pid, 0):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        time.sleep(LOOKS_S)


def _let_go_of_the_terminal() -> None:
    """Whoever reads what the build prints should not wait for a process that outlives it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _become(message: Mapping[str, Any]) -> None:
    """Be the kernel; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    if message.get("may_stay"):
        _let_go_of_the_terminal()
    os.chdir(message["folder"])
    os.environ.clear()
    os.environ.update(message["environment"] | {"JPY_PARENT_PID": str(os.getppid())})
    # The kernel ends itself when its parent is gone. It takes the variable when its class is
    # made, which the nursery may have done long ago.
    ends_with = f"--IPKernelApp.parent_handle={os.getppid()}"
    sys.argv = ["ipykernel_launcher", *message["words"], ends_with]
    status = 1
    try:
        from ipykernel.kernelapp import launch_new_instance

        launch_new_instance()
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    nurse(Connection(int(sys.argv[1])))
