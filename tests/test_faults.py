"""What goes wrong on purpose, in the middle of a turn: one more turn brings all of it right.

Each test disturbs a copy of the same project, whose turn was killed in the
middle of `evaluate`: a turn goes on there, and a new one after monitoring.
"""

import contextlib
import re
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import PostgreSQL, free_port, kill_family, wait_for
from out_of_date import (
    AS_OF,
    ONCE,
    all_is_right,
    answer_a_month,
    begin,
    ended,
    forget_open_turn,
    heal,
    in_a_notebook,
    kernels,
    logged,
    wait_while,
)
from small_house import FULL, Running, answers, environment, loopbook

from loopbook.data import prediction_log
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records

pytestmark = pytest.mark.slow
CLIENTS = 4
LATER = {"as_of": "2015-04-06T12:00:00Z", "date": "2015-04-06"}  # in no window of these turns


@pytest.fixture
def count(house) -> int:
    """How many answers are in the log, each with its label, before anything is disturbed."""
    return logged(house).height


def outcomes(house: Project) -> list[str]:
    return [record["outcome"] for record in turn_records.listed(house)]


def test_a_kernel_that_is_killed_ends_the_turn_and_the_next_one_promotes(house, count):
    """At build, and then at monitor: the notebook is named, and nothing else has happened."""
    for stage in ("build", "monitor"):
        running = begin(house)
        wait_while(running, partial(in_a_notebook, house, running, stage))
        kernels(running)[0].kill()
        told = ended(running)
        assert re.search(r"failed in notebooks/\d\d_\w+.ipynb", told)
        assert "Kernel died" in told
        assert turn_records.open_turn(house) is None
    heal(house)
    assert outcomes(house) == ["error", "error", "promoted"]
    all_is_right(house, champion="2", answers=count, labels=count)


class Clients:
    """Clients that ask and tell what came true, one house after the other, until the service is gone."""

    def __init__(self, address: str):
        self.address, self.enough = address, threading.Event()
        self.received: list[str] = []
        self.told: list[dict] = []
        self.not_confirmed: list[dict] = []
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]

    def _ask(self, number: int) -> None:
        with (
            httpx.Client(base_url=self.address, timeout=20) as http,
            contextlib.suppress(httpx.TransportError),
        ):
            for house in range(100_000):
                row = FULL | LATER | {"id": f"{number}-{house}"}
                answer = http.post("/predict", json=row)
                assert answer.status_code == 200
                self.received.append(answer.json()["prediction_id"])
                truth = {"prediction_id": self.received[-1], "observed": 400_000.0 + house}
                self.not_confirmed.append(truth)
                assert http.post("/feedback", json=truth).json()["outcomes"] == ["accepted"]
                self.not_confirmed.remove(truth)
                self.told.append(truth)
                if self.enough.wait(0.02):  # the turn needs the processor too
                    return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        for thread in self.threads:
            thread.join()


def test_a_service_killed_within_a_turn_loses_no_answer_and_no_label(house, count):
    """What clients received is in the log once; the turn promotes, and says who was not reached."""
    service = Running(house.root, "--quiet")
    with Clients(service.address) as clients:
        running = begin(house, "--set", f"loop_service={service.address}")
        wait_while(running, partial(in_a_notebook, house, running, "build"))
        service.process.kill()
        service.process.wait(30)
    service.http.close()
    out, err = running.communicate(timeout=180)
    assert running.returncode == 10, out + err
    assert f"no service is reached at {service.address}; it will load v2 when it starts" in out
    assert clients.told
    with Running(house.root, "--quiet") as again:
        assert again.http.post("/predict", json=FULL | LATER).json()["version"] == "2"
        for truth in clients.told + clients.not_confirmed:
            told = again.http.post("/feedback", json=truth).json()
            assert told["accepted"] + told["unchanged"] == 1
            assert truth in clients.not_confirmed or told["unchanged"] == 1
    ids = set(logged(house)["id"])
    assert ids.issuperset(clients.received)
    # an answer may be in the log whose client was not told any more: one a connection
    everybody = count + len(clients.received) + 1
    assert everybody <= len(ids) <= everybody + CLIENTS
    labels = count + len(clients.told) + len(clients.not_confirmed)
    all_is_right(house, champion="2", answers=len(ids), labels=labels)


def test_a_database_killed_within_a_turn_loses_nothing_and_the_next_turn_promotes(house, count):
    """The log in PostgreSQL: the turn says that it is away, the service goes on once it is back."""
    with PostgreSQL() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(prediction_log.ADDRESS, server.address)
        log = {prediction_log.ADDRESS: server.address}
        assert answer_a_month() == count
        forget_open_turn(house)
        with Running(house.root, "--quiet", **log) as service:
            row = FULL | LATER | {"id": "before"}
            before = service.http.post("/predict", json=row).json()
            running = begin(house, **log)
            wait_while(running, partial(in_a_notebook, house, running, "monitor"))
            server.kill()
            assert f"127.0.0.1:{server.port}/postgres: cannot be used" in ended(running)
            truth = {"prediction_id": before["prediction_id"], "observed": 400_000.0}
            for path, sent in (("/predict", row), ("/feedback", truth)):
                refused = service.http.post(path, json=sent)
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "log_unavailable"
            server.start()
            assert service.http.post("/feedback", json=truth).json()["outcomes"] == ["accepted"]
            after = service.http.post("/predict", json=row | {"id": "after"})
            assert after.status_code == 200, after.text
            address = f"loop_service={service.address}"
            assert "the service answers with v2" in heal(house, "--set", address, **log)
        assert outcomes(house) == ["error", "promoted"]
        all_is_right(house, champion="2", answers=count + 2, labels=count + 1)


def content(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_a_full_disk_leaves_all_as_it_was_and_the_turn_goes_on_once_there_is_room(house, count):
    """Nothing can be written from some moment on, not even the turn's own record."""
    names = ("predictions.db", "features.db", "mlflow/mlflow.db")
    before = {name: content(house.var / name) for name in names}
    running = begin(house)
    wait_while(running, partial(in_a_notebook, house, running, "build"))
    turn = psutil.Process(running.pid)
    for process in [turn, *turn.children(recursive=True)]:
        process.rlimit(psutil.RLIMIT_FSIZE, (0, 0))
    assert "free space" in ended(running).lower()
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0))
    again = subprocess.run(
        [sys.executable, "-m", "loopbook", *ONCE, *AS_OF],
        cwd=house.root,
        env=environment(house.root),
        text=True,
        capture_output=True,
        preexec_fn=limit,
    )
    assert again.returncode == 1
    assert "Traceback" not in again.stderr
    assert "free space" in again.stderr.lower()
    assert {name: content(house.var / name) for name in names} == before
    assert turn_records.open_turn(house)["stage"] == "build"
    heal(house)
    assert outcomes(house) == ["promoted"]
    all_is_right(house, champion="2", answers=count, labels=count)


def test_a_contract_changed_within_a_build_promotes_nothing_until_all_is_built_with_it(
    house, count
):
    running = begin(house)
    wait_while(running, partial(in_a_notebook, house, running, "build"))
    text = house.contract.read_text()
    assert "range: [0, 15]" in text
    house.contract.write_text(text.replace("range: [0, 15]", "range: [0, 33]"))
    assert "it was changed while this build ran, so nothing is promoted" in ended(running)
    all_is_right(house, champion="1", answers=count, labels=count)
    heal(house)
    assert outcomes(house) == ["error", "promoted"]
    all_is_right(house, champion="2", answers=count, labels=count)


@contextlib.contextmanager
def mlflow_server(house: Project, port: int) -> Iterator[subprocess.Popen]:
    """A real tracking server over the project's own store."""
    words = ["server", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", house.environment()["MLFLOW_TRACKING_URI"]]
    with (house.var / "server.txt").open("a") as out:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("mlflow"), *words],
            cwd=house.root,
            env=environment(house.root, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            stdout=out,
            stderr=out,
        )
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), "mlflow server", 90)
        yield server
    finally:
        if server.poll() is None:
            kill_family(psutil.Process(server.pid))
        server.wait(30)


def test_a_registry_away_for_an_hour_ends_turns_and_not_the_service_and_costs_no_rest(house, count):
    """Killed while a turn is at monitor; once it is back, the next turn promotes at once."""
    port = free_port()
    address = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    forget_open_turn(house)
    with contextlib.ExitStack() as until_killed:
        server = until_killed.enter_context(mlflow_server(house, port))
        service = until_killed.enter_context(Running(house.root, "--quiet", **address))
        running = begin(house, **address)
        wait_while(running, partial(in_a_notebook, house, running, "monitor"))
        kill_family(psutil.Process(server.pid))
        ended(running)
        away = loopbook(house.root, *ONCE, "--as-of", "2015-04-06T00:40:00Z", **address)
        assert away.returncode == 1
        assert str(port) in away.stdout
        row = FULL | LATER | {"id": "meanwhile"}
        assert service.http.post("/predict", json=row).json()["version"] == "1"
        server.wait(30)
        until_killed.enter_context(mlflow_server(house, port))
        words = ["--set", f"loop_service={service.address}"]
        done = loopbook(house.root, *ONCE, *AS_OF, *words, **address)
        assert done.returncode == 10, done.stdout + done.stderr
        assert "the service answers with v2" in done.stdout
    assert outcomes(house) == ["error", "error", "promoted"]
    all_is_right(house, champion="2", answers=count + 1, labels=count)
