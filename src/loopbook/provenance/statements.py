"""Statements: what is signed of a version, in the form of in-toto, and whether it holds.

It decides which files a statement is about (graph, card, snapshot, dossier and
what lies beside them) and what a version must show before it may answer where
env.yaml requires a signature. It trusts no tag of the registry: a file and its
tag can be changed together, a signed digest cannot.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopbook.project.errors import RegistryError, SignatureError, VersionRefused
from loopbook.project.files import sha256
from loopbook.provenance import signatures
from loopbook.provenance.dossier_files import FOLDER, SNAPSHOT
from loopbook.provenance.signatures import Signer
from loopbook.registry.reader import CARD, ONNX, SERVICE, Registry, Version
from loopbook.registry.service_files import DIGEST_TAGS

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:loopbook:version:1"
PAYLOAD = "application/vnd.in-toto+json"
ENVELOPE = "statement.dsse.json"
SIGNED_BY = "signed_by"  # tag: the id of the key
MOST_BYTES = 2**22
SIGN = "loopbook dossier {} --sign"


@dataclass(frozen=True)
class Statement:
    """What a trusted key has signed of a version.

    Attributes
    ----------
    signer : the key's id
    digests : SHA-256 by the path of a file in the run, and of `snapshot`
    about : the predicate
    """

    signer: str
    digests: Mapping[str, str]
    about: Mapping[str, Any]


def make(digests: Mapping[str, str], about: Mapping[str, Any]) -> bytes:
    """A statement about a version, as JSON; the same facts give the same bytes."""
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())
        ],
        "predicateType": PREDICATE,
        "predicate": dict(about),
    }
    return json.dumps(statement, sort_keys=True, allow_nan=False).encode()


def signed(signer: Signer, digests: Mapping[str, str], about: Mapping[str, Any]) -> bytes:
    """The envelope of a statement, signed."""
    return signatures.sign(signer, make(digests, about), PAYLOAD)


def of_version(registry: Registry, version: Version, signers: Path) -> Statement | None:
    """What a trusted key has signed of a version; None if nobody has signed it.

    Raises
    ------
    SignatureError
        If the signature does not hold, or is that of another version.
    RegistryError
        If the registry has a signature which cannot be fetched.
    """
    if SIGNED_BY not in version.tags:
        return None
    envelope = registry.content(version, ENVELOPE, FOLDER, MOST_BYTES)
    payload, signer = signatures.opened(envelope, signatures.trusted(signers), PAYLOAD)
    try:
        record = json.loads(payload)
        digests = {one["name"]: one["digest"]["sha256"] for one in record["subject"]}
        about = dict(record["predicate"])
        kind = (record["_type"], record["predicateType"])
    except (ValueError, LookupError, TypeError):
        raise SignatureError(f"key {signer} signed something else than a version") from None
    if kind != (STATEMENT, PREDICATE):
        raise SignatureError(f"key {signer} signed {kind[1]!r}, expected {PREDICATE!r}")
    if (about.get("model"), about.get("version")) != (version.name, version.number):
        raise SignatureError(
            f"key {signer} signed {about.get('model')} v{about.get('version')}, another version"
        )
    return Statement(signer, digests, about)


def require(registry: Registry, version: Version, signers: Path) -> Statement:
    """What a trusted key has signed of a version, if the registry's digests are those signed.

    Whoever calls this reads the graph and the card by `servable.load` next,
    which holds their bytes against the same digests.

    Raises
    ------
    VersionRefused
        If it is not signed by a key of `signers.yaml`, or what was signed is
        not what the registry has. The message is told to callers.
    RegistryError
        If its signature cannot be fetched; it may be there the next time.
    """
    remedy = f"Sign it, if it should serve: {SIGN.format(version.number)}; or roll back."
    try:
        statement = of_version(registry, version, signers)
    except SignatureError as error:
        where, what = version.label, str(error).rstrip(".")
        raise VersionRefused(f"{where}: {what}, so it is refused. {remedy}", "signature") from None
    if statement is None:
        raise VersionRefused(
            f"{version.label}: nobody has signed it, and env.yaml has require_signature. {remedy}",
            "signature",
        )
    for file, tag in DIGEST_TAGS.items():
        expected = statement.digests.get(f"{SERVICE}/{file}")
        if version.tags.get(tag) != expected or (expected is None and file in (ONNX, CARD)):
            raise VersionRefused(
                f"{version.label}: the registry says that {file} has SHA-256 "
                f"{str(version.tags.get(tag))[:12]}…, key {statement.signer} signed "
                f"{str(expected)[:12]}…, so it is refused. Restore it, or roll back.",
                "signature",
            )
    return statement


def altered(registry: Registry, version: Version, digests: Mapping[str, str]) -> list[str]:
    """The files of a version that are gone or have another digest, a sentence each.

    The snapshot is not among them: it does not lie with the run.
    """
    faults = []
    for name, expected in digests.items():
        folder, _, file = name.rpartition("/")
        if name == SNAPSHOT:
            continue
        try:
            found = sha256(registry.content(version, file, folder))
        except RegistryError as error:
            faults.append(str(error))
            continue
        if found != expected:
            faults.append(
                f"{version.label}: {name} has SHA-256 {found[:12]}…, expected {expected[:12]}…. "
                "It was changed; restore it."
            )
    return faults


def said(registry: Registry, version: Version, signers: Path) -> str:
    """Who signed a version, or why nobody who counts has, for people."""
    try:
        statement = of_version(registry, version, signers)
    except (SignatureError, RegistryError) as error:
        return f"The signature does not hold: {error}".rstrip(".")
    if statement is None:
        return "Nobody has signed it"
    by = signatures.trusted(signers)[statement.signer].by
    return f"Signed by key {statement.signer} of {by}, {statement.about.get('signed_at')}"
