"""Status: what serves, how old it is, what the gate said last, what is stale and why.

It tells of the loop too: its last turn, what it waits for, when it may retrain.
It decides what a person is told who asks how things are. It changes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from loopbook.cli.printed import labelled
from loopbook.data import quarantine
from loopbook.loop import guards
from loopbook.loop.guards import Limits
from loopbook.pipeline import graph
from loopbook.project.clock import both_clocks, is_one_moment, parse_instant, to_the_minute, utc_now
from loopbook.project.contract import read_contract
from loopbook.project.counts import counted
from loopbook.project.files import read_json
from loopbook.project.knobs import Knobs, read_knobs
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.records.roles import SHADOW
from loopbook.records.verdicts import INVESTIGATE
from loopbook.registry import tracking
from loopbook.registry.champions import HAND, ROLLBACK

CLOCKS = "as of: by the clock of the data. done at: by the clock on the wall. Both are UTC."


def look(project: Project) -> dict[str, Any]:
    """The state of a project, as `loopbook status --json` has it.

    Raises
    ------
    LoopbookError
        If the contract, env.yaml, the source or the graph is wrong.
    """
    contract, now = read_contract(project.contract), utc_now()
    client = tracking.connect(project)
    champion = tracking.holder(client, contract.name, tracking.CHAMPION)
    before = tracking.holder(client, contract.name, SHADOW)
    every = turn_records.listed(project)
    stale = graph.stale_reasons(project)
    known = last(project)
    return {
        "model": contract.name,
        "project": str(project.root),
        "champion": champion and of_champion(champion, now),
        "ways_on": [] if champion else _last_decision(project).get("ways_on", []),
        **known,
        "loop": of_loop(champion, before, every, read_knobs(project.knobs), now),
        "stale": stale,
        "next": following(stale, known["last_window"]),
    }


def following(stale: Mapping[str, Sequence[str]], window: Mapping[str, Any] | None) -> str:
    """What to type next: what is stale first, then a verdict that asks for a person."""
    if stale:
        return "make build"
    if window and window["verdict"] == INVESTIGATE:
        return "make reports"
    return "make lab, make mlflow"


def of_champion(champion: tracking.Version, now: datetime) -> dict[str, Any]:
    """Who serves: since when by both clocks, by whose decision, why, and what it learned from."""
    tags = champion.tags
    promoted = tags.get("promoted_at")
    as_of = tags.get("as_of", "none")
    return {
        "label": champion.label,
        "version": champion.number,
        "candidate": tags.get("candidate", "unknown"),
        "promoted_as_of": tags.get("promoted_as_of") or promoted,
        "promoted_at": promoted,
        "days": (now - parse_instant(promoted)).days if promoted else None,
        "kind": tags.get("promoted_kind"),
        "by": tags.get("promoted_by"),
        "reason": tags.get("promoted_reason") or tags.get("gate_reason"),
        "snapshot_sha256": tags.get("snapshot_sha256"),
        "data_as_of": None if as_of == "none" else as_of,  # a table without event time has none
    }


def _last_decision(project: Project) -> dict[str, Any]:
    path = project.var / "build" / "decision.json"
    return read_json(path) if path.exists() else {}


def last(project: Project) -> dict[str, Any]:
    """The last gate, window and turn, and what is not done yet."""
    decision, window = _last_decision(project), window_records.newest(project)
    turns = turn_records.listed(project)
    turn = turns[-1] if turns else None
    of_gate = ("as_of", "decided_at", "outcome", "sentence")
    return {
        "last_gate": {name: decision.get(name) for name in of_gate} if decision else None,
        "last_window": window
        and {
            "as_of": window["as_of"],
            "decided_at": window.get("decided_at"),
            "verdict": window["verdict"].get("level"),
            "sentence": window["verdict"]["sentence"],
        },
        "last_turn": turn
        and {
            **{name: turn.get(name) for name in ("turn", "as_of", "outcome", "reason")},
            "done_at": turn.get("ended_at") or turn.get("began_at"),
        },
        "set_aside": quarantine.waiting_count(project),
        "open_turn": (turn_records.open_turn(project) or {}).get("stage"),
        "asked": turn_records.asked(project),
    }


def of_loop(
    champion: tracking.Version | None,
    before: tracking.Version | None,
    turns: Sequence[Mapping[str, Any]],
    knobs: Knobs,
    now: datetime,
) -> dict[str, Any] | None:
    """What the loop waits for, and from when on it may retrain by itself; None before a turn.

    Parameters
    ----------
    before : Version or None
        The champion's predecessor while it answers as a shadow.
    turns : sequence of mappings
        Oldest first.
    """
    if not turns:
        return None
    limits = Limits(knobs.loop_most_retrains, knobs.loop_refused_days, knobs.loop_backoff_minutes)
    waits = guards.waits(turn_records.attempts(turns), limits, now)
    since, probation = _promoted_as_of(champion), None
    if since and now < (until := since + timedelta(days=knobs.monitor_cooldown_days)):
        waits.append((until, f"{champion.label} serves since {_at(since)} and is given time"))
    if since and before and before.number != champion.number:
        until = since + timedelta(days=knobs.loop_probation_days)
        probation = {"champion": champion.label, "before": before.label, "until": until}
    return {
        "waits": [{"until": until, "reason": reason} for until, reason in waits],
        "probation": probation,
        "retrains_from": max((until for until, _ in waits), default=None),
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """The state of a project for people, a fact a line."""
    text = labelled("clocks", CLOCKS)
    text += labelled("project", f"{told['model']} in {told['project']}")
    if told["champion"]:
        text += champion_lines(told["champion"])
    else:
        text += labelled("champion", "none yet")
        for way in told["ways_on"]:
            text += labelled("way on", way)
    text += last_lines(told) + loop_lines(told["loop"]) + _stale_lines(told["stale"])
    return text + labelled("next", told["next"])


def champion_lines(told: Mapping[str, Any]) -> list[str]:
    """Who serves, for people; of a promotion by hand or a rollback also by whom and why."""
    text = labelled("champion", f"{told['label']} ({told['candidate']}), {_serves(told)}")
    if told["kind"] in (HAND, ROLLBACK):
        text += labelled(told["kind"], f"by {told['by']}: {told['reason']}")
    until = f", as of {told['data_as_of'][:10]}" if told["data_as_of"] else ""
    return text + labelled("data", f"snapshot {(told['snapshot_sha256'] or 'unknown')[:12]}{until}")


def _serves(told: Mapping[str, Any]) -> str:
    """Since when a champion serves, and whether it did before."""
    clocks = told["promoted_as_of"], told["promoted_at"]
    if not told["promoted_at"]:
        return "promoted outside loopbook"
    is_again = told["kind"] == ROLLBACK
    if is_one_moment(*clocks):
        since = f"{'serves again since' if is_again else 'promoted at'} {to_the_minute(clocks[1])}"
    else:
        since = f"{'serves again' if is_again else 'promoted'} {both_clocks(*clocks)}"
    ago = f"{counted(told['days'], 'day')} ago" if told["days"] else "less than a day ago"
    return f"{since}, {ago}"


def last_lines(told: Mapping[str, Any]) -> list[str]:
    """The last gate, window and turn, for people, and what is not done yet."""
    text = []
    if gate := told["last_gate"]:
        both = both_clocks(gate["as_of"], gate["decided_at"])
        text += labelled("last gate", f"{both}. {gate['sentence']}")
    if window := told["last_window"]:
        both = both_clocks(window["as_of"], window["decided_at"])
        text += labelled("monitored", f"{both}. {window['sentence']}")
    if turn := told["last_turn"]:
        both = both_clocks(turn["as_of"], turn["done_at"])
        text += labelled("last turn", f"{both}. {turn['outcome']}: {turn['reason']}")
    if count := told["set_aside"]:
        text += labelled(
            "set aside",
            f"{counted(count, 'row waits', 'rows wait')} for a decision: loopbook quarantine",
        )
    if told["open_turn"]:
        left = f"at {told['open_turn']}; go on with it: loopbook loop --once"
        text += labelled("open turn", left)
    if asked := told["asked"]:
        text += labelled("asked", f"for a retraining by {asked['by']}: {asked['reason']}")
    return text


def loop_lines(told: Mapping[str, Any] | None) -> list[str]:
    """What the loop waits for, for people; nothing before its first turn."""
    if told is None:
        return []
    text = [line for wait in told["waits"] for line in labelled("waits", wait["reason"])]
    if found := told["probation"]:
        compared = f"{found['champion']} is compared with {found['before']}"
        text += labelled("probation", f"{compared} until {_at(found['until'])}")
    free = told["retrains_from"]
    when = f"not before {_at(free)}" if free else "as soon as the verdict is retrain"
    return text + labelled("retrains", f"{when}; sooner if somebody asks: POST /admin/retrain")


def _stale_lines(stale: Mapping[str, Sequence[str]]) -> list[str]:
    """Each task that would run again, with why."""
    if not stale:
        return labelled("stale", "nothing")
    width, text, first = max(map(len, stale)), [], {}
    for name, why in stale.items():
        reason = "; ".join(why)
        alike = first.setdefault(reason, name)  # of a grid of candidates all have one reason
        told = f"{name:<{width}}  {reason if alike == name else f'as {alike}'}"
        text += labelled("" if text else "stale", told, hanging=width + 2)
    return text


def _promoted_as_of(champion: tracking.Version | None) -> datetime | None:
    """Since when a champion serves by the clock of the data; None if it does not say."""
    tags = champion.tags if champion else {}
    instants = [tags.get(name, "none") for name in ("promoted_as_of", "promoted_at")]
    return next((parse_instant(text) for text in instants if text != "none"), None)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
