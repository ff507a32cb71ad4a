"""Files: written whole or not at all.

It decides how a product reaches the disk: beside its place, flushed, then
renamed over it. A reader never sees half a file, and a full disk or a kill
leaves what was there.
"""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; move it over `path` when the block ends well.

    The block may move the file elsewhere itself. If the block fails, `path`
    stays as it was and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield incoming
        if incoming.exists():
            with incoming.open("rb") as written:
                os.fsync(written.fileno())
            incoming.replace(path)
    finally:
        incoming.unlink(missing_ok=True)


def write_text(path: Path | str, content: str) -> None:
    """Write text, whole or not at all."""
    with replacing(Path(path)) as target:
        target.write_text(content, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON, whole or not at all. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, sort_keys=False) + "\n")


def make_private(path: Path) -> None:
    """Let only its owner read a file; make it, empty, if it is not there.

    A file that belongs to somebody else stays as it is. One that is there is not opened:
    closing it again would end the locks that this process has on it, SQLite's among them
    (fcntl(2); sqlite.org/howtocorrupt.html, 2.2).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
    elif not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    with suppress(PermissionError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def write_secret(path: Path, content: bytes) -> bytes:
    """Write a file that only its owner can read, if it is not there; what is there then.

    Of several processes that do so at once, all get the content of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        file = os.open(incoming, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(file, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(file)
        with suppress(FileExistsError):
            os.link(incoming, path)
    finally:
        incoming.unlink(missing_ok=True)
    make_private(path)
    return path.read_bytes()


def read_json(path: Path | str) -> Any:
    """Read JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def conflict_line(text: str) -> int | None:
    """The line of the first mark that git leaves of a merge conflict; None where there is none."""
    marked = (n for n, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< "))
    return next(marked, None)


def sha256(content: bytes) -> str:
    """The digest by which the registry knows a file."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, which are read piece by piece."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
