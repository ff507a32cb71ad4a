"""Warm: a process that has imported what a build imports, and of which builds are forks.

JupyterLab starts one for its project (`make lab`) and it ends with JupyterLab. It
imports packages of others; of ours it has only what this module needs, so a build
reads our modules as they are on the disk. Before each build it looks whether the
lock, the installed packages and its own modules are as they were when it began;
if not, the build runs where it was typed and this process begins anew. A build
that is given to it ends with the command that gave it.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from loopbook.cli.warm_client import FILE, made_for, receive, send, short
from loopbook.pipeline import imports, kernels
from loopbook.project.paths import Project, find_root

# what a build imports beside what its notebooks do
OF_A_BUILD = ("loopbook.cli.main", "loopbook.pipeline.graph")
LIST = "--list"
OURS = f"{imports.OURS}."


# -- in JupyterLab's process -------------------------------------------------


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    """Start a warm process that ends with JupyterLab; a lab outside a project has none."""
    root = find_root(Path(app.root_dir))
    if root is not None and hasattr(os, "fork"):
        app.loopbook_warm = start(Project(root))


def start(project: Project) -> subprocess.Popen:
    """A warm process, which ends when its standard input is closed: with us, however we end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JPY_")}
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=project.root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


# -- in the warm process -----------------------------------------------------


@dataclass(frozen=True)
class _Warm:
    """What this process was when it began, before any import changed its environment."""

    project: Project
    stamps: Mapping[str, Any]
    made_for: list[str]
    ours: list[str]  # the modules of ours that notebooks reach; each build imports them anew

    def has_aged(self) -> bool:
        return _stamps(self.project) != self.stamps


def main() -> None:
    """Import, then fork a build for each that asks, until standard input is closed."""
    project = Project(find_root() or Path.cwd())
    if LIST in sys.argv:
        print("\n".join(_needed(project)))
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets ended builds for us
    began = _stamps(project), made_for()
    theirs, ours = _listed()
    warm = _Warm(project, *began, ours)
    for name in theirs:
        imports.import_quietly(name)
    address = project.var / FILE
    if (listener := _listener(address)) is None:
        return
    with listener:
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                address.unlink(missing_ok=True)
                return
            line, _ = listener.accept()
            with line:
                environment = _serve(line, listener, warm)
            if environment is not None:
                words = [sys.executable, "-m", "loopbook.cli.warm"]
                os.execve(sys.executable, words, environment)


def _listener(address: Path) -> socket.socket | None:
    """A socket for this user alone; None if another warm process has it."""
    address.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        if address.is_socket() and probe.connect_ex(short(address)) == 0:
            return None
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(short(address))
    except OSError:  # a path that is too long, or a file system without sockets
        listener.close()
        return None
    finally:
        os.umask(before)
    listener.listen()
    return listener


def _serve(line: socket.socket, listener: socket.socket, warm: _Warm) -> dict[str, str] | None:
    """Fork a build; or say that it has to run elsewhere, and give the environment to begin anew in."""
    line.settimeout(5)  # whoever connects and says nothing must not keep others waiting
    files: list[int] = []
    try:
        files = list(socket.recv_fds(line, 1, 3)[1])
        message = receive(line)
        line.settimeout(None)
        if message is None:
            return None
        if warm.has_aged() or message["made_for"] != warm.made_for:
            send(line, {"stale": True})
            is_of_this_python = message["made_for"][:2] == warm.made_for[:2]
            return message["environment"] if is_of_this_python else None
        if os.fork() == 0:
            listener.close()
            _be_a_build(line, message, files, warm.ours)
    except OSError:
        return None
    finally:
        for file in files:
            os.close(file)
    return None


def _be_a_build(
    line: socket.socket, message: Mapping[str, Any], files: list[int], ours: list[str]
) -> None:
    """Run the command as if it were typed where it was; never returns."""
    status = 1
    try:
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored behind a shell's `&`
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(message["folder"])
        os.environ.clear()
        os.environ.update(message["environment"])
        sys.stdout, sys.stderr = (
            open(number, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
            for number in (1, 2)
        )
        sys.argv = message["words"]
        kernels.NURSERY.fork_here(os.environ, closing=[line.fileno(), *files], ours=ours)
        send(line, {"pid": os.getpid()})
        threading.Thread(target=_end_with, args=(line,), daemon=True).start()
        status = _run()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        with suppress(OSError):
            send(line, {"status": status})
        os._exit(status)


def _run() -> int:
    from loopbook.cli.main import main as command

    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end_with(line: socket.socket) -> None:
    """End like an interrupted build when the command that gave it is gone."""
    with suppress(OSError):
        line.recv(1)
    # not to the process: this thread might get it, and the main one sleep on
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)


def _stamps(project: Project) -> dict[str, Any]:
    """What this process must not be older than."""
    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == "loopbook"]
    files = [Path(module.__file__) for module in modules if getattr(module, "__file__", None)]
    packages = Path(sysconfig.get_path("purelib"))  # changes with every package that comes or goes
    stamps: dict[str, Any] = {}
    for path in (Path(__file__), *files, packages, project.root / "requirements.lock"):
        try:
            stat = path.stat()
        except OSError:
            continue
        stamps[str(path)] = [stat.st_mtime_ns, stat.st_size]
    return stamps


def _listed() -> tuple[list[str], list[str]]:
    """What to import, of others and of ours, from a process that imports our modules to find out."""
    words = [sys.executable, "-m", "loopbook.cli.warm", LIST]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    names = done.stdout.split()
    ours = [name for name in names if name.startswith(OURS)]
    return [name for name in names if not name.startswith(OURS)], ours


def _needed(project: Project) -> list[str]:
    from loopbook.pipeline import digests, notebooks

    for name in OF_A_BUILD:
        import_module(name)
    outside = {"__main__", "loopbook", *imports.NOT_HERE, *sys.stdlib_module_names}
    ours = [name for name in sys.modules if name.partition(".")[0] not in outside]
    tasks = yaml.safe_load(project.graph.read_text(encoding="utf-8"))["tasks"]
    paths = {
        project.root / task["source"] for task in tasks if str(task["source"]).endswith(".ipynb")
    }
    reached = {name: f for path in paths for name, f in digests.modules_of(project, path).items()}
    files = set(reached.values())
    sources = [notebooks.code_of(path) for path in sorted(paths)]
    sources += [file.read_text(encoding="utf-8") for file in sorted(files)]
    theirs = imports.packages(sources, but=("evidently",))
    of_notebooks = [f"{OURS}{name}" for name in sorted(reached)]
    return ["ipykernel.kernelapp", *dict.fromkeys([*ours, *theirs]), *of_notebooks]


if __name__ == "__main__":
    main()
