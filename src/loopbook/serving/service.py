"""The service: how an answer comes about.

An answer is prepared (features looked up), computed by one version, written
to the prediction log, and only then given. Requests that are there together
are computed and written together, and one that breaks fails no other.
`versions` and `watcher` decide which version answers, `lookups` and
`log_writer` how long a store or a log is waited for.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from loopbook.data.prediction_log import Entry, Truth
from loopbook.data.request_rows import AS_OF
from loopbook.project.errors import PredictionLogError
from loopbook.serving.answering import Answer, Answering, Job, Made
from loopbook.serving.log_writer import WAIT_S, LogWriter, log_unavailable
from loopbook.serving.lookups import Lookup, Lookups
from loopbook.serving.outside import Outside, TooLate
from loopbook.serving.refusals import Refusal
from loopbook.serving.shadows import Shadows
from loopbook.serving.versions import Deployment, Parts, Versions
from loopbook.serving.watcher import Watcher

INLINE_ROWS = 64  # more are computed in a thread, so that others need not wait


Asked = tuple[Sequence[Job], "asyncio.Future[Made]"]


class Service:
    """The state of one process; `app` puts HTTP around it."""

    def __init__(self, parts: Parts, *, pinned: str | None = None):
        self.contract, self.knobs = parts.contract, parts.knobs
        self.log, self.metrics = parts.log, parts.metrics
        self.versions = Versions(parts, pinned=pinned)
        self.watcher = Watcher(self.versions, self.metrics, every_s=self.knobs.serve_watch_s)
        self.lookups = Lookups(parts.features, parts.contract, parts.metrics)
        self.writer = LogWriter(parts.log, parts.metrics)
        self._pending: list[Asked] = []
        self._tasks: set[asyncio.Task] = set()
        self.answering = Answering(self.versions, self.knobs)
        self._computing = Outside("answers", limit_s=self.knobs.serve_timeout_s)
        self._truths = Outside("ground truth", limit_s=WAIT_S)
        self.shadows = Shadows(
            self.answering,
            self.writer,
            threads=self._computing,
            metrics=self.metrics,
            most=self.knobs.serve_shadow_queue,
        )

    def ready(self) -> Deployment:
        """The version that answers; a Refusal (503) with the reason if there is none."""
        return self.versions.ready()

    # -- answers ----------------------------------------------------------

    def job(
        self,
        deployment: Deployment,
        row: Mapping[str, Any],
        request: Mapping[str, Any],
        route: str,
        started: float,
    ) -> Job:
        """A valid row as a job, with its trailing features looked up."""
        given = dict(row)
        at = given.pop(AS_OF, None)
        contract = deployment.servable.contract
        at = at or datetime.now(UTC)
        record = {n: given.get(n) for n in contract.features}
        received, key = time.time_ns() // 1000, self.log.keys.text(given)
        job = Job(record, request, at, route, key, started, received)
        if contract.history and self.lookups.has_features(deployment.declared):
            entity = record.get(contract.entity) if contract.entity else None
            job.lookup = Lookup(record, entity, at)
        return job

    async def answer(self, jobs: Sequence[Job]) -> list[Answer]:
        """Answers to rows, each in the log before this returns.

        Raises
        ------
        Refusal
            503, if no version is there or the log cannot be written.
        """
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        if len(jobs) > INLINE_ROWS:
            self._begin([(jobs, answered)])
        else:
            if not self._pending:
                loop.call_soon(self._flush)
            self._pending.append((jobs, answered))
        return [answer for answer, _ in await answered]

    def _flush(self) -> None:
        """Answer all that wait, in one run of the graph and one transaction.

        What need not wait for a server or a lock is done at once, here: the way
        to a thread and back would cost more than the answer.
        """
        group, self._pending = self._pending, []
        wanted = _wanted(group)
        if _rows(group) > INLINE_ROWS or (wanted and not self.lookups.is_immediate):
            self._begin(group)
            return
        if wanted:
            self.lookups.fill_now(wanted)
        made = self._made_each(group)
        try:
            is_written = self.writer.write_now(_entries(made))
        except Refusal as refusal:
            _settle(group, [refusal] * len(group))
            return
        except Exception:  # a row that cannot be written at all: each by itself, in the thread
            for asked, one in zip(group, made, strict=True):
                self._keep(self._log([asked], [one]))
            return
        if is_written:
            self._give(group, made)
        else:
            self._keep(self._log(group, made))

    def _begin(self, group: Sequence[Asked]) -> None:
        self._keep(self._whole(group))

    def _keep(self, work: Coroutine) -> None:
        """Run it; the loop itself holds a task only weakly."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _whole(self, group: Sequence[Asked]) -> None:
        """Answer a group that is large, or has to wait for a server."""
        try:
            if wanted := _wanted(group):
                await self.lookups.fill(wanted)
            if _rows(group) > INLINE_ROWS:
                made = await self._computing.ask(self._made_each, group)
            else:
                made = self._made_each(group)
        except Exception as error:
            _settle(group, [error] * len(group))
            return
        await self._log(group, made)

    async def _log(self, group: Sequence[Asked], made: Sequence[Made | Exception]) -> None:
        """Write answers with the log's next group, and then give them."""
        try:
            await self.writer.write(_entries(made))
        except Exception as error:
            _settle(group, [error] * len(group))
            return
        self._give(group, made)

    def _give(self, group: Sequence[Asked], made: Sequence[Made | Exception]) -> None:
        """Give answers that are in the log."""
        _settle(group, made)
        self.metrics.count(_entries(made))
        if self.versions.shadows:
            for (jobs, _), one in zip(group, made, strict=True):
                if not isinstance(one, Exception):
                    self.shadows.mirror(jobs, [answer for answer, _ in one])

    def _made_each(self, group: Sequence[Asked]) -> list[Made | Exception]:
        """The answers of each request; one that breaks fails itself and no other."""
        try:
            made = self.answering.made([job for jobs, _ in group for job in jobs])
        except Exception as error:
            if len(group) == 1:
                return [error]
            return [self._made_each([one])[0] for one in group]
        parts = iter(made)
        return [list(islice(parts, len(jobs))) for jobs, _ in group]

    # -- ground truth -----------------------------------------------------

    async def tell(self, truths: Sequence[Truth]) -> list[tuple[str, int | None]]:
        """Append ground truth; what became of each, see `PredictionLog.told`.

        Raises
        ------
        Refusal
            503, if the log cannot be written, or not in time.
        """
        try:
            return await self._truths.ask(self.log.told, truths)
        except (PredictionLogError, TooLate) as reason:
            self.metrics.log_errors.inc()
            raise log_unavailable("was taken", reason) from None


def _rows(group: Sequence[Asked]) -> int:
    return sum(len(jobs) for jobs, _ in group)


def _wanted(group: Sequence[Asked]) -> list[Lookup]:
    """The rows of a group that want trailing features."""
    return [job.lookup for jobs, _ in group for job in jobs if job.lookup]


def _entries(made: Sequence[Made | Exception]) -> list[Entry]:
    return [entry for one in made if not isinstance(one, Exception) for _, entry in one]


def _settle(group: Sequence[Asked], made: Sequence[Made | Exception]) -> None:
    """Let each request go on with its answers, or with what went wrong."""
    for (_, answered), one in zip(group, made, strict=True):
        if answered.done():  # its caller has gone
            continue
        if isinstance(one, TooLate):
            answered.set_exception(_busy())
        elif isinstance(one, Exception):
            answered.set_exception(one)
        else:
            answered.set_result(one)


def _busy() -> Refusal:
    return Refusal(
        503,
        "busy",
        "the rows wait for others that are computed",
        hint="try again in a moment, or use loopbook score for a file",
        headers={"Retry-After": "1"},
    )
