"""Artifacts: a version's files on a disk that this machine sees.

It decides which file may be read: a plain one, inside the store in which the
registry keeps its runs, and no larger than was said. A link that leads out of
the store, a pipe or a `..` is refused before a byte is read.
"""

import os
import stat
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from loopbook.project.errors import RegistryError, VersionRefused


def read(label: str, address: str, run_id: str, file: str, most: int) -> bytes:
    """A file of a run.

    Parameters
    ----------
    label : str
        The version, for messages.
    address : str
        Where the registry says that the run has its files: a path or `file:`.
    file : str
        Its name there, with `/`.
    most : int
        How many bytes it may have.

    Raises
    ------
    RegistryError
        If it is not there, or cannot be read.
    VersionRefused
        If it is outside the store, no plain file, or larger than `most`.
    """
    folder = folder_of(address)
    check_parts(label, f"{folder.as_posix()}/{file}")
    try:
        path = Path(os.path.realpath(folder / file, strict=True))
        if not path.is_relative_to(os.path.realpath(_store(folder, run_id))):
            raise VersionRefused(
                f"{label}: {file} is a link that leads out of the store, so it is refused. "
                "Put the file itself there, or roll back.",
                "place",
            )
        # not blocking: to open a pipe would wait for somebody who writes
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise VersionRefused(
                    f"{label}: {file} is no plain file, so it is refused.", "place"
                )
            content = b"" if about.st_size > most else opened.read(most + 1)
            if about.st_size > most or len(content) > most:
                raise too_large(label, file, most)
            return content
    except (OSError, ValueError) as reason:
        why = getattr(reason, "strerror", None) or type(reason).__name__
        raise RegistryError(
            f"{label}: {file} cannot be read ({why}). "
            "Restore the artifacts of its run, or roll back."
        ) from None


def folder_of(address: str) -> Path:
    """The folder that an address of a run's files means: a path or `file:`."""
    parts = urlsplit(address)
    return Path(unquote(parts.path) if parts.scheme == "file" else address)


def beside(address: str, store: Path | None) -> str:
    """The address of a run's files; where it leads nowhere, that of the same run in `store`.

    A registry that was moved, or is mounted under another path, has its files
    beside it, and still names the place where they were written.
    """
    folder = folder_of(address)
    if store is None or not address or folder.is_dir():
        return address
    # run and `artifacts`; before them the experiment, where MLflow chose the place
    nearer = (store.joinpath(*folder.parts[-kept:]) for kept in (2, 3))
    here = next((one for one in nearer if one.is_dir()), None)
    return here.as_uri() if here else address


def listed(address: str, folder: str) -> list[str]:
    """The names of the files in a folder of a run; none where it is not there."""
    try:
        return sorted(path.name for path in (folder_of(address) / folder).iterdir())
    except OSError:
        return []


def check_parts(label: str, path: str) -> None:
    """Refuse a path that goes up."""
    if ".." in PurePosixPath(unquote(path)).parts:
        raise VersionRefused(
            f"{label}: the address of its files goes up (..), so it is refused. "
            "Correct it in the registry, or roll back.",
            "place",
        )


def too_large(label: str, file: str, most: int) -> VersionRefused:
    """The refusal of a file that has more bytes than the registry says, or than is read at most."""
    return VersionRefused(
        f"{label}: {file} has more than the {most:,} bytes that it may have, so it is not read. "
        "Restore it, or roll back.",
        "size",
    )


def _store(folder: Path, run_id: str) -> Path:
    """The folder that holds the runs: above that of the run, or the run's own if it is named otherwise."""
    named = [parent for parent in (folder, *folder.parents) if parent.name == run_id]
    return named[0].parent if run_id and named else folder
