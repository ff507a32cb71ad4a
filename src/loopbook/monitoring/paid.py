"""Paid: what each retraining of the loop cost and saved, from the records of its turns.

It decides which requests count: those that a new champion and its predecessor both answered
while it was on probation, and whose ground truth is known. What was saved afterwards nobody
measured, so it is not counted. A retraining that the gate refused, or that failed, costs as
much and saves nothing. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopbook.models.measures import amount
from loopbook.monitoring.costs import Costs
from loopbook.project.counts import counted
from loopbook.records.turns import PROMOTED

NOTHING = "The loop has retrained nothing yet, so no retraining has cost anything."


@dataclass(frozen=True)
class Paid:
    """A retraining: when by the clock of the data, what came of it, what it cost and saved.

    `saved` is None where no request was answered by both versions.
    """

    as_of: str
    outcome: str
    label: str
    cost: float
    saved: float | None = None
    requests: int = 0

    @property
    def net(self) -> float:
        return (self.saved or 0.0) - self.cost

    @property
    def sentence(self) -> str:
        of = f"{self.outcome}, {self.label}".rstrip(", ")
        if self.outcome != PROMOTED:
            what = "saved nothing"
        elif self.saved is None:
            what = "saved is not measured yet"
        else:
            what = f"saved {amount(self.saved)} on {counted(self.requests, 'request')} that both answered"
        return f"{of}: cost {amount(self.cost)}, {what}; {amount(self.net, signed=True)}"


def retrainings(turns: Sequence[Mapping[str, Any]], costs: Costs) -> list[Paid]:
    """Each retraining that a turn tried, oldest first.

    Parameters
    ----------
    turns : sequence of mappings
        Records, oldest first. `compared` of a later one says how a version did beside its
        predecessor since its promotion; the newest counts.
    """
    compared = {t["compared"]["version"]: t["compared"] for t in turns if t.get("compared")}
    return [_paid(turn, compared, costs) for turn in turns if turn.get("attempt")]


def _paid(turn: Mapping[str, Any], compared: Mapping[str, Mapping[str, Any]], costs: Costs) -> Paid:
    challenger = turn.get("challenger") or {}
    about = (turn["as_of"], turn["attempt"], challenger.get("label", ""), costs.retraining)
    told = compared.get(challenger.get("version", "")) if turn["attempt"] == PROMOTED else None
    if told is None:
        return Paid(*about)
    return Paid(*about, costs.saved(-told["mean"], told["requests"]), told["requests"])


def lines(turns: Sequence[Mapping[str, Any]], costs: Costs | None) -> list[str]:
    """What each retraining paid, for people; nothing where nobody said what one costs."""
    if costs is None:
        return []
    every = retrainings(turns, costs)
    if not every:
        return ["", NOTHING]
    whole = sum(paid.net for paid in every)
    return [
        "",
        "What each retraining paid, in the unit of costs_retraining and costs_loss:",
        *(f"  {paid.as_of[:10]}  {paid.sentence}" for paid in every),
        f"  in all {amount(whole, signed=True)} over {len(every):,} retrainings",
    ]
