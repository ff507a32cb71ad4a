"""Build outcome: whether the last build ended well, for whoever watches from outside."""

from loopbook.project.clock import utc_now
from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project
from loopbook.records import seals


def remember(project: Project, *, failed: bool) -> None:
    """Write down how a build ended."""
    outcome = {"failed": failed, "at": utc_now().isoformat()}
    path = project.var / "build" / "outcome.json"
    write_json(path, outcome)
    seals.keep(path, why="build")


def has_failed(project: Project) -> bool:
    """Whether the last build failed; False if there was none."""
    try:
        return bool(read_json(project.var / "build" / "outcome.json")["failed"])
    except (OSError, ValueError, KeyError):
        return False
