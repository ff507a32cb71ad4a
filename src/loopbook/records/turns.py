"""Loop records: what each turn of the loop saw, decided and did.

It decides where a turn's record lies and how it reads. A turn that was killed
leaves its journal, from which the next one goes on. Whoever wants a retraining
from outside leaves a request here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from loopbook.project.clock import parse_instant, utc_now
from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project
from loopbook.records import seals

NOTHING, PROMOTED, REFUSED, ROLLED_BACK = "nothing", "promoted", "refused", "rolled back"
INVESTIGATE, ERROR = "investigate", "error"
FAILED = "failed"  # what an attempt is until it has succeeded
UNCHANGED = "unchanged"  # an attempt that made the model that serves again
EXIT_CODES = {NOTHING: 0, PROMOTED: 10, REFUSED: 20, INVESTIGATE: 30, ROLLED_BACK: 40, ERROR: 1}
MOST_WATCHED = 500  # turns that a scrape of the service looks at
ALWAYS = {"turn", "as_of", "outcome", "reason"}
POLICIES = {
    "never": "never retrain",
    "scheduled": "every four weeks",
    "level": "level only",
    "loop_raw": "the loop without level",
    "loop": "the loop",
}


@dataclass(frozen=True)
class Attempt:
    """A retraining that was tried: when, what came of it, and of how many rows if it got so far."""

    as_of: datetime
    outcome: str
    rows: int | None = None


def folder(project: Project) -> Path:
    return project.var / "loop"


def listed(project: Project) -> list[dict[str, Any]]:
    """Every turn, oldest first. What cannot be read is left out."""
    return list(newest_first(project))[::-1]


def newest_first(project: Project) -> Iterator[dict[str, Any]]:
    """The turns, the newest first; read one by one, since most readers want a few only."""
    for path in sorted((folder(project) / "turns").glob("*.json"), reverse=True):
        try:
            record = read_json(path)
        except (OSError, ValueError):
            continue
        if is_turn(record):
            yield record


def is_turn(record: Any) -> bool:
    """Whether this is a turn's record, as against a file of somebody else's."""
    return isinstance(record, dict) and record.keys() >= ALWAYS


@dataclass(frozen=True)
class State:
    """How the loop is, for whoever watches from outside.

    Attributes
    ----------
    outcome : of the last turn; None if there was none
    ended_at : when the last turn ended, by the clock on the wall
    failures : turns that failed one after the other, up to now
    retrains : retrainings that were tried in the last day, by the clock on the wall
    """

    outcome: str | None = None
    ended_at: datetime | None = None
    failures: int = 0
    retrains: int = 0


def state(project: Project, *, now: datetime) -> State:
    """How the loop is. It reads few records and never fails: a scrape must not."""
    outcome, last, failures, retrains, is_failing = None, None, 0, 0, True
    for record in islice(newest_first(project), MOST_WATCHED):
        ended = _ended(record)
        outcome, last = outcome or record["outcome"], last or ended
        is_failing = is_failing and record["outcome"] == ERROR
        failures += is_failing
        is_of_today = ended is not None and now - ended < timedelta(days=1)
        retrains += is_of_today and bool(record.get("attempt"))
        if not is_failing and not is_of_today:
            break
    return State(outcome, last, failures, retrains)


def _ended(record: Mapping[str, Any]) -> datetime | None:
    """When a turn ended; of one that was killed, when it began; None if it does not say."""
    try:
        return parse_instant(record.get("ended_at") or record["began_at"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def keep(project: Project, record: Mapping[str, Any]) -> None:
    """Write a turn's record; then its journal is closed."""
    keep_again(project, record)
    _journal(project).unlink(missing_ok=True)


def keep_again(project: Project, record: Mapping[str, Any]) -> None:
    """Write a kept turn's record again; an open turn stays open."""
    path = folder(project) / "turns" / f"{record['turn']:06d}.json"
    write_json(path, record)
    seals.keep(path, why=f"turn {record['turn']}")


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


def changes(records: Sequence[Mapping[str, Any]]) -> dict[datetime, tuple[str, str]]:
    """When another version began to serve: the outcome, and a short text with the version."""
    moves = {}
    for record in records:
        outcome = record["outcome"]
        if outcome in (PROMOTED, ROLLED_BACK):
            version = (record.get("champion") or "").rpartition(" ")[2]
            word = "promoted" if outcome == PROMOTED else "back to"
            moves[parse_instant(record["as_of"])] = (outcome, f"{word} {version}".strip())
    return moves


def verdicts(records: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, str]]:
    """The verdict of each turn that came to one, with its moment."""
    return [(parse_instant(r["as_of"]), r["verdict"]) for r in records if r.get("verdict")]


def outcomes(records: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, str]]:
    """The outcome of each turn, with its moment."""
    return [(parse_instant(r["as_of"]), r["outcome"]) for r in records]


def attempts(records: Sequence[Mapping[str, Any]]) -> list[Attempt]:
    """The retrainings that turns tried, in the order of the records."""
    tried = (r for r in records if r.get("attempt"))
    return [Attempt(parse_instant(r["as_of"]), r["attempt"], r.get("snapshot_rows")) for r in tried]


def _journal(project: Project) -> Path:
    return folder(project) / "open.json"
