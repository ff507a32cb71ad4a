"""API keys: who may ask the service what.

A key is shown once, when it is made; the store holds its SHA-256 (a key is 32
random bytes, so a slow hash would add nothing), its scopes and its dates. A
revoked key stays in the list. The embedded default is SQLite below `var/`;
`LOOPBOOK_KEY_STORE` names a PostgreSQL database instead, which all services of a
team ask.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from loopbook.project.database import Database, connect_database
from loopbook.project.errors import KeyStoreError
from loopbook.project.paths import Project

SCOPES = ("predict", "feedback", "metrics", "admin")
PREFIX = "lb_"
ADDRESS = "LOOPBOOK_KEY_STORE"
TABLE = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, scopes TEXT NOT NULL,
    made_at TEXT NOT NULL, revoked_at TEXT)"""


@dataclass(frozen=True)
class Key:
    """A key without its secret; instants are ISO 8601 in UTC."""

    id: str
    owner: str
    scopes: frozenset[str]
    made_at: str
    revoked_at: str | None


class KeyStore:
    """Keys in a database; safe for several processes."""

    def __init__(self, database: Database):
        self.database = database
        with database.transaction() as cursor:
            cursor.execute(database.sql(TABLE))

    def create(self, owner: str, scopes: frozenset[str]) -> tuple[str, Key]:
        """Make a key; the secret is given here and nowhere again.

        Raises
        ------
        KeyStoreError
            If a scope is unknown, or there is none.
        """
        wrong = sorted(scopes - set(SCOPES))
        if wrong or not scopes:
            raise KeyStoreError(
                f"scopes {', '.join(wrong) or 'none'}: expected some of {', '.join(SCOPES)}."
            )
        secret = PREFIX + secrets.token_urlsafe(32)
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        key = Key(secrets.token_hex(4), owner, scopes, made_at, None)
        with self.database.transaction() as cursor:
            cursor.execute(
                self.database.sql("INSERT INTO keys VALUES (?, ?, ?, ?, ?, NULL)"),
                (key.id, owner, _digest(secret), " ".join(sorted(scopes)), made_at),
            )
        return secret, key

    def listed(self) -> list[Key]:
        """Every key that was ever made, the oldest first."""
        rows = self.database.read(
            "SELECT id, owner, scopes, made_at, revoked_at FROM keys ORDER BY made_at, id"
        )
        return [Key(i, owner, frozenset(s.split()), made, gone) for i, owner, s, made, gone in rows]

    def revoke(self, key_id: str) -> None:
        """Let a key open nothing any more.

        Raises
        ------
        KeyStoreError
            If there is no such key.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.database.transaction() as cursor:
            revoked = "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?"
            cursor.execute(self.database.sql(revoked), (now, key_id))
            if cursor.rowcount == 0:
                raise KeyStoreError(f"key {key_id}: there is none. See: loopbook keys list")

    def scopes(self, secret: str) -> tuple[str, frozenset[str]] | None:
        """The id and the scopes of a key, or None if it is unknown or revoked."""
        asked = "SELECT id, scopes FROM keys WHERE digest = ? AND revoked_at IS NULL"
        rows = self.database.read(self.database.sql(asked), (_digest(secret),))
        return (rows[0][0], frozenset(rows[0][1].split())) if rows else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def connect(project: Project) -> KeyStore:
    """The keys that `LOOPBOOK_KEY_STORE` names, or SQLite below `var/`.

    Raises
    ------
    KeyStoreError
        If the address is of no known kind, or the server is away.
    """
    file = project.var / "keys.db"
    address = os.environ.get(ADDRESS)
    if address:
        return KeyStore(connect_database(address, ADDRESS, KeyStoreError))
    return KeyStore(connect_database(f"sqlite:///{file}", str(file), KeyStoreError))
