"""Happened: what became of a model, as a time line in sentences.

It decides which of verdicts, promotions, rollbacks, refusals and failures a
manager reads, and how. Pure: it reads no file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopbook.pages import plain
from loopbook.pages.formats import date
from loopbook.project.contract import Contract
from loopbook.records.turns import ERROR, REFUSED
from loopbook.records.verdicts import HEALTHY, INVESTIGATE, RETRAIN, WATCH
from loopbook.registry.reigns import Reign

Record = Mapping[str, Any]
MOST = 12
MINUTE = 16  # letters of an instant to its minute
BECAME = {
    HEALTHY: "It was well",
    WATCH: "It was under watch",
    INVESTIGATE: "It needed a person",
    RETRAIN: "It had to learn again",
}


@dataclass(frozen=True)
class Event:
    """A day with what happened; `at` sorts, `day` is read."""

    at: str
    day: str
    what: str


def happened(
    records: Sequence[Record],
    ledger: Sequence[Reign],
    turns: Sequence[Record],
    contract: Contract,
) -> list[Event]:
    """What happened lately, the newest first; at most twelve things."""
    # at one instant a verdict comes first, and what it led to after it
    events = [*_verdicts(records, contract), *_reigns(ledger), *_turns(turns)]
    return sorted(events, key=lambda event: event.at[:MINUTE])[::-1][:MOST]


def _event(at: str, what: str) -> Event:
    return Event(at, date(at), plain.sentence(what))


def _verdicts(records: Sequence[Record], contract: Contract) -> list[Event]:
    """Of equal states in a row the first: what could not be judged is none of its verdict."""
    events, last, seen = [], None, set()
    for record in records:
        level, is_unjudged = record["verdict"]["level"], plain.is_unjudged(record)
        if (level, is_unjudged) != last:
            words = BECAME.get(level, f"It was called {level}")
            words = "It could not be judged" if is_unjudged else words
            words += " again" if level == HEALTHY and level in seen else ""
            events.append(_event(record["as_of"], f"{words}: {plain.causes(record, contract)[0]}"))
        last = level, is_unjudged
        seen.add(level)
    return events


def _reigns(ledger: Sequence[Reign]) -> list[Event]:
    events = []
    for place, reign in enumerate(ledger):
        version = f"Version {reign.version}"
        if reign.kind == "rollback":
            what = f"{version} was taken back into service: {_short(reign.reason)}"
        elif reign.kind == "by hand":
            what = f"{reign.by} put version {reign.version} into service: {_short(reign.reason)}"
        elif place == 0:
            what = f"{version} went into service, the first: it had to be better than the simplest rule"
        else:
            what = f"{version} went into service: {_short(reign.reason)}"
        at = reign.as_of if reign.as_of not in ("", "none") else reign.at
        events.append(_event(at, what))
    return events


def _turns(turns: Sequence[Record]) -> list[Event]:
    events = []
    for turn in turns:
        if turn["outcome"] == REFUSED:
            new = (turn.get("challenger") or {}).get("version")
            which = (
                f"Version {new} was made and not taken" if new else "A new version was not taken"
            )
            events.append(_event(turn["as_of"], f"{which}: {_short(turn['reason'])}"))
        elif turn["outcome"] == ERROR:
            events.append(_event(turn["as_of"], f"A turn of the loop failed: {turn['reason']}"))
    return events


def _short(reason: str) -> str:
    """A reason of the gate without its numbers, which the page of candidates has."""
    text = re.sub(r"^(Promoted|Refused|Rolled back)( by hand)?: ", "", reason)
    text = re.sub(r" \([^()]*\)", "", text)
    for word, plainly in (
        ("the champion", "the version before"),
        ("the baseline", "the simplest rule"),
    ):
        text = text.replace(word, plainly)
    return text
