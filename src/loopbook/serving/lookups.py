"""Lookups: the trailing features of a row, and what happens when their store is away.

It decides how long an answer waits for the feature store. A store that has not
answered in time is left alone: the rows have no trailing features then, which
their answers say, and only a probe in the background asks it again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from loopbook.features.store import FeatureStore, Looked, declaration
from loopbook.project.contract import Contract
from loopbook.project.errors import FeatureStoreError
from loopbook.serving import log_lines
from loopbook.serving.metrics import Metrics
from loopbook.serving.outside import Outside, TooLate

WAIT_S = 0.25  # how long the rows of an answer wait for a server
READS, PART_ROWS = 4, 64  # how many reads at once, each of how many rows
PROBE_S = 5.0  # how long the background does
AGAIN_S = 1.0  # until a store that was away is probed again


@dataclass(slots=True)
class Lookup:
    """A row whose features are wanted: they are added to `record`.

    `facts_us` is up to which instant the store knew its facts; None until it has answered.
    """

    record: dict[str, Any]
    entity: str | None
    at: datetime
    facts_us: int | None = None


class Lookups:
    """The feature store as the service reads it; None where the contract has no history."""

    def __init__(self, store: FeatureStore | None, contract: Contract, metrics: Metrics):
        self.store, self.metrics = store, metrics
        self.declared = declaration(contract)
        self.stands_at: datetime | None = None
        self.is_away = False
        self._reads = Outside("feature store", threads=READS, limit_s=WAIT_S)
        self._turns = asyncio.Semaphore(READS)
        self._probes = Outside("feature store's state", limit_s=PROBE_S)
        # a read of an embedded store is shorter than the way to a thread, and waits for nobody
        database = getattr(store.backend, "database", None) if store else None
        self.is_immediate = store is None or (database is not None and database.kind == "sqlite")
        if store and self.is_immediate:
            database.wait_s = 0.0

    def has_features(self, declared: str) -> bool:
        """Whether the store can be asked, and holds the features of this declaration."""
        return self.stands_at is not None and not self.is_away and declared == self.declared

    @property
    def state(self) -> str:
        """In a word: none (the contract has no history), away, empty or ready."""
        if self.store is None:
            return "none"
        return "away" if self.is_away else "ready" if self.stands_at else "empty"

    def age(self) -> timedelta | None:
        """How long ago the store was brought up to date, as far as it was last heard."""
        return datetime.now(UTC) - self.stands_at if self.stands_at else None

    def fill_now(self, wanted: Sequence[Lookup]) -> None:
        """Look features up in this thread."""
        try:
            self._give(wanted, self._read(wanted))
        except FeatureStoreError as reason:
            self._could_not_read(reason)

    async def fill(self, wanted: Sequence[Lookup]) -> None:
        """Look features up in threads; rows of a store that does not answer have none.

        The limit is of some rows at a time, and does not count the wait for
        others: a large batch is no store that hangs.
        """
        for start in range(0, len(wanted), PART_ROWS):
            part = wanted[start : start + PART_ROWS]
            async with self._turns:
                if self.is_away:
                    return
                try:
                    self._give(part, await self._reads.ask(self._read, part))
                except (FeatureStoreError, TooLate) as reason:
                    self._could_not_read(reason)
                    return

    def _read(self, wanted: Sequence[Lookup]) -> list[Looked]:
        return [self.store.get(one.entity, one.at) for one in wanted]

    @staticmethod
    def _give(wanted: Sequence[Lookup], found: Sequence[Looked]) -> None:
        for one, looked in zip(wanted, found, strict=True):
            one.record.update(looked.values)
            one.facts_us = looked.facts_us

    def _could_not_read(self, reason: Exception) -> None:
        self.metrics.feature_store_errors.inc()
        self._leave_alone(reason)

    def _leave_alone(self, reason: Exception) -> None:
        if not self.is_away:
            log_lines.write("feature store away", reason=str(reason))
        self.is_away = True
        self.metrics.features_away.set(1)

    async def look(self) -> None:
        """Ask how the store stands, once."""
        if self.store is None:
            return
        try:
            stands_at = await self._probes.ask(self.store.as_of)
        except (FeatureStoreError, TooLate) as reason:
            self.stands_at = None
            self._leave_alone(reason)
            return
        if self.is_away:
            log_lines.write("feature store back")
        self.stands_at, self.is_away = stands_at, False
        self.metrics.features_away.set(0)

    async def watch(self, every_s: float) -> None:
        """Ask how the store stands, again and again; sooner while it is away."""
        while True:
            await asyncio.sleep(min(AGAIN_S, every_s) if self.is_away else every_s)
            try:
                await self.look()
            except Exception as error:  # whatever it is: the next look may go well
                log_lines.write("error", error=type(error).__name__, where=log_lines.where(error))
