"""History: what happened in a stretch of time, and who served at a moment.

It decides what a person is told who asks what happened and when. Both clocks
are told; the stretch is of the data's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from loopbook.cli.printed import table
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
CLOCKS = "as of (data)\ndone (wall)"  # a column with both, one below the other
BOTH = "UTC. Above: as of, by the clock of the data. Below: done, by that on the wall."


def record(project: Project, since: datetime | None, to: datetime | None) -> dict[str, Any]:
    """What happened in `[since, to)`, oldest first; all of it without ends."""
    every = turns.listed(project)
    records = [r for r in every if _is_in(r["as_of"], since, to)]
    others, note = _others(project, records)
    rule = costs.of_knobs(read_knobs(project.knobs))
    counted = {r["turn"] for r in records}
    # a later turn may have measured what a retraining of these paid
    judged = [r if r["turn"] in counted else r | {"attempt": None} for r in every]
    retrainings = paid.retrainings(judged, rule) if rule else []
    return {
        "from": since,
        "to": to,
        "turns": [_turn(r) for r in records],
        "promotions": [of_reign(r) for r in others if _is_in(r.as_of, since, to)],
        "retrainings": [asdict(one) | {"net": one.net} for one in retrainings],
        "note": note,
        "paid": paid.lines(judged, rule),
        "has_turned": bool(every),
    }


def _turn(record: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: record.get(name) for name in ("turn", "as_of", "verdict", "outcome", "reason")}
    done_at = record.get("ended_at") or record.get("began_at")
    return told | {"done_at": done_at, "champion": record.get("champion")}


def of_reign(reign: Reign) -> dict[str, str]:
    """An entry of the ledger of champions, as the JSON of a command has it."""
    return {
        "version": reign.version,
        "as_of": reign.as_of,
        "done_at": reign.at,
        "kind": reign.kind,
        "by": reign.by,
        "reason": reign.reason,
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """The history for people: a table that fits the terminal."""
    rows = [(parse_instant(t["as_of"]), _row_of_turn(t)) for t in told["turns"]]
    rows += [(parse_instant(p["as_of"]), _row_of_promotion(p)) for p in told["promotions"]]
    rows.sort(key=lambda pair: pair[0])
    text = []
    if rows:
        names = ("turn", CLOCKS, "verdict\noutcome", "champion", "reason")
        text += [BOTH, *table(names, [row for _, row in rows], numbers=(0,))]
    has_ends = told["from"] or told["to"]
    if not rows and has_ends:
        text.append(_nothing(told["from"], told["to"]))
    if not told["has_turned"] and not has_ends:
        text.append("The loop has not turned yet. Next: make loop")
    return [*text, *told["paid"], *([told["note"]] if told["note"] else [])]


def _row_of_turn(turn: Mapping[str, Any]) -> tuple[str, ...]:
    served = (turn["champion"] or "").rpartition(" ")[2] or "none"
    judged = f"{turn['verdict'] or 'not judged'}\n{turn['outcome']}"
    return (str(turn["turn"]), _both(turn), judged, served, turn["reason"])


def _row_of_promotion(entry: Mapping[str, str]) -> tuple[str, ...]:
    who = f"{entry['kind']}\nby {entry['by']}"
    return ("", _both(entry), who, f"v{entry['version']}", entry["reason"])


def _both(told: Mapping[str, Any]) -> str:
    return "\n".join(_minute(told[name]) for name in ("as_of", "done_at"))


def _minute(text: str | None) -> str:
    return text[:16].replace("T", " ") if text and text != "none" else "unknown"


def champions(ledger: Iterable[Reign], name: str) -> list[str]:
    """Who serves and who served, for people; the last entry is that of who serves."""
    entries = [of_reign(reign) for reign in ledger]
    rows = [
        (f"v{e['version']}", _both(e), f"{e['kind']}\nby {e['by']}", e["reason"]) for e in entries
    ]
    serves = f"{name} v{entries[-1]['version']} serves."
    return [serves, BOTH, *table(("version", CLOCKS, "decided", "reason"), rows)]


def served_then(ledger: Sequence[Reign], name: str, moment: datetime) -> list[str]:
    """Who served at a moment, by either clock."""
    told = []
    for clock, reign in (
        ("by the clock of the data", reigns.at(ledger, moment)),
        ("by the clock on the wall", reigns.done_by(ledger, moment)),
    ):
        then = f"{moment:%Y-%m-%d %H:%M} UTC, {clock}:"
        if reign:
            both = both_clocks(reign.as_of, reign.at)
            told += [f"{then} {name} v{reign.version}", f"  {reign.kind}, by {reign.by}, {both}"]
            told += [f"  Reason: {reign.reason}"]
            told.append(f"  Why: loopbook why --version {reign.version}")
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


def _others(project: Project, records: Sequence[dict[str, Any]]) -> tuple[list[Reign], str | None]:
    """Entries of the ledger that no turn tells of, and why where they cannot be read."""
    try:
        contract = read_contract(project.contract)
        tags = reader.connect(tracking_address(project)).model_tags(contract.name)
    except LoopbookError as error:
        return [], f"Promotions by hand cannot be told: {error}"
    by_turns = {(r.get("champion"), parse_instant(r["as_of"])) for r in records}
    return [
        reign
        for reign in reigns.of_tags(tags)
        if reign.kind not in AS_TURNS_DO
        or (f"{contract.name} v{reign.version}", parse_instant(reign.as_of)) not in by_turns
    ], None
