"""The loop: one turn from the newest answers to a version that serves.

It decides the order (materialize, monitor, probation, guards, build, confirm)
and what is kept of it. Judging is `verdict`'s, `probation`'s and `promotion`'s;
whether to retrain is `guards`'. Every stage may be killed: a turn that was
begun and not ended is gone on with by the next one.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from loopbook.features import materialize
from loopbook.loop import alone, growth, guards, journal, probation, upkeep
from loopbook.loop.confirmation import confirmed
from loopbook.loop.guards import Limits
from loopbook.models import margins, promotion
from loopbook.models.evaluation import Confidence
from loopbook.models.margins import Scale
from loopbook.models.task import task_of
from loopbook.monitoring import costs, notifications
from loopbook.pipeline import graph, lineage_events, runs
from loopbook.project.clock import parse_instant, utc_now
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import BuildRunning, LoopbookError, LoopError
from loopbook.project.files import read_json
from loopbook.project.knobs import Knobs, read_knobs
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.records.roles import SHADOW
from loopbook.records.turns import ERROR, INVESTIGATE, NOTHING, PROMOTED, ROLLED_BACK, UNCHANGED
from loopbook.records.verdicts import RETRAIN
from loopbook.registry import calibration, champions, tracking

LONGEST_LINES = 15  # of a reason: a report of a failed notebook ends with five of what to do


def turn(
    project: Project,
    *,
    as_of: datetime | None = None,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One turn; its record, which is kept in `var/loop` and in MLflow.

    Parameters
    ----------
    as_of : datetime in UTC or None
        None: now, or the moment of a turn that was killed within a day.

    Raises
    ------
    LoopbookError
        If no turn could be begun: another one runs, the contract or a knob is
        wrong, or the clock stands before the last turn's. What goes wrong
        later is in the record, with the outcome `error`; a LoopError if that
        cannot be written either.
    """
    knobs, contract = read_knobs(project.knobs, changes), read_contract(project.contract)
    try:
        with runs.only_run(project, "loop"), alone.only_turn(contract):
            record = journal.begin(project, as_of)
            with lineage_events.told(project, "turn") as told:
                record |= _taken(project, contract, knobs, changes or {}, record)
                told.failure = record["reason"] if record.get("outcome") == ERROR else None
            record["ended_at"] = utc_now().isoformat()
            turn_records.keep(project, record)
            with suppress(LoopbookError, OSError, tracking.MlflowException):
                client = tracking.connect(project)
                journal.log_those_left(project, client, contract)
                upkeep.tell_head(project, client, contract.name)
    except OSError as error:  # a full disk takes not even the record of what went wrong
        raise LoopError(
            f"{turn_records.folder(project)}: the turn cannot be written down ({error}). Free "
            "space, or correct the folder's rights; the next turn goes on where this one stopped."
        ) from None
    return record


def _taken(
    project: Project,
    contract: Contract,
    knobs: Knobs,
    changes: Mapping[str, Any],
    record: dict[str, Any],
) -> dict[str, Any]:
    """Take the stages, which extend the record; what is to be said of a failure."""
    try:
        client = tracking.connect(project)
        journal.log_those_left(project, client, contract)
        _Turn(project, contract, knobs, client, changes, record).run()
    except (LoopbookError, OSError, tracking.MlflowException) as error:
        failure = {"reason": _shortened(error)}
    except Exception as error:  # a fault of ours must not go on unseen either
        reason = f"unexpected {type(error).__name__}: {_shortened(error)}"
        failure = {"reason": reason, "traceback": traceback.format_exc()}
    else:
        return {}
    failure["outcome"] = ERROR
    journal.alert_of_failure(project, record | failure, knobs)
    return failure


def run(
    project: Project,
    *,
    interval_s: float,
    changes: Mapping[str, Any] | None = None,
    told: Callable[[dict[str, Any]], None],
) -> None:
    """Turn until interrupted, every `interval_s` or as soon as somebody asks for a retraining."""
    while True:
        seen = turn_records.asked(project)
        try:
            told(turn(project, changes=changes))
        except BuildRunning:
            raise
        except LoopbookError as error:
            told({"outcome": ERROR, "reason": str(error), "as_of": utc_now().isoformat()})
        due = time.monotonic() + interval_s
        while time.monotonic() < due and turn_records.asked(project) in (None, seen):
            time.sleep(1)


@dataclass
class _Turn:
    """What the stages share: they read and extend `record`."""

    project: Project
    contract: Contract
    knobs: Knobs
    client: Any
    changes: Mapping[str, Any]
    record: dict[str, Any]

    def __post_init__(self):
        self.as_of = parse_instant(self.record["as_of"])
        self.changes = dict(self.changes) | {"as_of": self.record["as_of"]}

    def run(self) -> None:
        if self.record["stage"] == "materialize":
            self.record["verified"] = upkeep.look(
                self.project, self.contract, self.knobs, self.record
            )
        champions.reconciled(
            self.client, self.contract.name, now=utc_now(), as_of=self.record["as_of"]
        )
        if self.record["stage"] == "build" or self._may_build():
            self._build()
        held = tracking.holder(self.client, self.contract.name, tracking.CHAMPION)
        self.record["champion"] = held and held.label

    def _may_build(self) -> bool:
        """Look, judge, and say whether to retrain; all but the last stage."""
        if self.contract.history:
            materialize.materialize(self.project, self.record["as_of"], rebuild=False)
        self._calibrate()
        self._at("monitor")
        level = self._monitor()
        if level == INVESTIGATE or any(one["stands_still"] for one in self.record["calibration"]):
            # anew: what was made of a broken window must not stand, nor a stillness that is over
            self._calibrate()
        self._at("probation")
        if level != INVESTIGATE and self._rolled_back():
            return False
        self._at("decide")
        asked = turn_records.asked(self.project)
        turn_records.forget_asked(self.project)
        self.record["asked"] = asked
        attempts = turn_records.attempts(turn_records.listed(self.project))
        permission = guards.may_retrain(
            level,
            asked=asked and asked["by"],
            grown=None if level in (RETRAIN, INVESTIGATE) or asked else self._grown(attempts),
            attempts=attempts,
            limits=Limits(
                self.knobs.loop_most_retrains,
                self.knobs.loop_refused_days,
                self.knobs.loop_backoff_minutes,
            ),
            as_of=self.as_of,
        )
        self.record["reason"] = permission.reason + (
            f" (asked by {asked['by']}: {asked['reason']})" if asked else ""
        )
        if not permission.granted:
            self.record["outcome"] = INVESTIGATE if level == INVESTIGATE else NOTHING
            return False
        self.record["attempt"] = turn_records.FAILED  # until it has succeeded
        self._at("build")
        return True

    def _grown(self, attempts: Sequence[turn_records.Attempt]) -> str | None:
        """Why so many more rows are known that the champion should learn again, if they are.

        Not while a champion is on probation, and not where only costs decide.
        """
        knobs, name = self.knobs, self.contract.name
        champion = tracking.holder(self.client, name, tracking.CHAMPION)
        before = tracking.holder(self.client, name, SHADOW)
        only_costs = knobs.costs_decide and costs.of_knobs(knobs)
        if not knobs.loop_growth or champion is None or only_costs:
            return None
        if before and before.number != champion.number:
            return None
        try:
            tags = tracking.run_of(self.client, champion).data.tags
            found = growth.since_last_build(self.project, self.contract, tags, attempts, self.as_of)
        except LoopbookError as error:  # no reason to end a turn that has its verdict
            self.record["growth"] = {"unknown": _shortened(error)}
            return None
        self.record["growth"] = found and found.as_dict()
        return found and found.reason(knobs.loop_growth)

    def _calibrate(self) -> None:
        """Make the states of all that answer, as of this turn."""
        rule = calibration.rule_of_knobs(self.contract, self.knobs)
        states = calibration.made(self.project, self.contract, rule, self.as_of)
        self.record["calibration"] = [one.as_dict() for one in states]

    def _monitor(self) -> str:
        """Judge the newest window; the level of its verdict."""
        graph.build(self.project, self.changes, graph=self.project.monitor_graph)
        window = read_json(self.project.var / "monitor" / "record.json")
        task = task_of(self.contract)
        self.record |= {
            "verdict": window["verdict"]["level"],
            "verdict_reasons": window["verdict"]["reasons"],
            "numbers": window["numbers"],
            "measure": asdict(task.measure),
            "bias_measure": asdict(task.bias_measure),
            "bias_of": window.get("bias_of"),
            "window": window_records.window_folder(self.project, window["as_of"]).name,
        }
        return window["verdict"]["level"]

    def _rolled_back(self) -> bool:
        """Judge a champion on probation; True if the version before serves again."""
        name = self.contract.name
        champion = tracking.holder(self.client, name, tracking.CHAMPION)
        before = tracking.holder(self.client, name, SHADOW)
        if champion is None or before is None or before.number == champion.number:
            return False
        state, why = self._judged(champion, before)
        self.record["probation"] = why
        if state == "passed":
            champions.end_probation(self.client, name)
        if state != "failed":
            return False
        _, back = champions.roll_back(
            self.client, name, reason=why, at=utc_now(), as_of=self.record["as_of"], by="the loop"
        )
        self.record |= {"outcome": ROLLED_BACK, "reason": why}
        self._confirm(back.number)
        notifications.send(f"loopbook, {name}: rolled back to v{back.number}. {why}", self.record)
        return True

    def _judged(self, champion: tracking.Version, before: tracking.Version) -> tuple[str, str]:
        """What becomes of a champion on probation, by the requests that both answered."""
        knobs = self.knobs
        since = parse_instant(champions.reigns(self.client, self.contract.name)[-1].as_of)
        answers, share = probation.read(
            self.project,
            self.contract,
            since=since,
            as_of=self.as_of,
            most_rows=knobs.monitor_most_rows,
            seed=knobs.random_seed,
        )
        pairs = probation.paired(answers, champion.number, before.number)
        confidence = Confidence(knobs.gate_confidence, knobs.bootstrap_resamples, knobs.random_seed)
        task = task_of(self.contract)
        apart = probation.difference(task, pairs, confidence) if pairs.height else None
        if apart and share:
            self.record["compared"] = {
                "version": champion.number,
                **asdict(apart),
                "requests": round(apart.n / share),
            }
        return probation.judge(
            apart,
            probation.Terms(
                knobs.loop_probation_days,
                knobs.loop_probation_labels,
                knobs.loop_probation_margin * self._scale(champion).loss,
                task.measure,
            ),
            champion={"label": champion.label, "promoted_as_of": since.isoformat()},
            as_of=self.as_of,
        )

    def _scale(self, champion: tracking.Version) -> Scale:
        """What margins are shares of: kept with the champion, or as the last window had it."""
        if kept := margins.from_tags(champion.tags):
            return kept
        window = window_records.newest(self.project) or {}
        return margins.of_record(window.get("champion", {}).get("scale"))

    def _build(self) -> None:
        """Retrain on the grown table, and let the gate decide."""
        started = time.monotonic()
        graph.build(self.project, self.changes)
        decision = read_json(self.project.var / "build" / "decision.json")
        attempt = promotion.outcome_of(decision)
        outcome = NOTHING if attempt == UNCHANGED else attempt
        self.record |= {
            "attempt": attempt,
            "outcome": outcome,
            "reason": decision["sentence"],
            "challenger": decision["challenger"],
            "snapshot_sha256": decision["snapshot_sha256"],
            "snapshot_rows": decision["snapshot_rows"],
            "errors": decision["errors"],
        }
        if outcome == PROMOTED:
            self._confirm(decision["challenger"]["version"])
        self.record["retrain_s"] = round(time.monotonic() - started, 1)

    def _confirm(self, version: str) -> None:
        """Ask the service until it answers with a version."""
        self.record["confirmed"] = sentence = confirmed(
            self.project, self.knobs.loop_service, version, self.knobs.loop_confirm_s
        )
        # "answers with v2 and not with v3" begins like a confirmation and is none
        if sentence and not sentence.startswith(f"the service answers with v{version},"):
            notifications.send(f"loopbook, {self.contract.name}: {sentence}", self.record)

    def _at(self, stage: str) -> None:
        self.record["stage"] = stage
        turn_records.note(self.project, self.record)


def _shortened(error: BaseException) -> str:
    """What went wrong; of a long report its beginning and its end, where the error is named."""
    lines = str(error).strip().splitlines()
    if len(lines) > LONGEST_LINES:
        lines = [*lines[:2], "…", *lines[-LONGEST_LINES + 3 :]]
    return "\n".join(lines) or type(error).__name__
