"""Replay processes: a process for each policy, started, watched and ended together.

It decides what a process of another project inherits and what is printed while
processes run. It never looks at rows.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from loopbook.loop.replay_results import NAMES, state_of
from loopbook.loop.replay_stores import EMBEDDED, STORES, Servers
from loopbook.project import waits
from loopbook.project.errors import ReplayError

LOOKED_S, PATIENCE_S, BAR = 0.5, 2.0, 20


def run_lanes(
    folder: Path, policies: Sequence[str], steps: int, servers: Servers = EMBEDDED
) -> None:
    """Run policies side by side, each in its project `folder/POLICY`.

    Prints where each goes on, and a line whenever one has finished another step.
    Interrupted, all end within three seconds: what a killed step had done stays,
    and the step is gone on with.

    Raises
    ------
    ReplayError
        If a policy stopped, with the last lines of its log.
    """
    lanes = {p: _lane(folder / p, p, folder / f"{p}.txt", servers) for p in policies}
    _wait_for(lanes, folder, steps)


def run_first(project: Path, policy: str, servers: Servers = EMBEDDED) -> None:
    """Run one policy that builds, in a project that is not below a replay's folder."""
    log = project / f"{policy}.txt"
    since = log.stat().st_size if log.exists() else 0
    _wait_for({policy: _lane(project, policy, log, servers)}, project, 0, log, since)


def environment() -> dict[str, str]:
    """The environment of a process in another project: nothing of this one's in it."""
    own = ("LOOPBOOK_PROJECT", *STORES, "LOOPBOOK_WEBHOOK", "LOOPBOOK_WANDB")
    return {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}


def _lane(project: Path, policy: str, log: Path, servers: Servers) -> subprocess.Popen:
    with log.open("a") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "loopbook.loop.replay_lane", policy],
            cwd=project,
            env=environment() | servers.environment(project),
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )


def _wait_for(
    lanes: Mapping[str, subprocess.Popen],
    folder: Path,
    steps: int,
    log: Path | None = None,
    since: int = 0,
) -> None:
    """Wait for lanes; `log` is that of one which only builds, and `since` its size before."""
    told = _Told(folder, steps)
    try:
        told.beginning(lanes)
        while any(lane.poll() is None for lane in lanes.values()):
            told.news(lanes)
            if log:
                waits.follow(log, since)
            time.sleep(LOOKED_S)
        told.news(lanes)
    finally:
        _end(lanes.values())
    stopped = [policy for policy, lane in lanes.items() if lane.returncode]
    if stopped:
        log = folder / f"{stopped[0]}.txt"
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ReplayError(f"{log}: {stopped[0]} stopped.\n{last}\nGo on: loopbook replay")


def _end(lanes: Iterable[subprocess.Popen]) -> None:
    """Ask all to end, and kill those that take longer, with their services and notebooks."""
    running = [lane for lane in lanes if lane.poll() is None]
    for lane in running:
        lane.terminate()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and any(lane.poll() is None for lane in running):
        time.sleep(0.05)
    for lane in running:
        with suppress(psutil.NoSuchProcess):
            for below in psutil.Process(lane.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    below.kill()
        with suppress(ProcessLookupError):  # its group: a service whose lane is gone already
            os.killpg(lane.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a busy machine takes longer to bury it
            lane.wait(PATIENCE_S)


class _Told:
    """What people were told of the lanes, and when each began to be watched."""

    def __init__(self, folder: Path, steps: int):
        self.folder, self.steps = folder, steps
        self.began, self.done, self.lines = time.monotonic(), {}, {}
        self.reached: dict[str, int] = {}

    def beginning(self, policies: Iterable[str]) -> None:
        """Remember where each begins; say it of those that go on."""
        policies = list(policies)
        for policy in policies:
            state = state_of(self.folder / policy)
            self.done[policy] = done = state.get("done", 0)
            self.lines[policy] = state.get("line")
            if done > 0:
                where = f"goes on after step {done} of {self.steps}: {state['line']}"
                what = where if done < self.steps else f"all {self.steps} steps are done"
                print(f"  {_name(policy)} {what}", file=sys.stderr, flush=True)

        if self.steps:
            waits.at("the policies answer and turn")
            self.reached = dict(self.done)
            waits.expect(self.steps * len(policies), "steps", sum(self.done.values()))

    def news(self, policies: Iterable[str]) -> None:
        """Print each policy's newest line, once."""
        for policy in policies:
            state = state_of(self.folder / policy)
            line = state.get("line")
            if not line or self.lines[policy] == line:
                continue
            waits.advance(max(state.get("done", 0) - self.reached.get(policy, 0), 0))
            self.reached[policy] = state.get("done", 0)
            self.lines[policy] = line
            done = state.get("done", 0)
            what = f"  {_name(policy)} {self._progress(policy, done)}  {line}"
            print(what, file=sys.stderr, flush=True)

    def _progress(self, policy: str, done: int) -> str:
        """A bar, the steps, and how long the others will take, as they took until now."""
        steps, since = max(self.steps, 1), done - self.done[policy]
        filled = BAR * min(done, steps) // steps
        bar = f"[{'#' * filled}{'.' * (BAR - filled)}] {done:>{len(str(steps))}}/{steps}"
        if since <= 0 or done >= steps:
            return f"{bar} {'done' if done >= steps else '':<12}"
        left = (time.monotonic() - self.began) / since * (steps - done)
        return f"{bar} {waits.spoken(left) + ' left':<12}"


def _name(policy: str) -> str:
    widest = max(map(len, NAMES.values()))
    return f"{NAMES.get(policy, 'the first step'):<{widest}}"
