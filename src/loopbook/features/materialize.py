"""The feature table: facts from the source into the store, and out of it for people.

It decides what `loopbook features` does. Only rows that keep the contract
become facts; others are set aside, and if they are many, nothing is changed.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from loopbook.data import quarantine, served_rows, sources, validation
from loopbook.data.aside_rows import SERVED, Reading
from loopbook.data.single_values import category
from loopbook.data.usable_rows import TABLE
from loopbook.features import history
from loopbook.features import store as feature_store
from loopbook.features.change_points import Spread
from loopbook.project import clock, waits, workers
from loopbook.project.contract import Contract, read_contract
from loopbook.project.counts import counted
from loopbook.project.errors import FeatureStoreError
from loopbook.project.knobs import read_knobs, read_moment
from loopbook.project.paths import Project
from loopbook.records import seals
from loopbook.records.seals import Seal


def known_facts(
    project: Project,
    contract: Contract,
    as_of: datetime | None,
    *,
    served_since: datetime | None = None,
) -> tuple[pl.DataFrame, datetime]:
    """The facts that were known at `as_of` (None: the newest event), and that moment.

    Served rows whose ground truth is known are facts too; with `served_since`,
    those that were asked for then or later.

    Raises
    ------
    SourceError, DataError
        If the source cannot be read, or more known rows break the contract than
        may be set aside.
    """
    waits.at("reading the rows")
    now, share = clock.utc_now(), read_knobs(project.knobs).quarantine_share
    reading = sources.read(contract, project.root)
    readable = quarantine.readable(project, reading, share=share, now=now)
    collected = served_rows.collect(project, contract, as_of, now=now, since=served_since)
    served = served_rows.fitting(readable.rows, collected, contract, as_of)
    quarantine.keep(project, served.aside, reading=SERVED, now=now)
    known, meant = sources.known_by(readable.rows, as_of, contract, now=now, served=served.rows)
    kept, _ = validation.without_known_faults(known, contract)
    found = quarantine.sifted(project, Reading(kept, contract), share=share, name=TABLE, now=now)
    quarantine.refuse_if_broken(found, contract)
    return history.facts(validation.typed(found.rows, contract), contract), meant


def materialize(
    project: Project, as_of: str, *, rebuild: bool, scheduler: str | None = None
) -> list[str]:
    """Bring the store to `as_of`, and say in a few lines what was done.

    With the address of a Dask `scheduler`, its workers compute the change
    points; this process alone reads the rows and writes the store.
    """
    with workers.connected(scheduler) as client:
        spread = partial(workers.results, client) if client else None
        return _materialized(project, as_of, rebuild=rebuild, spread=spread)


def _materialized(
    project: Project, as_of: str, *, rebuild: bool, spread: Spread | None
) -> list[str]:
    contract = read_contract(project.contract)
    store = feature_store.connect(project, contract)
    try:
        facts, moment = known_facts(project, contract, read_moment(as_of, "--as-of"))
        done = store.materialize(facts, moment, rebuild=rebuild, spread=spread)
        if (digest := store.backend.digest()) is not None:
            name = feature_store.name_of_seal(contract)
            seals.put(project, {name: Seal(digest)}, why=f"features as of {moment}")
    finally:
        store.close()
    whose = counted(done.entities, "entity", "entities") if contract.entity else "all rows"
    before = f"{done.since:%Y-%m-%d %H:%M}" if done.since else "nothing"
    return [
        f"feature store  {contract.name}: from {before} to {done.as_of:%Y-%m-%d %H:%M} UTC "
        f"({done.reason})",
        f"written        {counted(done.points, 'change point')} of {whose}, "
        f"from {counted(facts.height, 'fact')}",
        f"good until     {done.as_of + feature_store.AHEAD:%Y-%m-%d}; materialize again before",
    ]


@dataclass(frozen=True)
class Shown:
    """An entity's trailing features at a moment, or those of all rows where there is no entity.

    Attributes
    ----------
    facts, newest : how many facts about it were known, and when the newest happened
    store_as_of : as of when the store is; None where it is empty
    features : by name, `computed` from the source, `stored` and `meaning`
    is_asked : whether the store could be asked, which keeps no past
    """

    entity_name: str | None
    entity: str | None
    as_of: datetime
    facts: int
    newest: datetime | None
    store_as_of: datetime | None
    is_asked: bool
    features: dict[str, dict[str, Any]]

    def heading(self) -> list[str]:
        """For people, what stands above the features."""
        whose = f"{self.entity_name} {self.entity}" if self.entity_name else "all rows"
        lines = [f"{whose} as of {self.as_of:%Y-%m-%d %H:%M} UTC"]
        if not self.newest:
            lines.append("No fact about it was known; a count is 0 and the rest is imputed.")
        else:
            lines.append(
                f"{counted(self.facts, 'fact was', 'facts were')} known, the newest of {self.newest:%Y-%m-%d}."
            )
        return lines

    def rows(self) -> list[tuple[str, str, str, str]]:
        """For people, each feature: its name, computed, in the store, and its meaning."""
        return [
            (
                name,
                _shown(told["computed"]),
                _shown(told["stored"]) if self.is_asked else "not asked",
                told["meaning"],
            )
            for name, told in self.features.items()
        ]

    def about_the_store(self) -> list[str]:
        """For people, what stands below the features."""
        at = self.store_as_of
        if at is None:
            return ["The store is empty: loopbook features materialize"]
        if at > self.as_of:
            return [f"The store is at {at:%Y-%m-%d %H:%M} and keeps no past."]
        if at == self.as_of:
            return []
        return [
            f"The store is at {at:%Y-%m-%d %H:%M}; facts known since then are missing "
            "from it: loopbook features materialize"
        ]


def show(project: Project, named: str, as_of: str) -> Shown:
    """An entity's trailing features at a moment, computed from the source and as stored.

    Raises
    ------
    FeatureStoreError
        If no entity is named and the contract has one, or the other way round.
    """
    contract = read_contract(project.contract)
    entity = _entity_named(named, contract)
    store = feature_store.connect(project, contract)
    try:
        facts, moment = known_facts(project, contract, read_moment(as_of, "--as-of"))
        asked = pl.DataFrame(
            {clock.EVENT_TS: [moment], contract.entity or "_all": [entity]},
            schema_overrides={clock.EVENT_TS: history.INSTANT},
        )
        computed = history.with_history(asked, facts, contract).row(0, named=True)
        stands_at = store.as_of()
        comparable = stands_at is not None and stands_at <= moment
        stored = store.get(entity, moment).values if comparable else {}
    finally:
        store.close()
    whose = facts if entity is None else facts.filter(pl.col(history.ENTITY) == entity)
    return Shown(
        *(contract.entity, entity, moment),
        facts=whose.height,
        newest=None if whose.is_empty() else whose[clock.EVENT_TS].max(),
        store_as_of=stands_at,
        is_asked=bool(stored),
        features={
            name: {"computed": computed[name], "stored": stored.get(name), "meaning": about.meaning}
            for name, about in contract.trailing.items()
        },
    )


def _entity_named(named: str, contract: Contract) -> str | None:
    if bool(named) == bool(contract.entity):
        return category(named) if named else None
    raise FeatureStoreError(
        f"contract '{contract.name}': its features are of each {contract.entity}. Name one: loopbook "
        "features show ENTITY"
        if contract.entity
        else f"contract '{contract.name}': names no entity, so its features are of all rows. Leave "
        f"{named!r} out: loopbook features show"
    )


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f}"
