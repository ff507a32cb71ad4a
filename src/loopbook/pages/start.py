"""Start: the page that opens first, put together from records.

It decides what stands on it with a window, without one, and without a model.
Pure: it reads no file; its template escapes every value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopbook.pages import happened, news, plain
from loopbook.pages.formats import date
from loopbook.pages.news import Action, Loop
from loopbook.pages.rendering import render
from loopbook.pages.vitals import vitals
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.registry.reigns import Reign

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """All that the page is made of.

    Attributes
    ----------
    loop : what is known of the loop
    records : of the windows, oldest first
    ledger, turns : who served when, and what the loop did; oldest first
    champion : tags of the version that serves, with its `number`; None: none does
    refused : why the newest version does not serve, and what can be done; None: there is none
    """

    contract: Contract
    loop: Loop
    records: Sequence[Record] = ()
    ledger: Sequence[Reign] = ()
    turns: Sequence[Record] = ()
    champion: Mapping[str, str] | None = None
    refused: tuple[str, Sequence[str]] | None = None
    now: datetime = field(kw_only=True)


def page(known: Known) -> str:
    """The page."""
    contract, records = known.contract, known.records
    newest = records[-1] if records else None
    level = newest["verdict"]["level"] if newest else None
    coming, command = news.next_step(known.loop, level, known.now)
    if newest is None and known.champion is None:
        coming, command = "Nothing, before a model serves.", ""
    return render(
        "start",
        name=contract.name,
        about=_about(contract),
        level=level,
        how=_how(known),
        also=news.also(records, contract) if newest else [],
        serves=_serves(newest),
        actions=_actions(known),
        next_step=coming,
        command=command,
        vitals=vitals(records, contract, known.now) if newest else [],
        happened=happened.happened(records, known.ledger, known.turns, contract),
    )


def _about(contract: Contract) -> str:
    """What the model predicts, by the contract's words."""
    target = contract.target
    unit = f", in {target.unit}" if target.unit and target.unit != target.name else ""
    name = target.name.replace("_", " ")
    return f"It predicts {name}{unit}. {plain.sentence(target.meaning)} {plain.sentence(contract.meaning)}"


def _how(known: Known) -> str:
    if known.records:
        return news.how(known.records, known.contract)
    if known.champion is None and known.refused is None:
        return "There is no model yet."
    if known.champion is None:
        return f"A model was made, and none serves: {known.refused[0].rstrip('.')}."
    return (
        f"Version {known.champion['number']} serves, and nobody has checked yet whether it is well."
    )


def _serves(record: Record | None) -> str:
    """Which version the newest window is about."""
    champion = record["champion"] if record else None
    if not champion:
        return ""
    rows = champion.get("fitted", {}).get("rows")
    learned = f"; it has learned from {counted(rows, 'row')}" if rows else ""
    since = news.serves_since(record)
    serves = f"has served since {since}" if since else "serves"
    return f"Version {champion['version']} {serves}{learned}. Looked at on what was known on {date(record['as_of'])}."


def _actions(known: Known) -> list[Action]:
    if known.records:
        return news.actions(known.records[-1], known.contract, known.loop, known.now)
    if known.champion is None and known.refused is None:
        return [Action("A data scientist", "should make a model", "make build")]
    if known.champion is None:
        what = "should choose: " + "; or ".join(way.rstrip(".") for way in known.refused[1])
        return [Action("A data scientist", what, page="4_candidates")]
    return [
        Action("An engineer", "should start the service", "make serve"),
        Action(
            "A data scientist",
            "should check whether it is well, once it has answered requests",
            "make monitor",
        ),
    ]
