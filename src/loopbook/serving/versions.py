"""The versions of one process: which one answers, and which others answer with it.

It decides when another version begins to answer: the alias is followed, a
version whose files are refused never begins, and a swap replaces one reference,
so that an answer is of one version throughout. It never computes an answer.
"""

import threading
import time
from dataclasses import dataclass

from loopbook.data.prediction_log import PredictionLog
from loopbook.features.store import FeatureStore, declaration
from loopbook.project.contract import Contract
from loopbook.project.errors import (
    FeatureStoreError,
    LoopbookError,
    RegistryError,
    VersionRefused,
)
from loopbook.project.knobs import Knobs
from loopbook.records.roles import CHALLENGER, CHAMPION, SHADOW
from loopbook.registry.reader import Registry, Version
from loopbook.registry.servable import Servable, load
from loopbook.serving.metrics import Metrics
from loopbook.serving.refusals import Refusal
from loopbook.serving.schemas import Schemas

REFUSED_S = 30  # until a version that was refused is tried again


@dataclass(frozen=True)
class Deployment:
    """A version that answers, with the schemas of its contract."""

    servable: Servable
    schemas: Schemas


@dataclass(frozen=True)
class Parts:
    """What a service is put together from; `features` where the contract has trailing ones."""

    contract: Contract
    knobs: Knobs
    registry: Registry
    log: PredictionLog
    features: FeatureStore | None
    metrics: Metrics


class Versions:
    """The versions of one process; `service` answers with them."""

    def __init__(self, parts: Parts, *, pinned: str | None = None):
        self.contract, self.knobs, self.registry = parts.contract, parts.knobs, parts.registry
        self.log, self.features, self.metrics = parts.log, parts.features, parts.metrics
        self.pinned = pinned
        self.current: Deployment | None = None
        self.previous: Deployment | None = None
        self.challenger: Deployment | None = None
        self.predecessor: Deployment | None = None  # answers too while the champion is on probation
        self.reason = "no version was loaded yet"
        self.features_fit = False  # whether the store has what the version that answers needs
        self._rolled_back_from: str | None = None
        self._refused: tuple[str, float] | None = None
        self._one_at_a_time = threading.Lock()

    def refresh(self, *, by_hand: bool = False) -> bool:
        """Follow the aliases once; True if another version answers now.

        Whatever goes wrong, the version that answers goes on. A version that
        was refused is tried again after a while, or at once `by_hand`.
        """
        with self._one_at_a_time:
            if by_hand:
                self._refused = None
            swapped = self._follow_champion()
            self._follow_challenger()
            self._follow_predecessor()
            self._check_features()
        return swapped

    def _follow_champion(self) -> bool:
        try:
            held = self._wanted()
        except LoopbookError as error:
            self.metrics.reload_failed("registry")
            if self.current is None:
                self.reason = str(error)
            return False
        if held is None:
            if self.current is None:
                self.reason = "there is no champion yet; make one: make build"
            return False
        answering = self.current.servable.number if self.current else None
        if held.number == answering:
            self.metrics.refused.clear()
        if held.number in (answering, self._rolled_back_from):
            return False
        return self._let_in(held)

    def _wanted(self) -> Version | None:
        """The champion, or the version that this process is pinned to."""
        if self.pinned is None:
            return self.registry.held(self.contract.name, CHAMPION)
        every = self.registry.versions(self.contract.name)
        return next((held for held in every if held.number == self.pinned), None)

    def _let_in(self, held: Version) -> bool:
        number, since = self._refused or ("", 0.0)
        if number == held.number and time.monotonic() - since < REFUSED_S:
            return False
        try:
            deployment = self._deployment(held)
        except RegistryError as error:
            if isinstance(error, VersionRefused):
                self._refused = (held.number, time.monotonic())
                self.metrics.refused.labels(version=held.number).set(1)
            self.metrics.reload_failed("artifact")
            if self.current is None:
                self.reason = str(error)
            return False
        self._refused = None
        self.metrics.refused.clear()
        self._swap(deployment)
        self._rolled_back_from = None
        return True

    def _deployment(self, held: Version) -> Deployment:
        for known in (self.previous, self.challenger, self.predecessor):
            if known and known.servable.number == held.number:
                return known
        servable = load(self.registry, held)
        self.log.know_inputs(servable.card_sha256, servable.inputs)
        return Deployment(servable, Schemas(servable.contract, self.knobs.serve_batch_rows))

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

        Raises
        ------
        Refusal
            If this process has had no other version.
        """
        if self.current is None or self.previous is None:
            raise Refusal(
                409,
                "no_previous_version",
                "this process has served no other version",
                hint="move the alias champion instead",
            )
        with self._one_at_a_time:
            self._rolled_back_from = self.current.servable.number
            back = self.previous
            self._swap(back)
        return back

    def _follow_challenger(self) -> None:
        if self.knobs.serve_challenger == "off":
            return
        try:
            held = self.registry.held(self.contract.name, CHALLENGER)
            same = held and self.current and held.number == self.current.servable.number
            if held is None or same:
                self.challenger = None
            elif self.challenger is None or self.challenger.servable.number != held.number:
                self.challenger = self._deployment(held)
        except LoopbookError:
            self.challenger = None
            self.metrics.reload_failed("challenger")

    def _follow_predecessor(self) -> None:
        try:
            held = None if self.pinned else self.registry.held(self.contract.name, SHADOW)
            if held is None or self.current is None or held.number == self.current.servable.number:
                self.predecessor = None
            elif self.predecessor is None or self.predecessor.servable.number != held.number:
                self.predecessor = self._deployment(held)
        except LoopbookError:
            self.metrics.reload_failed("predecessor")

    @property
    def shadows(self) -> list[Deployment]:
        """The versions whose answers only the prediction log gets."""
        is_shadow = self.challenger is not None and self.knobs.serve_challenger == "shadow"
        return [d for d in (self.challenger if is_shadow else None, self.predecessor) if d]

    def _check_features(self) -> None:
        """Whether the store holds the features with which the version that answers was fitted."""
        if self.features is None or self.current is None:
            return
        theirs = declaration(self.current.servable.contract)
        try:
            self.features_fit = (
                self.features.as_of() is not None and declaration(self.contract) == theirs
            )
        except FeatureStoreError:
            self.features_fit = False
        self.metrics.features_ready.set(self.features_fit)

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
