"""Dossiers: all that is on record about a version, kept and signed with its run.

It decides which records a dossier is made of and which files it has: the
record, the page that is drawn from it, the bill of materials and the signed
statement. A dossier is made once and never made again; what happens to a
version later stands in the registry. What was not recorded is left out, never
computed anew.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from loopbook.models import candidates
from loopbook.project.contract import Contract
from loopbook.project.errors import CandidateError, LoopbookError, RegistryError, SignatureError
from loopbook.project.files import sha256
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.provenance import bill_of_materials, signatures, statements
from loopbook.provenance.dossier_files import BILL, FOLDER, PAGE, RECORD, TAGS, digests
from loopbook.provenance.statements import ENVELOPE, SIGNED_BY
from loopbook.provenance.version_pairs import find
from loopbook.registry import (
    code_state,
    descriptions,
    kept_code,
    notes,
    reader,
    state_store,
    tracking,
)
from loopbook.registry.kept_code import Origin
from loopbook.registry.reader import BARRED, CARD, Registry, Version

LATER = ("promoted_", BARRED, "previous_champion", SIGNED_BY, *TAGS.values())  # tags of later days
LOCK = "requirements.lock"
TOO_LONG = ("examples", "categories")  # of a card, and of the split's record
Draw = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Sources:
    """Where the records of a project's versions are; `client` is that of `tracking`."""

    project: Project
    contract: Contract
    registry: Registry
    client: Any


def sources_of(project: Project, contract: Contract) -> Sources:
    """The project's registry, to read from and to write to."""
    registry = reader.connect(tracking_address(project))
    return Sources(project, contract, registry, tracking.connect(project))


@dataclass(frozen=True)
class Kept:
    """What a version's run holds of its dossier.

    Attributes
    ----------
    is_new : whether it was made now
    signer : the id of the key that signed it
    why_unsigned : a sentence, where nobody did
    """

    version: Version
    is_new: bool
    signer: str | None
    why_unsigned: str = ""

    @property
    def sentence(self) -> str:
        """What was kept, for people."""
        signed = f"signed by key {self.signer}" if self.signer else f"unsigned: {self.why_unsigned}"
        return f"The dossier of {self.version.label} is kept with its run, {signed}."


def keep(
    sources: Sources,
    called: str,
    draw: Draw,
    *,
    now: datetime,
    build: Mapping[str, Any] | None = None,
) -> Kept:
    """Make and sign the dossier of a version, as far as that was not done yet.

    Parameters
    ----------
    called : str
        Its number, or an alias: see `version_pairs.find`.
    draw : callable
        From the record to its page.
    build : mapping, optional
        `validation` and `split`: the records of the build that are not with the run.

    Raises
    ------
    TrackingError, RegistryError
        If there is no such version, or its records cannot be read.
    """
    registry, client, name = sources.registry, sources.client, sources.contract.name
    version = find(registry, name, called)
    is_new = TAGS[PAGE] not in version.tags
    if is_new:
        files = make(sources, version, draw, build)
        _put(client, version, files)
        for file, tag in TAGS.items():
            tracking.set_version_tag(client, version, tag, sha256(files[file]))
        for tag, value in descriptions.tags_of(sources.contract).items():
            tracking.set_model_tag(client, name, tag, value)
        descriptions.write(client, name, [version])
        version = find(registry, name, version.number)
    try:
        if statement := holding(sources, version):
            return Kept(version, is_new, statement.signer)
        signer = signatures.signer_of(sources.project, name)
    except SignatureError as error:
        return Kept(version, is_new, None, str(error))
    if signer is None:
        return Kept(version, is_new, None, f"no trusted key is here. Make one: {signatures.CREATE}")
    if faults := statements.altered(registry, version, digests(version)):
        return Kept(version, is_new, None, faults[0])
    envelope = statements.signed(signer, digests(version), _about(version, now))
    _put(client, version, {ENVELOPE: envelope})
    tracking.set_version_tag(client, version, SIGNED_BY, signer.id)
    return Kept(find(registry, name, version.number), is_new, signer.id)


def told(
    sources: Sources, number: str, draw: Draw, *, now: datetime, build: Mapping[str, Any]
) -> str:
    """Keep a dossier, and say that or why it was not kept; a promotion stands without it."""
    try:
        return keep(sources, number, draw, now=now, build=build).sentence
    except LoopbookError as error:
        return f"The dossier was not made: {error} Then: loopbook dossier {number}"


def make(
    sources: Sources, version: Version, draw: Draw, build: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """The files of a dossier by their names, but for the signature."""
    origin = kept_code.of_version(sources.registry, version)
    kept = {name: _without_long(about) for name, about in (build or {}).items()}
    record = gather(sources, version, origin) | {"build": kept or None}
    content = code_state.without_passwords(_as_json(record))
    record = json.loads(content)
    bill = bill_of_materials.make(record, _lock(sources.project, record, origin))
    return {RECORD: content, PAGE: draw(record).encode(), BILL: _as_json(bill)}


def gather(sources: Sources, version: Version, origin: Origin | None) -> dict[str, Any]:
    """All that is on record about a version, but for the build's own records."""
    project, registry = sources.project, sources.registry
    run = tracking.run_of(sources.client, version).data
    card = json.loads(registry.content(version, CARD))
    states = state_store.read_if_there(project, sources.contract, version.number)
    return {
        "record_version": 1,
        "version": {"name": version.name, "number": version.number, "run_id": version.run_id},
        "registered": {k: v for k, v in sorted(version.tags.items()) if not k.startswith(LATER)},
        "run": {
            "tags": {k: v for k, v in sorted(run.tags.items()) if not k.startswith("mlflow.")},
            "params": dict(sorted(run.params.items())),
        },
        "card": _without_long(card),
        "meaning": _meaning(card["candidate"]),
        "decision": json.loads(registry.content(version, notes.DECISION, notes.DECIDED)),
        "calibration": states.every[0].as_json() if states.every else None,
        "origin": dict(origin.manifest) if origin else None,
        "knobs": read_knobs(project.knobs).model_dump(mode="json")
        | (origin.json(kept_code.KNOBS) if origin else {}),
    }


def holding(sources: Sources, version: Version) -> statements.Statement | None:
    """The statement about a version, if a trusted key signed it over what the registry has now."""
    try:
        statement = statements.of_version(sources.registry, version, sources.project.signers)
    except (SignatureError, RegistryError):
        return None  # whoever has a key signs anew
    return statement if statement and statement.digests == digests(version) else None


def _about(version: Version, now: datetime) -> dict[str, Any]:
    told = ("candidate", "as_of", "git_commit", "gate", "gate_reason")
    return {
        "model": version.name,
        "version": version.number,
        "run_id": version.run_id,
        **{name: version.tags.get(name) for name in told},
        "signed_at": now.isoformat(timespec="seconds"),
    }


def _put(client: Any, version: Version, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in files]
        for path in paths:
            path.write_bytes(files[path.name])
        tracking.log_files(client, version.run_id, paths, FOLDER)


def _without_long(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in TOO_LONG}


def _meaning(candidate: str) -> str:
    try:
        return candidates.meaning(candidate)
    except CandidateError:  # of candidates.py, and taken out since
        return ""


def _lock(project: Project, record: Mapping[str, Any], origin: Origin | None) -> str | None:
    """The lock that the run was made by: kept with it, or the project's if it is still that one."""
    if origin and LOCK in origin:
        return origin.content(LOCK).decode()
    path, expected = project.root / LOCK, record["run"]["tags"].get("environment_sha256")
    if not path.exists() or sha256(path.read_bytes()) != expected:
        return None
    return path.read_text(encoding="utf-8")


def _as_json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
