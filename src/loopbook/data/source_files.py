"""Source files: the files that hold the rows of each place, and a digest of what is in them.

It decides what the content of a source is: the bytes of all its places, and its
query. What is elsewhere is brought here by `landing`.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from loopbook.data import landing
from loopbook.data.formats import format_of
from loopbook.data.places import NamedPlace, landing_folder, places_of
from loopbook.project.contract import Contract
from loopbook.project.errors import SourceError
from loopbook.project.files import sha256_of


def files_of(named: NamedPlace, root: Path) -> list[Path]:
    """The files that hold the rows of a place: one, or those of a folder by name.

    A relative path is relative to the project. What is elsewhere is landed.

    Raises
    ------
    SourceError
        If the folder holds no files, or some of several formats.
    """
    place = named.place
    if named.is_remote:
        return [landing.landed(named, named.folder(landing_folder(root)))]
    path = (root / place.path).resolve()
    if not path.is_dir():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name[0] not in "._")
    formats = {format_of(f, place) for f in files}
    if len(formats) != 1 or None in formats:
        names = ", ".join(sorted(str(f.relative_to(path)) for f in files)[:5]) or "no file"
        raise SourceError(
            f"{named}: found {names} in the folder, expected files of one format. "
            f"Say {named.key('format')} in contract.yaml, or move the others away."
        )
    return files


def source_digest(
    contract: Contract, root: Path, digest_of: Callable[[Path], str] = sha256_of
) -> str:
    """SHA-256 of the source as it is now: of all its places, and of a query over them.

    What is elsewhere is landed.

    Parameters
    ----------
    digest_of : function
        The SHA-256 of a file, from the caller's memory where it has one.

    Raises
    ------
    SourceError
        If a file is not there, or a place cannot be read or reached.
    """
    named = places_of(contract)
    digests = [_digest(one, root, digest_of) for one in named]
    if not contract.source.is_queried:
        return digests[0]
    lines = [f"{one.table} {digest}" for one, digest in zip(named, digests, strict=True)]
    return hashlib.sha256("\n".join([*lines, contract.source.query]).encode()).hexdigest()


def _digest(named: NamedPlace, root: Path, digest_of: Callable[[Path], str]) -> str:
    if named.is_remote:
        return landing.land(named, named.folder(landing_folder(root)))
    return digest_of_files(named, files_of(named, root), digest_of)


def digest_of_files(
    named: NamedPlace, files: list[Path], digest_of: Callable[[Path], str] = sha256_of
) -> str:
    """SHA-256 of the files of a place.

    Raises
    ------
    SourceError
        If one is not there, or may not be read.
    """
    try:
        digests = [digest_of(file) for file in files]
    except OSError as reason:
        raise SourceError(
            f"{named}: {reason.strerror} ({reason.filename}). "
            f"Put the file there, or correct {named.key('path')} in contract.yaml."
        ) from None
    if len(files) == 1:
        return digests[0]
    lines = "".join(f"{f.name} {d}\n" for f, d in zip(files, digests, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()
