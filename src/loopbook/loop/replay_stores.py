"""Replay stores: databases of a replay's own, on the servers that the environment names.

It decides what they are called, and when they are made, copied and dropped. Of the
databases that the environment names it asks only which others their servers hold, and
writes nothing into them.
"""

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loopbook.data import prediction_log
from loopbook.features import store as feature_store
from loopbook.features.backends import PREFIX, redis_place
from loopbook.loop.replay_results import PINNED, log_name
from loopbook.project.database import KINDS, shown, told_as
from loopbook.project.errors import ReplayError
from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project

LOG = prediction_log.ADDRESS
STORES = {
    "MLFLOW_TRACKING_URI": "registry",
    LOG: "log",
    "LOOPBOOK_KEY_STORE": "keys",
    feature_store.ADDRESS: "features",
}
BEGIN, AT_ONCE = "loopbook_replay", 1_000
UNFINISHED = ".copying"  # a project that is being copied; its databases have its final name


@dataclass(frozen=True)
class Servers:
    """The servers that a replay uses; without any all its stores are files of its projects.

    Attributes
    ----------
    replays : the folder `var/replay`
    addresses : by variable, as the environment has them
    """

    replays: Path
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def stores(self) -> list[str]:
        """Which stores are on servers."""
        return sorted(STORES[variable] for variable in self.addresses)

    def environment(self, project: Path) -> dict[str, str]:
        """The variables that name the stores of one of the replay's projects."""
        return {
            variable: another(address, self._name(project, variable))
            for variable, address in self.addresses.items()
        }

    def make(self, project: Path) -> None:
        """Empty stores for a project; what it had is dropped."""
        self.drop(project)
        for variable, address in self.addresses.items():
            make(address, self._name(project, variable))

    def copy(self, source: Path, target: Path, *, without: Collection[str] = ()) -> None:
        """Stores for a project like those of another one, which nobody uses just now.

        Parameters
        ----------
        without : variables
            Of stores that begin empty.
        """
        self.drop(target)
        for variable, address in self.addresses.items():
            like = "" if variable in without else self._name(source, variable)
            make(address, self._name(target, variable), like)

    def drop(self, project: Path) -> None:
        """Drop the stores of a project, if there are any."""
        for address in self.addresses.values():
            for name in _names(address, self._begin(project)):
                _drop(address, name)

    def hold(self, project: Path) -> bool:
        """Whether the stores of a project are there; of Redis, which makes none, nothing is asked."""
        return all(
            self._name(project, variable) in _names(address, self._begin(project))
            for variable, address in self.addresses.items()
            if not _is_redis(address)
        )

    def drop_forgotten(self) -> None:
        """Drop the stores of projects of this replay folder that are gone."""
        if not self.addresses:
            return
        contracts = [*self.replays.glob("*/*/contract.yaml")]
        contracts += self.replays.glob("*/*/*/contract.yaml")
        kept = tuple(self._begin(contract.parent) for contract in contracts)
        for address in self.addresses.values():
            for name in _names(address, self._begin(None)):
                if not name.startswith(kept):
                    _drop(address, name)

    def log(self, project: Project, policy: str) -> str:
        """The address of a policy's prediction log."""
        return log_of(project, policy, self.environment(project.root).get(LOG, ""))

    def _name(self, project: Path, variable: str) -> str:
        return f"{self._begin(project)}_{STORES[variable]}"

    def _begin(self, project: Path | None) -> str:
        """How the names of a project's databases begin, or of all of this folder's."""
        file = self.replays / "servers.json"
        if not file.exists():  # not of its path, which two machines may share
            write_json(file, {"id": secrets.token_hex(4)})
        begin = f"{BEGIN}_{read_json(file)['id']}_"
        if project is None:
            return begin
        place = str(project.relative_to(self.replays)).removesuffix(UNFINISHED)
        return begin + hashlib.sha256(place.encode()).hexdigest()[:8]


EMBEDDED = Servers(Path())


def named(replays: Path) -> Servers:
    """The servers that the environment names.

    Raises
    ------
    ReplayError
        If it names none, or a store in which a replay can make no database.
    """
    addresses = {}
    for variable in STORES:
        address = os.environ.get(variable) or "sqlite:"
        kind = urlsplit(address).scheme.partition("+")[0]
        if kind in ("http", "https"):
            raise ReplayError(
                f"--servers: {variable} ({shown(address)}) is a tracking server, in which a replay "
                "can have no database of its own. Name a PostgreSQL server for this command: "
                f"{variable}=postgresql+psycopg://… loopbook replay …"
            )
        if kind in feature_store.REDIS or KINDS.get(kind) == "postgresql":
            addresses[variable] = address
    if not addresses:
        raise ReplayError(
            "--servers: the environment names no server, so there is none to use. Set at least one "
            f"of {', '.join(STORES)} to a PostgreSQL server (features: or Redis), or leave "
            "--servers out."
        )
    return Servers(replays, addresses)


def another(address: str, name: str) -> str:
    """The address of another database of the same server; of Redis, of another prefix."""
    plain, _, query = address.partition("?")
    if _is_redis(address):
        plain, _ = redis_place(address, "")
        return f"{plain}{'&' if '?' in plain else '?'}{PREFIX}={name}"
    scheme, _, rest = plain.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}" + (f"?{query}" if query else "")


def log_of(project: Project, policy: str, address: str | None = None) -> str:
    """The address of a policy's prediction log.

    Parameters
    ----------
    address : str or None
        Of the log of the project's own service, where it is on a server; None: as the
        environment says, which is the project's own in a process of its lane.
    """
    address = os.environ.get(LOG) if address is None else address
    if not address:
        return f"sqlite:///{project.var / log_name(policy)}"
    return another(address, f"{_database(address)}_{policy}") if policy in PINNED else address


def made_log(project: Project, policy: str) -> str:
    """The address of a policy's prediction log, which is there; in a process of its lane."""
    address = log_of(project, policy)
    if own := os.environ.get(LOG):
        make(own, _database(address))
    return address


def make(address: str, name: str, like: str = "") -> None:
    """Make a database of a server, empty or like another one; of Redis copy the keys.

    One that is there stays.

    Raises
    ------
    ReplayError
        If the server is away, or its user may make no database.
    """
    with _opened(address) as server:
        if _is_redis(address):
            before, after = (f"loopbook:{of}/".encode() for of in (like, name))
            for key in server.scan_iter(before + b"*", count=AT_ONCE) if like else ():
                server.copy(key, after + key.removeprefix(before), replace=True)
        elif name not in _databases(server):
            template = f' TEMPLATE "{like}"' if like else ""
            server.execute(f'CREATE DATABASE "{name}"{template}')


def _names(address: str, begin: str) -> set[str]:
    """The databases of a server whose names begin so; of Redis, the prefixes."""
    with _opened(address) as server:
        if not _is_redis(address):
            return {name for name in _databases(server) if name.startswith(begin)}
        keys = server.scan_iter(f"loopbook:{begin}*", count=AT_ONCE)
        return {key.decode().split(":")[1].partition("/")[0] for key in keys}


def _databases(server: Any) -> set[str]:
    return {name for (name,) in server.execute("SELECT datname FROM pg_database").fetchall()}


def _drop(address: str, name: str) -> None:
    with _opened(address) as server:
        if not _is_redis(address):
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        elif keys := list(server.scan_iter(f"loopbook:{name}/*", count=AT_ONCE)):
            server.unlink(*keys)


@contextmanager
def _opened(address: str) -> Iterator[Any]:
    """A connection to a server of the environment's."""
    variable = next((v for v in STORES if os.environ.get(v) == address), "the environment")
    with told_as(ReplayError, shown(address), variable):
        if _is_redis(address):
            import redis

            plain, _ = redis_place(address, "")
            with redis.Redis.from_url(plain, socket_connect_timeout=5, socket_timeout=60) as server:
                yield server
            return
        import psycopg

        scheme, _, rest = address.partition("://")
        plain = f"{scheme.partition('+')[0]}://{rest}"
        with psycopg.connect(plain, autocommit=True, connect_timeout=5) as server:
            try:
                yield server
            except psycopg.errors.InsufficientPrivilege as reason:
                raise ReplayError(
                    f"{variable} ({shown(address)}): a replay on servers makes databases of its "
                    f"own, and this user may not ({reason}). Nothing was changed. Allow it, as an "
                    f"administrator: ALTER ROLE {server.info.user} CREATEDB"
                ) from None


def _is_redis(address: str) -> bool:
    return urlsplit(address).scheme in feature_store.REDIS


def _database(address: str) -> str:
    return urlsplit(address).path.removeprefix("/")
