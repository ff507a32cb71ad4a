"""Replay: the past through the real parts, with two controls on the same requests.

It decides which projects there are and runs them side by side. A policy is a
project of its own below `var/replay`: its source ends where the replay starts,
so that all it learns later came back through its service. `loop` lets the loop
decide; `scheduled` builds every four weeks and lets the same gate decide;
`never` is the first version, which goes on beside the loop's service. All
begin with the same first version, made once.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import yaml
from filelock import FileLock

from loopbook.data import prediction_log, sources, validation
from loopbook.loop import replay_results
from loopbook.loop.replay_results import FIRST, LOOP, NAMES, SCHEDULED, STEPS, moments, state_of
from loopbook.loop.scenarios import SCENARIOS
from loopbook.pipeline import graph as pipeline_graph
from loopbook.project import clock
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import ReplayError
from loopbook.project.files import read_json, replacing, write_json, write_text
from loopbook.project.paths import Project

COPIED = ("env.yaml", "pipeline.yaml", "pipeline.monitor.yaml", "requirements.lock")
UNCOPIED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
FAR = parse_instant("9999-01-01")  # everything is known by then
# What the short replay compares, the longest first, so that the others run beside it; the
# whole one has every candidate of pipeline.yaml.
SHORT = ("recalibrated", "hist_gradient_boosting", "baseline")


def run(
    project: Project,
    *,
    scenario: str | None,
    step: str,
    start: datetime,
    until: datetime | None,
    candidates: Sequence[str],
    afresh: bool,
) -> list[str]:
    """Replay, or go on with a replay; lines for people.

    Parameters
    ----------
    candidates : sequence of str
        Empty: those of `SHORT` where the step is a month, else all.

    Raises
    ------
    ReplayError
        If a policy stopped; what it had done stays, and the next call goes on.
    """
    if scenario and scenario not in SCENARIOS:
        raise ReplayError(f"no scenario {scenario!r}; there are {', '.join(SCENARIOS)}.")
    if step not in STEPS:
        raise ReplayError(f"no step {step!r}; there are {', '.join(STEPS)}.")
    contract = read_contract(project.contract)
    if contract.event_time is None:
        raise ReplayError("the contract names no event_time, so there is no past to replay.")
    began = time.monotonic()
    name = f"{scenario or 'year'}-{step}"
    folder = project.var / "replay" / name
    with (
        pipeline_graph.only_run(project, f"replay-{name}"),
        pipeline_graph.terminated_like_interrupted(),
    ):
        if afresh:
            shutil.rmtree(folder, ignore_errors=True)
        rows = _rows(project, contract)
        end = until or rows[EVENT_TS].max() + timedelta(days=1)
        rows = rows.filter(pl.col(EVENT_TS) < end)
        told = {"scenario": scenario, "step": step, "start": start.isoformat()}
        told["end"] = end.isoformat()
        told["candidates"] = list(candidates or (SHORT if step == "month" else ()))
        if (folder / "plan.json").exists() and read_json(folder / "plan.json") != told:
            raise ReplayError(
                f"{folder}: holds another replay. Begin anew: loopbook replay --afresh"
            )
        policies = [LOOP] if scenario else [LOOP, SCHEDULED]
        missing = [policy for policy in policies if not state_of(folder / policy)]
        if missing:
            before = rows.filter(pl.col(EVENT_TS) < start)
            with FileLock(project.var / "replay-first.lock"):
                first = _first_version(project, contract, before, start, told["candidates"])
            for policy in missing:
                shutil.rmtree(folder / policy, ignore_errors=True)
                # the artifacts of its runs stay where they were made: a run's id is its own
                shutil.copytree(first, folder / policy, symlinks=True)
        with replacing(folder / "rows.parquet") as path:
            rows.filter(pl.col(EVENT_TS) >= start).write_parquet(path)
        write_json(folder / "plan.json", told)
        _run_lanes(folder, policies, len(moments(start, end, step)))
        result = replay_results.collect(folder, contract)
        result["seconds"] = round(time.monotonic() - began, 1)
        write_json(folder / "result.json", result)
        if not scenario:
            with replacing(folder / "replay.svg") as path:
                replay_results.figure(result).savefig(path, format="svg")
    return [*replay_results.lines(result), f"record      {folder / 'result.json'}"]


def _rows(project: Project, contract: Contract) -> pl.DataFrame:
    raw = sources.read_source(contract, project.root)
    known, _ = sources.known_by(raw, FAR, contract, now=clock.utc_now())
    kept, _ = validation.without_known_faults(known, contract)
    return validation.conform(kept, contract)


def _first_version(
    project: Project,
    contract: Contract,
    rows: pl.DataFrame,
    start: datetime,
    candidates: Sequence[str],
) -> Path:
    """The folder of a project with the first version, made now or by an earlier replay."""
    fresh = project.var / "replay" / FIRST / "fresh"
    _make_project(project, contract, fresh, rows, candidates)
    made_of = hashlib.sha256(str(start).encode())
    library = Path(__file__).parents[1].rglob("*.py")
    for path in sorted([*library, *(path for path in fresh.rglob("*") if path.is_file())]):
        made_of.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = fresh.with_name(made_of.hexdigest()[:12])
    if not state_of(folder):
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        write_json(folder / "start.json", {"start": start.isoformat()})
        print("  the first version is built; every policy begins with it", flush=True)
        _wait_for({FIRST: _lane(folder, FIRST, folder / "first.txt")}, folder, 0)
    return folder


def _make_project(
    project: Project,
    contract: Contract,
    folder: Path,
    rows: pl.DataFrame,
    candidates: Sequence[str],
) -> None:
    """A copy of the project whose source holds these rows only."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(project.root / name, folder)
    for name in ("notebooks", "serving"):
        shutil.copytree(project.root / name, folder / name, ignore=UNCOPIED)
    if candidates:
        graph = folder / "pipeline.yaml"
        grid = f"names: [{', '.join(candidates)}]"
        graph.write_text(re.sub(r"names: \[[^]]*\]", grid, graph.read_text()))
    rows.select(contract.columns).write_parquet(folder / "data" / "source.parquet")
    text = yaml.safe_load(project.contract.read_text(encoding="utf-8"))
    text["source"] = {"path": "data/source.parquet"}
    write_text(folder / "contract.yaml", yaml.safe_dump(text, sort_keys=False, allow_unicode=True))


def _run_lanes(folder: Path, policies: Sequence[str], steps: int) -> None:
    """A process a policy, and a line whenever one has come further."""
    lanes = {p: _lane(folder / p, p, folder / f"{p}.txt") for p in policies}
    _wait_for(lanes, folder, steps)


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
                state = state_of(folder / policy)
                if state and shown.get(policy) != state["told"]:
                    shown[policy] = state["told"]
                    print(
                        f"  {NAMES[policy]:<17} {state.get('done', 0):>3}/{steps} {state['told']}",
                        flush=True,
                    )
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


def environment() -> dict[str, str]:
    """The environment of a process in another project: nothing of this one's in it."""
    own = ("LOOPBOOK_PROJECT", prediction_log.ADDRESS, "LOOPBOOK_FEATURE_STORE", "LOOPBOOK_WEBHOOK")
    return {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}
