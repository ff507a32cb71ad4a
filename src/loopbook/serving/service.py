"""The service: how an answer comes about.

An answer is prepared (features looked up), computed by one version, written
to the prediction log, and only then given. Requests that are there together
are computed and written together. `versions` decides which version answers.
"""

import asyncio
import hashlib
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from loopbook.data.prediction_log import Entry
from loopbook.project.errors import FeatureStoreError, PredictionLogError
from loopbook.records import roles
from loopbook.serving.refusals import Refusal
from loopbook.serving.versions import Deployment, Parts, Versions

INLINE_ROWS = 64  # more are computed in a thread, so that others need not wait


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

    def __init__(self, parts: Parts, *, pinned: str | None = None):
        self.contract, self.knobs = parts.contract, parts.knobs
        self.log, self.features, self.metrics = parts.log, parts.features, parts.metrics
        self.versions = Versions(parts, pinned=pinned)
        self._pending: list[tuple[Job, asyncio.Future]] = []
        self._shadow: deque[tuple[Job, str]] = deque(maxlen=self.knobs.serve_shadow_queue)
        self._shadow_waits = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._inline = self.log.database.kind == "sqlite"

    def ready(self) -> Deployment:
        """The version that answers; a Refusal (503) with the reason if there is none."""
        return self.versions.ready()

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
            record, request, at, route, self.log.keys.text(given), started, time.time_ns() // 1000
        )

    def _looked_up(self, entity: str | None, at: datetime) -> dict[str, float | None]:
        if not self.versions.features_fit:
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
        champion, challenger = self.versions.ready(), self.versions.challenger
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
                hint="ask again later; the service's log has the cause",
            ).because(error) from None
        self.metrics.count(entries)
        if self.versions.shadows:
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
        """Answer mirrored requests with the shadows, after the client has its answer."""
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
        for shadow in self.versions.shadows:
            try:
                made = self._answers(shadow, roles.SHADOW, jobs, ids)
                self.log.append([entry for _, entry in made])
            except Exception:
                # a failing shadow never fails the request that it mirrors; it is counted
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
