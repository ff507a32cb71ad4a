"""Known facts: what the trailing features of one row were made of, computed again.

It decides which facts are read for that: the source's, and the served rows
whose instant can be in reach. A fact counts as the store knew it: up to the
instant to which it had been filled when it was asked.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from loopbook.data import quarantine
from loopbook.features import history
from loopbook.features import store as feature_store
from loopbook.features.history import ENTITY, LEAVE, VALID_FROM, VALUE
from loopbook.features.materialize import known_facts
from loopbook.features.store import AHEAD
from loopbook.project.clock import EVENT_TS, KNOWN_TS, from_micros, to_micros
from loopbook.project.contract import Contract
from loopbook.project.paths import Project

SHOWN = 5
MOST_TRUTHS = (
    5_000  # served rows with ground truth that are walked without being asked to: half a second
)
MARGIN = timedelta(days=2)  # a change point before the row's instant is always among those made


@dataclass(frozen=True)
class FactsBehind:
    """The trailing features of a row, from facts.

    Attributes
    ----------
    values : of each trailing feature, None where it has none
    until : up to which instant facts were known to the store
    is_of_store : they are the store's own numbers, since the facts are too many to be walked
    counts : by scope, how many facts were in reach
    newest : by scope, the last of them: `entity`, `event_ts`, `known_ts`, `value`
    """

    values: dict[str, float | None]
    until: datetime
    counts: dict[str, int]
    newest: dict[str, list[dict[str, Any]]]
    is_of_store: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "until": self.until.isoformat(),
            "is_of_store": self.is_of_store,
            "in_reach": self.counts,
            "newest": {
                scope: [
                    {n: v.isoformat() if isinstance(v, datetime) else v for n, v in fact.items()}
                    for fact in facts
                ]
                for scope, facts in self.newest.items()
            },
        }


def behind(
    project: Project, contract: Contract, entity: str | None, at: datetime, until: datetime
) -> FactsBehind:
    """The trailing features of an entity at an instant, as a store filled up to `until` gave them.

    Raises
    ------
    LoopbookError
        If the facts cannot be read where they came from.
    """
    reach = history.reach(contract) + MARGIN
    since = min(at, until) - reach
    with quarantine.looked_at():
        facts, _ = known_facts(project, contract, until, served_since=since)
    facts = facts.filter(pl.col(EVENT_TS) >= since)
    moment = min(at, until + AHEAD)
    values: dict[str, float | None] = {}
    counts, newest = {}, {}
    for scope in history.SCOPES:
        names = history.names_over(contract, scope)
        if not names:
            continue
        some = facts.filter(pl.col(ENTITY) == entity) if scope == "entity" else facts
        values |= _values(some, contract, scope, moment)
        there = _in_reach(some, contract, moment)
        counts[scope] = there.height
        newest[scope] = there.tail(SHOWN).reverse().to_dicts()
    return FactsBehind({n: values[n] for n in contract.trailing}, until, counts, newest)


def of_store(
    project: Project, contract: Contract, entity: str | None, at: datetime, until: datetime
) -> FactsBehind | None:
    """The trailing features as the store has them; None if it was filled up to another instant.

    Parameters
    ----------
    contract : Contract
        The project's: the store holds its numbers in the order in which they are declared
        there, and the card of a version has them in another one.

    Raises
    ------
    FeatureStoreError
        If the store is away, or was filled by another declaration.
    """
    store = feature_store.connect(project, contract)
    try:
        store.as_of()
        looked = store.get(entity, at)
    finally:
        store.close()
    if looked.facts_us != to_micros(until):
        return None
    return FactsBehind(looked.values, until, {}, {}, is_of_store=True)


def _values(
    facts: pl.DataFrame, contract: Contract, scope: str, moment: datetime
) -> dict[str, float | None]:
    names = history.names_over(contract, scope)
    for back in (timedelta(hours=1), timedelta(days=2), None):  # the last change point is enough
        since = moment - back if back else None
        steps = history.timeline(facts, contract, scope, since=since, until=moment)
        if not steps.is_empty():
            return steps.sort(VALID_FROM).select(names).row(-1, named=True)
    counted = {n for n in names if contract.trailing[n].aggregate == "count"}
    return {name: 0.0 if name in counted else None for name in names}


def _in_reach(facts: pl.DataFrame, contract: Contract, moment: datetime) -> pl.DataFrame:
    """The facts that any of the features sees at a moment, oldest first."""
    first = moment - history.reach(contract)
    there = facts.filter(
        pl.col(EVENT_TS) >= first,
        pl.col(EVENT_TS) < moment,
        pl.col(KNOWN_TS) <= moment,
        pl.col(LEAVE) > to_micros(moment),
    )
    return there.select(ENTITY, EVENT_TS, KNOWN_TS, VALUE)


def filled_until(facts_us: int | None, at: datetime) -> datetime:
    """Up to when the store knew its facts: as the log says, or else up to the row's instant."""
    return at if facts_us is None else from_micros(facts_us)
