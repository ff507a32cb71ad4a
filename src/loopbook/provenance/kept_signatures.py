"""Kept signatures: what was signed of a version, held against its files and the registry.

It decides what of a signature is a finding: one that does not hold, and a signed
digest that is no longer the file's or the registry's. A seal, a tag and a file can
be changed together; a signed digest cannot. A file that differs from its seal is
`kept_files`' to tell, and not told twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from loopbook.project.errors import RegistryError, SignatureError
from loopbook.provenance import statements
from loopbook.provenance.dossier_files import FOLDER, SNAPSHOT, digests
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.provenance.kept_files import REMEDY_OF_A_RUN, Shelf
from loopbook.provenance.statements import ENVELOPE, SIGN, SIGNED_BY, Statement
from loopbook.records.seals import Ledger
from loopbook.registry.reader import SERVICE, Version
from loopbook.registry.sealing import RUN

REMEDY = (
    "Restore dossier/statement.dsse.json of its run and signers.yaml; or look at the version, "
    f"and sign it as it is: {SIGN}"
)


def check(
    shelf: Shelf, ledger: Ledger, versions: Sequence[Version], *, quick: bool
) -> tuple[list[Finding], int]:
    """What no longer is as it was signed or registered, and how many signatures were looked at.

    Of an unsigned version the registry's digests are all that its files are held against.

    Parameters
    ----------
    quick : bool
        Leave the snapshots out.
    """
    findings, count = [], 0
    for version in versions:
        count += SIGNED_BY in version.tags
        told = digests(version)
        try:
            statement = statements.of_version(shelf.registry, version, shelf.project.signers)
        except (SignatureError, RegistryError) as error:
            envelope = f"{RUN}{version.run_id}/{FOLDER}/{ENVELOPE}"
            if not _is_told(shelf, ledger, envelope, quick=quick):
                findings.append(_unsound(version, error))
            statement = None
        if statement is not None:
            findings += _other_tags(version, statement, told)
            told = told | statement.digests
        findings += _other_files(shelf, ledger, version, told, quick=quick)
    return findings, count


def unsigned(versions: Sequence[Version]) -> list[Finding]:
    """The versions that nobody has signed, for a project which requires it."""
    expected = "one, since env.yaml has require_signature"
    return [
        Finding(MISSING, _where(v), "no signature", expected, SIGN.format(v.number))
        for v in versions
        if SIGNED_BY not in v.tags
    ]


def _where(version: Version) -> str:
    return f"{version.label}, {FOLDER}/{ENVELOPE}"


def _unsound(version: Version, error: Exception) -> Finding:
    what = CHANGED if isinstance(error, SignatureError) else MISSING
    expected = "the signature of a key that signers.yaml names"
    remedy = REMEDY.format(version.number)
    return Finding(what, _where(version), str(error).rstrip("."), expected, remedy)


def _other_tags(
    version: Version, statement: Statement, told: Mapping[str, str]
) -> Iterator[Finding]:
    """Where the registry has another digest than the one that was signed."""
    for name, expected in statement.digests.items():
        if told.get(name) != expected:
            found = f"SHA-256 {told[name][:12]}… in the registry" if name in told else "no digest"
            yield Finding(
                CHANGED if name in told else MISSING,
                f"{version.label}, digest of {name}",
                found,
                f"SHA-256 {expected[:12]}…, as key {statement.signer} signed it",
                REMEDY_OF_A_RUN,
            )


def _other_files(
    shelf: Shelf, ledger: Ledger, version: Version, told: Mapping[str, str], *, quick: bool
) -> Iterator[Finding]:
    """Which files have another digest than the one that was signed or registered."""
    for name, expected in told.items():
        place = _place(shelf, version, name, expected)
        if place is None or (quick and name == SNAPSHOT):
            continue
        now = shelf.seal(place)
        is_as_it_was = now is not None and now.sha256 == expected
        if is_as_it_was or _is_told(shelf, ledger, place, quick=quick):
            continue
        yield Finding(
            MISSING if now is None else CHANGED,
            f"{version.label}, {name}",
            "no such file" if now is None else f"SHA-256 {now.sha256[:12]}…",
            f"SHA-256 {expected[:12]}…, as it was signed or registered",
            REMEDY_OF_A_RUN,
        )


def _is_told(shelf: Shelf, ledger: Ledger, place: str, *, quick: bool) -> bool:
    """Whether `kept_files` says already that a file is gone or differs from its seal."""
    now, sealed = shelf.seal(place), ledger.seals.get(place)
    if sealed is None:  # a snapshot without a seal is held against its name there
        return not place.startswith(RUN)
    if now is None or now.size != sealed.size:
        return True
    is_read = not quick or place.split("/")[2] == SERVICE
    return is_read and now.sha256 != sealed.sha256


def _place(shelf: Shelf, version: Version, name: str, digest: str) -> str | None:
    """The name of a file on the shelf; None where another check tells that it is not here."""
    if name == SNAPSHOT:
        path: Path = shelf.project.snapshots / f"{digest}.parquet"
        return path.relative_to(shelf.project.root).as_posix() if path.exists() else None
    place = f"{RUN}{version.run_id}/{name}"
    return place if shelf.is_known(place) else None
