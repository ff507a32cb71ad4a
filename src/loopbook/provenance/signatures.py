"""Signatures: a project's key, whose keys it trusts, and what they have signed.

It decides where a signing key lies (outside the project and its `var/`), whose
signature counts (the public keys of `signers.yaml`) and whether an envelope is
what one of them signed. Keys are Ed25519, envelopes those of DSSE. It does not
know what is signed.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from loopbook.project.errors import SignatureError
from loopbook.project.files import write_secret, write_text
from loopbook.project.mappings import read_mapping
from loopbook.project.paths import Project

VARIABLE = "LOOPBOOK_SIGNING_KEY"
CREATE, ROTATE = "loopbook keys sign --create", "loopbook keys sign --rotate"
HEADING = """\
# Whose signatures this project trusts. Commit this file; the private halves lie elsewhere.
# Remove a key, and what it signed counts as unsigned.
"""


@dataclass(frozen=True)
class Signer:
    """A key that can sign; `id` is the start of the SHA-256 of its public half."""

    id: str
    private: Ed25519PrivateKey


@dataclass(frozen=True)
class Trusted:
    """A public key that a project trusts."""

    id: str
    public: Ed25519PublicKey
    since: str
    by: str


# -- the key that signs --------------------------------------------------------


def key_file(name: str) -> Path:
    """Where the signing key of a project is: `LOOPBOOK_SIGNING_KEY`, or a file of the user's own.

    Parameters
    ----------
    name : str
        The contract's: projects of one name on one machine sign by one key.
    """
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser().absolute()
    settings = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(settings).expanduser() / "loopbook" / f"{name}.signing.pem"


def create(project: Project, name: str, *, now: datetime, by: str) -> Signer:
    """Make the project's key, and trust it; a key that is there is only trusted.

    Raises
    ------
    SignatureError
        If it is there and trusted already, lies below `var/`, or cannot be written.
    """
    path = key_file(name)
    _refuse_place(project, path)
    signer = read_signer(name)
    if signer and signer.id in trusted(project.signers):
        raise SignatureError(
            f"{path}: found key {signer.id}, which this project trusts already; nothing was "
            f"changed. Another key instead of it: {ROTATE}"
        )
    if signer is None:
        try:
            write_secret(path, _pem(Ed25519PrivateKey.generate()))
        except OSError as reason:
            raise _unwritable(path, reason) from None
        signer = read_signer(name)
    _trust(project.signers, signer, now=now, by=by)
    return signer


def rotate(project: Project, name: str, *, now: datetime, by: str) -> tuple[Signer, Signer]:
    """Another key in the place of the old one, which stays trusted until somebody removes it.

    Returns
    -------
    old, new : Signer
    """
    path = key_file(name)
    old = read_signer(name)
    if old is None:
        raise SignatureError(f"{path}: found no key to rotate. Make one: {CREATE}")
    _refuse_place(project, path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_secret(beside, _pem(Ed25519PrivateKey.generate()))
        # trusted before it signs: a kill in between leaves a public key too many, never one too few
        new = _read(beside)
        _trust(project.signers, new, now=now, by=by)
        beside.replace(path)
    except OSError as reason:
        raise _unwritable(path, reason) from None
    finally:
        beside.unlink(missing_ok=True)
    return old, new


def read_signer(name: str) -> Signer | None:
    """The key that signs for a project; None if there is none here.

    Raises
    ------
    SignatureError
        If others than its owner may read it, or it is no such key.
    """
    path = key_file(name)
    return _read(path) if path.exists() else None


def signer_of(project: Project, name: str) -> Signer | None:
    """The key that signs for a project, if the project trusts it."""
    signer = read_signer(name)
    return signer if signer and signer.id in trusted(project.signers) else None


def _read(path: Path) -> Signer:
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as reason:
        raise SignatureError(
            f"{path}: the signing key cannot be read ({reason.strerror}). Let its owner do this."
        ) from None
    if os.name == "posix" and mode & 0o077:
        raise SignatureError(
            f"{path}: found mode {mode & 0o777:04o}, expected 0600: others could sign by this key. "
            f"Type chmod 600 {path}; if others may have read it: {ROTATE}"
        )
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise SignatureError(
            f"{path}: found no Ed25519 key as PEM without a password. Restore it, or move the "
            f"file away and make another key: {CREATE}"
        )
    return Signer(key_id(private.public_key()), private)


def _pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _refuse_place(project: Project, path: Path) -> None:
    if path.resolve().is_relative_to(project.var.resolve()):
        raise SignatureError(
            f"{path}: lies below var/, which may be deleted and is copied with a project. "
            f"Let {VARIABLE} name a file elsewhere."
        )


def _unwritable(path: Path, reason: OSError) -> SignatureError:
    return SignatureError(
        f"{path}: cannot be written ({reason.strerror}). Let {VARIABLE} name a file elsewhere."
    )


# -- the keys that are trusted -------------------------------------------------


def trusted(path: Path) -> dict[str, Trusted]:
    """The public keys of a project's `signers.yaml` by their ids; none where there is no such file.

    Raises
    ------
    SignatureError
        If an entry is no key, or not the one that its id says.
    """
    if not path.exists() or _has_comments_only(path):
        return {}
    return {
        str(name): _entry(path.name, str(name), entry)
        for name, entry in read_mapping(path, SignatureError).items()
    }


def _has_comments_only(path: Path) -> bool:
    """Whether the last key was removed, and its heading is left."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return all(line.lstrip().startswith("#") or not line.strip() for line in lines)


def _entry(file: str, name: str, entry: Any) -> Trusted:
    fields = entry if isinstance(entry, Mapping) else {}
    try:
        public = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(str(fields["public"]), validate=True)
        )
    except (LookupError, ValueError):
        public = None
    if public is None or key_id(public) != name:
        raise SignatureError(
            f"{file}: the entry {name[:60]} holds no public key of that id. Restore it from your "
            "commits, or remove it: what it signed counts as unsigned then."
        )
    return Trusted(name, public, str(fields.get("since", "")), str(fields.get("by", "")))


def _trust(path: Path, signer: Signer, *, now: datetime, by: str) -> None:
    public = base64.b64encode(signer.private.public_key().public_bytes_raw()).decode()
    before = path.read_text(encoding="utf-8") if path.exists() else HEADING
    entry = (
        f'"{signer.id}":\n  public: "{public}"\n  since: "{now.isoformat(timespec="seconds")}"\n'
        f"  by: {json.dumps(by)}\n"
    )
    write_text(path, before.rstrip("\n") + "\n" + entry)


def key_id(public: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


# -- envelopes -----------------------------------------------------------------


def sign(signer: Signer, payload: bytes, payload_type: str) -> bytes:
    """An envelope of DSSE around a payload, as JSON."""
    signature = signer.private.sign(_before_signing(payload, payload_type))
    envelope = {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": signer.id, "sig": base64.b64encode(signature).decode()}],
    }
    return (json.dumps(envelope, indent=2) + "\n").encode()


def opened(envelope: bytes, keys: Mapping[str, Trusted], payload_type: str) -> tuple[bytes, str]:
    """What is in an envelope, and the id of the trusted key that signed it.

    Raises
    ------
    SignatureError
        If it is no envelope, nobody who is trusted signed it, or it was changed
        since. The message names no file: it may be told to callers.
    """
    try:
        record = json.loads(envelope)
        payload = base64.b64decode(record["payload"], validate=True)
        signatures = {
            str(one["keyid"]): base64.b64decode(one["sig"], validate=True)
            for one in record["signatures"]
        }
        kind = record["payloadType"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise SignatureError("its signature is no envelope of DSSE") from None
    if kind != payload_type:
        raise SignatureError(
            f"its envelope holds {str(kind)[:60]!r}, expected {payload_type!r}"
        ) from None
    known = [name for name in signatures if name in keys]
    if not known:
        by = ", ".join(name[:16] for name in list(signatures)[:3]) or "nobody"
        raise SignatureError(f"it is signed by {by}, whom signers.yaml does not name")
    content = _before_signing(payload, payload_type)
    for name in known:
        try:
            keys[name].public.verify(signatures[name], content)
        except InvalidSignature:
            continue
        return payload, name
    raise SignatureError(f"its statement is not the one that key {known[0]} signed")


def _before_signing(payload: bytes, payload_type: str) -> bytes:
    """What is signed: DSSE's pre-authentication encoding, so that no other type can be claimed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
