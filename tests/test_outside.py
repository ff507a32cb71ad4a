"""What stands around the service may hang: each kind of call has threads and a limit of its own.

No test is timed: what hangs does so until the test lets it go, and what must
not wait is there while it hangs.
"""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from test_prediction_log import TABLE, entry

from loopbook.data import prediction_log
from loopbook.features import store as feature_store
from loopbook.features.store import declaration
from loopbook.project.errors import FeatureStoreError, PredictionLogError
from loopbook.project.paths import Project
from loopbook.serving import log_writer, lookups
from loopbook.serving.log_writer import LogWriter
from loopbook.serving.lookups import Lookup, Lookups
from loopbook.serving.metrics import Metrics
from loopbook.serving.outside import Outside, TooLate
from loopbook.serving.refusals import Refusal

NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def gate():
    """What hangs, until it is set."""
    opened = threading.Event()
    yield opened
    opened.set()


def test_a_call_that_hangs_is_given_up_and_holds_no_other_kind(gate):
    async def both():
        hanging, other = Outside("a", limit_s=0.05), Outside("b", limit_s=30)
        with pytest.raises(TooLate, match=r"a: no answer within 0\.05 s"):
            await hanging.ask(gate.wait)
        assert not gate.is_set()
        return await other.ask(lambda: "there")

    assert asyncio.run(both()) == "there"


def test_a_call_that_was_given_up_before_it_began_never_begins(gate):
    """It may be a write: whoever was told that it failed must be right."""
    begun = []

    async def two():
        outside = Outside("a", limit_s=0.05)
        with pytest.raises(TooLate):
            await outside.ask(gate.wait)
        with pytest.raises(TooLate):
            await outside.ask(begun.append, 1)
        gate.set()
        outside.limit_s = 30
        await outside.ask(begun.append, 2)

    asyncio.run(two())
    assert begun == [2]


def test_more_calls_than_may_wait_are_refused_at_once(gate):
    async def many():
        outside = Outside("a", limit_s=30, most_waiting=2)
        waiting = [asyncio.create_task(outside.ask(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooLate, match="2 calls wait already"):
            await outside.ask(gate.wait)
        gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(many())


class Log:
    """A log that takes groups when it is let, and refuses the ids that it is told to."""

    def __init__(self, gate: threading.Event, refused: str = ""):
        self.gate, self.refused = gate, refused
        self.groups: list[list[str]] = []
        self.database = SimpleNamespace(kind="postgresql", wait_s=10.0)

    def append(self, entries, wait_s):
        self.gate.wait()
        ids = [one.id for one in entries]
        self.groups.append(ids)
        if self.refused in ids:
            try:
                raise sqlite3.DataError("a value that this database does not take")
            except sqlite3.DataError:
                raise PredictionLogError("log: cannot be used") from None


def test_answers_that_come_while_a_transaction_runs_are_written_in_the_next_one(gate):
    log = Log(gate)

    async def eight():
        writer = LogWriter(log, Metrics())
        first = asyncio.create_task(writer.write([entry(0)]))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(writer.write([entry(n)])) for n in range(1, 8)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(first, *rest)

    asyncio.run(eight())
    assert [len(group) for group in log.groups] == [1, 7]


def test_a_row_that_the_database_refuses_fails_no_other_of_its_group(gate):
    log = Log(gate, refused=entry(3).id)

    async def eight():
        writer = LogWriter(log, Metrics())
        tasks = [asyncio.create_task(writer.write([entry(n)])) for n in range(8)]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(eight())
    assert [n for n, one in enumerate(outcomes) if one is not None] == [3]
    assert outcomes[3].status == 503


def test_a_log_that_hangs_gives_503_with_a_time_to_wait_and_writes_nothing_that_was_refused(
    gate, monkeypatch
):
    log = Log(gate)
    monkeypatch.setattr(log_writer, "WAIT_S", 0.05)

    async def two():
        writer = LogWriter(log, Metrics())
        tasks = [asyncio.create_task(writer.write([entry(n)])) for n in range(2)]
        first = asyncio.create_task(writer.write([entry(2)]))
        refused = await asyncio.gather(*tasks, first, return_exceptions=True)
        late = await asyncio.gather(writer.write([entry(3)]), return_exceptions=True)
        gate.set()
        monkeypatch.setattr(log_writer, "WAIT_S", 30)
        await writer.write([entry(4)])
        return refused + late

    for refusal in asyncio.run(two()):
        assert (refusal.status, refusal.code) == (503, "log_unavailable")
        assert refusal.headers == {"Retry-After": "1"}
    written = [name for group in log.groups for name in group]
    assert entry(3).id not in written
    assert written[-1] == entry(4).id


def test_an_answer_that_meets_a_lock_leaves_the_event_loop_at_once_and_is_written_later(tmp_path):
    """SQLite: the fast way does not wait, and the other one does."""
    path = tmp_path / "log.db"
    log = prediction_log.at(f"sqlite:///{path}", TABLE, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        async def one():
            writer = LogWriter(log, Metrics())
            assert writer.write_now([entry(0)])
            other.execute("BEGIN IMMEDIATE")
            assert not writer.write_now([entry(1)])
            waits = asyncio.create_task(writer.write([entry(1)]))
            await asyncio.sleep(0.05)
            assert not waits.done()
            assert log.count() == 1
            other.execute("COMMIT")
            await waits

        asyncio.run(one())
    assert log.count() == 2
    log.close()


def test_what_is_read_waits_for_no_lock_of_a_writer(tmp_path):
    path = tmp_path / "log.db"
    log = prediction_log.at(f"sqlite:///{path}", TABLE, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waits = threading.Thread(target=log.append, args=([entry(1)],))
        waits.start()
        assert log.count() == 0  # while the thread waits, on the same connection
        assert waits.is_alive()
        other.execute("COMMIT")
        waits.join()
    assert log.count() == 1
    log.close()


class Store:
    """A feature store on a server, which hangs until it is let."""

    backend = None

    def __init__(self, gate: threading.Event):
        self.gate, self.asked = gate, 0

    def as_of(self):
        self.gate.wait()
        return NOW

    def get(self, entity, at):
        self.asked += 1
        if not self.gate.is_set():
            self.gate.wait()
            raise FeatureStoreError("feature store: cannot be used (Timeout)")
        return SimpleNamespace(values={"count_30d": 3.0}, is_known=True, facts_us=0)


def test_a_feature_store_that_hangs_is_waited_for_once_and_asked_again_in_the_background(
    gate, monkeypatch
):
    """Every answer after the first is given at once, without its trailing features."""
    monkeypatch.setattr(lookups, "AGAIN_S", 0.01)
    gate.set()
    store, metrics, declared = Store(gate), Metrics(), declaration(TABLE)

    async def asked() -> dict:
        record: dict = {}
        if looks.has_features(declared):
            await looks.fill([Lookup(record, "a", NOW)])
        return record

    async def all_of_it():
        await looks.look()
        assert await asked() == {"count_30d": 3.0}
        gate.clear()
        assert [await asked() for _ in range(20)] == [{}] * 20
        assert store.asked == 2
        assert (looks.state, metrics.features_away._value.get()) == ("away", 1)
        watching = asyncio.create_task(looks.watch(0.01))
        gate.set()
        while looks.is_away:
            await asyncio.sleep(0.01)
        watching.cancel()
        assert await asked() == {"count_30d": 3.0}
        assert metrics.features_away._value.get() == 0

    looks = Lookups(store, TABLE, metrics)
    looks._reads.limit_s = 0.05
    asyncio.run(all_of_it())


def test_a_large_batch_is_no_store_that_hangs(gate):
    """Its rows are looked up some at a time, each part within the limit of its own."""
    gate.set()
    store = Store(gate)
    looks = Lookups(store, TABLE, Metrics())
    parts = []
    read = looks._read
    looks._read = lambda part: parts.append(len(part)) or read(part)

    async def many() -> list[dict]:
        await looks.look()
        rows: list[dict] = [{} for _ in range(1000)]
        await looks.fill([Lookup(row, "a", NOW) for row in rows])
        return rows

    assert asyncio.run(many()) == [{"count_30d": 3.0}] * 1000
    assert max(parts) == lookups.PART_ROWS
    assert sum(parts) == 1000


def test_a_row_that_cannot_be_written_at_all_fails_no_other_of_its_group(tmp_path):
    """Whatever the driver or the text of a request makes of it."""
    log = prediction_log.at(f"sqlite:///{tmp_path / 'log.db'}", TABLE, tmp_path)
    odd = entry(1, key="\ud800")

    async def three():
        writer = LogWriter(log, Metrics())
        with pytest.raises(UnicodeEncodeError):
            writer.write_now([entry(0), odd, entry(2)])
        tasks = [asyncio.create_task(writer.write([one])) for one in (entry(0), odd, entry(2))]
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(three())
    assert (first, third) == (None, None)
    assert second.status == 503
    assert log.count() == 2
    log.close()


def test_a_service_begins_also_while_its_feature_store_is_away(tmp_path, monkeypatch):
    monkeypatch.setenv(feature_store.ADDRESS, "redis://127.0.0.1:9/0")
    with pytest.raises(FeatureStoreError, match="cannot be used"):
        feature_store.connect(Project(tmp_path), TABLE)
    store = feature_store.connect(Project(tmp_path), TABLE, must_be_there=False)
    looks = Lookups(store, TABLE, Metrics())
    asyncio.run(looks.look())
    assert looks.state == "away"
    assert not looks.has_features(declaration(TABLE))


def test_a_refusal_of_the_log_tells_callers_neither_address_nor_cause():
    cause = PredictionLogError("postgresql://127.0.0.1/x: cannot be used (secret)")
    refusal = log_writer.log_unavailable("is answered", cause)
    assert isinstance(refusal, Refusal)
    told = refusal.body().decode()
    for place in ("postgresql", "127.0.0.1", "secret"):
        assert place not in told
        assert place in refusal.cause
