"""Files: written whole or not at all.

It decides how a product reaches the disk: beside its place, flushed, then
renamed over it. A reader never sees half a file, and a full disk or a kill
leaves what was there.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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


def read_json(path: Path | str) -> Any:
    """Read JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def conflict_line(text: str) -> int | None:
    """The line of the first mark that git leaves of a merge conflict; None where there is none."""
    marked = (n for n, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< "))
    return next(marked, None)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, which are read piece by piece."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
