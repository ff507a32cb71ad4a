"""The journal of turns: how a turn begins, goes on after a kill, and gets into MLflow.

It decides which turn is gone on with, and when failures are worth a message. It
takes no stage of a turn.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from loopbook.monitoring import notifications
from loopbook.project.clock import parse_instant, utc_now
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.errors import LoopError
from loopbook.project.knobs import Knobs
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.records.turns import ERROR
from loopbook.registry import tracking

RESUMED_WITHIN = timedelta(days=1)


def begin(project: Project, as_of: datetime | None) -> dict[str, Any]:
    """A new turn's journal, or that of the one to go on with."""
    records, left = turn_records.listed(project), turn_records.open_turn(project)
    moment = as_of or utc_now()
    if left:
        then = parse_instant(left["as_of"])
        is_same = then == as_of if as_of else timedelta() <= moment - then < RESUMED_WITHIN
        if is_same:
            record = left | {"resumed": left.get("resumed", 0) + 1}
            turn_records.note(project, record)
            return record
    done = [parse_instant(r["as_of"]) for r in records if r["outcome"] != ERROR]
    if done and moment < max(done):
        raise LoopError(
            f"the clock stands at {moment:%Y-%m-%d %H:%M} UTC, and a turn was taken as of "
            f"{max(done):%Y-%m-%d %H:%M}. Nothing was changed. Correct this machine's clock or "
            f"--as-of; if that turn's was wrong, delete its record in {project.var / 'loop/turns'}."
        )
    numbers = [r["turn"] for r in records] + ([left["turn"]] if left else [])
    record = {
        "turn": max(numbers, default=0) + 1,
        "as_of": moment.isoformat(),
        "began_at": utc_now().isoformat(),
        "stage": "materialize",
    }
    if left:  # it was killed and cannot be gone on with: what it did is in the registry
        turn_records.keep(
            project, left | {"outcome": ERROR, "reason": f"killed while at {left['stage']}"}
        )
    turn_records.note(project, record)
    return record


def log_those_left(project: Project, client, contract: Contract) -> None:
    """Log every turn that is not in MLflow yet."""
    for record in turn_records.listed(project):
        if "mlflow_run_id" not in record:
            run_id = tracking.log_turn(client, contract.name, record)
            turn_records.keep_again(project, record | {"mlflow_run_id": run_id})


def alert_of_failure(project: Project, record: Mapping[str, Any], knobs: Knobs) -> None:
    """Send a message where as many turns as the knob says failed one after the other."""
    failures = 1
    for before in reversed(turn_records.listed(project)):
        if before["outcome"] != ERROR:
            break
        failures += 1
    if failures >= knobs.loop_alert_failures:
        notifications.send(
            f"loopbook: {counted(failures, 'turn')} of the loop failed, one after the other. "
            f"{record['reason']}",
            record,
        )
