"""Calibration: the state of each version that answers, made of what came true.

It decides whose states are made, of which ground truth, and when one stands
still. What a state is made of these, `calibration_states` says; where it is
kept, `state_store`. The same instant, ground truth and rule give the same state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from loopbook.data import came_true, loop_clock, prediction_log, quarantine, served_rows
from loopbook.data.came_true import Doubts
from loopbook.data.prediction_log import PredictionLog
from loopbook.models import calibration_states
from loopbook.models.calibration_states import Rule, State, Stillness
from loopbook.models.task import task_of
from loopbook.models.truths import LONGEST_DAYS, UNTIL_TS
from loopbook.project.clock import parse_instant, utc_now
from loopbook.project.contract import Contract
from loopbook.project.errors import LoopbookError
from loopbook.project.knobs import Knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.records import roles
from loopbook.records import windows as window_records
from loopbook.records.verdicts import INVESTIGATE
from loopbook.registry import reader, residuals
from loopbook.registry.reader import Registry, Version
from loopbook.registry.state_store import StateStore

WHOSE = (roles.CHAMPION, roles.SHADOW, roles.PREVIOUS, roles.CHALLENGER)
AUTO = "auto"  # a bound that is drawn from the version's own history
NOBODY = "no version is registered yet, or calibration is false in env.yaml"
REMEDY = "loopbook features materialize"
INSTANT = timedelta(microseconds=1)
HALF_LIVES = 6  # ground truth that is older than so many counts for less than a sixtieth


@dataclass(frozen=True)
class Made:
    """A version's state, and what of it a person should know beside its own reason."""

    version: Version
    state: State
    note: str = ""

    @property
    def sentence(self) -> str:
        parts = [f"{self.version.label}: {self.state.reason}", self.note]
        return "; ".join(part for part in parts if part)

    def as_dict(self) -> dict[str, Any]:
        """What a record of a turn holds of it."""
        state = self.state.as_json()
        kept = ("shift", "truths", "reason", "at_bound", "stands_still")
        return {"version": self.version.number, "note": self.note, **{n: state[n] for n in kept}}


@dataclass(frozen=True)
class Evidence:
    """Where it is read what came true of a version."""

    project: Project
    contract: Contract
    registry: Registry
    log: PredictionLog | None

    def of(
        self, version: Version, as_of: datetime, rule: Rule, *, since: datetime | None = None
    ) -> tuple[pl.DataFrame, str]:
        """What came true of a version by an instant, and what is wanting of it.

        Rows that were kept with the version come first; then what it served.

        Parameters
        ----------
        since : datetime in UTC or None
            The first instant whose level is asked for; None: `as_of` alone.
        """
        frames, note = [], ""
        try:
            kept = residuals.kept(self.registry, version, self.contract)
        except LoopbookError as error:
            kept, note = None, str(error)
        else:
            note = "" if kept is not None else "it has no rows of its own build, only served ones"
        if kept is not None:
            frames.append(kept.with_columns(pl.lit(None).alias(UNTIL_TS)))
        if self.log is not None:
            # without rows of its build, what a version served first says how far it is usually off
            days = LONGEST_DAYS if kept is None else HALF_LIVES * rule.half_life_days
            span = timedelta(days=days)
            frames.append(self._served(version, earlier(since or as_of, span), as_of))
        kinds = {**residuals.column_types(self.contract), UNTIL_TS: residuals.INSTANT}
        every = pl.concat([f.select(pl.col(n).cast(k) for n, k in kinds.items()) for f in frames])
        return residuals.sound(every, self.contract), note

    def located(self, version: Version) -> Version:
        """A version with the place of its files, which MLflow's client does not tell."""
        known = {one.number: one for one in self.registry.versions(self.contract.name)}
        return known.get(version.number, version)

    def _served(self, version: Version, since: datetime, as_of: datetime) -> pl.DataFrame:
        return came_true.read(
            self.log,
            self.contract,
            version.number,
            since=since,
            until=as_of,
            doubts=Doubts(
                broken_spans(self.project, as_of),
                quarantine.decisions_of(self.project).released,
            ),
        )


def made(
    project: Project, contract: Contract, rule: Rule | None, as_of: datetime | None = None
) -> list[Made]:
    """Make the state of every version that answers or may answer next, and keep it.

    Parameters
    ----------
    rule : Rule or None
        None: `calibration` is off, and no state is made.
    as_of : datetime in UTC or None
        None: just after the newest answer by the clock of the loop. Where nothing was
        answered yet, the newest moment that a version was built for, or now.

    Returns
    -------
    list of Made
        One for each version under an alias, once.

    Raises
    ------
    LoopbookError
        If the registry or the prediction log cannot be asked. A version whose
        own files cannot be read has a state of what it served alone, and a note.
    """
    if rule is None:
        return []
    registry = reader.connect(tracking_address(project))
    versions = held_versions(registry, contract)
    if not versions:
        return []
    log = prediction_log.connect(project, contract)
    try:
        moment = as_of or loop_clock.newest(log, utc_now()) or _built_for(versions)
        evidence = Evidence(project, contract, registry, log)
        return make(versions, evidence, rule, moment)
    finally:
        log.close()


def _built_for(versions: Sequence[Version]) -> datetime:
    """The newest moment that a version was built for, or now."""
    told = [version.tags.get("as_of", "none") for version in versions]
    return max([parse_instant(one) for one in told if one != "none"], default=utc_now())


def make(
    versions: Sequence[Version], evidence: Evidence, rule: Rule, as_of: datetime
) -> list[Made]:
    """Make and keep the states of some versions as of an instant, in the evidence's log."""
    return [_made(version, evidence, rule, as_of) for version in versions]


def held_versions(registry: Registry, contract: Contract) -> list[Version]:
    """The versions that answer or may answer next, each once, the champion first."""
    held = [registry.held(contract.name, alias) for alias in WHOSE]
    return list({version.number: version for version in held if version}.values())


def broken_spans(project: Project, as_of: datetime) -> list[tuple[datetime, datetime]]:
    """Stretches whose inputs or ground truth were called broken by an instant."""
    return [both for both in served_rows.broken_spans(project) if both[1] <= as_of]


def why_it_stands(project: Project, as_of: datetime) -> str | None:
    """Why no state may move as of an instant: the newest window by then was broken; or None."""
    by_then = [
        record
        for record in window_records.listed(project)
        if parse_instant(record["as_of"]) <= as_of
    ]
    if not by_then or by_then[-1]["verdict"]["level"] != INVESTIGATE:
        return None
    (why, *_), until = by_then[-1]["verdict"]["reasons"], by_then[-1]["as_of"][:10]
    return f"the window until {until} says investigate: {why}"


def stood_spans(project: Project, as_of: datetime) -> list[tuple[datetime, datetime]]:
    """Stretches `[start, end)` in which states stood still: from each broken window to the next one."""
    by_then = [
        (parse_instant(record["as_of"]), record["verdict"]["level"])
        for record in window_records.listed(project)
        if parse_instant(record["as_of"]) <= as_of
    ]
    return [
        (at, end)
        for (at, level), (end, _) in pairwise([*by_then, (as_of, "")])
        if level == INVESTIGATE
    ]


def earlier(moment: datetime, span: timedelta) -> datetime:
    """So much earlier, as far as the calendar goes."""
    try:
        return moment - span
    except OverflowError:
        return datetime.min.replace(tzinfo=moment.tzinfo)


def _made(version: Version, evidence: Evidence, rule: Rule, as_of: datetime) -> Made:
    state, note = decided(version, evidence, rule, as_of)
    StateStore(evidence.log.database).add(evidence.contract.name, version.number, state)
    return Made(version, state, note)


def decided(version: Version, evidence: Evidence, rule: Rule, as_of: datetime) -> tuple[State, str]:
    """The state of a version as of an instant, made and not kept, and what is wanting of it."""
    contract, project = evidence.contract, evidence.project
    pairs, note = evidence.of(version, as_of, rule)
    why, stood = why_it_stands(project, as_of), stood_spans(project, as_of)
    store = StateStore(evidence.log.database)
    before = store.at(contract.name, version.number, earlier(as_of, INSTANT))
    if why and before is None:
        before = _before(version, evidence, rule, as_of)
    stillness = Stillness(why, before, stood)
    return calibration_states.decide(task_of(contract), pairs, as_of, rule, stillness), note


def _before(version: Version, evidence: Evidence, rule: Rule, as_of: datetime) -> State:
    """The state of just before states began to stand still, where a store has lost it."""
    since = as_of
    for start, end in reversed(stood_spans(evidence.project, as_of)):
        if end == since:
            since = start
    then = earlier(since, INSTANT)
    pairs, _ = evidence.of(version, then, rule)
    stillness = Stillness(stretches=stood_spans(evidence.project, then))
    return calibration_states.decide(task_of(evidence.contract), pairs, then, rule, stillness)


def told(
    project: Project, contract: Contract, rule: Rule | None, as_of: datetime | None = None
) -> list[str]:
    """Make the states, and say what was made or why it was not; a promotion stands without them."""
    try:
        return lines(made(project, contract, rule, as_of))
    except LoopbookError as error:
        return [f"calibration    not made: {error} Then: {REMEDY}"]


def lines(states: list[Made]) -> list[str]:
    """What was made, for people."""
    if not states:
        return [f"calibration    nothing was made: {NOBODY}"]
    return [f"calibration    {one.sentence}" for one in states]


def rule_of(
    contract: Contract,
    calibration: bool,
    *,
    half_life_days: float,
    least_truths: int,
    most_a_day: float | str,
    most: float | str,
) -> Rule | None:
    """The rule that the knobs and the contract say; None where `calibration` is off."""
    if not calibration:
        return None
    bounds = (None if bound == AUTO else float(bound) for bound in (most_a_day, most))
    return Rule(half_life_days, least_truths, *bounds, contract.target.interval)


def rule_of_knobs(contract: Contract, knobs: Knobs) -> Rule | None:
    """The same, from env.yaml."""
    return rule_of(
        contract,
        knobs.calibration,
        half_life_days=knobs.calibration_half_life_days,
        least_truths=knobs.calibration_least_truths,
        most_a_day=knobs.calibration_most_a_day,
        most=knobs.calibration_most,
    )
