"""The registry as the service sees it: who holds an alias, and that version's files.

It reads what MLflow keeps, without importing MLflow: that would cost the
service two seconds and 150 MB for two small questions. A tracking *server* is
asked over its documented REST API; a tracking *database* is read directly,
read-only (three tables; a test holds the answers against MLflow's own). It
never writes.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from loopbook.project.addresses import sqlite_file
from loopbook.project.database import shown
from loopbook.project.errors import RegistryError

TIMEOUT_S = 5
ONNX, CARD, REFERENCE = "model.onnx", "card.json", "reference.parquet"
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
    def content(self, version: Version, file: str, folder: str = SERVICE) -> bytes: ...


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
        except (SQLAlchemyError, OSError) as reason:
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
            self._engine = sa.create_engine(self.address, poolclass=sa.pool.NullPool)
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
                    v.artifact_uri,
                )
                for v in connection.execute(selected, about).all()
            ]

    def content(self, version: Version, file: str, folder: str = SERVICE) -> bytes:
        """A file of a version's run."""
        return _local(version, file, folder)


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
        answer = self._ask("registered-models/alias", {"name": name, "alias": alias})
        return answer and self._as_held(answer["model_version"])

    def versions(self, name: str) -> list[Version]:
        """Every version of a model, the newest first (at most 1,000)."""
        about = {"filter": f"name = '{name}'", "max_results": "1000"}
        answer = self._ask("model-versions/search", about) or {}
        registered = [self._as_held(version) for version in answer.get("model_versions", [])]
        return sorted(registered, key=lambda one: -int(one.number))

    def _as_held(self, version: Mapping[str, Any]) -> Version:
        run = self._ask("runs/get", {"run_id": version["run_id"]}) or {}
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
        where = run.get("run", {}).get("info", {}).get("artifact_uri", "")
        number, run_id = str(version["version"]), version["run_id"]
        return Version(version["name"], number, run_id, tags, where)

    def content(self, version: Version, file: str, folder: str = SERVICE) -> bytes:
        """A file of a version's run."""
        parts = urlsplit(version.artifacts)
        if parts.scheme in ("", "file"):
            return _local(version, file, folder)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"{version.label}: its files are in {parts.scheme}, which the service does not "
                "read. Let the tracking server hand them out: mlflow server --serve-artifacts"
            )
        path = f"{parts.path.strip('/')}/{folder}/{file}"
        return self._get(f"/api/2.0/mlflow-artifacts/artifacts/{path}", {}).content

    def _ask(self, what: str, about: Mapping[str, str]) -> dict[str, Any] | None:
        answer = self._get(f"/api/2.0/mlflow/{what}", about, missing_is_none=True)
        return None if answer is None else answer.json()

    def _get(self, path: str, about: Mapping[str, str], *, missing_is_none: bool = False) -> Any:
        import httpx

        try:
            answer = self.client.get(self.address + path, params=dict(about))
        except httpx.HTTPError as reason:
            raise RegistryError(
                f"registry {shown(self.address)}: is away ({type(reason).__name__}). "
                "Start it, or correct MLFLOW_TRACKING_URI."
            ) from None
        if answer.is_success:
            return answer
        # an alias or a model that is not there is told with 404, or 400 in older servers
        is_absent = re.search(r"RESOURCE_DOES_NOT_EXIST|not found", answer.text)
        if missing_is_none and answer.status_code in (400, 404) and is_absent:
            return None
        raise RegistryError(
            f"registry {shown(self.address)}: answered {answer.status_code} to {path}. See its log."
        )


def _local(version: Version, file: str, folder: str) -> bytes:
    parts = urlsplit(version.artifacts)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(version.artifacts)
    try:
        return (path / folder / file).read_bytes()
    except OSError as reason:
        raise RegistryError(
            f"{version.label}: {file} cannot be read ({reason.strerror}). "
            "Restore the artifacts of its run, or roll back."
        ) from None
