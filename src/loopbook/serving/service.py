"""The service: which versions answer, and how an answer comes about.

An answer is prepared (features looked up), computed by one version, written
to the prediction log, and only then given. Requests that are there together
are computed and written together. A swap replaces one reference: an answer is
of one version throughout.
"""

import asyncio
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from loopbook.data.prediction_log import Entry, PredictionLog, key_text
from loopbook.features.store import FeatureStore, declaration
from loopbook.project.contract import Contract
from loopbook.project.errors import (
    FeatureStoreError,
    LoopbookError,
    PredictionLogError,
    RegistryError,
    VersionRefused,
)
from loopbook.project.knobs import Knobs
from loopbook.records import roles
from loopbook.records.roles import CHALLENGER, CHAMPION, SHADOW
from loopbook.registry.reader import Registry, Version
from loopbook.registry.servable import Servable, load
from loopbook.serving.metrics import Metrics
from loopbook.serving.refusals import Refusal
from loopbook.serving.schemas import Schemas

REFUSED_S = 30  # until a version that was refused is tried again
INLINE_ROWS = 64  # more are computed in a thread, so that others need not wait


@dataclass(frozen=True)
class Deployment:
    """A version that answers, with the schemas of its contract."""

    servable: Servable
    schemas: Schemas


@dataclass(slots=True)
class Job:
    """One row to answer."""

    record: dict[str, Any]
    request: Mapping[str, Any]
    at: datetime
    route: str
    key: str | None
    started: float
    received_us: int


@dataclass(slots=True)
class Answer:
    """One answer, as it is in the log."""

    id: str
    value: float
    deployment: Deployment
    at: datetime
    notes: dict[str, list[str]]


class Service:
    """The state of one process; `app` puts HTTP around it."""

    def __init__(
        self,
        *,
        contract: Contract,
        knobs: Knobs,
        registry: Registry,
        log: PredictionLog,
        features: FeatureStore | None,
        metrics: Metrics,
        pinned: str | None = None,
    ):
        self.contract, self.knobs, self.registry = contract, knobs, registry
        self.log, self.features, self.metrics = log, features, metrics
        self.pinned = pinned
        self.current: Deployment | None = None
        self.previous: Deployment | None = None
        self.challenger: Deployment | None = None
        self.predecessor: Deployment | None = None  # answers too while the champion is on probation
        self.reason = "no version was loaded yet"
        self._rolled_back_from: str | None = None
        self._pending: list[tuple[Job, asyncio.Future]] = []
        self._shadow: deque[tuple[Job, str]] = deque(maxlen=knobs.serve_shadow_queue)
        self._shadow_waits = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._inline = log.database.kind == "sqlite"
        self._refused: tuple[str, float] | None = None
        self._features_fit = False
        self._one_at_a_time = threading.Lock()

    # -- versions ---------------------------------------------------------

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
        """The versions that answer too, and only the log knows."""
        is_shadow = self.challenger is not None and self.knobs.serve_challenger == "shadow"
        return [d for d in (self.challenger if is_shadow else None, self.predecessor) if d]

    def _check_features(self) -> None:
        """Whether the store holds the features that the version that answers was told about."""
        if self.features is None or self.current is None:
            return
        theirs = declaration(self.current.servable.contract)
        try:
            self._features_fit = (
                self.features.as_of() is not None and declaration(self.contract) == theirs
            )
        except FeatureStoreError:
            self._features_fit = False
        self.metrics.features_ready.set(self._features_fit)

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

    # -- answers ----------------------------------------------------------

    def job(
        self,
        deployment: Deployment,
        row: Any,
        request: Mapping[str, Any],
        route: str,
        started: float,
    ) -> Job:
        """A valid row as a job, with its trailing features looked up."""
        given = {n: getattr(row, n) for n in row.model_fields_set}
        at = given.pop("as_of", None)
        contract = deployment.servable.contract
        at = _utc(at) if at else datetime.now(UTC)
        record = {n: given.get(n) for n in contract.features}
        if contract.history and self.features:
            record |= self._looked_up(record.get(contract.entity) if contract.entity else None, at)
        return Job(
            record, request, at, route, key_text(contract, given), started, time.time_ns() // 1000
        )

    def _looked_up(self, entity: str | None, at: datetime) -> dict[str, float | None]:
        if not self._features_fit:
            return {}  # imputed, and the answer says so
        try:
            return self.features.get(entity, at).values
        except FeatureStoreError:
            self.metrics.feature_store_errors.inc()
            return {}

    async def answer(self, jobs: Sequence[Job]) -> list[Answer]:
        """Answers to rows, each in the log before this returns.

        Raises
        ------
        Refusal
            503, if no version is there or the log cannot be written.
        """
        if len(jobs) > INLINE_ROWS or not self._inline:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._compute, list(jobs))
        loop = asyncio.get_running_loop()
        if not self._pending:
            loop.call_soon(self._flush)
        futures = [loop.create_future() for _ in jobs]
        self._pending += zip(jobs, futures, strict=True)
        return [await future for future in futures]

    def _flush(self) -> None:
        """Answer all that wait, in one run of the graph and one transaction."""
        pending, self._pending = self._pending, []
        try:
            answers = self._compute([job for job, _ in pending])
        except Exception as error:
            for _, future in pending:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(pending, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _compute(self, jobs: list[Job]) -> list[Answer]:
        champion, challenger = self.ready(), self.challenger
        by: dict[int, tuple[Deployment, str, list[int]]] = {}
        for place, job in enumerate(jobs):
            is_canary = challenger is not None and self._is_canary(job)
            chosen = challenger if is_canary else champion
            role = roles.CANARY if is_canary else roles.CHAMPION
            by.setdefault(id(chosen), (chosen, role, []))[2].append(place)
        answers: list[Answer | None] = [None] * len(jobs)
        entries: list[Entry] = []
        for deployment, role, places in by.values():
            some = [jobs[place] for place in places]
            for place, (answer, entry) in zip(
                places, self._answers(deployment, role, some), strict=True
            ):
                answers[place] = answer
                entries.append(entry)
        try:
            self.log.append(entries)
        except PredictionLogError as error:
            self.metrics.log_errors.inc()
            raise Refusal(
                503,
                "log_unavailable",
                "the prediction log cannot be written, so nothing is answered",
                hint=str(error),
            ) from None
        self.metrics.count(entries)
        if self.shadows:
            self._mirror(jobs, answers)
        return answers

    def _answers(
        self, deployment: Deployment, role: str, jobs: Sequence[Job], shadow_of: Sequence[str] = ()
    ) -> list[tuple[Answer, Entry]]:
        servable = deployment.servable
        matrix = servable.matrix([j.record for j in jobs], [j.at for j in jobs])
        values = servable.predict(matrix)
        shown = servable.loggable(matrix)
        now = time.perf_counter()
        made = []
        for place, (job, value) in enumerate(zip(jobs, values.tolist(), strict=True)):
            notes = servable.notes(job.record)
            answer = Answer(_new_id(), value, deployment, job.at, notes)
            made.append(
                (
                    answer,
                    Entry(
                        id=answer.id,
                        received_us=job.received_us,
                        as_of_us=round(job.at.timestamp() * 1e6),
                        model=servable.version.name,
                        version=servable.number,
                        role=role,
                        shadow_of=shadow_of[place] if shadow_of else None,
                        route=job.route,
                        key=job.key,
                        request=job.request,
                        features=shown[place],
                        inputs=servable.card_sha256,
                        notes=notes,
                        answer=value,
                        latency_us=round((now - job.started) * 1e6),
                    ),
                )
            )
        return made

    # -- challenger -------------------------------------------------------

    def _is_canary(self, job: Job) -> bool:
        """Whether the challenger answers: the same key (or request) always the same way."""
        if self.knobs.serve_challenger != "canary":
            return False
        name = job.key or repr(sorted(job.request.items(), key=lambda pair: pair[0]))
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 < self.knobs.serve_canary_share

    def _mirror(self, jobs: Sequence[Job], answers: Sequence[Answer]) -> None:
        full = len(self._shadow) + len(jobs) - (self._shadow.maxlen or 0)
        if full > 0:
            self.metrics.shadow_dropped.inc(full)
        self._shadow += [(job, answer.id) for job, answer in zip(jobs, answers, strict=True)]
        self._shadow_waits.set()

    async def run_shadow(self) -> None:
        """Let the shadows answer what was answered already; nobody waits for them."""
        loop = asyncio.get_running_loop()
        while True:
            await self._shadow_waits.wait()
            while self._shadow:
                self.metrics.queue.labels(queue="shadow").set(len(self._shadow))
                part = [self._shadow.popleft() for _ in range(min(len(self._shadow), INLINE_ROWS))]
                await loop.run_in_executor(self._pool, self._shadowed, part)
                await asyncio.sleep(0)
            self._shadow_waits.clear()
            self.metrics.queue.labels(queue="shadow").set(0)

    def _shadowed(self, part: Sequence[tuple[Job, str]]) -> None:
        jobs, ids = [job for job, _ in part], [i for _, i in part]
        for shadow in self.shadows:
            try:
                made = self._answers(shadow, roles.SHADOW, jobs, ids)
                self.log.append([entry for _, entry in made])
            except Exception:
                # a shadow that cannot answer is its own trouble, and is counted
                self.metrics.shadow_errors.inc(len(jobs))

    # -- state ------------------------------------------------------------

    def feature_age(self) -> timedelta | None:
        """How long ago the feature store was brought up to date."""
        try:
            stands_at = self.features.as_of() if self.features else None
        except FeatureStoreError:
            return None
        return datetime.now(UTC) - stands_at if stands_at else None


def _new_id() -> str:
    """An id that sorts by time: 12 hex digits of milliseconds, 20 of chance (as UUID 7 does)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
