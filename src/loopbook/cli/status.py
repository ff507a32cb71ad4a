"""Status: what serves, how old it is, what the gate said last, what is stale.

It tells of the loop too: its last turn, what it waits for, when it may retrain.
It decides what a person is told who asks how things are. It changes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from loopbook.data import quarantine
from loopbook.loop import guards
from loopbook.loop.guards import Limits
from loopbook.pipeline import graph
from loopbook.project.clock import both_clocks, parse_instant, utc_now
from loopbook.project.contract import read_contract
from loopbook.project.files import read_json
from loopbook.project.knobs import Knobs, read_knobs
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.records.roles import SHADOW
from loopbook.registry import tracking


def describe(project: Project) -> list[str]:
    """The state of a project, a fact a line.

    Raises
    ------
    LoopbookError
        If the contract, env.yaml, the source or the graph is wrong.
    """
    contract = read_contract(project.contract)
    client = tracking.connect(project)
    champion = tracking.holder(client, contract.name, tracking.CHAMPION)
    before = tracking.holder(client, contract.name, SHADOW)
    lines = [f"project     {contract.name} in {project.root}"]
    if champion is None:
        lines += ["champion    none yet", *_ways_on(project)]
    else:
        lines += _champion_lines(champion, utc_now())
    lines += _last_lines(project)
    lines += loop_lines(
        champion, before, turn_records.listed(project), read_knobs(project.knobs), utc_now()
    )
    stale = graph.stale_reasons(project)
    lines += _stale_lines(stale)
    lines.append(f"next        {'make build' if stale else 'make lab, make mlflow'}")
    return lines


def _stale_lines(stale: Mapping[str, Sequence[str]]) -> list[str]:
    """Each task that would run again, with why."""
    if not stale:
        return ["stale       nothing"]
    width = max(map(len, stale))
    told = [f"{name:<{width}}  {'; '.join(why)}" for name, why in stale.items()]
    return [f"stale       {told[0]}", *(f"            {line}" for line in told[1:])]


def _ways_on(project: Project) -> list[str]:
    """What a person can do where the last build's gate left the project without a champion."""
    decision = project.var / "build" / "decision.json"
    ways = read_json(decision).get("ways_on", []) if decision.exists() else []
    return [f"way on      {way}" for way in ways]


def _last_lines(project: Project) -> list[str]:
    """The last gate, window and turn, and what is not done yet."""
    lines = []
    decision = project.var / "build" / "decision.json"
    if decision.exists():
        record = read_json(decision)
        both = both_clocks(record["as_of"], record["decided_at"])
        lines.append(f"last gate   {both}. {record['sentence']}")
    if window := window_records.newest(project):
        both = both_clocks(window["as_of"], window["decided_at"])
        lines.append(f"monitored   {both}. {window['verdict']['sentence']}")
    if turns := turn_records.listed(project):
        last = turns[-1]
        both = both_clocks(last["as_of"], last.get("ended_at") or last.get("began_at"))
        lines.append(f"last turn   {both}. {last['outcome']}: {last['reason']}")
    if count := quarantine.waiting_count(project):
        lines.append(f"set aside   {count:,} rows wait for a decision: loopbook quarantine")
    if left := turn_records.open_turn(project):
        lines.append(f"open turn   at {left['stage']}; go on with it: loopbook loop --once")
    if asked := turn_records.asked(project):
        lines.append(f"asked       for a retraining by {asked['by']}: {asked['reason']}")
    return lines


def loop_lines(
    champion: tracking.Version | None,
    before: tracking.Version | None,
    turns: Sequence[Mapping[str, Any]],
    knobs: Knobs,
    now: datetime,
) -> list[str]:
    """What the loop waits for, and from when on it may retrain by itself.

    Parameters
    ----------
    before : Version or None
        The champion's predecessor while it answers as a shadow.
    turns : sequence of mappings
        Oldest first; without any there is nothing to tell.
    """
    if not turns:
        return []
    limits = Limits(knobs.loop_most_retrains, knobs.loop_refused_days, knobs.loop_backoff_minutes)
    waits = guards.waits(turn_records.attempts(turns), limits, now)
    since = _promoted_as_of(champion)
    if since and now < (until := since + timedelta(days=knobs.monitor_cooldown_days)):
        waits.append((until, f"{champion.label} serves since {_at(since)} and is given time"))
    lines = [f"waits       {reason}" for _, reason in waits]
    if since and before and before.number != champion.number:
        until = since + timedelta(days=knobs.loop_probation_days)
        lines.append(
            f"probation   {champion.label} is compared with {before.label} until {_at(until)}"
        )
    free = max((until for until, _ in waits), default=None)
    when = f"not before {_at(free)}" if free else "as soon as the verdict is retrain"
    return [*lines, f"retrains    {when}; sooner if somebody asks: POST /admin/retrain"]


def _promoted_as_of(champion: tracking.Version | None) -> datetime | None:
    """Since when a champion serves by the clock of the data; None if it does not say."""
    tags = champion.tags if champion else {}
    instants = [tags.get(name, "none") for name in ("promoted_as_of", "promoted_at")]
    return next((parse_instant(text) for text in instants if text != "none"), None)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _champion_lines(champion: tracking.Version, now: datetime) -> list[str]:
    tags = champion.tags
    promoted = tags.get("promoted_at")
    age = f", {(now - parse_instant(promoted)).days} days ago" if promoted else ""
    both = both_clocks(tags.get("promoted_as_of") or promoted, promoted)
    as_of = tags.get("as_of", "none")[:10]
    until = "" if as_of == "none" else f", as of {as_of}"  # a table without event time has none
    return [
        f"champion    {champion.label} ({tags.get('candidate', 'unknown')}), "
        f"promoted {both if promoted else 'by hand'}{age}",
        f"data        snapshot {tags.get('snapshot_sha256', 'unknown')[:12]}{until}",
    ]
