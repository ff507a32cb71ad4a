"""Seals: the digest of everything that is kept, taken when it was written.

It decides where digests stand and that none is ever changed: in an append-only
ledger, `var/seals.log`, each line with a digest over itself and the line before.
Whoever writes something that lasts seals it in the same breath, so that what
differs later was changed by somebody else. It never judges what it finds: that
is `verification`'s, and how digests are taken of rows is `kept_rows`'.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopbook.project.clock import utc_now
from loopbook.project.files import sha256_of
from loopbook.project.paths import Project, find_root

FILE = "seals.log"
NEVER_SEALED = ""  # the digest before the first line
DIGITS = 64


@dataclass(frozen=True)
class Seal:
    """What something was when it was written.

    Attributes
    ----------
    sha256 : of its bytes, or of all of its parts
    size : in bytes; None where it is no file
    parts : the beginning of a digest by part, so that what differs can be named
    """

    sha256: str
    size: int | None = None
    parts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_bytes(cls, content: bytes) -> "Seal":
        return cls(hashlib.sha256(content).hexdigest(), len(content))

    @classmethod
    def of_file(cls, path: Path) -> "Seal":
        return cls(sha256_of(path), path.stat().st_size)

    @classmethod
    def of_parts(cls, facts: Mapping[str, Any]) -> "Seal":
        """Named facts, each a JSON value."""
        parts = {name: part_digest(facts[name]) for name in sorted(facts)}
        return cls(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), None, parts)

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"sha256": self.sha256}
        if self.size is not None:
            told["bytes"] = self.size
        return told | ({"parts": dict(self.parts)} if self.parts else {})


@dataclass(frozen=True)
class Broken:
    """A line of the ledger that is not as it was written."""

    line: int
    why: str


@dataclass(frozen=True)
class Ledger:
    """All that is sealed, by name; of something that was written again, the newest seal.

    Attributes
    ----------
    chain : the digest that ends each line, in order; the first names the ledger
    """

    seals: Mapping[str, Seal]
    chain: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()

    @property
    def name(self) -> str:
        return self.chain[0][:12] if self.chain else ""

    @property
    def head(self) -> str:
        """How many lines there are, and the digest that ends the last."""
        return f"{len(self.chain)} {self.chain[-1]}" if self.chain else ""

    def below(self, beginning: str) -> dict[str, Seal]:
        """The seals whose names begin so."""
        return {name: seal for name, seal in self.seals.items() if name.startswith(beginning)}


def part_digest(fact: Any) -> str:
    """The beginning of the digest of a JSON value."""
    return hashlib.sha256(json.dumps(fact, sort_keys=True).encode()).hexdigest()[:16]


def file_of(project: Project) -> Path:
    return project.var / FILE


def keep(*paths: Path, why: str = "") -> None:
    """Seal files as they stand now; those outside a project's `var/` are nobody's records."""
    for root, named in _by_root(paths):
        there = {name: path for name, path in named.items() if path.is_file()}
        put(Project(root), {name: Seal.of_file(path) for name, path in there.items()}, why=why)


def forget(*paths: Path, why: str) -> None:
    """Say that files were deleted on purpose."""
    for root, named in _by_root(paths):
        put(Project(root), {}, gone=named, why=why)


def _by_root(paths: Sequence[Path]) -> list[tuple[Path, dict[str, Path]]]:
    """The files below the project of the first one, by their paths from its folder."""
    root = find_root(paths[0].parent) if paths else None
    if root is None:
        return []
    placed = [path.parent.resolve() / path.name for path in paths]
    inside = [path for path in placed if path.is_relative_to(root)]
    return [(root, {path.relative_to(root).as_posix(): path for path in inside})]


def put_here(sealed: Mapping[str, Seal], *, why: str = "") -> None:
    """Seal for the project around the working directory; nothing where there is none."""
    root = find_root()
    if root is not None:
        put(Project(root), sealed, why=why)


def put(
    project: Project, sealed: Mapping[str, Seal], *, gone: Iterable[str] = (), why: str = ""
) -> None:
    """Append a line; what is there already under a name counts no more."""
    entry: dict[str, Any] = {"at": utc_now().isoformat()}
    entry |= {"why": why} if why else {}
    entry["sealed"] = {name: seal.as_json() for name, seal in sealed.items()}
    entry |= {"gone": sorted(gone)} if gone else {}
    if not sealed and not gone:
        return
    with _alone(project) as ledger:
        payload = json.dumps(entry, separators=(",", ":")).encode()
        line = f"{_linked(_last(ledger), payload)} ".encode() + payload + b"\n"
        if os.write(ledger, line) < len(line):  # the next one cuts the half line off
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file_of(project)))


def read(project: Project) -> Ledger:
    """All seals of a project; a line that was changed is named, and the others count."""
    try:
        lines = file_of(project).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return Ledger({})
    seals: dict[str, Seal] = {}
    chain: list[str] = []
    broken: list[Broken] = []
    before = {NEVER_SEALED}
    for number, line in enumerate(lines, 1):
        said, payload = line[:DIGITS].decode("ascii", "replace"), line[DIGITS + 1 : -1]
        made = {_linked(one, payload) for one in before}
        if said not in made or line[DIGITS : DIGITS + 1] != b" " or not line.endswith(b"\n"):
            broken.append(Broken(number, f"its digest is not that of its content ({said[:12]}…)"))
        else:
            _take_in(seals, json.loads(payload))
        chain.append(said)
        before = {said, *made}
    return Ledger(seals, tuple(chain), tuple(broken))


def _take_in(seals: dict[str, Seal], entry: Mapping[str, Any]) -> None:
    for name in entry.get("gone", ()):
        seals.pop(name, None)
    for name, told in entry["sealed"].items():
        seals[name] = Seal(told["sha256"], told.get("bytes"), told.get("parts", {}))


def _linked(before: str, payload: bytes) -> str:
    return hashlib.sha256(before.encode() + payload).hexdigest()


@contextmanager
def _alone(project: Project) -> Iterator[int]:
    """The ledger, open for one process; half a line that a kill left is cut off."""
    from filelock import FileLock  # no part of the service's image, which seals nothing

    path = file_of(project)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        ledger = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            yield ledger
        finally:
            os.close(ledger)


def _last(ledger: int) -> str:
    """The digest that ends the last whole line."""
    size, at, tail = os.fstat(ledger).st_size, os.fstat(ledger).st_size, b""
    while at and tail.rstrip(b"\n").count(b"\n") < 1 + (not tail.endswith(b"\n")):
        step = min(at, 2**16)
        at -= step
        tail = os.pread(ledger, step, at) + tail
    whole = tail[: tail.rfind(b"\n") + 1]
    if len(whole) < len(tail):
        os.ftruncate(ledger, size - len(tail) + len(whole))
    lines = whole.splitlines()
    return lines[-1][:DIGITS].decode("ascii", "replace") if lines else NEVER_SEALED
