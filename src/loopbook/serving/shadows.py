"""Shadows: answers that no caller gets, by the versions beside the champion.

It decides when a mirrored request is answered: after its client has its answer,
and not at all where too many wait.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from loopbook.records import roles
from loopbook.serving.answering import Answer, Answering, Job
from loopbook.serving.log_writer import LogWriter
from loopbook.serving.metrics import Metrics
from loopbook.serving.outside import Outside
from loopbook.serving.versions import Deployment

PART_ROWS = 64


class Shadows:
    """Requests that wait to be mirrored; at most `most` rows."""

    def __init__(
        self,
        answering: Answering,
        writer: LogWriter,
        *,
        threads: Outside,
        metrics: Metrics,
        most: int,
    ):
        self.answering, self.writer, self.threads, self.metrics = (
            answering,
            writer,
            threads,
            metrics,
        )
        self._waiting: deque[tuple[Job, str]] = deque(maxlen=most)
        self._has_some = asyncio.Event()

    def mirror(self, jobs: Sequence[Job], answers: Sequence[Answer]) -> None:
        """Let the versions beside the champion answer too, later."""
        full = len(self._waiting) + len(jobs) - (self._waiting.maxlen or 0)
        if full > 0:
            self.metrics.shadow_dropped.inc(full)
        self._waiting += [(job, answer.id) for job, answer in zip(jobs, answers, strict=True)]
        self._has_some.set()

    async def run(self) -> None:
        """Answer mirrored requests with the shadows, after the client has its answer."""
        while True:
            await self._has_some.wait()
            while self._waiting:
                self.metrics.queue.labels(queue="shadow").set(len(self._waiting))
                part = [self._waiting.popleft() for _ in range(min(len(self._waiting), PART_ROWS))]
                for shadow in self.answering.versions.shadows:
                    await self._shadowed(shadow, part)
                await asyncio.sleep(0)
            self._has_some.clear()
            self.metrics.queue.labels(queue="shadow").set(0)

    async def _shadowed(self, shadow: Deployment, part: Sequence[tuple[Job, str]]) -> None:
        jobs, ids = [job for job, _ in part], [i for _, i in part]
        try:
            made = await self.threads.ask(self.answering.by, shadow, roles.SHADOW, jobs, ids)
            await self.writer.write([entry for _, entry in made])
        except Exception:
            # a failing shadow never fails the request that it mirrors; it is counted
            self.metrics.shadow_errors.inc(len(jobs))
