"""Backends: where the feature store keeps its change points.

It decides how they are written and looked up in SQLite, PostgreSQL and Redis,
each change whole or not at all. It knows nothing of what a feature is.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode

from loopbook.project.database import Database
from loopbook.project.errors import FeatureStoreError

READ_AT_ONCE = 20_000
PREFIX = "prefix"  # of an address of Redis: ours, not its client's
Point = tuple[str, int, bytes]  # entity, valid from (microseconds), packed values


class Backend(Protocol):
    """What a server must do; `SqlBackend` and `RedisBackend` do.

    `digest` is over all that is stored, None where nobody asks for it;
    `at` gives the newest point that is not after an instant, and up to which instant the
    store knew its facts then (None where no point is); `has` whether there
    is any of an entity; `fill` replaces everything; `change` replaces the points after `since` of
    some entities and forgets those that had ended by `keep`. Each is done
    whole or not at all. Instants are microseconds since 1970.
    """

    def about(self) -> dict[str, str]: ...
    def digest(self) -> str | None: ...
    def at(self, entities: Sequence[str], micros: int) -> tuple[list[bytes | None], str | None]: ...
    def has(self, entity: str) -> bool: ...
    def fill(self, about: Mapping[str, str], points: Iterable[Point]) -> None: ...
    def change(
        self,
        about: Mapping[str, str],
        entities: Iterable[str],
        since: int,
        keep: int,
        points: Iterable[Point],
    ) -> None: ...
    def close(self) -> None: ...


class SqlBackend:
    """SQLite or PostgreSQL: a row a change point."""

    def __init__(self, database: Database, name: str):
        self.database = database
        self.points, self.notes = f'"{name}_points"', f'"{name}_about"'
        self.lookup = self._sql(
            "SELECT packed, (SELECT said FROM {notes} WHERE name = 'as_of') FROM {points} "
            "WHERE entity = ? AND valid_from <= ? ORDER BY valid_from DESC LIMIT 1"
        )
        self.any_point = self._sql("SELECT 1 FROM {points} WHERE entity = ? LIMIT 1")
        with database.transaction() as cursor:
            cursor.execute(
                self._sql(
                    "CREATE TABLE IF NOT EXISTS {points} (entity TEXT NOT NULL, "
                    "valid_from BIGINT NOT NULL, packed {{blob}} NOT NULL, "
                    "PRIMARY KEY (entity, valid_from))"
                )
            )
            cursor.execute(
                self._sql("CREATE TABLE IF NOT EXISTS {notes} (name TEXT PRIMARY KEY, said TEXT)")
            )

    def _sql(self, text: str) -> str:
        return self.database.sql(text.format(points=self.points, notes=self.notes))

    def about(self) -> dict[str, str]:
        return dict(self.database.read(self._sql("SELECT name, said FROM {notes}")))

    def digest(self) -> str:
        state = hashlib.sha256(json.dumps(self.about(), sort_keys=True).encode())
        asked = self._sql(
            "SELECT entity, valid_from, packed FROM {points} WHERE (entity, valid_from) > (?, ?) "
            f"ORDER BY entity, valid_from LIMIT {READ_AT_ONCE}"
        )
        last = ("", -(2**62))
        while points := self.database.read(asked, last):
            last = points[-1][:2]
            for entity, micros, packed in points:
                state.update(f"{entity}\0{micros}\0".encode() + bytes(packed))
        return state.hexdigest()

    def at(self, entities: Sequence[str], micros: int) -> tuple[list[bytes | None], str | None]:
        lookups = [self.database.read(self.lookup, (entity, micros)) for entity in entities]
        points = [bytes(rows[0][0]) if rows else None for rows in lookups]
        return points, next((rows[0][1] for rows in lookups if rows), None)

    def has(self, entity: str) -> bool:
        return bool(self.database.read(self.any_point, (entity,)))

    def fill(self, about, points) -> None:
        with self.database.transaction() as cursor:
            cursor.execute(self._sql("DELETE FROM {points}"))
            self._write(cursor, about, points)

    def change(self, about, entities, since, keep, points) -> None:
        ended = self._sql(
            "DELETE FROM {points} WHERE entity = ? AND valid_from < "
            "(SELECT max(valid_from) FROM {points} WHERE entity = ? AND valid_from <= ?)"
        )
        gone = self._sql("DELETE FROM {points} WHERE entity = ? AND valid_from > ?")
        with self.database.transaction() as cursor:
            cursor.executemany(ended, [(entity, entity, keep) for entity in entities])
            cursor.executemany(gone, [(entity, since) for entity in entities])
            self._write(cursor, about, points)

    def _write(self, cursor, about, points) -> None:
        cursor.executemany(self._sql("INSERT INTO {points} VALUES (?, ?, ?)"), points)
        note = self._sql(
            "INSERT INTO {notes} VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET said = excluded.said"
        )
        cursor.executemany(note, list(about.items()))

    def close(self) -> None:
        self.database.close()


# Several lookups in one trip to the server, with the store's moment, which the first key holds.
NEWEST = """
local found = {}
for i, key in ipairs(KEYS) do
  if i > 1 then
    found[i] = redis.call('ZRANGE', key, ARGV[1], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1)[1] or false
  end
end
found[1] = redis.call('HGET', KEYS[1], 'as_of')
return found
"""


def redis_place(address: str, name: str) -> tuple[str, str]:
    """The address as Redis's client reads it, and how the keys of a store begin there.

    With `?prefix=staging` several stores of one name share a server.

    Raises
    ------
    FeatureStoreError
        If the prefix is not of letters, digits, `_` and `-`: `*` would be a pattern.
    """
    plain, _, query = address.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    prefix = options.pop(PREFIX, None)
    if prefix is None:
        return address, f"loopbook:{name}:"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", prefix):
        raise FeatureStoreError(
            f"LOOPBOOK_FEATURE_STORE: found {PREFIX}={prefix!r}, expected letters, digits, _ and -."
        )
    # a contract's name holds no slash, so no other store's keys begin like this
    return plain + (f"?{urlencode(options)}" if options else ""), f"loopbook:{prefix}/{name}:"


class RedisBackend:
    """A sorted set an entity, scored by `valid from`; a change is one MULTI."""

    def __init__(self, client: Any, prefix: str):
        self.client, self.prefix = client, prefix
        self._newest = client.register_script(NEWEST)

    def about(self) -> dict[str, str]:
        about = self.client.hgetall(self.prefix + "about")
        return {key.decode(): value.decode() for key, value in about.items()}

    def digest(self) -> None:
        """None: to read all sets again would keep the service waiting."""

    def at(self, entities: Sequence[str], micros: int) -> tuple[list[bytes | None], str | None]:
        keys = [self.prefix + "about", *(self.prefix + "points:" + entity for entity in entities)]
        moment, *members = self._newest(keys=keys, args=[micros])
        return [member and member[8:] for member in members], moment and moment.decode()

    def has(self, entity: str) -> bool:
        return bool(self.client.exists(self.prefix + "points:" + entity))

    def fill(self, about, points) -> None:
        with self.client.pipeline(transaction=True) as todo:
            for key in self.client.scan_iter(self.prefix + "points:*", count=1000):
                todo.delete(key)
            self._write(todo, about, points)

    def change(self, about, entities, since, keep, points) -> None:
        keys = [self.prefix + "points:" + entity for entity in entities]
        with self.client.pipeline(transaction=False) as asked:
            for key in keys:
                asked.zrange(
                    key, keep, "-inf", byscore=True, desc=True, offset=0, num=1, withscores=True
                )
            newest = asked.execute()
        with self.client.pipeline(transaction=True) as todo:
            for key, members in zip(keys, newest, strict=True):
                if members:
                    todo.zremrangebyscore(key, "-inf", f"({members[0][1]:.0f}")
                todo.zremrangebyscore(key, f"({since}", "+inf")
            self._write(todo, about, points)

    def _write(self, todo, about, points) -> None:
        for entity, micros, packed in points:
            # members of a set are unique, so the instant is part of them
            member = struct.pack("<q", micros) + packed
            todo.zadd(self.prefix + "points:" + entity, {member: micros})
        todo.hset(self.prefix + "about", mapping=dict(about))
        todo.execute()

    def close(self) -> None:
        self.client.close()
