"""Services: where the running service of a project answers.

It decides where a service leaves its address, so that the loop of the same
project finds it whatever port was free. An address whose process has ended
counts as none.
"""

import os
from pathlib import Path

from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project


def keep(project: Project, address: str) -> None:
    """Write down where this process serves."""
    write_json(_place(project), {"address": address, "pid": os.getpid()})


def forget(project: Project) -> None:
    """Delete the address of this process; another service's stays."""
    if _kept(project).get("pid") == os.getpid():
        _place(project).unlink(missing_ok=True)


def address(project: Project) -> str | None:
    """Where the service of a project answers on this machine, or None if none runs."""
    kept = _kept(project)
    pid = kept.get("pid")
    return kept.get("address") if isinstance(pid, int) and _runs(pid) else None


def _runs(pid: int) -> bool:
    """Whether a process is there; psutil would say it too, but is no part of the service's image."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _kept(project: Project) -> dict:
    try:
        content = read_json(_place(project))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _place(project: Project) -> Path:
    return project.var / "service.json"
