"""Redis keys: those of a feature store, read in one moment and put back in another server.

It decides the form on the way, a line of JSON a key. It knows the two kinds of key
that the feature store has: a hash, and a sorted set.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopbook.backups.stores import VARIABLES, Store
from loopbook.features.backends import redis_place
from loopbook.project.database import told_as
from loopbook.project.errors import BackupError

AT_ONCE = 1_000


def place(folder: Path, store: Store) -> Path:
    return folder / "databases" / f"{store.name}.jsonl"


def copied(store: Store, folder: Path) -> int:
    """Copy the keys of a store; how many there are."""
    with _opened(store) as client:
        names = _names(client, store)
        with client.pipeline(transaction=True) as asked:  # all of them as of one moment
            for name in names:
                if name.endswith(b":about"):
                    asked.hgetall(name)
                else:
                    asked.zrange(name, 0, -1, withscores=True)
            values = asked.execute()
        path = place(folder, store)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for name, value in zip(names, values, strict=True):
                pairs = value.items() if isinstance(value, dict) else value
                kept = [[_text(one), _text(other)] for one, other in pairs]
                kind = "hash" if isinstance(value, dict) else "sorted set"
                key = _text(_moved(name, _prefix(store), _canonical(store)))
                file.write(json.dumps({"key": key, "kind": kind, "pairs": kept}) + "\n")
    return len(names)


def filled(store: Store) -> bool:
    with _opened(store) as client:
        return bool(_names(client, store))


def put_back(store: Store, folder: Path) -> None:
    """Fill an empty store, all keys or none."""
    with _opened(store) as client, client.pipeline(transaction=True) as todo:
        with place(folder, store).open(encoding="utf-8") as lines:
            for kept in map(json.loads, lines):
                name = _moved(_bytes(kept["key"]), _canonical(store), _prefix(store))
                pairs = kept["pairs"]
                if kept["kind"] == "hash":
                    todo.hset(name, mapping={_bytes(one): _bytes(other) for one, other in pairs})
                else:
                    todo.zadd(name, {_bytes(one): float(other) for one, other in pairs})
        todo.execute()


def _names(client: Any, store: Store) -> list[bytes]:
    # a contract's name is of small letters, digits and -, so it is no pattern
    return sorted(set(client.scan_iter(f"{_prefix(store)}*", count=AT_ONCE)))


def _prefix(store: Store) -> str:
    return redis_place(store.address, _contract_name(store))[1]


def _canonical(store: Store) -> str:
    """How keys begin in a backup, whatever prefix the store has on its server."""
    return redis_place("", _contract_name(store))[1]


def _contract_name(store: Store) -> str:
    (about, _) = store.tables
    return about.removesuffix("_about")


def _moved(name: bytes, before: str, after: str) -> bytes:
    return after.encode() + name.removeprefix(before.encode())


def _text(value: bytes | float) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


@contextmanager
def _opened(store: Store) -> Iterator[Any]:
    with told_as(BackupError, store.where, VARIABLES[store.name]):
        import redis

        # longer than the service waits: one answer holds every point of the store
        plain, _ = redis_place(store.address, _contract_name(store))
        client = redis.Redis.from_url(plain, socket_timeout=60, socket_connect_timeout=5)
        try:
            yield client
        finally:
            client.close()
