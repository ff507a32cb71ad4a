"""The registry as the service sees it: who holds an alias, and that version's files.

It reads what MLflow keeps, without importing MLflow: that would cost the
service two seconds and 150 MB for two small questions. A tracking *server* is
asked over its documented REST API; a tracking *database* is read directly,
read-only (three tables; a test holds the answers against MLflow's own). It
never writes.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from loopbook.project.addresses import sqlite_file
from loopbook.project.database import shown
from loopbook.project.errors import RegistryError
from loopbook.registry import artifacts

T = TypeVar("T")
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


class Registry(Protocol):
    """What the service asks."""

    def held(self, name: str, alias: str) -> Version | None: ...
    def versions(self, name: str) -> list[Version]: ...
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
        return RestRegistry(address)
    return SqlRegistry(address)


class SqlRegistry:
    """MLflow's database, read-only."""

    def __init__(self, address: str):
        self.address = address
        self._engine: Any = None

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

    def _asked(self, which: str, about: Mapping[str, str]) -> list[Version]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return self._read(which, about)
        except (SQLAlchemyError, OSError, ImportError, ValueError) as reason:
            cause = str(getattr(reason, "orig", None) or reason).splitlines()[0]
            raise RegistryError(
                f"registry {shown(self.address)}: cannot be asked ({cause}). "
                "Start its database, or correct MLFLOW_TRACKING_URI."
            ) from None

    def _read(self, which: str, about: Mapping[str, str]) -> list[Version]:
        import sqlalchemy as sa

        file = sqlite_file(self.address)
        if file and not file.exists():
            return []
        if self._engine is None:
            is_postgresql = self.address.startswith("postgres")
            waits = {"connect_timeout": TIMEOUT_S} if is_postgresql else {}
            waits = {"timeout": TIMEOUT_S} if file else waits
            self._engine = sa.create_engine(
                self.address, poolclass=sa.pool.NullPool, connect_args=waits
            )
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
                    v.artifact_uri or "",
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


class RestRegistry:
    """An MLflow server, by its REST API; the usual variables carry its credentials."""

    def __init__(self, address: str):
        import httpx

        self.address = address.rstrip("/")
        user, token = (
            os.environ.get("MLFLOW_TRACKING_USERNAME"),
            os.environ.get("MLFLOW_TRACKING_TOKEN"),
        )
        self.client = httpx.Client(
            timeout=TIMEOUT_S,
            auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
            headers={"Authorization": f"Bearer {token}"} if token else None,
        )

    def held(self, name: str, alias: str) -> Version | None:
        return self._told(
            "registered-models/alias",
            {"name": name, "alias": alias},
            lambda answer: self._as_held(answer["model_version"]),
        )

    def versions(self, name: str) -> list[Version]:
        """Every version of a model, the newest first (at most 1,000)."""
        about = {"filter": f"name = '{name}'", "max_results": "1000"}
        registered = self._told(
            "model-versions/search",
            about,
            lambda answer: [self._as_held(one) for one in answer.get("model_versions", [])],
        )
        return sorted(registered or [], key=lambda one: -int(one.number))

    def _as_held(self, version: Mapping[str, Any]) -> Version:
        about = {"run_id": version["run_id"]}
        where = self._told("runs/get", about, lambda run: run["run"]["info"].get("artifact_uri"))
        tags = {tag["key"]: tag.get("value", "") for tag in version.get("tags", [])}
        number = str(int(version["version"]))
        return Version(version["name"], number, version["run_id"], tags, where or "")

    def content(
        self, version: Version, file: str, folder: str = SERVICE, most: int = MOST_BYTES
    ) -> bytes:
        """A file of a version's run; of one that is larger than `most`, the rest is not fetched."""
        parts = urlsplit(version.artifacts)
        if parts.scheme in ("", "file"):
            return artifacts.read(
                version.label, version.artifacts, version.run_id, f"{folder}/{file}", most
            )
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"{version.label}: its files are in {parts.scheme}, which the service does not "
                "read. Let the tracking server hand them out: mlflow server --serve-artifacts"
            )
        path = f"{parts.path.strip('/')}/{folder}/{file}"
        artifacts.check_parts(version.label, path)
        found = self._get(f"/api/2.0/mlflow-artifacts/artifacts/{path}", {}, most=most)
        if not found.is_success:
            raise RegistryError(
                f"{version.label}: the tracking server has no {file}. "
                "Restore the artifacts of its run, or roll back."
            )
        if len(found.content) > most:
            raise artifacts.too_large(version.label, file, most)
        return found.content

    def _told(self, what: str, about: Mapping[str, str], read: Callable[[Any], T]) -> T | None:
        """What the server says, or None where it says that there is no such thing."""
        path = f"/api/2.0/mlflow/{what}"
        answer = self._get(path, about, most=ANSWER_BYTES)
        if not answer.is_success:
            return None
        try:
            return read(json.loads(answer.content))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            kind = answer.headers.get("content-type", "no content type")[:60]
            raise RegistryError(
                f"registry {shown(self.address)}: answered {path} with something else than an "
                f"MLflow server does ({kind}, {len(answer.content):,} bytes). "
                "Correct MLFLOW_TRACKING_URI, or see what stands before the server."
            ) from None

    def _get(self, path: str, about: Mapping[str, str], *, most: int) -> "Answer":
        """An answer; at most one byte more than `most` is taken in."""
        import httpx

        until = time.monotonic() + (TIMEOUT_S if most == ANSWER_BYTES else DOWNLOAD_S)
        try:
            with self.client.stream("GET", self.address + path, params=dict(about)) as answer:
                content = bytearray()
                for part in answer.iter_bytes():
                    content += part[: most + 1 - len(content)]
                    if len(content) > most:
                        break
                    if time.monotonic() > until:
                        raise httpx.ReadTimeout("it trickles")
        except httpx.HTTPError as reason:
            raise RegistryError(
                f"registry {shown(self.address)}: is away ({type(reason).__name__}). "
                "Start it, or correct MLFLOW_TRACKING_URI."
            ) from None
        found = Answer(answer.status_code, bytes(content), answer.headers)
        if found.is_success or found.says_absent:
            return found
        raise RegistryError(
            f"registry {shown(self.address)}: answered {answer.status_code} to {path}. See its log."
        )


@dataclass(frozen=True)
class Answer:
    """What a tracking server has answered."""

    status: int
    content: bytes
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def says_absent(self) -> bool:
        """Whether there is no such alias or model: 404, or 400 in older servers."""
        told = re.search(rb"RESOURCE_DOES_NOT_EXIST|not found", self.content[:10_000])
        return self.status in (400, 404) and told is not None
