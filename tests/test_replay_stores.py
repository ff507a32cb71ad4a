"""A replay on servers: databases of its own, made, copied and dropped, and nobody else's touched."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from conftest import new_database
from small_house import loopbook, make_project

from loopbook.features.backends import redis_place
from loopbook.loop import replay_stores
from loopbook.loop.replay_stores import LOG
from loopbook.project.errors import FeatureStoreError, ReplayError
from loopbook.project.paths import Project

FEATURES = "LOOPBOOK_FEATURE_STORE"


@pytest.fixture
def servers(postgresql, redis_server, tmp_path, monkeypatch) -> Iterator[replay_stores.Servers]:
    """A log in PostgreSQL and features in Redis, both with something of somebody's in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(LOG, postgresql)
    monkeypatch.setenv(FEATURES, redis_server)
    client, somebodys = redis.Redis.from_url(redis_server), "loopbook:somebodys:about"
    client.hset(somebodys, "as_of", "1")
    yield replay_stores.named(tmp_path / "replay")
    client.delete(somebodys, *client.keys("loopbook:loopbook_replay_*"))


def project(servers: replay_stores.Servers, name: str) -> Path:
    folder = servers.replays / "year-month-servers" / name
    folder.mkdir(parents=True)
    (folder / "contract.yaml").touch()
    return folder


def databases(address: str) -> set[str]:
    with psycopg.connect(address) as server:
        return {n for (n,) in server.execute("SELECT datname FROM pg_database").fetchall()}


def keys(address: str) -> set[bytes]:
    return set(redis.Redis.from_url(address).keys())


@pytest.mark.medium
def test_a_project_begins_with_what_another_ones_stores_hold_and_leaves_theirs_alone(servers):
    first, loop = project(servers, "first"), project(servers, "loop")
    servers.make(first)
    there = servers.environment(first)
    with psycopg.connect(there[LOG], autocommit=True) as log:
        log.execute("CREATE TABLE answers AS SELECT 7 AS answer")
    plain, prefix = redis_place(there[FEATURES], "house-prices")
    client = redis.Redis.from_url(plain)
    client.hset(prefix + "about", "as_of", "1")
    servers.copy(first, loop)
    here = servers.environment(loop)
    with psycopg.connect(here[LOG], autocommit=True) as log:
        assert log.execute("SELECT answer FROM answers").fetchall() == [(7,)]
        log.execute("DELETE FROM answers")
    copied = redis_place(here[FEATURES], "house-prices")[1] + "about"
    assert client.hgetall(copied) == {b"as_of": b"1"}
    client.delete(copied)
    with psycopg.connect(there[LOG]) as log:
        assert log.execute("SELECT answer FROM answers").fetchall() == [(7,)]
    assert client.hgetall(prefix + "about") == {b"as_of": b"1"}
    servers.copy(first, loop, without=(LOG,))
    with psycopg.connect(here[LOG]) as log:
        assert log.execute("SELECT to_regclass('answers')").fetchone() == (None,)


@pytest.mark.medium
def test_the_next_replay_drops_the_stores_of_projects_that_are_gone_and_no_others(servers):
    log, features = servers.addresses[LOG], servers.addresses[FEATURES]
    before = databases(log), keys(features)
    for name in ("first", "loop"):
        servers.make(project(servers, name))
    client = redis.Redis.from_url(features)
    kept, gone = (
        servers.environment(servers.replays / "year-month-servers" / n)[FEATURES]
        for n in ("first", "loop")
    )
    for address in (kept, gone):
        client.set(redis_place(address, "house-prices")[1] + "about", "1")
    (servers.replays / "year-month-servers/loop/contract.yaml").unlink()
    servers.drop_forgotten()
    assert len(databases(log) - before[0]) == 1
    assert servers.hold(servers.replays / "year-month-servers/first")
    assert not servers.hold(servers.replays / "year-month-servers/loop")
    assert len(keys(features) - before[1]) == 1
    assert databases(log) >= before[0]
    assert keys(features) >= before[1]


@pytest.mark.medium
def test_the_first_versions_own_logs_are_beside_that_of_the_loop(servers, monkeypatch):
    loop = Project(project(servers, "loop"))
    before = databases(servers.addresses[LOG])
    servers.make(loop.root)
    for name, address in servers.environment(loop.root).items():
        monkeypatch.setenv(name, address)
    address = replay_stores.made_log(loop, "never")
    assert address == servers.log(loop, "never") == servers.environment(loop.root)[LOG] + "_never"
    assert address.rpartition("/")[2] in databases(address)
    assert replay_stores.log_of(loop, "loop") == servers.environment(loop.root)[LOG]
    servers.drop(loop.root)
    assert databases(servers.addresses[LOG]) == before


def test_a_user_who_may_make_no_database_is_told_what_allows_it(
    postgresql_server, tmp_path, monkeypatch
):
    with psycopg.connect(postgresql_server, autocommit=True) as server:
        server.execute("DROP ROLE IF EXISTS modest")
        server.execute("CREATE ROLE modest LOGIN")
    modest = new_database(postgresql_server).replace("loopbook@", "modest@")
    monkeypatch.setenv(LOG, modest)
    servers = replay_stores.named(tmp_path)
    with pytest.raises(ReplayError, match="ALTER ROLE modest CREATEDB"):
        servers.make(tmp_path / "year-month-servers/loop")


@pytest.mark.medium
@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "the environment names no server.*leave --servers out"),
        ({"MLFLOW_TRACKING_URI": "http://mlflow:5000"}, "is a tracking server, in which a replay"),
        ({LOG: "postgresql://nobody@127.0.0.1:9/none"}, f"start the server.*{LOG}"),
    ],
)
def test_servers_that_a_replay_cannot_use_are_told_before_anything_runs(
    variables, sentence, tmp_path
):
    folder = make_project(tmp_path / "house")
    done = loopbook(folder, "replay", "--step", "month", "--servers", **variables)
    assert done.returncode == 1
    assert re.search(sentence, done.stderr, re.DOTALL), done.stderr
    assert not list((folder / "var" / "replay").glob("*/*"))


def test_a_prefix_keeps_stores_of_one_name_apart_in_one_redis():
    assert redis_place("redis://h:6379/0", "x") == ("redis://h:6379/0", "loopbook:x:")
    plain, begin = redis_place("redis://h:6379/0?socket_timeout=3&prefix=staging", "x")
    assert (plain, begin) == ("redis://h:6379/0?socket_timeout=3", "loopbook:staging/x:")
    with pytest.raises(FeatureStoreError, match="expected letters, digits"):
        redis_place("redis://h:6379/0?prefix=*", "x")
