"""News: how a model is, what there is to do and by whom, and what happens by itself.

It decides the sentences of the page that opens first, for somebody who pays for
a model and knows its table. Pure: it reads no file, and a number in a sentence
is one of a record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from loopbook.pages import plain
from loopbook.pages.formats import date, instant
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.records.turns import ERROR
from loopbook.records.verdicts import HEALTHY, INVESTIGATE, RETRAIN, WATCH

Record = Mapping[str, Any]
# since a day, and until a day
STATES = {
    HEALTHY: ("has been well", "it was well"),
    WATCH: ("has been under watch", "it was under watch"),
    INVESTIGATE: ("has needed a person", "it needed a person"),
    RETRAIN: ("has had to learn again", "it had to learn again"),
}
NOT_JUDGED = ("has not been judged", "it could not be judged")
STALE = timedelta(days=7)  # after which a verdict is no news any more
LEFT_BEHIND = timedelta(days=1)  # when the loop too closes an open turn as killed
REASONS = 2  # of a task that are told whole
LATE = 2  # intervals between two turns after which no loop runs


@dataclass(frozen=True)
class Action:
    """Something that a person should do; `command` is what they type, `page` what they open."""

    who: str
    what: str
    command: str = ""
    page: str = ""


@dataclass(frozen=True)
class Loop:
    """What is known of the loop.

    Attributes
    ----------
    last : the newest turn's record, or None
    open_turn : a turn that is not done, or None
    asked : a request for a retraining that waits, or None
    """

    interval_minutes: float
    last: Record | None = None
    open_turn: Record | None = None
    asked: Record | None = None

    @property
    def ended(self) -> datetime | None:
        """When the last turn ended, by the clock on the wall."""
        told = self.last and (self.last.get("ended_at") or self.last.get("began_at"))
        return parse_instant(told) if told else None

    def is_at_work(self, now: datetime) -> bool:
        """Whether a turn is open, and so young that no kill has left it behind."""
        began = self.open_turn and self.open_turn.get("began_at")
        return bool(began) and now - parse_instant(began) < LEFT_BEHIND

    def runs(self, now: datetime) -> bool:
        """Whether the last turn is so young that the next one is still to be expected."""
        late = timedelta(minutes=LATE * self.interval_minutes)
        return self.ended is not None and now - self.ended < late


def how(records: Sequence[Record], contract: Contract) -> str:
    """Whether it is well, since when, and what changed: a sentence or two."""
    newest, since = records[-1], _since(records)
    why = plain.causes(newest, contract)[0]
    if since == 0 and plain.is_unjudged(newest):
        return f"The model {_never_judged(newest)}: {why}."
    first = f"The model {_state(newest)[0]} since {date(records[since]['as_of'])}: {why}."
    if since == 0:
        return first
    before = records[since - 1]
    return f"{first} Before, {_state(before)[1]}: {plain.causes(before, contract)[0]}."


def serves_since(record: Record) -> str:
    """The day since when the version of a window serves; empty where no record says it."""
    champion = record.get("champion") or {}
    since = champion.get("promoted_as_of") or champion.get("promoted_at")
    return date(since) if since else ""


def _never_judged(record: Record) -> str:
    since = serves_since(record)
    return (
        f"has served since {since} and has never been judged" if since else "has never been judged"
    )


def _state(record: Record) -> tuple[str, str]:
    level = record["verdict"]["level"]
    if plain.is_unjudged(record):
        return NOT_JUDGED
    return STATES.get(level, (f"has been called {level}", f"it was called {level}"))


def is_stale(record: Record, loop: Loop, now: datetime) -> bool:
    """Whether nobody has looked for longer than anybody would wait."""
    patience = max(STALE, LATE * timedelta(minutes=loop.interval_minutes))
    return now - parse_instant(record["decided_at"]) > patience


def _since(records: Sequence[Record]) -> int:
    """The place of the first window of the newest run of equal states."""
    state, place = _state(records[-1]), len(records) - 1
    while place and _state(records[place - 1]) == state:
        place -= 1
    return place


def also(records: Sequence[Record], contract: Contract) -> list[str]:
    """The other reasons of the newest verdict, a sentence each."""
    return [plain.sentence(cause) for cause in plain.causes(records[-1], contract)[1:]]


def actions(record: Record, contract: Contract, loop: Loop, now: datetime) -> list[Action]:
    """What people should do after a window, the weightiest first; none: nothing to do."""
    level = record["verdict"]["level"]
    todo = _about_inputs(record, contract) if level == INVESTIGATE else []
    if is_stale(record, loop, now):
        what = f"should look again: nobody has since {date(record['decided_at'])}"
        todo.insert(0, Action("A data scientist", what, "make monitor"))
    if level == RETRAIN and not loop.runs(now):
        why = plain.causes(record, contract)[0]
        todo.append(Action("A data scientist", f"should let it learn again: {why}", "make build"))
    if level == WATCH:
        todo += _about_data(record)
    if loop.last and loop.last["outcome"] == ERROR:
        what = f"should look at the loop, whose last turn failed: {loop.last['reason'].rstrip('.')}"
        todo.append(Action("An engineer", what, "loopbook loop --once"))
    if rows := record.get("set_aside"):
        what = f"should decide what becomes of {counted(rows, 'row that was', 'rows that were')} set aside"
        todo.append(Action("A data scientist", what, "loopbook quarantine"))
    return todo


def _about_inputs(record: Record, contract: Contract) -> list[Action]:
    """Who looks at an input that is broken."""
    told = plain.by_reason(record, contract)
    kinds: dict[bool, list[str]] = {}  # by whether what it knows of earlier rows is missing
    for fault in (fault for fault in record.get("faults", []) if fault["is_broken"]):
        is_old = fault["column"] in contract.trailing and fault["kind"] == "missing"
        kinds.setdefault(is_old, []).append(told.get(fault["sentence"], fault["sentence"]))
    if not kinds:
        return [_looks(plain.causes(record, contract)[:1], is_old=False)]
    return [_looks(plain.together(all_of), is_old=is_old) for is_old, all_of in kinds.items()]


def _looks(whys: Sequence[str], *, is_old: bool) -> Action:
    """One task for all its reasons: the first two whole, the rest counted, as the page lists them."""
    left = len(whys) - REASONS
    more = [f"and {counted(left, 'more reason')}"] if left > 0 else []
    why = "; ".join([*whys[:REASONS], *more])
    if is_old:
        what = f"should bring what the model knows of earlier rows up to date: {why}"
        return Action("A data engineer", what, "loopbook features materialize")
    return Action("A data scientist", f"should look at its inputs: {why}", page="2_drift")


def _about_data(record: Record) -> list[Action]:
    """Who sends what is not there."""
    first = record["verdict"]["reasons"][0]
    if first.startswith(("nothing was ever asked", "nothing was asked from")):
        return [Action("An engineer", "should see whether the service is reached", "make status")]
    if first.startswith("there is no champion"):
        return [Action("A data scientist", "should make a model", "make build")]
    if first.startswith("ground truth is late"):
        what = "should send the outcomes to the service: they are late"
        return [Action("A data engineer", what, page="3_performance")]
    return []


def next_step(loop: Loop, level: str | None, now: datetime) -> tuple[str, str]:
    """What happens next by itself, and when; and what to type where nothing does."""
    if loop.is_at_work(now):
        at = date(loop.open_turn.get("as_of"))
        return f"The loop is at work now, on what was known on {at}.", ""
    asked = ""
    if loop.asked:
        asked = f" {loop.asked['by']} asked for a retraining ({loop.asked['reason'].rstrip('.')}); the next turn does it."
    if not loop.runs(now):
        last = f"; its last turn was on {date(loop.last['as_of'])}" if loop.last else ""
        return (
            f"Nothing: the loop does not run{last}.{asked} Started, it looks at the model by itself.",
            "make loop",
        )
    due = loop.ended + timedelta(minutes=loop.interval_minutes)
    when = (
        f"on {date(due.isoformat())} at {instant(due.isoformat())[11:]} UTC"
        if due > now
        else "any moment"
    )
    does = {
        RETRAIN: "The loop lets the model learn again, and takes the new version if it passes its checks",
        INVESTIGATE: "The loop looks again, and does not retrain while inputs are broken",
    }
    return f"{does.get(level or '', 'The loop looks at the model again')}: {when}.{asked}", ""
