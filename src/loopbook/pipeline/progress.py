"""Progress: what a person sees while notebooks run, and when they are done.

On a terminal the running notebooks move in place; elsewhere (a log, CI) each
start and end is a line.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from loopbook.models.measures import of_record
from loopbook.pipeline.commands import NEXT_COMMANDS
from loopbook.project.counts import counted
from loopbook.project.files import read_json
from loopbook.project.terminal import say
from loopbook.project.waits import spoken

REFRESHED_S = 0.1  # between two drawings of the bars


class Progress:
    """Which notebooks run, at which cell, and how many are left."""

    def __init__(
        self, names: Sequence[str], seconds: Mapping[str, float] | None = None, workers: int = 1
    ):
        """`seconds` has how long each task took when it last ran, as far as that is known."""
        self.total = len(names)
        self.waiting, self.seconds, self.workers = set(names), dict(seconds or {}), workers
        self.ended = 0
        self.since: dict[str, float] = {}
        self.console = Console(stderr=True, highlight=False)
        self.lock = threading.Lock()
        self.bars: dict[str, Any] = {}
        self.live = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("cell {task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            # Rich's own thread would draw between a line and the bars below it, over a line
            # that another thread just printed (Textualize/rich#1530)
            auto_refresh=False,
        )
        self.is_over = threading.Event()

    def __enter__(self) -> "Progress":
        self.live.start()
        threading.Thread(target=self._move, daemon=True).start()
        return self

    def __exit__(self, *_error) -> None:
        self.is_over.set()
        with self.lock:
            self.live.stop()

    def _move(self) -> None:
        """Let the bars move until all is over."""
        while not self.is_over.wait(REFRESHED_S):
            with self.lock:
                self.live.refresh()

    def started(self, name: str) -> None:
        with self.lock:
            self.since[name] = time.monotonic()
            self.bars[name] = self.live.add_task(name, total=1)
            if not self.console.is_terminal:
                self.console.print(f"  …  {name}")

    def cell(self, name: str, at: int, of: int) -> None:
        with self.lock:
            if name in self.bars:
                self.live.update(self.bars[name], completed=at, total=of)

    def finished(self, name: str) -> None:
        self._end(name, "[green]done[/]")

    def failed(self, name: str) -> None:
        self._end(name, "[red]FAILED[/]")

    def say(self, line: str) -> None:
        with self.lock:
            self.console.print(line, markup=False)

    def interrupted(self) -> None:
        told = (
            "Interrupted: the running notebooks were ended; finished tasks are reused. Type the same "
            "command again."
        )
        with self.lock:
            say("", told, stream=sys.stderr)

    def _end(self, name: str, word: str) -> None:
        with self.lock:
            self.ended += 1
            self.waiting.discard(name)
            self.live.remove_task(self.bars.pop(name))
            seconds = time.monotonic() - self.since[name]
            self.console.print(
                f"{self.ended:3d}/{self.total} {name:<28} {word} {seconds:6.1f} s{self._left()}"
            )

    def _left(self) -> str:
        """How long the others may take; empty where the time of one is not known."""
        if not self.waiting or self.waiting - self.seconds.keys():
            return ""
        passed = {name: time.monotonic() - at for name, at in self.since.items()}
        rest = [max(self.seconds[n] - passed.get(n, 0.0), 0.0) for n in self.waiting]
        return f", about {spoken(max(*rest, sum(rest) / self.workers))} left"


def last_seconds(executed: Mapping[str, Path]) -> dict[str, float]:
    """How long each task took when it last ran, by its executed notebook; those that say it."""
    found = {}
    for name, path in executed.items():
        with suppress(OSError, ValueError, KeyError, TypeError):
            found[name] = float(read_json(path)["metadata"]["papermill"]["duration"])
    return found


def outcome_lines(
    rows: Sequence[tuple[str, float | None]], decision: Mapping[str, Any]
) -> list[str]:
    """The end of a build: a line a task, the champion, what to type next.

    Parameters
    ----------
    rows : sequence of (task, seconds or None)
        None means that it was up to date.
    decision : mapping
        The decision record that `promote` wrote.
    """
    width = max(len(name) for name, _ in rows)
    lines = ["", f"{'task':<{width}}  {'':<10}  seconds"]
    for name, seconds in rows:
        state = "up to date" if seconds is None else "ran"
        lines.append(
            f"{name:<{width}}  {state:<10}  {'' if seconds is None else f'{seconds:7.1f}'}"
        )
    lines += ["", *champion_lines(decision), "", "Next:"]
    lines += [f"  {command:<14} {what}" for command, what in NEXT_COMMANDS.items()]
    return lines


def champion_lines(decision: Mapping[str, Any]) -> list[str]:
    """Who serves, how well, and why, in three lines; where nobody does, the ways on."""
    champion = decision["champion"]
    if champion is None:
        lines = [f"champion  none yet. {decision['sentence']}"]
        ways = decision.get("ways_on", [])
        return [*lines, *(["ways on"] if ways else []), *(f"  - {way}" for way in ways)]
    lines = [f"champion  {champion['label']} ({champion['candidate']})"]
    errors, (measure, _) = decision["errors"], of_record(decision)
    if "champion" in errors:
        lines.append(
            f"error     {measure.title} {measure.said(errors['champion'])} on the "
            f"{decision['rows']:,} rows that judge; the baseline's is {measure.said(errors['baseline'])}"
        )
    return [*lines, f"gate      {decision['sentence']}"]


def window_lines(record: Mapping[str, Any]) -> list[str]:
    """The record of a monitored window in a few lines."""
    numbers, champion, (measure, _) = record["numbers"], record["champion"], of_record(record)
    lines = [
        f"window      {record['current'][0][:10]} to {record['current'][1][:10]}, "
        f"{counted(numbers['rows'], 'answer')}",
    ]
    if champion:
        lines.append(
            f"champion    {champion['name']} v{champion['version']} ({champion['candidate']})"
        )
    if numbers.get("error") is not None:
        ends = f"{measure.said(numbers['error_low'])} to {measure.said(numbers['error_high'])}"
        lines.append(
            f"error       {measure.title} {measure.said(numbers['error'])} ({ends}), "
            f"{measure.said(numbers['reference_error'])} at promotion; "
            f"{numbers['labels']:,} of {numbers['due']:,} answers have their ground truth"
        )
    if numbers.get("estimated_error") is not None:
        lines.append(
            f"estimated   {measure.said(numbers['estimated_error'])} for the newest answers"
        )
    lines.append(f"verdict     {record['verdict']['level']}")
    return lines + [f"            - {reason}" for reason in record["verdict"]["reasons"]]
