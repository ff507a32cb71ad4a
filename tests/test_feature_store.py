"""The feature store: what serving looks up is what training saw, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from loopbook.cli import main
from loopbook.data import sources, validation
from loopbook.features import history, materialize
from loopbook.features import store as feature_store
from loopbook.project import clock
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import FeatureStoreError
from loopbook.project.paths import Project

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[1]
TABLE = read_contract(ROOT / "contract.yaml")
START = datetime(2014, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def sales():
    """All real sales with the trailing features that training sees, and the facts."""
    rows, _ = validation.without_known_faults(sources.read_source(TABLE, ROOT), TABLE)
    rows = validation.conform(sources.with_clock(rows, TABLE), TABLE).sort(clock.EVENT_TS)
    facts = history.facts(rows, TABLE)
    return history.with_history(rows, facts, TABLE), facts


OF_CLASSES = Contract.model_validate(
    {
        "name": "parcels",
        "meaning": "One row is a parcel.",
        "task": "binary",
        "source": {"path": "none.csv"},
        "key": ["id"],
        "event_time": "day",
        "label_delay_days": 1,
        "entity": "depot",
        "target": {"name": "state", "classes": ["in time", "late"], "meaning": "State."},
        "features": {"depot": {"type": "category", "example": "a", "meaning": "Depot."}},
        "history": {
            "features": {
                "late_5d": {"aggregate": "rate", "window_days": 5, "meaning": "Share late."},
                "all_2d": {"aggregate": "rate", "window_days": 2, "over": "all", "meaning": "All."},
                "count_2d": {"aggregate": "count", "window_days": 2, "meaning": "Parcels."},
            }
        },
    }
)


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store(request, tmp_path, monkeypatch):
    if request.param == "postgresql":
        address = request.getfixturevalue("postgresql")
    elif request.param == "redis":
        address = request.getfixturevalue("redis_address")
    else:
        address = f"sqlite:///{tmp_path / 'features.db'}"
    monkeypatch.setenv(feature_store.ADDRESS, address)
    name = TABLE.model_copy(update={"name": f"houses-{os.getpid()}-{time.monotonic_ns()}"})
    opened = feature_store.connect(Project(tmp_path), name)
    yield opened
    opened.close()


def known(facts: pl.DataFrame, at: datetime) -> pl.DataFrame:
    return facts.filter(pl.col(clock.KNOWN_TS) <= at)


def everything(store, at: datetime, entities) -> dict:
    return {entity: store.get(entity, at) for entity in entities}


def test_serving_looks_up_what_training_saw_value_for_value(store, sales):
    """Four weeks, materialised day by day: more than 1,000 rows, each equal to the last bit."""
    rows, facts = sales
    compared = 0
    for day in (START + n * DAY for n in range(28)):
        store.materialize(known(facts, day), day)
        for row in rows.filter(pl.col(clock.EVENT_TS) == day).iter_rows(named=True):
            values, is_known, facts_us = store.get(row[TABLE.entity], day)
            assert is_known
            assert facts_us == clock.to_micros(day)
            assert values == {name: row[name] for name in TABLE.trailing}
            compared += 1
    assert compared > 1_000


def test_a_value_stays_right_while_days_pass_without_a_materialisation(store, sales):
    """Facts leave their windows by themselves: the store holds the change points ahead."""
    _, facts = sales
    store.materialize(known(facts, START), START)
    later = pl.DataFrame({clock.EVENT_TS: [START + n * DAY for n in range(0, 35, 4)]})
    later = later.with_columns(
        pl.col(clock.EVENT_TS).cast(history.INSTANT), pl.lit("98115").alias(TABLE.entity)
    )
    expected = history.with_history(later, known(facts, START), TABLE)
    for row in expected.iter_rows(named=True):
        found = store.get("98115", row[clock.EVENT_TS]).values
        assert found == {name: row[name] for name in TABLE.trailing}


def test_step_by_step_and_at_once_end_in_the_same_store(store, sales):
    """Irregular steps, one of them done twice, against one materialisation from nothing."""
    _, facts = sales
    end = START + 61 * DAY
    zones = facts[history.ENTITY].unique().to_list()
    for days in (0, 1, 1, 3, 20, 61):
        store.materialize(known(facts, START + days * DAY), START + days * DAY)
    at = end + 3 * DAY
    stepwise = everything(store, at, zones)
    store.materialize(known(facts, end), end, rebuild=True)
    assert stepwise == everything(store, at, zones)


@pytest.mark.parametrize("is_number", [False, True])
def test_rates_and_means_are_the_same_bits_by_batch_step_by_step_and_at_once(tmp_path, is_number):
    """A mean of sevenths, whose sum depends on the order in which they are added."""
    contract = OF_CLASSES
    draw = np.random.default_rng(3)
    rows = pl.DataFrame({"id": range(300), "depot": draw.choice(["a", "b"], 300)})
    state = pl.Series(draw.choice(["in time", "late"], 300))
    if is_number:
        content = contract.model_dump() | {"task": "regression"}
        content["target"] = {"name": "state", "meaning": "Weight."}
        for about in content["history"]["features"].values():
            about["aggregate"] = about["aggregate"].replace("rate", "mean")
        contract, state = Contract.model_validate(content), pl.Series(draw.integers(1, 99, 300) / 7)
    minutes = pl.duration(minutes=pl.Series(draw.permutation(300) * 60))
    happened = pl.lit(START) + minutes
    rows = rows.with_columns(state=state, event_ts=happened, known_ts=happened + DAY)
    facts = history.facts(rows, contract)
    (tmp_path / "one").mkdir()
    step, once = (
        feature_store.connect(Project(folder), contract) for folder in (tmp_path, tmp_path / "one")
    )
    for days in (3, 4, 9):
        step.materialize(known(facts, START + days * DAY), START + days * DAY)
    once.materialize(known(facts, START + 9 * DAY), START + 9 * DAY)
    for hours in range(0, 200, 7):
        at = START + 9 * DAY + timedelta(hours=hours)
        asked = pl.DataFrame({"event_ts": [at] * 2, "depot": ["a", "b"]})
        asked = asked.with_columns(pl.col("event_ts").cast(history.INSTANT))
        batch = history.with_history(asked, known(facts, START + 9 * DAY), contract)
        for row in batch.iter_rows(named=True):
            expected = {name: row[name] for name in contract.trailing}
            assert step.get(row["depot"], at).values == expected
            assert once.get(row["depot"], at).values == expected
    step.close()
    once.close()


def test_another_class_is_another_declaration_and_a_store_without_rates_stays_valid():
    """The digest of a contract of before, as it was before there were rates."""
    content = OF_CLASSES.model_dump()
    content["target"]["positive"] = "in time"
    other = Contract.model_validate(content)
    assert feature_store.declaration(other) != feature_store.declaration(OF_CLASSES)
    count = {"aggregate": "count", "window_days": 3, "meaning": "N."}
    content |= {"entity": "zone", "task": "regression", "label_delay_days": 0}
    content["target"] = {"name": "price", "meaning": "P."}
    content["features"] = {"zone": {"type": "category", "example": "a", "meaning": "Z."}}
    content["history"] = {"value": "price", "features": {"n": count}}
    before = "534263ff7a1975dc7968bcc53231e1798a591ac36e9019a4a3c1a3721ad25a78"
    assert feature_store.declaration(Contract.model_validate(content)) == before


def test_a_correction_that_comes_in_changes_the_store_and_rows_that_came_late_rebuild_it(
    store, sales
):
    _, facts = sales
    late = known(facts, START + DAY)
    store.materialize(late.slice(5), START + DAY)
    done = store.materialize(late, START + DAY)
    assert done.reason == "facts that were known before have changed"
    assert done.since is None


def test_an_entity_never_seen_has_no_facts_and_that_is_said(store, sales):
    _, facts = sales
    store.materialize(known(facts, START), START)
    for nobody in ("00000", None, "' OR 1=1"):
        values, is_known, _ = store.get(nobody, START)
        assert not is_known
        assert values["sales_30d"] == 0
        assert values["level_30d"] is None
        assert values["market_30d"] > 0


def test_before_what_the_store_keeps_nothing_is_known_of_an_entity_that_it_has(store, sales):
    """Unknown is not 0: training counts hundreds of sales at that instant."""
    _, facts = sales
    assert store.get("98115", START).values == dict.fromkeys(TABLE.trailing)
    store.materialize(known(facts, START), START)
    values, is_known, _ = store.get("98115", START - 90 * DAY)
    assert not is_known
    assert values == dict.fromkeys(TABLE.trailing)
    assert store.get("00000", START - 90 * DAY).values["sales_30d"] == 0


def test_going_back_nothing_to_keep_and_an_older_contract_are_refused(store, sales):
    _, facts = sales
    with pytest.raises(FeatureStoreError, match="no fact was known at 2014-12-01"):
        store.materialize(facts.clear(), START)
    store.materialize(known(facts, START), START)
    with pytest.raises(FeatureStoreError, match=r"keeps no past\. To go back: loopbook features"):
        store.materialize(known(facts, START - DAY), START - DAY)
    assert store.as_of() == START
    other = TABLE.history.model_copy(update={"value": "price"})
    changed = store.contract.model_copy(update={"history": other})
    newer = feature_store.FeatureStore(store.backend, changed)
    with pytest.raises(FeatureStoreError, match="filled from an older contract"):
        newer.materialize(known(facts, START + DAY), START + DAY)
    newer.materialize(known(facts, START + DAY), START + DAY, rebuild=True)
    assert newer.as_of() == START + DAY


KILLED = """
import os, signal, sys
from loopbook.features import store as feature_store
before = feature_store.SqlBackend._write
def half(self, cursor, about, points):
    before(self, cursor, {}, points[: len(points) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
feature_store.SqlBackend._write = half
from loopbook.cli.main import main
sys.argv = ["loopbook", "features", "materialize", "--as-of", "2014-12-20"]
main()
"""


def test_a_materialisation_that_is_killed_leaves_the_store_as_it_was(tmp_path, sales):
    """SIGKILL in the middle of the transaction; the next one goes through."""
    _, facts = sales
    address = f"sqlite:///{tmp_path / 'features.db'}"
    environment = os.environ | {feature_store.ADDRESS: address}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(feature_store.ADDRESS, address)
        store = feature_store.connect(Project(tmp_path), TABLE)
    store.materialize(known(facts, START), START)
    zones = facts[history.ENTITY].unique().to_list()
    before = everything(store, START, zones)
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert store.as_of() == START
    assert everything(store, START, zones) == before
    later = START + 19 * DAY
    store.materialize(known(facts, later), later)
    assert store.as_of() == later
    store.close()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://me:secret@127.0.0.1:9/x", r"postgresql://127.0.0.1:9/x"),
        ("redis://:secret@127.0.0.1:9/0", r"redis://127.0.0.1:9/0"),
        ("mysql://127.0.0.1/x", "expected sqlite, postgresql or redis"),
    ],
)
def test_a_server_that_is_away_is_a_clear_error_without_its_password(
    tmp_path, monkeypatch, address, told
):
    monkeypatch.setenv(feature_store.ADDRESS, address)
    with pytest.raises(FeatureStoreError, match=told) as caught:
        feature_store.connect(Project(tmp_path), TABLE)
    assert "secret" not in str(caught.value)


def test_people_see_what_was_known_about_an_entity(tmp_path, monkeypatch):
    """`loopbook features materialize` and `show`, as typed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(feature_store.ADDRESS, f"sqlite:///{tmp_path / 'features.db'}")
    run = CliRunner()
    words = ["features", "materialize", "--as-of", "2014-12-01"]
    first = run.invoke(main.app, words, catch_exceptions=False)
    assert "70 entities" in first.output
    assert "it is up to date" in run.invoke(main.app, words).output
    shown = run.invoke(main.app, ["features", "show", "98115", "--as-of", "2014-12-01"]).output
    assert "newest of 2014-11-24" in shown
    line = next(ln for ln in shown.splitlines() if ln.startswith("level_90d"))
    assert line.split()[1] == line.split()[2]
    unknown = run.invoke(main.app, ["features", "show", "1", "--as-of", "2014-12-01"]).output
    assert "No fact about it was known" in unknown


def test_features_are_of_an_entity_where_the_contract_names_one_and_of_all_rows_elsewhere():
    """`features show 1` of a table without entity was headed *None 1*, and knew no fact."""
    with_one = SimpleNamespace(name="flats", entity="zipcode")
    without = SimpleNamespace(name="rentals", entity=None)
    assert materialize._entity_named("98115.0", with_one) == "98115"
    assert materialize._entity_named("", without) is None
    with pytest.raises(FeatureStoreError, match="of each zipcode"):
        materialize._entity_named("", with_one)
    with pytest.raises(FeatureStoreError, match=r"Leave '4' out: loopbook features show"):
        materialize._entity_named("4", without)
