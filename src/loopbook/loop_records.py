"""Loop records: what each turn of the loop saw, decided and did.

It decides where a turn's record lies and how it reads. A turn that was killed
leaves its journal, from which the next one goes on. Whoever wants a retraining
from outside leaves a request here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopbook.files import read_json, write_json
from loopbook.project import Project
from loopbook.sources import utc_now

NOTHING, PROMOTED, REFUSED, ROLLED_BACK = "nothing", "promoted", "refused", "rolled back"
INVESTIGATE, ERROR = "investigate", "error"
EXIT_CODES = {NOTHING: 0, PROMOTED: 10, REFUSED: 20, INVESTIGATE: 30, ROLLED_BACK: 40, ERROR: 1}


def folder(project: Project) -> Path:
    return project.var / "loop"


def listed(project: Project) -> list[dict[str, Any]]:
    """Every turn, oldest first. What cannot be read is left out."""
    found = []
    for path in sorted((folder(project) / "turns").glob("*.json")):
        try:
            found.append(read_json(path))
        except (OSError, ValueError):
            continue
    return found


def keep(project: Project, record: Mapping[str, Any]) -> None:
    """Write a turn's record; then its journal is closed."""
    keep_again(project, record)
    _journal(project).unlink(missing_ok=True)


def keep_again(project: Project, record: Mapping[str, Any]) -> None:
    """Write a kept turn's record anew; an open turn stays open."""
    write_json(folder(project) / "turns" / f"{record['turn']:06d}.json", record)


def note(project: Project, record: Mapping[str, Any]) -> None:
    """Write down how far an open turn is."""
    write_json(_journal(project), record)


def open_turn(project: Project) -> dict[str, Any] | None:
    """The turn that was begun and not ended, or None."""
    try:
        return read_json(_journal(project))
    except (OSError, ValueError):
        return None


def ask(project: Project, by: str, reason: str) -> dict[str, str]:
    """Ask the loop for a retraining at its next turn."""
    asked = {"at": utc_now().isoformat(), "by": by, "reason": reason}
    write_json(folder(project) / "asked.json", asked)
    return asked


def asked(project: Project) -> dict[str, str] | None:
    """The request that waits, or None."""
    try:
        return read_json(folder(project) / "asked.json")
    except (OSError, ValueError):
        return None


def forget_asked(project: Project) -> None:
    (folder(project) / "asked.json").unlink(missing_ok=True)


def lines(records: list[dict[str, Any]]) -> list[str]:
    """Turns for people, a line each and the reason below."""
    told = []
    for r in records:
        served = r.get("champion") or "no champion"
        told.append(
            f"{r['turn']:>4}  {r['as_of'][:16].replace('T', ' ')} UTC  "
            f"{r.get('verdict') or 'not judged':<11}  {r['outcome']:<11}  {served}"
        )
        told.append(f"      {r['reason']}")
    return told or ["The loop has not turned yet. Next: make loop"]


def _journal(project: Project) -> Path:
    return folder(project) / "open.json"
