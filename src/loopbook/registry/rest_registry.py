"""The registry as an MLflow server tells it, by its documented REST API.

It decides how much of an answer is taken in, how long one is waited for, and
what an answer means that is none. It never writes.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from loopbook.project.database import shown
from loopbook.project.errors import RegistryError
from loopbook.registry import artifacts
from loopbook.registry.reader import (
    ANSWER_BYTES,
    DOWNLOAD_S,
    MOST_BYTES,
    SERVICE,
    TIMEOUT_S,
    Run,
    Version,
)

T = TypeVar("T")


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

    def run(self, run_id: str) -> Run | None:
        """A run's parameters and tags, or None."""

        def read(answer: Any) -> Run:
            held = answer["run"].get("data", {})
            params, tags = (
                {one["key"]: one.get("value", "") for one in held.get(kind, [])}
                for kind in ("params", "tags")
            )
            return Run(run_id, params, tags)

        return self._told("runs/get", {"run_id": run_id}, read)

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of a registered model; none if it is not there."""

        def read(answer: Any) -> dict[str, str]:
            tags = answer["registered_model"].get("tags", [])
            return {tag["key"]: tag.get("value", "") for tag in tags}

        return self._told("registered-models/get", {"name": name}, read) or {}

    def names(self, version: Version, folder: str) -> list[str]:
        """The names of a version's files in a folder of its run."""

        def read(answer: Any) -> list[str]:
            files = answer.get("files", [])
            return sorted(f["path"].rpartition("/")[2] for f in files if not f.get("is_dir"))

        about = {"run_id": version.run_id, "path": folder}
        return self._told("artifacts/list", about, read) or []

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
