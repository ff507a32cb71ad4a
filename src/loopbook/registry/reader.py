"""The registry as the service sees it: who holds an alias, and that version's files.

It reads what MLflow keeps, without importing MLflow: that would cost the
service two seconds and 150 MB for two small questions. A tracking *server* is
asked over its documented REST API; a tracking *database* is read directly,
read-only (three tables; a test holds the answers against MLflow's own). It
never writes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from loopbook.project.addresses import sqlite_file
from loopbook.project.database import shown
from loopbook.project.errors import RegistryError
from loopbook.registry import artifacts

T = TypeVar("T")
LISTED = 10  # versions, where a person named one that there is not
TIMEOUT_S = 5
ANSWER_BYTES = 2**24  # of what a tracking server says
MOST_BYTES = 2**30  # of a file, unless the caller knows better
DOWNLOAD_S = 300.0
ONNX, CARD, REFERENCE = "model.onnx", "card.json", "reference.parquet"
RESIDUALS = "residuals.parquet"
SERVICE = "service"
BARRED = "barred"  # tag: rolled back, and why


@dataclass(frozen=True)
class Version:
    """A registered version; `tags` are the registry's, `artifacts` is where its run keeps files."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]
    artifacts: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} v{self.number}"


def no_version(name: str, called: str, there: Sequence[Version], *, is_role: bool = False) -> str:
    """What a person is told who named a version that there is not, or a role that nobody has."""
    if not there:
        return f"{name}: the registry has no version of it yet. Build one: loopbook build"
    labels = [f"v{one.number}" for one in sorted(there, key=lambda one: -int(one.number))]
    more = f" and {len(labels) - LISTED:,} more" if len(labels) > LISTED else ""
    what = f"nobody is its {called}" if is_role else f"it has no version {called[:40]!r}"
    return f"{name}: {what}; there are {', '.join(labels[:LISTED])}{more}."


@dataclass(frozen=True)
class Run:
    """What the registry keeps of a run beside its files."""

    run_id: str
    params: Mapping[str, str]
    tags: Mapping[str, str]


class Registry(Protocol):
    """What the service asks."""

    def held(self, name: str, alias: str) -> Version | None: ...
    def versions(self, name: str) -> list[Version]: ...
    def run(self, run_id: str) -> Run | None: ...
    def model_tags(self, name: str) -> dict[str, str]: ...
    def names(self, version: Version, folder: str) -> list[str]: ...
    def content(
        self, version: Version, file: str, folder: str = SERVICE, most: int = MOST_BYTES
    ) -> bytes: ...


def connect(address: str) -> Registry:
    """The registry at a tracking address, as `MLFLOW_TRACKING_URI` has it.

    Raises
    ------
    RegistryError
        Never for a registry that is away: that is told when it is asked.
    """
    if urlsplit(address).scheme in ("http", "https"):
        from loopbook.registry.rest_registry import RestRegistry

        return RestRegistry(address)
    return SqlRegistry(address)


class SqlRegistry:
    """MLflow's database, read-only."""

    def __init__(self, address: str):
        self.address = address
        self._engine: Any = None
        file = sqlite_file(address)
        self._store = file and file.absolute().parent / "artifacts"

    def held(self, name: str, alias: str) -> Version | None:
        """The version that holds an alias, or None."""
        holders = self._asked(
            "JOIN registered_model_aliases a ON a.name = v.name AND a.version = v.version "
            "WHERE a.name = :name AND a.alias = :alias",
            {"name": name, "alias": alias},
        )
        return holders[0] if holders else None

    def versions(self, name: str) -> list[Version]:
        """Every version of a model, the newest first."""
        registered = self._asked("WHERE v.name = :name", {"name": name})
        return sorted(registered, key=lambda held: -int(held.number))

    def run(self, run_id: str) -> Run | None:
        """A run's parameters and tags, or None."""
        there = self._told(self._pairs, "run_uuid, run_uuid FROM runs WHERE run_uuid", run_id)
        if not there:
            return None
        params, tags = (
            self._told(self._pairs, f"key, value FROM {table} WHERE run_uuid", run_id)
            for table in ("params", "tags")
        )
        return Run(run_id, params, tags)

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of a registered model; none if it is not there."""
        return self._told(self._pairs, "key, value FROM registered_model_tags WHERE name", name)

    def names(self, version: Version, folder: str) -> list[str]:
        """The names of a version's files in a folder of its run."""
        return artifacts.listed(version.artifacts, folder)

    def _asked(self, which: str, about: Mapping[str, str]) -> list[Version]:
        return self._told(self._read, which, about)

    def _told(self, read: Callable[..., T], *about: Any) -> T:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return read(*about)
        except (SQLAlchemyError, OSError, ImportError, ValueError) as reason:
            cause = str(getattr(reason, "orig", None) or reason).splitlines()[0]
            raise RegistryError(
                f"registry {shown(self.address)}: cannot be asked ({cause}). "
                "Start its database, or correct MLFLOW_TRACKING_URI."
            ) from None

    def _is_there(self) -> bool:
        """Whether there is a database to ask, and an engine for it."""
        import sqlalchemy as sa

        file = sqlite_file(self.address)
        if file and not file.exists():
            return False
        if self._engine is None:
            is_postgresql = self.address.startswith("postgres")
            waits = {"connect_timeout": TIMEOUT_S} if is_postgresql else {}
            waits = {"timeout": TIMEOUT_S} if file else waits
            self._engine = sa.create_engine(
                self.address, poolclass=sa.pool.NullPool, connect_args=waits
            )
        return True

    def _pairs(self, which: str, value: str) -> dict[str, str]:
        import sqlalchemy as sa

        if not self._is_there():
            return {}
        with self._engine.connect() as connection:
            asked = sa.text(f"SELECT {which} = :value")
            return dict(tuple(row) for row in connection.execute(asked, {"value": value}).all())

    def _read(self, which: str, about: Mapping[str, str]) -> list[Version]:
        import sqlalchemy as sa

        if not self._is_there():
            return []
        selected = sa.text(
            "SELECT v.name, v.version, v.run_id, r.artifact_uri FROM model_versions v "
            f"JOIN runs r ON r.run_uuid = v.run_id {which}"
        )
        tags_of = sa.text(
            "SELECT key, value FROM model_version_tags WHERE name = :name AND version = :version"
        )
        with self._engine.connect() as connection:
            return [
                Version(
                    *(v.name, str(v.version), v.run_id),
                    dict(connection.execute(tags_of, {"name": v.name, "version": v.version}).all()),
                    artifacts.beside(v.artifact_uri or "", self._store),
                )
                for v in connection.execute(selected, about).all()
            ]

    def content(
        self, version: Version, file: str, folder: str = SERVICE, most: int = MOST_BYTES
    ) -> bytes:
        """A file of a version's run; one that is larger than `most` is refused unread."""
        return artifacts.read(
            version.label, version.artifacts, version.run_id, f"{folder}/{file}", most
        )
