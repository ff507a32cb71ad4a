"""An archive: a tar file that says of each of its files how it was.

It decides how bytes are hashed on their way in and held against that on their way
out. A file that was copied while it changed is copied again; of two copies in the
archive the later one counts, as tar has it. The last member, `backup.json`, lists
what the archive holds, so that one that was cut off is known as such.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from loopbook.project import waits
from loopbook.project.errors import BackupError, listed
from loopbook.project.files import replacing

MANIFEST = "backup.json"
COMPRESSED = (".gz", ".tgz")
NAMES = (".tar", ".tar.gz", ".tgz")  # how a backup's name may end
BLOCK = 2**20


@dataclass(frozen=True)
class Held:
    """A file of the archive; `was` is its inode, size and time when it was read."""

    sha256: str
    size: int
    was: tuple[int, int, int]


class Writer:
    """An archive that is being written."""

    def __init__(self, tar: tarfile.TarFile):
        self.tar = tar
        self.held: dict[str, Held] = {}

    def take(self, files: Mapping[str, Path]) -> None:
        """Add files as they are now; those that are here already and did not change are not read again."""
        waits.expect(len(files), "files")
        for name, path in files.items():
            waits.advance()
            try:
                held = self.held.get(name)
                if held is None or held.was != _now(path.stat()):
                    self._add(name, path)
            except FileNotFoundError:
                self.held.pop(name, None)

    def forget_but(self, names: Mapping[str, Path]) -> None:
        """Hold only these files: the others were deleted meanwhile."""
        self.held = {name: held for name, held in self.held.items() if name in names}

    def _add(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            about = self.tar.gettarinfo(arcname=name, fileobj=file)
            about.uid = about.gid = 0
            about.uname = about.gname = ""
            about.type = tarfile.REGTYPE  # also of a file with two names
            about.size = before.st_size
            reader = _Hashing(file, before.st_size)
            self.tar.addfile(about, reader)
            was = _now(before) if reader.is_whole else (0, 0, 0)
        self.held[name] = Held(reader.sha256.hexdigest(), before.st_size, was)

    def close(self, about: Mapping[str, Any]) -> None:
        """Write down what is here."""
        files = {n: {"sha256": h.sha256, "bytes": h.size} for n, h in sorted(self.held.items())}
        content = json.dumps({**about, "files": files}, indent=1).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))


class _Hashing:
    """As many bytes as were promised, hashed; zeros where a file became shorter."""

    def __init__(self, file: Any, size: int):
        self.file, self.left, self.is_whole = file, size, True
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        block = self.file.read(size)
        if len(block) < size:
            self.is_whole = False
            block += bytes(size - len(block))
        self.left -= size
        self.sha256.update(block)
        return block


def _now(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_ino, about.st_size, about.st_mtime_ns


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A new archive, whole or not at all, that its owner alone can read."""
    with replacing(path) as target:
        descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            is_small = path.suffix in COMPRESSED
            how: dict[str, Any] = (
                {"mode": "w:gz", "compresslevel": 1} if is_small else {"mode": "w"}
            )
            with tarfile.open(fileobj=file, **how) as tar:
                yield Writer(tar)


def unpacked(path: Path, folder: Path | None) -> dict[str, Any]:
    """Write an archive's files into a folder, or none, and hold each against its digest.

    Returns
    -------
    dict
        What `backup.json` says.

    Raises
    ------
    BackupError
        If it is no backup, was cut off, or a file is not as it was taken.
    """
    found: dict[str, str] = {}
    about: dict[str, Any] | None = None
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or not _is_inside(member.name):
                    raise BackupError(
                        f"{path}: holds {member.name!r}, which no backup of a project holds, so "
                        "nothing was put back. Name a file that loopbook backup wrote."
                    )
                if member.name == MANIFEST:
                    about = json.loads(content.read())
                    continue
                found[member.name] = _written(content, folder and folder / member.name, member.mode)
    except FileNotFoundError:
        raise BackupError(f"{path}: there is no such file.") from None
    except (tarfile.TarError, EOFError, ValueError) as reason:
        raise BackupError(
            f"{path}: cannot be read as a backup ({reason}), so nothing was put back. It was cut "
            "off, or is another file; take another copy of it."
        ) from None
    return _checked(path, about, found)


def _checked(path: Path, about: dict[str, Any] | None, found: Mapping[str, str]) -> dict[str, Any]:
    if about is None:
        raise BackupError(
            f"{path}: has no {MANIFEST} at its end, so it was cut off or is no backup, and nothing "
            "was put back. Take another copy of it."
        )
    faults = [
        f"{name}: found {found[name][:12] + '…' if name in found else 'nothing'}, "
        f"expected {said['sha256'][:12]}…"
        for name, said in about["files"].items()
        if found.get(name) != said["sha256"]
    ]
    if faults:
        raise BackupError(
            f"{path}: {len(faults):,} of {len(about['files']):,} files are not as they were taken, so "
            f"nothing was put back.\n{listed(faults)}\nTake another copy of the backup."
        )
    return about


def _written(content: Any, target: Path | None, mode: int) -> str:
    """The SHA-256 of a member, which is written if there is a place for it."""
    digest = hashlib.sha256()
    if target is None:
        while block := content.read(BLOCK):
            digest.update(block)
        return digest.hexdigest()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # an earlier copy of the same file
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode & 0o777)
    with os.fdopen(descriptor, "wb") as file:
        while block := content.read(BLOCK):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    tops = ("var", "databases", "elsewhere")
    return name == MANIFEST or (".." not in path.parts and path.parts[0] in tops)
