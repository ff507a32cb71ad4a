"""Upkeep: what a turn does for what is kept, before it learns from it.

It decides when a turn verifies whole and when quickly, whom it tells of something
new, and that the prediction log is sealed. What is found stops no turn: a person
judges it, and a changed champion is refused by whoever serves it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from loopbook.data import prediction_log
from loopbook.monitoring import notifications
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.errors import LoopbookError
from loopbook.project.knobs import Knobs
from loopbook.project.paths import Project
from loopbook.provenance import kept_rows, kept_stores, verification
from loopbook.provenance.kept_versions import tell_head
from loopbook.provenance.verification import MOST_KEPT, WHOLE
from loopbook.records import turns as turn_records

__all__ = ["look", "sentence", "tell_head"]


def look(
    project: Project, contract: Contract, knobs: Knobs, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Verify what is kept and seal what is new; what a turn's record says of it."""
    try:
        quick = not _is_due(project, knobs, record)
        report = verification.verify(project, quick=quick).as_json(MOST_KEPT)
        _seal(project, contract)
    except LoopbookError as error:  # what is away is told by the stage that needs it
        return {"form": "none", "count": 0, "findings": [], "notes": [str(error)]}
    known = _found_before(project)
    if any(one not in known for one in report["findings"]):
        text = f"loopbook, {contract.name}: {sentence(report)}"
        notifications.send(text, dict(record) | {"verified": report})
    return report


def sentence(report: Mapping[str, Any]) -> str:
    """What was found, in a line for people."""
    first = report["findings"][0]
    return (
        f"{report['count']:,} of all that is kept are not as they were written, such as "
        f"{first['where']} ({first['what']}). See all: loopbook verify"
    )


def _seal(project: Project, contract: Contract) -> None:
    kept_stores.seal(project, contract)
    log = prediction_log.connect_if_there(project, contract)
    if log is None:
        return
    try:
        kept_rows.seal(project, log)
    finally:
        log.close()


def _is_due(project: Project, knobs: Knobs, record: Mapping[str, Any]) -> bool:
    """Whether the last turn that verified whole is so long ago, by the clock on the wall."""
    now = parse_instant(record["began_at"])
    for before in turn_records.newest_first(project):
        if before.get("verified", {}).get("form") == WHOLE:
            span = timedelta(days=knobs.loop_verify_days)
            return now - parse_instant(before["began_at"]) >= span
    return True


def _found_before(project: Project) -> list[Any]:
    """What turns found since the last that verified whole, that one with them."""
    found: list[Any] = []
    for before in turn_records.newest_first(project):
        verified = before.get("verified", {})
        found += verified.get("findings", ())
        if verified.get("form") == WHOLE:
            break
    return found
