"""Outside: calls to what stands around the service, each kind in threads of its own.

It decides how long the service waits for a registry, a log, a feature store or
a file, and how many calls may wait: one kind that hangs takes no thread from
another, and none from the event loop.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from loopbook.serving.refusals import Refusal

T = TypeVar("T")


class TooLate(Exception):
    """What was asked has not answered within its limit, or too many wait for it already."""


def late_refusal(late: TooLate, code: str = "late") -> Refusal:
    """503 for whoever asked."""
    hint = "ask again in a moment; it is looked at again by itself"
    return Refusal(503, code, str(late), hint=hint, headers={"Retry-After": "5"})


class Outside:
    """Calls of one kind.

    Its threads are daemons: one that never comes back keeps no process from
    ending, as a thread of `concurrent.futures` does.

    Parameters
    ----------
    threads, most_waiting : int
        How many calls run at once; how many may run or wait together.
    limit_s : float
        How long a call is waited for.
    """

    def __init__(self, name: str, *, threads: int = 1, limit_s: float, most_waiting: int = 100):
        self.name, self.limit_s, self.most_waiting = name, limit_s, most_waiting
        self.waiting = 0
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"{name} {n}")
            for n in range(threads)
        ]
        self._is_started = False

    async def ask(self, do: Callable[..., T], *args: Any) -> T:
        """What `do(*args)` gives, computed in a thread.

        A call that has not begun when its limit is over never begins. One that
        has begun goes on, and what it gives is dropped.

        Raises
        ------
        TooLate
            If it takes longer than the limit, or too many calls wait.
        """
        if self.waiting >= self.most_waiting:
            raise TooLate(f"{self.name}: {self.waiting} calls wait already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self.limit_s):
                return await self.run(do, *args)
        except TimeoutError:
            raise TooLate(f"{self.name}: no answer within {self.limit_s:g} s") from None
        finally:
            self.waiting -= 1

    def run(self, do: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """The same as a future without a limit."""
        if not self._is_started:
            self._is_started = True
            for thread in self._threads:
                thread.start()
        future: Future = Future()
        self._calls.put((future, do, args))
        return asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            future, do, args = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(do(*args))
            except BaseException as error:
                future.set_exception(error)
            del future, do, args  # nothing of a call is kept while the next one is waited for
