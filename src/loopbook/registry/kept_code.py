"""Kept code: what made a version, kept with its run in the folder `origin/`.

It decides what is kept of the code and the environment of a build, and reads
it back with its digests checked. `origin.json` names every other file with its
SHA-256; the registry has the SHA-256 of `origin.json`. So nothing of it can be
changed unseen, and whoever reads a version's origin needs no copy of the
project.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopbook.project.contract import Contract
from loopbook.project.errors import RegistryError
from loopbook.project.files import read_json, sha256
from loopbook.project.knobs import Knobs
from loopbook.project.paths import Project
from loopbook.registry import code_state, environments, notes, tracking
from loopbook.registry.code_state import CodeState
from loopbook.registry.environments import Environment
from loopbook.registry.reader import Registry, Version

FOLDER, MANIFEST = "origin", "origin.json"
TAG = "origin_sha256"
PATCH, ZIP, KNOBS = "changes.patch", "files.zip", "knobs.json"
SNAPSHOT, INSTALLED = "snapshot.json", "installed.txt"
# of the project, as they were: by these two versions are compared, whatever git has
COPIED = ("contract.yaml", "env.yaml", "pipeline.yaml", "requirements.lock", "candidates.py")
ORIGIN_VERSION = 1
MOST_BYTES = 2**26
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the same files, the same bytes


@dataclass(frozen=True)
class Origin:
    """What a version's run holds of what made it.

    Attributes
    ----------
    manifest : see `keep`
    """

    registry: Registry
    version: Version
    manifest: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return name in self.manifest["files"]

    def content(self, name: str) -> bytes:
        """A kept file, its digest checked.

        Raises
        ------
        RegistryError
            If it was not kept, is gone or was changed.
        """
        if name not in self:
            raise RegistryError(f"{self.version.label}: {FOLDER}/{name} was not kept with its run.")
        content = self.registry.content(self.version, name, FOLDER, MOST_BYTES)
        _check(self.version, name, content, self.manifest["files"][name])
        return content

    def json(self, name: str) -> Any:
        """The same as what JSON says."""
        return json.loads(self.content(name))

    @property
    def environment(self) -> Environment:
        """What the build ran on."""
        packages = environments.from_text(self.content(INSTALLED).decode())
        return Environment(**self.manifest["environment"], packages=packages)


def of_version(registry: Registry, version: Version) -> Origin | None:
    """What made a version; None for one of a loopbook that kept nothing.

    Raises
    ------
    RegistryError
        If its `origin.json` is gone or was changed.
    """
    if TAG not in version.tags:
        return None
    content = registry.content(version, MANIFEST, FOLDER, MOST_BYTES)
    _check(version, MANIFEST, content, version.tags[TAG])
    return Origin(registry, version, json.loads(content))


def _check(version: Version, name: str, content: bytes, expected: str) -> None:
    if (actual := sha256(content)) != expected:
        raise RegistryError(
            f"{version.label}: {FOLDER}/{name} has SHA-256 {actual[:12]}…, the registry says "
            f"{expected[:12]}…. It was changed; restore it from a copy of the registry's files."
        )


def is_told(client, record: Mapping[str, Any]) -> bool:
    """Whether the challenger is the run that serves and has the decision by which it serves.

    Such a run stays as it is: to make the model that serves again decides nothing.

    Parameters
    ----------
    record : mapping
        The evidence, with the runs of `challenger` and `champion`.
    """
    run_id, champion = record["challenger"]["run_id"], record["champion"]
    serves = champion is not None and champion["run_id"] == run_id
    return serves and bool(client.list_artifacts(run_id, notes.DECIDED))


def keep(
    client,
    run_id: str,
    project: Project,
    contract: Contract,
    products: Mapping[str, Mapping[str, str]],
) -> str:
    """Keep with a run what made it; the SHA-256 of its `origin.json`.

    What was kept of a run stays: a promotion that is repeated, with other knobs or
    code, trains nothing anew.

    Parameters
    ----------
    products : mapping
        Of the build's tasks. From the parameters of their notebooks (`nb`) it is
        known with which knobs they ran, whatever env.yaml says; one of them has
        the record of the snapshot.

    Notes
    -----
    The manifest has `commit` and `folder` (of the project in its repository),
    `is_dirty`, `left_out` (changed files that were not kept, and why),
    `changed_during_build` (since it was trained), `library`, `environment`, `contract_sha256` and
    `files`. `changes.patch` is there where a commit lacks something,
    `files.zip` where git does not hold the code.
    """
    tags = client.get_run(run_id).data.tags
    if TAG in tags:
        return tags[TAG]
    state = code_state.of(project)
    began = tags.get("code_sha256", state.sha256)
    now = environments.present(project)
    files = _files(project, state)
    files[KNOBS] = _as_json(knobs_of(made["nb"] for made in products.values()))
    (snapshot,) = {made["snapshot"] for made in products.values() if "snapshot" in made}
    files[SNAPSHOT] = Path(snapshot).read_bytes()
    files[INSTALLED] = environments.as_text(now.packages).encode()
    manifest = {
        "origin_version": ORIGIN_VERSION,
        "commit": state.commit,
        "folder": state.folder,
        "is_dirty": state.is_dirty,
        "changed": list(state.changed),
        "left_out": dict(state.left_out),
        "code_sha256": state.sha256,
        "changed_during_build": began != state.sha256,
        "library": vars(state.library),
        "environment": now.as_dict(),
        "contract_sha256": contract.digest(),
        "files": {name: sha256(content) for name, content in sorted(files.items())},
    }
    files[MANIFEST] = _as_json(manifest)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        tracking.log_files(client, run_id, sorted(Path(folder).iterdir()), FOLDER)
    digest = sha256(files[MANIFEST])
    client.set_tag(run_id, TAG, digest)
    return digest


def _files(project: Project, state: CodeState) -> dict[str, bytes]:
    """The project's files as they are, and the code that no commit has."""
    there = [name for name in COPIED if (project.root / name).is_file()]
    files = {
        name: code_state.without_passwords((project.root / name).read_bytes()) for name in there
    }
    if state.patch:
        files[PATCH] = state.patch
    elsewhere = {path: content for path, content in state.files.items() if path not in COPIED}
    if elsewhere:
        files[ZIP] = _zipped(elsewhere)
    return files


def _zipped(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return written.getvalue()


def knobs_of(paths: Iterable[Path | str]) -> dict[str, Any]:
    """The knobs with which notebooks ran, by their files."""
    notebooks = []
    for path in paths:
        with suppress(OSError, ValueError):  # run by hand in JupyterLab, or not there
            notebooks.append(read_json(path))
    return knobs_in(notebooks)


def knobs_in(notebooks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The knobs with which notebooks ran, by the parameters that Papermill wrote into them."""
    knobs: dict[str, Any] = {}
    for notebook in notebooks:
        told = notebook.get("metadata", {}).get("papermill", {}).get("parameters", {})
        knobs |= {name: told[name] for name in Knobs.model_fields if name in told}
    return knobs


def seconds_of(notebooks: Iterable[Mapping[str, Any]]) -> float | None:
    """How long notebooks ran, by what Papermill wrote into them; None if one does not say."""
    told = [n.get("metadata", {}).get("papermill", {}).get("duration") for n in notebooks]
    return None if not told or None in told else sum(told)


def _as_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape")
