"""Rebuilt: a laid out version, built by a process of its own.

It decides in which environment that process runs and what of ours it sees:
nothing that leads to the registry, the log or the stores of the project.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from loopbook.pipeline.runs import terminated_like_interrupted
from loopbook.project import waits
from loopbook.project.errors import BuildFailed, ProvenanceError
from loopbook.registry.environments import LOCK

# what leads to the project that the version is of
OURS = ("LOOPBOOK_", "MLFLOW_", "OPENLINEAGE_", "PLOOMBER_", "JUPYTER_", "DVC_", "GIT_")
# by it any Python of an environment finds a project's settings; see `paths`
SETTINGS = "loopbook_environment.pth"
PATIENCE_S = 10.0
LOOKED_S = 0.5  # between two looks at how far a build is
LAST_LINES = 15


def environment(library: Path | None) -> dict[str, str]:
    """The variables of a process that builds elsewhere, with the library of then first."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    places = [str(library.parent)] if library else []
    places += [place for place in (clean.pop("PYTHONPATH", ""),) if place]
    return clean | ({"PYTHONPATH": os.pathsep.join(places)} if places else {})


def build(root: Path, python: Path, library: Path | None, log: Path) -> None:
    """Run `loopbook build` in a folder; what it says is kept in `log`.

    Raises
    ------
    BuildFailed
        If it did not end well, with its last lines.
    """
    words = [str(python), "-m", "loopbook", "build"]
    if run(words, root, environment(library), log):
        raise BuildFailed(f"{log}: the build did not end well.\n{_last(log)}")


def run(words: list[str], folder: Path, variables: dict[str, str], log: Path) -> int:
    """Run a command, keep what it says, and end it with us; its exit code."""
    with log.open("ab") as lines, terminated_like_interrupted():
        process = subprocess.Popen(
            words, cwd=folder, env=variables, stdout=lines, stderr=subprocess.STDOUT
        )
        try:
            since = log.stat().st_size
            while True:
                try:
                    return process.wait(LOOKED_S)
                except subprocess.TimeoutExpired:
                    waits.follow(log, since)
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen) -> None:
    """Interrupt a build, which then ends its notebooks; kill what is left."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        process.wait()


def _last(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def made_environment(root: Path, top: Path, python: str, log: Path) -> Path:
    """Make the environment of then in `top/.venv` from the lock that was kept; its Python.

    Parameters
    ----------
    python : str
        The version that built, such as `3.11.7`; one of the same minor version is used.

    Raises
    ------
    ProvenanceError
        If there is no lock, no such Python, or a package cannot be had.
    """
    lock, venv = root / LOCK, top / ".venv"
    if not lock.exists():
        raise ProvenanceError("no lock was kept, so its environment cannot be made again")
    own = environment(None) | {"VIRTUAL_ENV": str(venv)}
    if (root / "vendor").is_dir():  # the wheel of loopbook that a project's lock names
        own["UV_FIND_LINKS"] = str(root / "vendor")
    uv = _uv()
    there = venv / "bin" / "python"
    steps = [
        [_python(python), "-m", "venv", str(venv)],
        [uv, "pip", "sync", "--quiet", "--python", str(there), "--require-hashes", str(lock)],
    ]
    if (top / "hatch_build.py").exists():  # loopbook's own repository
        flags = ["--quiet", "--offline", "--no-deps", "--no-build-isolation"]
        steps.append([uv, "pip", "install", *flags, "--python", str(there), "--editable", str(top)])
    for step in steps:
        if run(step, root, own, log):
            raise ProvenanceError(f"{log}: its environment cannot be made.\n{_last(log)}")
    settings = Path(__file__).parents[2] / SETTINGS
    for packages in venv.glob("lib/python*/site-packages"):
        if settings.exists() and not (packages / SETTINGS).exists():
            shutil.copy(settings, packages)  # a lock that names no loopbook does not bring it
    return there


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise ProvenanceError("uv is not here, which installs a lock. Install it: pip install uv")
    return uv


def _python(version: str) -> str:
    """A Python of the minor version that built."""
    minor = ".".join(version.split(".")[:2])
    if minor == ".".join(map(str, sys.version_info[:2])):
        return sys.executable
    found = shutil.which(f"python{minor}")
    if found is None:
        raise ProvenanceError(
            f"Python {version} built it, and no python{minor} is here. Install Python {minor}."
        )
    return found
