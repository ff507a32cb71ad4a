"""Replay: the past through the real parts, with four controls on the same requests.

It decides where a replay starts and ends, which policies there are, and runs
them side by side. A policy is a project of its own below `var/replay`: its
source ends where the replay starts, so that all it learns later came back
through its service. `loop` lets the loop decide, and calibration moves its
answers; `loop_raw` is the same without calibration; `scheduled` builds every four
weeks and lets the same gate decide, without it too. `never` and `level` are the
first version, which goes on beside the loop's service: as it is, and with a
calibration of what it answered. All begin with the same first version, made once.
"""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from loopbook.data import quarantine, sources, validation
from loopbook.data.aside_rows import Reading
from loopbook.data.usable_rows import TABLE
from loopbook.loop import hindsight, replay_projects, replay_results, replay_stores
from loopbook.loop.replay_processes import run_lanes
from loopbook.loop.replay_results import (
    LOOP,
    LOOP_RAW,
    SCHEDULED,
    STEPS,
    WITHOUT_LEVEL,
    moments,
    state_of,
)
from loopbook.loop.replay_stores import EMBEDDED, Servers
from loopbook.loop.scenarios import SCENARIOS
from loopbook.monitoring import costs
from loopbook.pipeline import graph_files, runs
from loopbook.project import clock, waits
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract, read_contract
from loopbook.project.counts import counted
from loopbook.project.errors import ReplayError
from loopbook.project.files import read_json, replacing, write_json
from loopbook.project.knobs import Knobs, read_knobs
from loopbook.project.paths import Project

FAR = parse_instant("9999-01-01")  # everything is known by then
START_SHARE = 2 / 5  # of the table's span: enough to learn from, and more than half to replay
# What the short replay compares, the longest first, so that the others run beside it; the
# whole one has every candidate of pipeline.yaml.
SHORT = ("hist_gradient_boosting", "baseline")


@dataclass(frozen=True)
class Options:
    """What to replay.

    Attributes
    ----------
    scenario : str or None
        A name of `SCENARIOS`; None: the past as it was, with four controls.
    step : str
        `week` or `month`: between two turns.
    start : datetime in UTC or None
        The first version is trained as of it; None: `default_start`.
    until : datetime in UTC or None
        The replay ends before it; None: a day after the table's last event.
    candidates : sequence of str
        Empty: those of `SHORT` where the step is a month, else all.
    on_servers : bool
        Whether its stores are databases of its own on the servers that the
        environment names; else all are files below `var/replay`.
    """

    scenario: str | None = None
    step: str = "week"
    start: datetime | None = None
    until: datetime | None = None
    candidates: Sequence[str] = ()
    on_servers: bool = False


def run(
    project: Project, options: Options, *, afresh: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Replay, or go on with a replay; what came of it, and the lines that tell it to people.

    Parameters
    ----------
    afresh : bool
        Whether to forget what an earlier replay of this scenario and step did.

    Raises
    ------
    ReplayError
        If the options do not fit the table, or a policy stopped; what it had
        done stays, and the next call goes on.
    """
    contract, knobs = _checked(project, options), read_knobs(project.knobs)
    began = time.monotonic()
    replays = project.var / "replay"
    servers = replay_stores.named(replays) if options.on_servers else EMBEDDED
    name = f"{options.scenario or 'year'}-{options.step}{'-servers' * options.on_servers}"
    folder = replays / name
    with (
        runs.only_run(project, f"replay-{name}"),
        runs.terminated_like_interrupted(),
    ):
        if afresh:
            shutil.rmtree(folder, ignore_errors=True)
        waits.at("reading the rows")
        rows = _rows(project, contract)
        plan = planned(rows[EVENT_TS], options, knobs)
        plan |= {"servers": servers.stores} if servers.stores else {}
        start, end = parse_instant(plan["start"]), parse_instant(plan["end"])
        rows = rows.filter(pl.col(EVENT_TS) < end)
        policies = [LOOP] if options.scenario else [LOOP, LOOP_RAW, SCHEDULED]
        servers.drop_forgotten()
        about = {"contract": contract, "rows": rows, "plan": plan, "servers": servers}
        _prepare(project, folder, policies, **about)
        run_lanes(folder, policies, len(moments(start, end, options.step)), servers)
        waits.at("comparing the policies")
        result = replay_results.collect(folder, contract, servers.log)
        if not options.scenario and (told := costs.of_knobs(knobs)):
            ends = [start, *moments(start, end, options.step)]
            asked = hindsight.Asked(contract, rows, ends, knobs)
            waits.at("what retraining would have paid at other times")
            result["costs"] = hindsight.of_replay(result, asked, told)
        result["seconds"] = round(time.monotonic() - began, 1)
        write_json(folder / "result.json", result)
        if not options.scenario:
            with replacing(folder / "replay.svg") as path:
                replay_results.figure(result).savefig(path, format="svg")
    return result, [*replay_results.lines(result), f"record      {folder / 'result.json'}"]


def default_start(events: pl.Series) -> datetime:
    """The start of the month, or else the day, in which two fifths of a table's span are over.

    Parameters
    ----------
    events : pl.Series
        Instants in UTC, at least one. The day counts where the month began
        before the first of them.
    """
    first, last = events.min(), events.max()
    at = first + (last - first) * START_SHARE
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    return month if month > first else day


def planned(events: pl.Series, options: Options, knobs: Knobs) -> dict[str, Any]:
    """What a replay of rows with these event times does, as it is kept in `plan.json`.

    Raises
    ------
    ReplayError
        If the first version would have too few rows to learn from, or no
        request could be sent.
    """
    if events.is_empty():
        raise ReplayError("the table has 0 rows with an event time, so there is no past to replay.")
    start = options.start or default_start(events)
    end = options.until or events.max() + timedelta(days=1)
    span = f"The table's rows go from {events.min():%Y-%m-%d} to {events.max():%Y-%m-%d}."
    before = (events < start).sum()
    days = knobs.validation_days + knobs.test_days
    learnt = (start - events.min()) / timedelta(days=1)
    if before < knobs.gate_min_rows or learnt <= days:
        raise ReplayError(
            f"--start {start:%Y-%m-%d}: found {counted(before, 'row')} before it, over "
            f"{max(learnt, 0):.0f} days; expected at least {knobs.gate_min_rows:,} (gate_min_rows) "
            f"over more than {days} days (validation_days and test_days). {span} Choose a later "
            "--start, or lower these knobs in env.yaml."
        )
    if not ((events >= start) & (events < end)).any():
        raise ReplayError(
            f"found 0 rows from --start {start:%Y-%m-%d} until {end:%Y-%m-%d}, expected at least "
            f"one to send. {span} Choose an earlier --start or a later --until."
        )
    return {
        "scenario": options.scenario,
        "step": options.step,
        "start": start.isoformat(),
        "end": end.isoformat(),
        "candidates": list(options.candidates or (SHORT if options.step == "month" else ())),
    }


def _checked(project: Project, options: Options) -> Contract:
    """The contract, if a replay with these options can be asked for at all."""
    if options.scenario and options.scenario not in SCENARIOS:
        raise ReplayError(f"no scenario {options.scenario!r}; there are {', '.join(SCENARIOS)}.")
    if options.step not in STEPS:
        raise ReplayError(f"no step {options.step!r}; there are {', '.join(STEPS)}.")
    contract = read_contract(project.contract)
    if contract.event_time is None:
        raise ReplayError("the contract names no event_time, so there is no past to replay.")
    if options.scenario:
        SCENARIOS[options.scenario].check(contract)
    return contract


def _check_version(folder: Path, policies: Iterable[str]) -> None:
    """Refuse to go on with projects that an earlier loopbook has made, and change nothing."""
    for policy in policies:
        graph = folder / policy / "pipeline.yaml"
        if graph.exists() and (absent := graph_files.absent_names(graph)):
            raise ReplayError(
                f"{folder / policy}: made by an earlier loopbook (its pipeline.yaml names "
                f"{absent[0]}), so this one cannot go on with it; nothing was changed. Keep a copy "
                "of the folder if you want its figures, and begin anew: loopbook replay --afresh"
            )


def _rows(project: Project, contract: Contract) -> pl.DataFrame:
    """All rows that a build could use, whenever they were known; the others are set aside."""
    now, share = clock.utc_now(), read_knobs(project.knobs).quarantine_share
    reading = sources.read(contract, project.root)
    readable = quarantine.readable(project, reading, share=share, now=now)
    known, _ = sources.known_by(readable.rows, FAR, contract, now=now)
    kept, _ = validation.without_known_faults(known, contract)
    found = quarantine.sifted(project, Reading(kept, contract), share=share, name=TABLE, now=now)
    quarantine.refuse_if_broken(found, contract)
    return validation.typed(found.rows, contract)


def _prepare(  # noqa: PLR0913 - all that a replay begins with
    project: Project,
    folder: Path,
    policies: Sequence[str],
    *,
    contract: Contract,
    rows: pl.DataFrame,
    plan: Mapping[str, Any],
    servers: Servers = EMBEDDED,
) -> None:
    """A project for each policy that has none, the plan, and the rows to send."""
    _check_version(folder, policies)
    if (folder / "plan.json").exists() and read_json(folder / "plan.json") != plan:
        raise ReplayError(f"{folder}: holds another replay. Begin anew: loopbook replay --afresh")
    missing = [
        policy
        for policy in policies
        if not (state_of(folder / policy) and servers.hold(folder / policy))
    ]
    if missing:
        scenario = SCENARIOS.get(plan["scenario"] or "")
        with FileLock(project.var / "replay-first.lock"):
            begin = replay_projects.first_version(project, contract, rows, plan, servers)
            if scenario and not scenario.spoils_source:
                begin = replay_projects.first_step(begin, rows, plan, servers)
        for policy in missing:
            with_level = policy not in WITHOUT_LEVEL
            replay_projects.copy(begin, folder / policy, servers, with_level=with_level)
    start = parse_instant(plan["start"])
    replay_projects.write_rows(folder, rows.filter(pl.col(EVENT_TS) >= start))
    write_json(folder / "plan.json", plan)
