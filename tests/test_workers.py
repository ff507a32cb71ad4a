"""Workers of a Dask scheduler: the same numbers as here, and plain words where they cannot be had."""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_once import copied
from small_house import ROOT, environment, give, loopbook

from loopbook.data import sources, validation
from loopbook.features import history
from loopbook.features import store as feature_store
from loopbook.models import search_spaces, tuning
from loopbook.project import clock, workers
from loopbook.project.contract import read_contract
from loopbook.project.errors import ContractError, VersionRefused, WorkersError
from loopbook.project.paths import Project
from loopbook.registry import tracking

START = datetime(2015, 1, 1, tzinfo=UTC)


def sales(contract) -> pl.DataFrame:
    """The rows of the real table that were known by `START`."""
    rows, _ = validation.without_known_faults(sources.read_source(contract, ROOT), contract)
    rows = validation.conform(sources.with_clock(rows, contract), contract)
    return rows.filter(pl.col(clock.KNOWN_TS) <= START)


def started(words: list, folder: Path) -> subprocess.Popen:
    """A program of Dask in this environment, with one thread."""
    command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *map(str, words[1:])]
    outside = environment(folder, POLARS_MAX_THREADS="1")
    return subprocess.Popen(command, cwd=folder, env=outside, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a scheduler, and how to give it a worker; all of them end with the module."""
    folder = tmp_path_factory.mktemp("dask")
    about = folder / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    running = [started(["dask_scheduler", *local, "--port", 0, "--scheduler-file", about], folder)]
    while not about.exists():
        assert running[0].poll() is None
        time.sleep(0.1)
    own = ["--no-nanny", "--nthreads", 1, "--local-directory", folder, "--scheduler-file", about]
    yield (
        json.loads(about.read_text())["address"],
        lambda: running.append(started(["dask_worker", *local, *own], folder)),
    )
    for process in reversed(running):
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def two_workers(scheduler) -> str:
    address, add = scheduler
    add()
    add()
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(2, timeout=120)
    return address


@pytest.fixture
def silent_address():
    """Where something listens that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.medium
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "10.0.0.5", "http://127.0.0.1:9", "here"])
def test_an_address_without_a_scheduler_is_told_with_what_was_expected(address, monkeypatch):
    monkeypatch.setattr(workers, "WAIT_S", 0.5)
    with (
        pytest.raises(WorkersError, match=r"no Dask scheduler answered within 0\.5 s") as told,
        workers.connected(address),
    ):
        pass
    assert address in str(told.value)
    assert "tcp://10.0.0.5:8786" in str(told.value)


@pytest.mark.medium
def test_a_server_that_is_no_scheduler_is_not_waited_for(silent_address, monkeypatch):
    monkeypatch.setattr(workers, "WAIT_S", 0.5)
    with pytest.raises(WorkersError, match="no Dask scheduler answered"):
        workers.connected(silent_address).__enter__()


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(WorkersError, match=r"pip install 'loopbook\[dask\]'"):
        workers.connected("local").__enter__()


def test_a_refusal_of_a_version_comes_from_another_process_as_it_was():
    import pickle

    there = pickle.loads(pickle.dumps(VersionRefused("v1: its graph was changed.", "digest")))
    assert (str(there), there.code) == ("v1: its graph was changed.", "digest")


@pytest.mark.slow
def test_a_scheduler_without_a_worker_is_told_with_the_command_that_starts_one(tmp_path):
    about = tmp_path / "alone.json"
    local = ["--host", "127.0.0.1", "--no-dashboard", "--port", 0, "--scheduler-file", about]
    alone = started(["dask_scheduler", *local], tmp_path)
    try:
        while not about.exists():
            time.sleep(0.1)
        address = json.loads(about.read_text())["address"]
        with pytest.raises(WorkersError, match=f"no worker after .* dask worker {address}"):
            workers.connected(address).__enter__()
    finally:
        alone.terminate()
        alone.wait(30)


@pytest.mark.slow
def test_workers_that_are_not_like_this_process_are_refused(two_workers, tmp_path, monkeypatch):
    """Other versions of a package, and a folder that they do not see: told of each worker."""
    monkeypatch.setattr(workers, "PACKAGES", ("polars",))
    monkeypatch.setattr(workers, "_version", lambda package: "0.1")
    monkeypatch.setattr(workers, "_id_of", lambda folder: "here only")
    with pytest.raises(WorkersError, match="4 faults, so nothing was computed") as told:
        workers.connected(two_workers, shared=tmp_path).__enter__()
    text = str(told.value)
    assert text.count(f"has the folder {tmp_path} not at all, here it is here only") == 2
    assert text.count(f"has polars {pl.__version__}, here it is 0.1") == 2


@pytest.mark.slow
def test_calls_go_to_every_worker_and_an_error_of_ours_comes_back_as_it_is(two_workers):
    with workers.connected(two_workers) as client:
        calls = [() for _ in range(20)]
        where = dict(workers.results(client, os.getpid, calls))
        assert sorted(where) == list(range(20))
        assert len(set(where.values()) - {os.getpid()}) == 2
        wrong = [(Path("/nowhere/contract.yaml"),)]
        with pytest.raises(ContractError, match="nowhere"):
            list(workers.results(client, read_contract, wrong))


SMALL_PARTS = """
import sys
from loopbook.cli.main import main
from loopbook.serving import scoring
scoring.PART_ROWS = 90
sys.argv = ["loopbook", "score", *sys.argv[1:]]
main()
"""


def scored(house: Path, name: str, *words: str) -> pl.DataFrame:
    """The rows of `rows.parquet` as a command scores them, each part of 90 rows."""
    command = [sys.executable, "-c", SMALL_PARTS, "rows.parquet", name, *words]
    done = subprocess.run(
        command, cwd=house, env=environment(house), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return pl.read_parquet(house / name, glob=False)


@pytest.mark.slow
def test_a_file_is_scored_with_the_same_bits_and_with_the_facts_of_its_own_call(
    line, two_workers, tmp_path
):
    """Trailing features too; then the source loses half its rows, and the same workers know it."""
    house = copied(line, tmp_path / "house")
    give(house, 2, tracking.CHAMPION, "with_history")
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet")
    rows.tail(500).write_parquet(house / "rows.parquet")
    before = scored(house, "there.parquet", "--scheduler", two_workers)
    assert before.equals(scored(house, "here.parquet"))
    (house / "data").unlink()
    (house / "data").mkdir()
    rows.sample(fraction=0.5, seed=1).write_parquet(house / "data/house_sales.parquet")
    after = scored(house, "there.parquet", "--scheduler", two_workers)
    assert after.equals(scored(house, "here.parquet"))
    assert not after.equals(before)


@pytest.mark.slow
def test_the_feature_store_is_the_same_whoever_computed_it(line, two_workers, tmp_path):
    """From nothing, and then nine days on, by the command; the digest is over every point."""
    digests = {}
    for name, words in (("here", []), ("there", ["--scheduler", two_workers])):
        house = copied(line, tmp_path / name)
        digests[name] = []
        for more in (["--as-of", "2015-02-01", "--rebuild"], ["--as-of", "2015-02-10"]):
            done = loopbook(house, "features", "materialize", *more, *words)
            assert done.returncode == 0, done.stderr
            contract = read_contract(house / "contract.yaml")
            digests[name].append(feature_store.digest_of(Project(house), contract))
    assert digests["here"] == digests["there"]
    assert len(set(digests["here"])) == 2


FALLS = """
name: falls
meaning: One row is a fall.
task: regression
source: {path: falls.csv}
key: [id]
target: {name: depth, meaning: Depth.}
features:
  seconds: {type: number, required: true, example: 2, meaning: Time.}
"""
OWN = """
from sklearn.ensemble import HistGradientBoostingRegressor

from loopbook.models import steps


class Boosting(HistGradientBoostingRegressor):
    'A class that no worker can import.'


def mine(contract, random_seed):
    'Boosting of my own.'
    return steps.pipeline(contract, Boosting(max_iter=20), steps.median(), steps.known())
"""


@pytest.mark.slow
def test_a_search_finds_the_same_on_workers_also_of_a_class_of_the_projects_own(
    two_workers, tmp_path, monkeypatch
):
    for name, text in (("contract.yaml", FALLS), ("pipeline.yaml", ""), ("candidates.py", OWN)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(3).uniform(0, 10, (300, 1)).astype(np.float32)
    rows = tuning.Rows(X, 5 * X[:, 0].astype(float) ** 2, 200)
    space = {"model__learning_rate": search_spaces.Range(**{"from": 0.01, "to": 0.5})}
    contract, how = read_contract(tmp_path / "contract.yaml"), tuning.How(6, 7)
    here = tuning.search("mine", contract, rows, space, how)
    with workers.connected(two_workers) as client:
        there = tuning.search("mine", contract, rows, space, how, client)
    assert there == here
    assert len({trial.loss for trial in here.trials}) == 6


@pytest.mark.medium
def test_entities_in_groups_give_the_points_of_all_of_them_at_once(tmp_path):
    """Without Dask: every group of entities computed by itself, in another order."""

    def backwards(function, calls):
        return reversed(list(workers.results(None, function, calls)))

    contract = read_contract(ROOT / "contract.yaml")
    known = history.facts(sales(contract), contract)
    stores = {}
    for name, spread in (("whole", None), ("in groups", backwards)):
        store = feature_store.connect(Project(tmp_path / name), contract)
        store.materialize(known, START, spread=spread)
        stores[name] = store.backend.digest()
        store.close()
    assert stores["whole"] == stores["in groups"]
