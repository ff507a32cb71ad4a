"""The versions of one process: which one answers, and which others answer with it.

It decides when another version begins to answer: the alias is followed, a
version whose files are refused never begins, and a swap replaces one reference,
so that an answer is of one version throughout. It never computes an answer.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from loopbook.data.prediction_log import PredictionLog
from loopbook.features.store import FeatureStore, declaration
from loopbook.project.clock import utc_now
from loopbook.project.contract import Contract
from loopbook.project.errors import RegistryError
from loopbook.project.knobs import Knobs
from loopbook.records.roles import CHALLENGER, CHAMPION, SHADOW
from loopbook.registry.reader import Registry, Version
from loopbook.registry.servable import Servable, load
from loopbook.registry.state_store import StateStore
from loopbook.serving import log_lines
from loopbook.serving.calibration import Calibration
from loopbook.serving.metrics import Metrics
from loopbook.serving.refusals import Refusal
from loopbook.serving.schemas import Schemas
from loopbook.serving.version_faults import Fault, NotLetIn, of_a_look, of_a_version

REFUSED_S = 30  # until a version that was refused is tried again
PREDECESSOR = "predecessor"
STATES = "calibration"
Asked = tuple[str, str | None]  # a version, and when it was promoted


@dataclass(frozen=True)
class Deployment:
    """A version that answers, with the schemas of its contract, the digest of its trailing features and its calibration states."""

    servable: Servable
    schemas: Schemas
    declared: str
    calibration: Calibration


@dataclass(frozen=True)
class Parts:
    """What a service is put together from.

    Attributes
    ----------
    features : where the contract has trailing ones
    signers : whose signature a version needs; None where none is required
    """

    contract: Contract
    knobs: Knobs
    registry: Registry
    log: PredictionLog
    states: StateStore
    features: FeatureStore | None
    metrics: Metrics
    signers: Path | None = None


class Versions:
    """The versions of one process; `service` answers with them."""

    def __init__(self, parts: Parts, *, pinned: str | None = None):
        self.contract, self.knobs, self.registry = parts.contract, parts.knobs, parts.registry
        self.log, self.states, self.metrics = parts.log, parts.states, parts.metrics
        self.pinned, self.signers = pinned, parts.signers
        self.current: Deployment | None = None
        self.previous: Deployment | None = None
        self.challenger: Deployment | None = None
        self.predecessor: Deployment | None = None  # answers too while the champion is on probation
        self.reason = "no version was loaded yet"
        self.looked_at: datetime | None = None  # when the registry last said who is champion
        self.faults: dict[str, Fault] = {}  # by role, of the last look
        self._refused: dict[str, Fault] = {}  # by version
        self._asked: Asked = ("", None)  # by the alias, at the last look
        self._rolled_back_from: Asked | None = None
        self._looking, self._changing = threading.Lock(), threading.Lock()

    def refresh(self, by_hand: bool = False) -> bool:
        """Follow the aliases once; True if another version answers now.

        Whatever goes wrong, the version that answers goes on, and `faults` has
        the reason. A version that was refused is tried again after a while, or
        at once `by_hand`. It may take as long as the registry does, and keeps
        nobody waiting but another look.
        """
        with self._looking:
            if by_hand:
                self._refused.clear()
            before = self.current
            self._follow(CHAMPION, self._follow_champion)
            if self.knobs.serve_challenger != "off":
                self._follow(CHALLENGER, self._follow_challenger)
            self._follow(PREDECESSOR, self._follow_predecessor)
            self._follow(STATES, self._follow_states)
            return self.current is not before

    def _follow(self, role: str, follow: Callable[[], None]) -> None:
        """Follow one alias; a fault is counted, kept and told once."""
        try:
            follow()
            fault = None
        except Exception as error:
            fault = of_a_look(error)
            self.metrics.reload_failed(fault.code if role == CHAMPION else role)
            told = self.faults.get(role)
            if (told and (told.code, told.version)) != (fault.code, fault.version):
                where = (
                    {} if isinstance(error, RegistryError) else {"where": log_lines.where(error)}
                )
                about = {"role": role, "version": fault.version, "code": fault.code}
                log_lines.write("version not followed", **about, reason=str(error), **where)
        was = self.faults.pop(role, None)
        if fault:
            self.faults[role] = fault
        elif was:
            log_lines.write("version followed again", role=role)
        if role == CHAMPION:
            self._show(fault)

    def _show(self, fault: Fault | None) -> None:
        """The metric of a champion that is refused, and why nothing answers yet."""
        self.metrics.refused.clear()
        if fault and fault.version:
            self.metrics.refused.labels(version=fault.version, code=fault.code).set(1)
        if fault and self.current is None:
            self.reason = fault.reason

    def _follow_champion(self) -> None:
        held = self._wanted()
        self.looked_at = utc_now()
        self.metrics.looked.set(self.looked_at.timestamp())
        if held is None:
            self._rolled_back_from = None
            if self.current is None:
                self.reason = "there is no champion yet; make one: make build"
            return
        with self._changing:
            if self._rolled_back_from != _asked_for(held):  # the alias has moved since
                self._rolled_back_from = None
            self._asked = _asked_for(held)
            if held.number == self._number() or self._rolled_back_from:
                return
        self._let_in(held)

    def _wanted(self) -> Version | None:
        """The champion, or the version that this process is pinned to."""
        if self.pinned is None:
            return self.registry.held(self.contract.name, CHAMPION)
        every = self.registry.versions(self.contract.name)
        return next((held for held in every if held.number == self.pinned), None)

    def _let_in(self, held: Version) -> None:
        deployment = self._deployment(held)
        with self._changing:
            if self._rolled_back_from != _asked_for(held):
                self._rolled_back_from = None
                self._swap(deployment)

    def _deployment(self, held: Version) -> Deployment:
        """A version of this process, or loaded now.

        Raises
        ------
        NotLetIn
            If it cannot be loaded, or could not a short while ago.
        """
        for known in self.every:
            if known.servable.number == held.number:
                return known
        refused = self._refused.get(held.number)
        if refused and time.monotonic() - refused.since < REFUSED_S:
            raise NotLetIn(refused)
        try:
            deployment = self._loaded(held)
        except Exception as error:
            fault = of_a_version(error, held)
            if fault.code not in (
                "files",
                "log",
                "signature",
            ):  # those may be there at the next look
                self._refused[held.number] = fault
            raise NotLetIn(fault, error) from error
        self._refused.pop(held.number, None)
        return deployment

    def _loaded(self, held: Version) -> Deployment:
        if self.signers:
            from loopbook.provenance import statements  # cryptography: only where it is asked for

            statements.require(self.registry, held, self.signers)
        servable = load(self.registry, held)
        if not servable.is_checked_from_rows:
            why = "made by an earlier loopbook: the order of its inputs cannot be checked"
            log_lines.write("version", version=held.number, reason=why)
        if servable.task.classes != self.contract.target.classes:
            log_lines.write("version", version=held.number, reason=_other_classes(servable))
        self.log.know_inputs(servable.card_sha256, servable.inputs, servable.task.classes)
        schemas = Schemas(servable.contract, self.knobs.serve_batch_rows)
        calibration = Calibration(self.states if self.knobs.calibration else None, servable)
        calibration.refresh()
        return Deployment(servable, schemas, declaration(servable.contract), calibration)

    def _swap(self, deployment: Deployment) -> None:
        before, self.current = self.current, deployment
        self.previous = before or self.previous
        self.reason = "ready"
        if before:
            self.metrics.served.labels(version=before.servable.number).set(0)
        self.metrics.served.labels(version=deployment.servable.number).set(1)
        self.metrics.swaps.inc()

    def roll_back(self) -> Deployment:
        """Answer with the previous version again, at once, until the alias moves.

        It waits for no look at the registry that is under way.

        Raises
        ------
        Refusal
            If this process has had no other version.
        """
        with self._changing:
            if self.current is None or self.previous is None:
                raise Refusal(
                    409,
                    "no_previous_version",
                    "this process has served no other version",
                    hint="move the alias champion instead",
                )
            is_asked = self._asked[0] == self.current.servable.number
            now = _asked_for(self.current.servable.version)
            self._rolled_back_from = self._asked if is_asked else now
            self._swap(self.previous)
            return self.current

    def _follow_challenger(self) -> None:
        self._follow_beside(CHALLENGER, self.registry.held(self.contract.name, CHALLENGER))

    def _follow_predecessor(self) -> None:
        held = None if self.pinned else self.registry.held(self.contract.name, SHADOW)
        self._follow_beside(PREDECESSOR, held)

    def _follow_beside(self, role: str, held: Version | None) -> None:
        """Keep or load the version that answers beside the champion; nobody, if it is the champion."""
        now: Deployment | None = getattr(self, role)
        if held and now and now.servable.number == held.number != self._number():
            return
        setattr(self, role, None)  # whoever it was is not asked for any more
        if held and self.current and held.number != self._number():
            setattr(self, role, self._deployment(held))

    def _follow_states(self) -> None:
        """Read the calibration states that were made since the last look."""
        for deployment in self.every:
            deployment.calibration.refresh()

    @property
    def every(self) -> list[Deployment]:
        """The versions that this process has loaded."""
        known = (self.current, self.previous, self.challenger, self.predecessor)
        return [deployment for deployment in known if deployment]

    def _number(self) -> str | None:
        return self.current.servable.number if self.current else None

    @property
    def shadows(self) -> list[Deployment]:
        """The versions whose answers only the prediction log gets."""
        is_shadow = self.challenger is not None and self.knobs.serve_challenger == "shadow"
        return [d for d in (self.challenger if is_shadow else None, self.predecessor) if d]

    def ready(self) -> Deployment:
        """The version that answers.

        Raises
        ------
        Refusal
            503 with the reason, if there is none.
        """
        if self.current is None:
            raise Refusal(503, "not_ready", self.reason, hint="see /health/ready")
        return self.current


def _other_classes(servable: Servable) -> str:
    """That a version answers with other classes than the contract names."""
    said = ", ".join(servable.task.classes or ["a number"])
    return f"it answers {said[:200]}, which is not what target.classes in contract.yaml says by now"


def _asked_for(held: Version) -> Asked:
    """What the alias asks for: the same version, promoted once more, is asked for anew."""
    return held.number, held.tags.get("promoted_at")
