"""Waits: what a person sees of a command that takes longer than a few seconds.

It decides how a wait is told: what is done now, how much of it, how long the rest
may take, and what Ctrl-C leaves of it. A command opens a wait; whatever does the work
says how far it is, and where nobody opened one nothing is said. All of it goes to
stderr: in place on a terminal, as a line now and then elsewhere, and never with a
control character.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from loopbook.project.terminal import say

FIRST_S = 2.0  # before it nothing is said where there is no terminal
SHARE = 0.1  # of the time that went by: lines become rarer
TASK = re.compile(r"^ *(\d+)/(\d+) (\S+)", re.MULTILINE)  # a line of a build's progress
TAIL = 4096  # bytes of a log
INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended, as shells have it


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after a person was told what it left."""


def tell_interrupted() -> None:
    """Say of a command that Ctrl-C ended what is true of every one."""
    say("", "Interrupted before it was done. Type the same command again.", stream=sys.stderr)


class Wait:
    """How far a command is; `console` is Rich's, `clock` counts seconds."""

    def __init__(self, what: str, console: Any, clock: Callable[[], float] = time.monotonic):
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.what, self.console, self.clock = what, console, clock
        self.doing, self.unit = "", ""
        self.total: int | None = None
        self.done = self.done_before = 0
        self.began = self.counted_from = clock()
        self.due = self.began + FIRST_S
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.live = Progress(
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),  # or a pipe would lose what is written to it
        )
        self.bar = self.live.add_task(self.sentence, total=None)

    def at(self, doing: str) -> None:
        self.doing, self.total = doing, None
        self._tell()

    def expect(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.done, self.done_before = total, unit, done, done
        self.counted_from = self.clock()
        self._tell()

    def advance(self, more: int) -> None:
        self.done += more
        self._tell()

    @property
    def left_s(self) -> float | None:
        """How long the rest takes, if it goes on as until now; None where that is not known."""
        done, passed = self.done - self.done_before, self.clock() - self.counted_from
        if not self.total or done <= 0 or passed < FIRST_S / 2 or self.done >= self.total:
            return None
        return passed / done * (self.total - self.done)

    @property
    def sentence(self) -> str:
        count = f"{self.done:,} of {self.total:,} {self.unit}" if self.total else ""
        left = f"about {spoken(self.left_s)} left" if self.left_s else ""
        told = ", ".join(part for part in (self.doing, count, left) if part)
        return f"{self.what}: {told}" if told else self.what

    def _tell(self) -> None:
        from rich.markup import escape

        if self.console.is_terminal:
            self.live.update(self.bar, description=escape(self.sentence))
        elif (now := self.clock()) >= self.due:
            self.due = now + max(FIRST_S, SHARE * (now - self.began))
            self.console.print(f"  {self.sentence}", markup=False, soft_wrap=True)


_current: ContextVar[Wait | None] = ContextVar("wait", default=None)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """While the block runs, tell how far it is."""
    from rich.console import Console

    wait = Wait(what, Console(stderr=True, highlight=False))
    token = _current.set(wait)
    try:
        with wait.live:
            yield
    finally:
        _current.reset(token)


@contextmanager
def leaving(sentence: str) -> Iterator[None]:
    """If Ctrl-C ends the block, say what it leaves and what to type, unless that was said within."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        say("", f"Interrupted: {sentence}", stream=sys.stderr)
        raise Interrupted from None


def at(doing: str) -> None:
    """Say what is done now; nothing of it is counted yet."""
    if wait := _current.get():
        wait.at(doing)


def expect(total: int, unit: str, done: int = 0) -> None:
    """Say how much there is to do, and how much of it was done before."""
    if wait := _current.get():
        wait.expect(total, unit, done)


def advance(more: int = 1) -> None:
    """Say that so much more is done."""
    if wait := _current.get():
        wait.advance(more)


def follow(log: Path, since: int = 0) -> None:
    """Say how many tasks of a build are done, by what it wrote to `log` after `since` bytes."""
    wait = _current.get()
    if wait is None or not log.exists():
        return
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(max(since, size - TAIL))
        lines = TASK.findall(file.read().decode(errors="replace"))
    if not lines:
        return
    done, total, _ = lines[-1]
    if wait.total != int(total):
        wait.expect(int(total), "tasks")
    if int(done) > wait.done:
        wait.advance(int(done) - wait.done)


def spoken(seconds: float | None) -> str:
    """A duration in one unit: `14 s`, `3 min`, `2.5 h`."""
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
