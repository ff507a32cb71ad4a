"""The log's writer: answers on their way into the prediction log.

It decides how long an answer waits to be written, and which are written
together: those that come while a transaction runs go into the next one, in the
thread that writes and in no other. Where the log is a file of this machine, an
answer that meets no lock is written at once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from loopbook.data.prediction_log import Entry, PredictionLog
from loopbook.project.counts import counted
from loopbook.project.database import Busy, is_of_the_rows
from loopbook.project.errors import PredictionLogError
from loopbook.serving.metrics import Metrics
from loopbook.serving.outside import Outside
from loopbook.serving.refusals import Refusal

WAIT_S = 3.0  # how long an answer waits for the log
GROUP_ROWS = 2_000
WAITING_ROWS = 20_000  # more are refused at once
Waiting = tuple[Sequence[Entry], "asyncio.Future[None]"]


def log_unavailable(what: str, cause: object) -> Refusal:
    """503; why is for the log line, and for no caller."""
    return Refusal(
        503,
        "log_unavailable",
        f"the prediction log cannot be written, so nothing {what}",
        hint="ask again later; the service's log has the cause",
        headers={"Retry-After": "1"},
    ).because(cause)


class LogWriter:
    """What writes answers; one object a process."""

    def __init__(self, log: PredictionLog, metrics: Metrics):
        self.log, self.metrics = log, metrics
        log.database.wait_s = WAIT_S
        self._outside = Outside("prediction log", limit_s=WAIT_S)
        self._is_near = log.database.kind == "sqlite"
        self._waiting: deque[Waiting] = deque()
        self._rows = 0
        self._writing: asyncio.Task | None = None

    def write_now(self, entries: Sequence[Entry]) -> bool:
        """Write in this thread; False if that would wait.

        Raises
        ------
        Refusal
            503, if the log cannot be written.
        """
        if not self._is_near or self._writing:
            return False
        try:
            self.log.append(entries, 0)
        except Busy:
            return False
        except PredictionLogError as reason:
            raise self._failed(reason) from None
        return True

    async def write(self, entries: Sequence[Entry]) -> None:
        """Write with the next group; returns when the log has it.

        Raises
        ------
        Refusal
            503, if it cannot be written, or not in time.
        """
        if self._rows >= WAITING_ROWS:
            raise self._failed(f"{counted(self._rows, 'row waits', 'rows wait')} for it")
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, written))
        self._told_rows(len(entries))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_groups())
        try:
            async with asyncio.timeout(WAIT_S):
                await written
        except TimeoutError:
            raise self._failed(f"not written within {WAIT_S:g} s") from None
        finally:
            self._told_rows(-len(entries))

    def _told_rows(self, more: int) -> None:
        self._rows += more
        self.metrics.queue.labels(queue="log").set(self._rows)

    async def _write_groups(self) -> None:
        try:
            while group := self._next_group():
                await self._write_group(group)
        finally:
            self._writing = None

    def _next_group(self) -> list[Waiting]:
        """Those that wait longest, but not who was refused meanwhile."""
        group: list[Waiting] = []
        rows = 0
        while self._waiting and rows < GROUP_ROWS:
            entries, written = self._waiting.popleft()
            if not written.done():
                group.append((entries, written))
                rows += len(entries)
        return group

    async def _write_group(self, group: Sequence[Waiting]) -> None:
        """One transaction; if one of several has a row that the database refuses, one each."""
        entries = [entry for some, _ in group for entry in some]
        try:
            await self._outside.run(self.log.append, entries, WAIT_S)
        except Exception as reason:
            is_away = isinstance(reason, PredictionLogError) and not is_of_the_rows(reason)
            if len(group) > 1 and not is_away:
                for one in group:
                    await self._write_group([one])
                return
            for _, written in group:
                if not written.done():
                    written.set_exception(self._failed(reason))
            return
        for _, written in group:
            if not written.done():
                written.set_result(None)

    def _failed(self, reason: object) -> Refusal:
        self.metrics.log_errors.inc()
        return log_unavailable("is answered", reason)
