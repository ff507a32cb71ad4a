"""Replay processes: a process for each policy, started, watched and ended together.

It decides what a process of another project inherits and what is printed while
processes run. It never looks at rows.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from loopbook.data import prediction_log
from loopbook.loop.replay_results import NAMES, state_of
from loopbook.project.errors import ReplayError


def run_lanes(folder: Path, policies: Sequence[str], steps: int) -> None:
    """Run policies side by side, each in its project `folder/POLICY`.

    Prints a line whenever one has finished another step.

    Raises
    ------
    ReplayError
        If a policy stopped, with the last lines of its log.
    """
    lanes = {p: _lane(folder / p, p, folder / f"{p}.txt") for p in policies}
    _wait_for(lanes, folder, steps)


def run_first(project: Path, policy: str) -> None:
    """Run one policy in a project that is not below a replay's folder, and print nothing."""
    _wait_for({policy: _lane(project, policy, project / f"{policy}.txt")}, project, 0)


def environment() -> dict[str, str]:
    """The environment of a process in another project: nothing of this one's in it."""
    own = ("LOOPBOOK_PROJECT", prediction_log.ADDRESS, "LOOPBOOK_FEATURE_STORE", "LOOPBOOK_WEBHOOK")
    return {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}


def _lane(project: Path, policy: str, log: Path) -> subprocess.Popen:
    with log.open("a") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "loopbook.loop.replay_lane", policy],
            cwd=project,
            env=environment(),
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )


def _wait_for(lanes: Mapping[str, subprocess.Popen], folder: Path, steps: int) -> None:
    shown: dict[str, str] = {}
    try:
        while any(lane.poll() is None for lane in lanes.values()):
            for policy in lanes:
                _show(policy, folder, steps, shown)
            time.sleep(0.5)
    finally:
        for lane in lanes.values():
            if lane.poll() is None:
                lane.terminate()
        for lane in lanes.values():
            lane.wait(60)
    stopped = [policy for policy, lane in lanes.items() if lane.returncode]
    if stopped:
        log = folder / f"{stopped[0]}.txt"
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ReplayError(f"{log}: {stopped[0]} stopped.\n{last}\nGo on: loopbook replay")


def _show(policy: str, folder: Path, steps: int, shown: dict[str, str]) -> None:
    """Print a policy's newest line, once."""
    state = state_of(folder / policy)
    line = state.get("line")
    if line and shown.get(policy) != line:
        shown[policy] = line
        name = NAMES.get(policy, "the first step")
        print(f"  {name:<17} {state.get('done', 0):>3}/{steps} {line}", flush=True)
