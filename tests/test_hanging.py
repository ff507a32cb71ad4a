"""A live service while its registry, its log and its feature store hang, one after the other.

No test is timed. A call that hangs is begun first; what must not wait for it is
answered while it has not come back.
"""

import contextlib
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import free_port, program, wait_for
from made_once import copied
from small_house import FULL, ROOT, Running, loopbook, set_knobs

from loopbook.features import store as feature_store
from loopbook.project import paths
from loopbook.registry import tracking

pytestmark = pytest.mark.slow
TRAILING = "sales_30d"


@pytest.fixture(scope="module")
def redis() -> Iterator[tuple[str, psutil.Process]]:
    """A real Redis server, to be stopped and let go."""
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = program("redis-server", "redis-server")
    with subprocess.Popen([server, *words], stdout=subprocess.DEVNULL) as running:
        process = psutil.Process(running.pid)
        address = f"redis://127.0.0.1:{port}/0"
        wait_for(lambda: bool(process.net_connections()), "redis-server")
        yield address, process
        process.resume()
        running.terminate()


@pytest.fixture(scope="module")
def house(two_versions, tmp_path_factory) -> Path:
    folder = copied(two_versions, tmp_path_factory.mktemp("hanging") / "a project")
    return set_knobs(folder, serve_watch_s="0.3")


@pytest.fixture(scope="module")
def service(house, redis) -> Iterator[Running]:
    variable = {feature_store.ADDRESS: redis[0]}
    done = loopbook(house, "features", "materialize", "--as-of", "2015-03-01", **variable)
    assert done.returncode == 0, done.stderr
    with Running(house, "--quiet", **variable) as running:
        yield running


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


class Begun:
    """A request that is on its way."""

    def __init__(self, ask: Callable[[], httpx.Response]):
        self.answers: list[httpx.Response] = []
        self.thread = threading.Thread(target=lambda: self.answers.append(ask()))
        self.thread.start()

    @property
    def waits(self) -> bool:
        return self.thread.is_alive()

    def answer(self) -> httpx.Response:
        self.thread.join()
        return self.answers[0]


def admin(folder: Path) -> dict[str, str]:
    made = loopbook(folder, "keys", "create", "tester", "--scope", "admin")
    return {"X-API-Key": made.stdout.splitlines()[0]}


def test_while_the_log_is_locked_everything_else_is_answered_and_nothing_is_lost(service, house):
    """503 with a time to wait; the feature store, the state and the counts are told meanwhile."""
    with locked(house / "var/predictions.db"):
        begun = Begun(lambda: httpx.post(f"{service.address}/predict", json=FULL, timeout=60))
        for page in ("live", "ready", "live"):
            assert service.http.get(f"/health/{page}").status_code == 200
        assert service.http.get("/metrics").status_code == 200
        assert begun.waits
        refused = begun.answer()
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["error"]["code"] == "log_unavailable"
        assert str(house) not in refused.text
    answer = service.http.post("/predict", json=FULL)
    assert answer.status_code == 200
    with contextlib.closing(sqlite3.connect(house / "var/predictions.db")) as database:
        ids = [row[0] for row in database.execute("SELECT id FROM predictions")]
    assert answer.json()["prediction_id"] in ids


def test_a_rollback_and_all_answers_wait_for_no_registry_that_is_locked(
    service, house, monkeypatch
):
    """The look that is under way does not bring the version back that was rolled back."""
    for name in ("LOOPBOOK_PROJECT", *paths.Project(ROOT).environment()):
        monkeypatch.delenv(name, raising=False)
    client, key = tracking.connect(paths.Project(house)), admin(house)

    def version() -> str:
        return service.http.get("/metadata").json()["version"]

    newest, oldest = tracking.versions(client, "house-prices")
    for wanted in (oldest, newest):
        tracking.set_alias(client, wanted, tracking.CHAMPION)
        wait_for(lambda: version() == wanted.number, f"version {wanted.number}")  # noqa: B023
    with locked(house / "var/mlflow/mlflow.db"):
        reload = f"{service.address}/admin/reload"
        begun = Begun(lambda: httpx.post(reload, headers=key, timeout=60))
        back = service.http.post("/admin/rollback", headers=key)
        assert back.json() == {"version": oldest.number}
        assert service.http.post("/predict", json=FULL).json()["version"] == oldest.number
        assert service.http.get("/health/live").status_code == 200
        assert begun.waits
    assert begun.answer().status_code in (200, 503)
    assert version() == oldest.number


def test_while_redis_is_stopped_features_are_imputed_and_said_until_it_is_back(service, redis):
    def imputed() -> list[str]:
        return service.http.post("/predict", json=FULL).json()["imputed"]

    assert imputed() == []
    redis[1].suspend()
    assert TRAILING in imputed()
    assert service.http.get("/health/ready").json()["features"] == "away"
    assert "loopbook_features_away 1.0" in service.http.get("/metrics").text
    assert TRAILING in imputed()
    assert "loopbook_feature_store_errors_total 1.0" in service.http.get("/metrics").text
    redis[1].resume()
    wait_for(lambda: imputed() == [], "the feature store")
