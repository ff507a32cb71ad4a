"""History: what happened in a stretch of time, and who served at a moment.

It decides what a person is told who asks what happened and when. Both clocks
are told; the stretch is of the data's.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from loopbook.monitoring import costs, paid
from loopbook.project.clock import both_clocks, parse_instant
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.records import turns
from loopbook.registry import reader, reigns
from loopbook.registry.reigns import Reign

AS_TURNS_DO = ("gate", "rollback")


def lines(project: Project, since: datetime | None, to: datetime | None) -> list[str]:
    """What happened in `[since, to)`, oldest first; all of it without ends."""
    every = turns.listed(project)
    records = [r for r in every if _is_in(r["as_of"], since, to)]
    others, note = _others(project, records)
    kept = [reign for reign in others if _is_in(reign.as_of, since, to)]
    told = [(parse_instant(r["as_of"]), turns.lines([r])) for r in records]
    name = read_contract(project.contract).name if kept else ""
    told += [
        (parse_instant(r.as_of), [f"      {one}" for one in reigns.lines([r], name)]) for r in kept
    ]
    text = [line for _, some in sorted(told, key=lambda pair: pair[0]) for line in some]
    if not text:
        text = [_nothing(since, to)] if since or to else []
    text += [] if every or since or to else turns.lines([])
    return [*text, *_paid(project, every, records), *note]


def _paid(
    project: Project, every: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]
) -> list[str]:
    """What the retrainings of some turns paid; a later turn may have measured it."""
    rule = costs.of_knobs(read_knobs(project.knobs))
    counted = {r["turn"] for r in records}
    return paid.lines([r if r["turn"] in counted else r | {"attempt": None} for r in every], rule)


def served_then(ledger: Sequence[Reign], name: str, moment: datetime) -> list[str]:
    """Who served at a moment, by either clock."""
    told = []
    for clock, reign in (
        ("by the clock of the data", reigns.at(ledger, moment)),
        ("by the clock on the wall", reigns.done_by(ledger, moment)),
    ):
        then = f"{moment:%Y-%m-%d %H:%M} UTC, {clock}:"
        if reign:
            told += [f"{then} {name} v{reign.version}", *reigns.lines([reign], name)]
            told.append(f"Why: loopbook why --version {reign.version}")
        else:
            began = both_clocks(ledger[0].as_of, ledger[0].at)
            told.append(f"{then} nobody; the first was v{ledger[0].version}, {began}.")
    return told


def _is_in(as_of: str, since: datetime | None, to: datetime | None) -> bool:
    moment = parse_instant(as_of)
    return (since is None or moment >= since) and (to is None or moment < to)


def _nothing(since: datetime | None, to: datetime | None) -> str:
    ends = [f"as of {since:%Y-%m-%d %H:%M} UTC or later"] if since else []
    ends += [f"as of before {to:%Y-%m-%d %H:%M} UTC"] if to else []
    return f"Nothing happened {' and '.join(ends)}. All of it: loopbook history"


def _others(project: Project, records: Sequence[dict[str, Any]]) -> tuple[list[Reign], list[str]]:
    """Entries of the ledger that no turn tells of, and why where they cannot be read."""
    try:
        contract = read_contract(project.contract)
        tags = reader.connect(tracking_address(project)).model_tags(contract.name)
    except LoopbookError as error:
        return [], [f"Promotions by hand cannot be told: {error}"]
    by_turns = {(r.get("champion"), parse_instant(r["as_of"])) for r in records}
    return [
        reign
        for reign in reigns.of_tags(tags)
        if reign.kind not in AS_TURNS_DO
        or (f"{contract.name} v{reign.version}", parse_instant(reign.as_of)) not in by_turns
    ], []
