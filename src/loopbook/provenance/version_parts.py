"""Version parts: all that made a version, as far as it was kept.

It decides where each part is read from: what was kept with the run first, then
the commit. What is not there is a finding, with how to get it; nothing stands
in for it.
"""

import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import ValidationError

from loopbook.pipeline.notebooks import read_notebook
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.errors import LoopbookError, NotebookError, RegistryError, TemplateError
from loopbook.project.paths import Project
from loopbook.provenance import git_trees
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.provenance.git_trees import Tree
from loopbook.registry import card_file, environments, kept_code, tracking
from loopbook.registry.kept_code import Origin
from loopbook.registry.reader import REFERENCE, Registry, Version
from loopbook.registry.reference import TAG as REFERENCE_TAG
from loopbook.registry.service_files import digest_mismatch

LIBRARY = "src/loopbook"
TRAIN = "train"  # what the notebook of every candidate is called here
BUILD_AGAIN = "Versions that are built from now on keep it: loopbook build"


@dataclass(frozen=True)
class VersionParts:
    """All that made a version; a part that is not there is None, and `findings` says why.

    Attributes
    ----------
    label : what it is called; where its number alone could be either's, with its place
    settings : the parameters of its run
    said : the tags of its run
    notebooks : by task, as executed
    knobs : by name, as the build used them, else as env.yaml had them
    lock : the text of requirements.lock
    installed : what was installed, whatever the lock says
    tree : the project's code and the library's, of the commit with its patch
    library : version and digest of the library that ran
    """

    label: str
    version: Version
    onnx: bytes
    card: Mapping[str, Any]
    contract: Contract | None
    snapshot: Path | None
    reference: pl.DataFrame | None
    settings: Mapping[str, str]
    said: Mapping[str, str]
    notebooks: Mapping[str, Mapping[str, Any]]
    knobs: Mapping[str, Any] | None
    lock: str | None
    installed: Mapping[str, str] | None
    pipeline: Mapping[str, Any] | None
    tree: Tree | None
    library: Mapping[str, str] | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def snapshot_sha256(self) -> str:
        return self.card["snapshot_sha256"]


@dataclass
class _Reading:
    """One version while its parts are read; what is wanting gathers in `findings`."""

    project: Project
    client: Any
    registry: Registry
    version: Version
    label: str
    findings: list[Finding] = field(default_factory=list)

    def miss(self, where: str, found: str, expected: str, remedy: str, what: str = MISSING) -> None:
        where = f"{self.label}, {where}"
        self.findings.append(Finding(what, where, found, expected, remedy))


def read(
    project: Project, client: Any, registry: Registry, version: Version, *, place: str = ""
) -> VersionParts:
    """The parts of a registered version.

    Parameters
    ----------
    project : Project
        Whose snapshots and repository hold the version's.
    place : str
        Where it is, for its label, if there may be another one of its number.

    Raises
    ------
    TrackingError
        If the graph or the card is gone or was changed: then nothing can be
        said of the version.
    """
    label = f"{version.label} ({place})" if place else version.label
    of = _Reading(project, client, registry, version, label)
    onnx, card = tracking.load_service_files(client, version)
    settings, said = tracking.told_of_run(client, version.run_id)
    origin = _origin(of)
    held = _Held(of, origin)
    return VersionParts(
        label=label,
        version=version,
        onnx=onnx,
        card=card,
        contract=_contract(of, card),
        snapshot=_snapshot(of, card["snapshot_sha256"]),
        reference=_reference(of),
        settings=settings,
        said=said,
        notebooks=_notebooks(of),
        knobs=_knobs(held),
        lock=held.text(environments.LOCK),
        installed=_installed(held),
        pipeline=held.yaml("pipeline.yaml"),
        tree=_tree(held, said),
        library=origin and origin.manifest.get("library"),
        findings=of.findings,
    )


@dataclass
class _Held:
    """What was kept with a version's run; a file that cannot be had is missed once."""

    of: _Reading
    origin: Origin | None

    def content(self, name: str) -> bytes | None:
        if self.origin is None or name not in self.origin:
            return None
        try:
            return self.origin.content(name)
        except RegistryError as error:
            remedy = "Restore it from a copy of the registry's files"
            self.of.miss(f"origin/{name}", str(error), "what was kept", remedy, CHANGED)
            return None

    def text(self, name: str) -> str | None:
        content = self.content(name)
        return None if content is None else content.decode("utf-8", "replace")

    def yaml(self, name: str) -> Mapping[str, Any] | None:
        text = self.text(name)
        try:
            told = None if text is None else yaml.safe_load(text)
        except yaml.YAMLError:
            return None
        return told if isinstance(told, dict) else None


def _origin(of: _Reading) -> Origin | None:
    try:
        origin = kept_code.of_version(of.registry, of.version)
    except LoopbookError as error:
        remedy = "Restore it from a copy of the registry's files"
        of.miss("its origin", str(error), "origin/origin.json as registered", remedy, CHANGED)
        return None
    if origin is None:
        remedy = f"Its commit and executed notebooks are compared instead. {BUILD_AGAIN}"
        of.miss("its origin", "nothing that was kept", "contract, knobs, lock and patch", remedy)
    return origin


def _contract(of: _Reading, card: Mapping[str, Any]) -> Contract | None:
    try:
        return card_file.contract_of(card)
    except ValidationError as error:
        found = f"{counted(error.error_count(), 'key')} that this loopbook does not know"
        of.miss("its contract", found, "a contract of today", "Read it with the loopbook it had")
        return None


def _snapshot(of: _Reading, sha256: str) -> Path | None:
    """The snapshot's file, if it is here; whoever reads it checks its digest."""
    path = of.project.snapshots / f"{sha256}.parquet"
    if path.exists():
        return path
    pointer = of.version.tags.get("snapshot_pointer")
    remedy = (
        f"Fetch it from the team's remote: loopbook snapshots restore {sha256[:12]}"
        if pointer
        else f"Copy {path.name} from the machine that built it into {of.project.snapshots}"
    )
    of.miss(f"snapshot {sha256[:12]}", "no file: pruned, or never here", path.name, remedy)
    return None


def _reference(of: _Reading) -> pl.DataFrame | None:
    if REFERENCE_TAG not in of.version.tags:
        of.miss("its reference rows", "none", "reference.parquet", BUILD_AGAIN)
        return None
    try:
        content = of.registry.content(of.version, REFERENCE)
    except RegistryError as error:
        of.miss(
            "its reference rows", str(error), "reference.parquet", "Restore its run's artifacts"
        )
        return None
    if mismatch := digest_mismatch(of.version, REFERENCE, content):
        remedy = "Restore it from a copy of the registry's files"
        of.miss("its reference rows", mismatch, "the registered bytes", remedy, CHANGED)
        return None
    return pl.read_parquet(BytesIO(content))


def _notebooks(of: _Reading) -> dict[str, Mapping[str, Any]]:
    """The notebooks that its run has, as executed; that of the candidate is `train`."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        files = tracking.downloaded(of.client, of.version.run_id, "notebooks", Path(folder))
        for path in sorted(files, key=lambda file: file.name):
            try:
                found[path.stem] = read_notebook(path)
            except NotebookError as error:
                remedy = "Restore it from a copy of the registry's files"
                of.miss(f"notebooks/{path.name}", str(error), "a notebook", remedy, CHANGED)
    if not found:
        of.miss("its executed notebooks", "none", "notebooks/ in its run", BUILD_AGAIN)
    # a member of a grid is called by its candidate and by its place in the grid
    trained = re.compile(rf"{re.escape(of.version.tags.get('candidate', ''))}(-\d+)?")
    return {TRAIN if trained.fullmatch(name) else name: told for name, told in found.items()}


def _knobs(held: _Held) -> Mapping[str, Any] | None:
    """Those that the build used, over those that only the service, the loop and the monitor read."""
    written, used = held.yaml("env.yaml"), held.content(kept_code.KNOBS)
    if written is None and used is None:
        return None
    return dict(written or {}) | (held.origin.json(kept_code.KNOBS) if used else {})


def _installed(held: _Held) -> Mapping[str, str] | None:
    text = held.text(kept_code.INSTALLED)
    return None if text is None else environments.from_text(text)


def _tree(held: _Held, said: Mapping[str, str]) -> Tree | None:
    """The code of the commit with what was changed since, or the files that were kept."""
    manifest = held.origin.manifest if held.origin else {}
    commit = manifest.get("commit") or said.get("git_commit", "none")
    files = _zipped(held.content(kept_code.ZIP))
    if commit == "none":
        if not files:
            held.of.miss("its code", "no commit and no files", "one of them", BUILD_AGAIN)
        return git_trees.of_files(files) if files else None
    library = (manifest.get("library") or {}).get("folder", "")
    places = {manifest.get("folder", ""): "", **({library: LIBRARY} if library else {})}
    patch = held.content(kept_code.PATCH) or b""
    try:
        tree = git_trees.of_commit(held.of.project.root, commit, places, patch)
    except TemplateError:
        remedy = "Fetch it: git fetch --unshallow, or git fetch --all"
        expected = f"commit {commit[:12]} in this repository"
        held.of.miss("its code", "no such commit: a shallow clone, or another", expected, remedy)
        return None
    _say_what_the_patch_lacks(held.of, manifest, said)
    beside = git_trees.of_files(files)
    return Tree({**tree.names, **beside.names}, {**tree.content, **beside.content})


def _say_what_the_patch_lacks(
    of: _Reading, manifest: Mapping[str, Any], said: Mapping[str, str]
) -> None:
    left_out = {
        path: why
        for path, why in (manifest.get("left_out") or {}).items()
        if git_trees.is_code(path)
    }
    if left_out:
        found = "; ".join(f"{path}: {why}" for path, why in left_out.items())
        of.miss(
            "its code", f"changes that were not kept ({found})", "a patch of them", "Commit them"
        )
    if manifest.get("changed_during_build"):
        found = "files that were changed while it was built"
        of.miss("its code", found, "one state", "Build again: loopbook build", CHANGED)
    if not manifest and said.get("git_dirty") == "true":
        expected = "the commit alone"
        of.miss("its code", "changes that no commit has", expected, f"Commit. {BUILD_AGAIN}")


def _zipped(content: bytes | None) -> dict[str, bytes]:
    if content is None:
        return {}
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if git_trees.is_code(name)]
        return {name: archive.read(name) for name in names}
