"""Replay projects: the project that a policy begins with.

It decides what a copied project holds, and what is made once and then copied.
Two things are: the first version, with which every policy begins, and the first
step of a scenario, which is the same for all scenarios whose disturbance begins
after it. Both are kept in `var/replay/first` by a digest of all that they are
made of. It never runs a policy itself.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from loopbook.loop.replay_processes import run_first, run_lanes
from loopbook.loop.replay_results import FIRST, FIRST_STEP, log_name, moments, state_of
from loopbook.loop.replay_stores import EMBEDDED, LOG, Servers
from loopbook.project import waits
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.files import replacing, write_json, write_text
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records

COPIED = ("env.yaml", "pipeline.yaml", "pipeline.monitor.yaml")
COPIED_IF_THERE = ("requirements.lock", "candidates.py")
FOLDERS = ("notebooks", "serving")
UNCOPIED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")


def first_version(
    project: Project,
    contract: Contract,
    rows: pl.DataFrame,
    plan: Mapping[str, Any],
    servers: Servers = EMBEDDED,
) -> Path:
    """The folder of a project with the first version, made now or by an earlier replay.

    Parameters
    ----------
    rows : pl.DataFrame
        All rows of the replay; the first version learns from those before the start.
    """
    start = parse_instant(plan["start"])
    fresh = project.var / "replay" / FIRST / "fresh"
    before = rows.filter(pl.col(EVENT_TS) < start)
    _make_project(project, contract, fresh, before, plan["candidates"])
    library = Path(__file__).parents[1].rglob("*.py")
    files = sorted([*library, *(path for path in fresh.rglob("*") if path.is_file())])
    folder = fresh.with_name(_digest(" ".join([str(start), *servers.stores]), files))
    if not (state_of(folder) and servers.hold(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        write_json(folder / "start.json", {"start": start.isoformat()})
        waits.at("the first version, with which every policy begins")
        servers.make(folder)
        run_first(folder, FIRST, servers)
    return folder


def first_step(
    first: Path, rows: pl.DataFrame, plan: Mapping[str, Any], servers: Servers = EMBEDDED
) -> Path:
    """The folder of a project after the replay's first step, made now or by an earlier replay.

    A disturbance begins at the end of the first step (`scenarios.disturbed`), so
    every scenario sends the same requests and ground truth before it, and takes
    the same turn then. The exception spoils the source before that turn
    (`Scenario.spoils_source`) and cannot begin here. The policy `loop` of a replay
    without a scenario cannot either: beside it the first version's service
    answers the same requests.

    A step in which a request or the turn failed is used once and made again by
    the next replay.
    """
    start, end = parse_instant(plan["start"]), parse_instant(plan["end"])
    until = moments(start, end, plan["step"])[0]
    making = first.with_name("fresh-step")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    asked = rows.filter(pl.col(EVENT_TS).is_between(start, until, closed="left"))
    write_rows(making, asked)
    folder = first.with_name(_digest(f"{first.name} {plan['step']}", [making / "rows.parquet"]))
    if not (_is_sound(folder / FIRST_STEP) and servers.hold(folder / FIRST_STEP)):
        shutil.rmtree(folder, ignore_errors=True)
        write_json(making / "plan.json", {**plan, "scenario": None, "end": until.isoformat()})
        making.rename(folder)
        copy(first, folder / FIRST_STEP, servers)
        waits.at("the first step, after which every scenario begins")
        run_lanes(folder, [FIRST_STEP], 1, servers)
    return folder / FIRST_STEP


def copy(
    source: Path, target: Path, servers: Servers = EMBEDDED, *, with_level: bool = True
) -> None:
    """Copy a project whole or not at all; `with_level` says whether calibration moves its answers.

    The artifacts of its runs stay where they were made: a run's id is its own.
    """
    shutil.rmtree(target, ignore_errors=True)
    unfinished = target.with_name(f"{target.name}.copying")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished, symlinks=True)
    if not with_level:
        without_level(unfinished)
    servers.copy(source, target, without=() if with_level else (LOG,))
    unfinished.rename(target)


def without_level(project: Path) -> None:
    """Let no calibration move what a project answers: neither states of now nor any made later."""
    _switch_off(project, "calibration")
    for log in (project / "var").glob(f"{log_name('')}*"):  # nothing was asked yet
        log.unlink()


def _switch_off(project: Path, knob: str) -> None:
    path = project / "env.yaml"
    text, places = re.subn(rf"(?m)^{knob}:.*$", f"{knob}: false", path.read_text())
    write_text(path, text if places else f"{text.rstrip()}\n{knob}: false\n")


def write_rows(folder: Path, rows: pl.DataFrame) -> None:
    """Keep the rows that a replay sends."""
    with replacing(folder / "rows.parquet") as path:
        rows.write_parquet(path)


def _is_sound(project: Path) -> bool:
    """Whether the first step was finished and nothing failed in it."""
    state = state_of(project)
    if state.get("done") != 1 or state["failed"]:
        return False
    outcomes = [turn["outcome"] for turn in turn_records.listed(Project(project))]
    return bool(outcomes) and turn_records.ERROR not in outcomes


def _digest(text: str, files: Iterable[Path]) -> str:
    made_of = hashlib.sha256(text.encode())
    for path in files:
        made_of.update(path.name.encode() + b"\0" + path.read_bytes())
    return made_of.hexdigest()[:12]


def _make_project(
    project: Project,
    contract: Contract,
    folder: Path,
    rows: pl.DataFrame,
    candidates: Iterable[str],
) -> None:
    """A copy of the project whose source holds these rows only."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    there = [name for name in COPIED_IF_THERE if (project.root / name).exists()]
    for name in (*COPIED, *there):
        shutil.copy(project.root / name, folder)
    for name in FOLDERS:
        shutil.copytree(project.root / name, folder / name, ignore=UNCOPIED)
    _switch_off(folder, "require_signature")  # nobody signs what a replay tries
    _switch_off(folder, "monitor_report")  # no verdict reads Evidently's 5 MB of each window
    if candidates:
        graph = folder / "pipeline.yaml"
        grid = f"names: [{', '.join(candidates)}]"
        graph.write_text(re.sub(r"names: \[[^]]*\]", grid, graph.read_text()))
    rows.select(contract.columns).write_parquet(folder / "data" / "source.parquet")
    text = yaml.safe_load(project.contract.read_text(encoding="utf-8"))
    text["source"] = {"path": "data/source.parquet"}
    _forget_headers(text)
    write_text(folder / "contract.yaml", yaml.safe_dump(text, sort_keys=False, allow_unicode=True))


def _forget_headers(text: dict[str, Any]) -> None:
    """The rows that were written have the contract's names, whatever the source calls them."""
    text.pop("headers", None)
    for described in (text["target"], *text["features"].values()):
        described.pop("column", None)
