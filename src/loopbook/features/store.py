"""The feature store: the trailing features of every entity, ready for serving.

It decides how the newest end of a `history.timeline` is kept and looked up:
for each entity the change points from `as_of` on, some weeks ahead, since
facts leave their windows without anything happening. A lookup is one read by
entity and instant. Training never reads it: both sides call `history`, so a
value here equals the offline one to the last bit.

The embedded default is SQLite below `var/`; `LOOPBOOK_FEATURE_STORE` names a
PostgreSQL or Redis server instead. A materialisation is one transaction.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan
from typing import NamedTuple
from urllib.parse import urlsplit

import polars as pl

from loopbook.data.landing import sum_of_hashes
from loopbook.features import change_points, history
from loopbook.features.backends import Backend, RedisBackend, SqlBackend, redis_place
from loopbook.features.change_points import EVERYONE
from loopbook.features.history import ENTITY
from loopbook.project import waits
from loopbook.project.clock import EVENT_TS, KNOWN_TS, from_micros, to_micros
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.database import KINDS, connect_database, shown, told_as
from loopbook.project.errors import FeatureStoreError
from loopbook.project.paths import Project

ADDRESS = "LOOPBOOK_FEATURE_STORE"
REDIS = ("redis", "rediss", "unix")
AHEAD = timedelta(days=35)
REBUILD = "loopbook features materialize --rebuild"


class Looked(NamedTuple):
    """The answer of a lookup: every trailing feature (None where it has no value).

    `facts_us` is the instant up to which the store knew its facts, in microseconds
    since 1970; None in a store that was never filled.
    """

    values: dict[str, float | None]
    is_known: bool
    facts_us: int | None = None


@dataclass(frozen=True)
class Materialized:
    """What a materialisation did."""

    as_of: datetime
    since: datetime | None
    entities: int
    points: int
    reason: str


class FeatureStore:
    """The online side of the trailing features of one contract."""

    def __init__(self, backend: Backend, contract: Contract):
        self.backend = backend
        self.contract = contract
        self.names = {s: history.names_over(contract, s) for s in history.SCOPES}
        self._counts = {n for n, t in contract.trailing.items() if t.aggregate == "count"}
        self._codes = {s: change_points.code(names) for s, names in self.names.items()}

    def _refusing(self):
        return told_as(FeatureStoreError, f"feature store of '{self.contract.name}'", ADDRESS)

    def as_of(self) -> datetime | None:
        """The instant of the last materialisation, or None.

        Raises
        ------
        FeatureStoreError
            If it was made from another declaration of the features.
        """
        with self._refusing():
            about = self.backend.about()
        if not about:
            return None
        if about["declaration"] != declaration(self.contract):
            raise FeatureStoreError(
                f"feature store of '{self.contract.name}': was filled from an older contract "
                f"(declaration {about['declaration'][:12]}…), so its values have another meaning. "
                f"Fill it again: {REBUILD}"
            )
        return from_micros(int(about["as_of"]))

    def get(self, entity: str | None, at: datetime) -> Looked:
        """The trailing features of an entity at an instant, and whether it is known.

        An entity that was never seen has a count of 0 and no other value of its
        own; what is over all it has like any other. Before the first change point
        that is kept of an entity (the store keeps no past), and in a store that was
        never filled, nothing is known: all of its values are None, a count too.
        """
        micros = to_micros(at)
        values: dict[str, float | None] = {}
        is_known = True
        keys = {"entity": entity, "all": EVERYONE}
        asked = [s for s in keys if self.names[s] and keys[s] is not None]
        with self._refusing():
            points, moment = self.backend.at([keys[scope] for scope in asked], micros)
            packed_of = dict(zip(asked, points, strict=True))
            absent = [scope for scope, packed in packed_of.items() if packed is None]
            moment = moment or self.backend.about().get("as_of")
            is_filled = moment is not None
            unsaid = {s for s in absent if not is_filled or self.backend.has(keys[s])}
        for scope in history.SCOPES:
            names = self.names[scope]
            packed = packed_of.get(scope)
            if not names:
                continue
            if packed is None:
                is_known = is_known and scope == "all"
                none_yet = None if scope in unsaid else 0.0
                values |= {n: none_yet if n in self._counts else None for n in names}
                continue
            named = zip(names, self._codes[scope].unpack(packed), strict=True)
            values |= {name: None if isnan(value) else value for name, value in named}
        return Looked(values, is_known, None if moment is None else int(moment))

    def materialize(
        self,
        known_facts: pl.DataFrame,
        as_of: datetime,
        *,
        rebuild: bool = False,
        spread: change_points.Spread | None = None,
    ) -> Materialized:
        """Bring the store to what was known at `as_of`.

        Only entities with a fact that became known, or will leave a window in
        the newly covered time, are computed again; the rest stays. If the facts
        known at the last time have changed since (rows came in late and
        without a `known_time`, or were changed in place), all is computed again.

        Parameters
        ----------
        known_facts : polars.DataFrame
            All facts known by `as_of`, as `history.facts` gives them.
        spread : function, optional
            Computes groups of entities side by side, as `workers.results` does.

        Raises
        ------
        FeatureStoreError
            If there is no fact, or the store is at a later instant.
        """
        since, reason = self._begin(known_facts, as_of, rebuild=rebuild)
        if since == as_of:
            return Materialized(as_of, since, 0, 0, "it is up to date")
        changed = None if since is None else self._changed(known_facts, since, as_of)
        span = change_points.Span(since, as_of, as_of + AHEAD)
        waits.at(f"computing the features of {counted(known_facts.height, 'fact')}")
        parts = change_points.parts(self.contract, known_facts, changed, span, is_whole=not spread)
        points = change_points.of_parts(parts, spread)
        about = {
            "declaration": declaration(self.contract),
            "as_of": str(to_micros(as_of)),
            "facts": self._fingerprint(known_facts, as_of),
        }
        waits.at(f"writing {len(points):,} change points")
        with self._refusing():
            if since is None:
                self.backend.fill(about, points)
            else:
                ended = to_micros(since - AHEAD)
                self.backend.change(about, [*changed, EVERYONE], to_micros(since), ended, points)
        touched = len({entity for entity, _, _ in points} - {EVERYONE})
        why = "what changed since then" if since else reason
        return Materialized(as_of, since, touched, len(points), why)

    def _begin(
        self, known_facts: pl.DataFrame, as_of: datetime, *, rebuild: bool
    ) -> tuple[datetime | None, str]:
        """From which instant on the store is brought up to date (None: from nothing), and why."""
        name = self.contract.name
        if known_facts.is_empty():
            raise FeatureStoreError(
                f"feature store of '{name}': no fact was known at {as_of:%Y-%m-%d}, "
                "so there is nothing to keep, and nothing was changed. Choose a later --as-of."
            )
        since, reason = (None, "asked for") if rebuild else (self.as_of(), "the first one")
        if since and as_of < since:
            raise FeatureStoreError(
                f"feature store of '{name}': is at {since:%Y-%m-%d %H:%M}, later "
                f"than {as_of:%Y-%m-%d %H:%M}, and keeps no past. To go back: {REBUILD}"
            )
        if since and self._fingerprint(known_facts, since) != self.backend.about()["facts"]:
            return None, "facts that were known before have changed"
        return since, reason

    @staticmethod
    def _fingerprint(known_facts: pl.DataFrame, until: datetime) -> str:
        """The facts known by an instant, in any order, as a number."""
        old = known_facts.filter(pl.col(KNOWN_TS) <= until).drop(history.LEAVE)
        return f"{old.height} {sum_of_hashes(old)}"

    def _changed(self, known_facts: pl.DataFrame, since: datetime, as_of: datetime) -> list[str]:
        """Entities with a new fact, a new correction, or a fact that leaves in the time gained."""
        came = (pl.col(KNOWN_TS) > since) | pl.col(history.LEAVE).is_between(
            to_micros(since), to_micros(as_of)
        )
        spans = {t.window_days for t in self.contract.trailing.values()}
        spans |= {t.maximum_age_days for t in self.contract.trailing.values()} - {None}
        for days in spans:
            left = pl.col(EVENT_TS) + timedelta(days=days)
            came |= left.is_between(since + AHEAD - timedelta(seconds=1), as_of + AHEAD)
        return known_facts.filter(came)[ENTITY].drop_nulls().unique().sort().to_list()

    def close(self) -> None:
        self.backend.close()


def name_of_seal(contract: Contract) -> str:
    """Under which name the store of a contract is sealed."""
    return f"features/{contract.name}"


def digest_of(project: Project, contract: Contract) -> str | None:
    """The digest of all that the store holds; None where it is in Redis."""
    store = connect(project, contract)
    try:
        with store._refusing():
            return store.backend.digest()
    finally:
        store.close()


def declaration(contract: Contract) -> str:
    """The digest of what the trailing features are: another one is another store."""
    history_said = contract.history.model_dump() if contract.history else None
    for about in history_said["features"].values() if history_said else ():
        del about["of"]  # a store that was filled before there were rates stays as it is
    declared = {
        "history": history_said,
        "entity": contract.entity,
        "target": contract.target.name,
    }
    declared |= {"rates": contract.rates} if contract.rates else {}
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def connect(project: Project, contract: Contract, *, must_be_there: bool = True) -> FeatureStore:
    """The feature store that `LOOPBOOK_FEATURE_STORE` names, or SQLite below `var/`.

    Whoever can go on without its answers leaves out `must_be_there`: a Redis
    server that is away is then told when it is asked.

    Raises
    ------
    FeatureStoreError
        If the contract declares no history, the address is of no known kind,
        its driver is not installed, or the server is away.
    """
    if contract.history is None:
        raise FeatureStoreError(
            f"contract '{contract.name}': declares no history, so there are no features to keep. "
            "Declare some under history in contract.yaml."
        )
    address = os.environ.get(ADDRESS) or f"sqlite:///{project.var / 'features.db'}"
    kind = urlsplit(address).scheme
    if kind not in (*KINDS, *REDIS):
        raise FeatureStoreError(
            f"{ADDRESS}: found an address of kind {kind!r}, expected sqlite, postgresql or redis."
        )
    if kind in KINDS:
        database = connect_database(address, ADDRESS, FeatureStoreError)
        return FeatureStore(SqlBackend(database, contract.name), contract)
    with told_as(FeatureStoreError, shown(address), ADDRESS):
        import redis

        plain, prefix = redis_place(address, contract.name)
        client = redis.Redis.from_url(plain, socket_connect_timeout=5, socket_timeout=5)
        if must_be_there:
            client.ping()
        return FeatureStore(RedisBackend(client, prefix), contract)
