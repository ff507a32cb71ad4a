"""Lineage: where a registered version came from, each step held against the next.

It decides what is told of a version: the gate's decision, when it served, its
run, the notebooks that made it, the snapshot, and commit, contract and
environment; and what of that is missing or no longer agrees. It opens no graph
and computes nothing again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loopbook.data import snapshots
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.errors import LoopbookError, ProvenanceError
from loopbook.project.files import sha256, sha256_of
from loopbook.project.git import git
from loopbook.project.paths import Project
from loopbook.provenance.findings import CHANGED, MISSING, UNREPRODUCIBLE, Finding
from loopbook.registry import artifacts, notes, reigns
from loopbook.registry.reader import CARD, ONNX, Registry, Version, no_version
from loopbook.registry.reigns import Reign
from loopbook.registry.service_files import DIGEST_TAGS, digest_mismatch, most_bytes

TASKS = ("ingest", "validate", "build_features", "split", "evaluate")
NONE = "none"
LOCK = "requirements.lock"
MOST_HASHED = 2**30  # bytes of a snapshot; a larger one is for loopbook verify


@dataclass(frozen=True)
class Commit:
    """The code of a version: its commit, whether it is here, and what was not committed."""

    sha: str
    is_here: bool
    is_dirty: bool
    kept: list[str]  # files of the run's folder `origin`


@dataclass(frozen=True)
class Data:
    """The snapshot of a version; `path` is None where its file is not here."""

    sha256: str
    path: str | None
    rows: int | None
    as_of: str | None
    window: tuple[str, str] | None
    pointer: str


@dataclass(frozen=True)
class Environment:
    """By which contract and packages a version was made, and whether today's are the same."""

    contract_sha256: str
    is_todays_contract: bool
    lock_sha256: str
    is_todays_lock: bool
    python: str


@dataclass(frozen=True)
class Lineage:
    """Where a version came from.

    Attributes
    ----------
    gate : of the decision's record: outcome, sentence, when, and every check
    reigns : from when on it served, by whose decision
    notebooks : by name, the place of each executed notebook: a path that opens, or what to type
    findings : what is missing, or does not agree
    """

    model: str
    version: str
    run_id: str
    candidate: str
    files: dict[str, str]
    gate: dict[str, Any]
    reigns: list[Reign]
    params: dict[str, str]
    notebooks: dict[str, str]
    data: Data
    commit: Commit
    environment: Environment
    fitted: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.model} v{self.version}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def of_version(
    project: Project, contract: Contract, registry: Registry, version: Version
) -> Lineage:
    """The lineage of a version, as far as it is here.

    Parameters
    ----------
    contract : Contract
        The project's, as it is now.
    """
    looked = _Looked(project, registry, version)
    run = registry.run(version.run_id)
    if run is None:
        found = "no such run in the registry"
        restore = "Restore the registry's database from a backup"
        looked.say(MISSING, f"run {version.run_id}", found, "the run that made it", restore)
    params, tags = (dict(run.params), dict(run.tags)) if run else ({}, {})
    card, files = looked.service_files()
    gate = looked.gate(card)
    looked.agree(tags, card)
    return Lineage(
        model=version.name,
        version=version.number,
        run_id=version.run_id,
        candidate=version.tags.get("candidate") or card.get("candidate", "unknown"),
        files=files,
        gate=gate,
        reigns=[r for r in looked.ledger() if r.version == version.number],
        params=params,
        notebooks=looked.notebooks(card.get("candidate", "")),
        data=looked.snapshot(tags, card),
        commit=looked.commit(tags),
        environment=looked.environment(tags, card, contract),
        fitted=dict(card.get("fitted", {})),
        findings=looked.findings,
    )


def find(registry: Registry, name: str, number: str) -> Version:
    """A registered version by its number, with or without a `v` before it.

    Raises
    ------
    ProvenanceError
        If there is no such version; the message lists those that there are.
    """
    registered = registry.versions(name)
    for version in registered:
        if version.number == number.removeprefix("v"):
            return version
    raise ProvenanceError(
        f"{no_version(name, number, registered)} A version that was deleted comes back with a "
        "backup of the registry's database."
    )


class _Looked:
    """One version while its records are looked at; what does not agree gathers in `findings`."""

    def __init__(self, project: Project, registry: Registry, version: Version):
        self.project, self.registry, self.version = project, registry, version
        self.findings: list[Finding] = []

    def say(self, what: str, where: str, found: str, expected: str, remedy: str) -> None:
        where = f"{self.version.label}, {where}"
        self.findings.append(Finding(what, where, found, expected, remedy))

    def ledger(self) -> Sequence[Reign]:
        return reigns.of_tags(self.registry.model_tags(self.version.name))

    def service_files(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The card, empty where it cannot be trusted, and the digests of graph and card."""
        card: dict[str, Any] = {}
        for file in (ONNX, CARD):
            try:
                content = self.registry.content(
                    self.version, file, most=most_bytes(self.version, file)
                )
            except LoopbookError as error:
                restore = "Restore the artifacts of its run from a backup"
                self.say(MISSING, file, str(error).splitlines()[0], "the file of its run", restore)
                continue
            if digest_mismatch(self.version, file, content):
                expected = f"SHA-256 {self.version.tags.get(DIGEST_TAGS[file], 'none')[:12]}"
                found = f"SHA-256 {sha256(content)[:12]}"
                restore = f"Restore {file} of run {self.version.run_id} from a backup, or roll back"
                self.say(CHANGED, file, found, expected, restore)
            elif file == CARD:
                card = json.loads(content)
        return card, {n: self.version.tags.get(DIGEST_TAGS[n], "unknown") for n in (ONNX, CARD)}

    def gate(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """The decision of the gate, from its record and from the registry, if both say the same."""
        tags = self.version.tags
        told = {"outcome": tags.get("gate"), "sentence": tags.get("gate_reason")}
        try:
            record = json.loads(self.registry.content(self.version, notes.DECISION, notes.DECIDED))
        except (LoopbookError, ValueError) as error:
            found = str(error).splitlines()[0]
            expected = "the record of the gate's decision"
            restore = "Restore the artifacts of its run, or build again: loopbook build"
            self.say(MISSING, "decision/decision.json", found, expected, restore)
            return told | {"decided_at": tags.get("promoted_at"), "checks": []}
        pairs = [
            ("sentence", record.get("sentence"), tags.get("gate_reason")),
            ("snapshot_sha256", record.get("snapshot_sha256"), tags.get("snapshot_sha256")),
            ("challenger", (record.get("challenger") or {}).get("run_id"), self.version.run_id),
        ]
        for name, found, expected in pairs:
            if expected is not None and found != expected:
                restore = "Restore the record from a backup; the registry's tags are the other copy"
                where = f"decision/decision.json, {name}"
                self.say(CHANGED, where, str(found), str(expected), restore)
        kept = ("decided_at", "as_of", "checks", "rows", "errors", "champion", "previous")
        return told | {"sentence": record.get("sentence")} | {n: record.get(n) for n in kept}

    def agree(self, tags: Mapping[str, str], card: Mapping[str, Any]) -> None:
        """Hold the run's own tags against the registry's and the card's."""
        there = self.version.tags
        pairs = [
            (name, tags.get(name), there.get(name))
            for name in ("onnx_sha256", "card_sha256", "snapshot_sha256")
        ]
        pairs += [(n, tags.get(n), card.get(n)) for n in ("snapshot_sha256", "contract_sha256")]
        for name, found, expected in dict.fromkeys(pairs):
            if found is not None and expected is not None and found != expected:
                restore = "Restore the registry's database from a backup"
                self.say(CHANGED, f"tag {name} of its run", found[:12], expected[:12], restore)

    def notebooks(self, candidate: str) -> dict[str, str]:
        """The executed notebooks of its run, each with where it is."""
        try:
            names = self.registry.names(self.version, "notebooks")
        except LoopbookError:
            names = []
        there = {Path(name).stem for name in names}
        wanted = [task for task in TASKS if task not in there]
        of_training = {candidate, *(f"{candidate}-{place}" for place in range(100))}
        if candidate and not there & of_training:
            wanted.append(f"train ({candidate})")
        if wanted:
            found = f"{counted(len(names), 'notebook')}, without {', '.join(wanted)}"
            expected = "one of each task that made it"
            restore = "Restore the artifacts of its run from a backup"
            self.say(MISSING, "executed notebooks", found, expected, restore)
        return {name: self._place(f"notebooks/{name}") for name in names}

    def _place(self, file: str) -> str:
        """A path that opens; where the artifacts are elsewhere, what brings the file here."""
        path = artifacts.folder_of(self.version.artifacts) / file
        if path.is_file():
            return str(path)
        return f"mlflow artifacts download --run-id {self.version.run_id} --artifact-path {file}"

    def snapshot(self, tags: Mapping[str, str], card: Mapping[str, Any]) -> Data:
        sha = card.get("snapshot_sha256") or self.version.tags.get("snapshot_sha256", "unknown")
        path = self.project.snapshots / f"{sha}.parquet"
        pointer = tags.get("snapshot_pointer") or self.version.tags.get("snapshot_pointer", "")
        if not path.is_file():
            pull = (
                f"Bring it here from the team's remote: loopbook snapshots restore {sha[:12]}"
                if pointer
                else "It was kept without DVC, so it is in a copy of var/snapshots or nowhere"
            )
            self.say(MISSING, f"snapshot {sha[:12]}", "no file", str(path), pull)
        elif path.stat().st_size <= MOST_HASHED and (found := sha256_of(path)) != sha:
            restore = "Delete it and restore it from a copy or the team's remote"
            self.say(CHANGED, str(path), f"SHA-256 {found[:12]}", f"SHA-256 {sha[:12]}", restore)
        known = path.with_suffix(".json")
        record = snapshots.load_record(known) if known.is_file() else None
        window = (record.first_event, record.last_event) if record and record.first_event else None
        rows = record.rows if record else _count(tags.get("snapshot_rows"))
        here = str(path) if path.is_file() else None
        return Data(sha, here, rows, card.get("as_of"), window, pointer)

    def commit(self, tags: Mapping[str, str]) -> Commit:
        sha = tags.get("git_commit") or self.version.tags.get("git_commit", NONE)
        is_dirty = tags.get("git_dirty") == "true"
        try:
            kept = self.registry.names(self.version, "origin")
        except LoopbookError:
            kept = []
        is_here = sha != NONE and _has_commit(self.project.root, sha)
        expected = "the commit of the code that made it"
        if sha == NONE and not kept:
            found = "no commit: it was built outside a git repository"
            later = "Keep the project in git (git init), so that the next version names its code"
            self.say(UNREPRODUCIBLE, "code", found, expected, later)
        elif sha != NONE and not is_here:
            self.say(MISSING, f"commit {sha[:12]}", "not here", expected, _fetch(self.project, sha))
        if is_dirty and not kept:
            found, expected = "changes that no commit has", "all code in the commit, or a patch"
            later = "Commit before you build; what was changed then is not kept"
            self.say(UNREPRODUCIBLE, f"code beside commit {sha[:12]}", found, expected, later)
        return Commit(sha, is_here, is_dirty, kept)

    def environment(
        self, tags: Mapping[str, str], card: Mapping[str, Any], contract: Contract
    ) -> Environment:
        lock = self.project.root / LOCK
        todays_lock = sha256(lock.read_bytes()) if lock.is_file() else NONE
        digest, locked = (
            card.get("contract_sha256", "unknown"),
            tags.get("environment_sha256", NONE),
        )
        return Environment(
            contract_sha256=digest,
            is_todays_contract=digest == contract.digest(),
            lock_sha256=locked,
            is_todays_lock=locked == todays_lock,
            python=tags.get("python", "unknown"),
        )


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _has_commit(root: Path, sha: str) -> bool:
    try:
        git(root, "cat-file", "-e", f"{sha}^{{commit}}")
    except LoopbookError:
        return False
    return True


def _fetch(project: Project, sha: str) -> str:
    """How a commit comes here."""
    try:
        shallow = git(project.root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    except LoopbookError:
        return "This folder is no git repository: clone the project's, and look there"
    if shallow:
        return "This clone is shallow: git fetch --unshallow"
    return f"git fetch --all; or from the clone that has it: git fetch PATH {sha}"
