"""Kept files: everything that was written to last, held against its seal.

It decides where a sealed file is now (in the project, in a run, with a fitted
pipeline) and what follows from a difference. Quick looks at the size of the
files of the project and of its versions, and at the bytes of small records and of
what serves; whole reads every byte of everything.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopbook.project import waits
from loopbook.project.counts import counted
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.records.seals import Ledger, Seal
from loopbook.registry.reader import Registry, Version
from loopbook.registry.sealing import FACTS, MODEL, RUN, Logged, local

SMALL = 100_000  # bytes: quick reads files below `var/` up to that, which are records
READERS = 4
KINDS = {
    "var/snapshots/": "snapshots",
    "var/loop/turns/": "turns",
    "var/monitor/windows/": "windows",
    "var/": "products of tasks",
    MODEL: "fitted pipelines",
}
IN_RUNS = {
    "service": "graphs, cards, references and residuals",
    "notebooks": "executed notebooks",
    "decision": "decisions of the gate",
    "origin": "origins",
}
ONE = {  # of a kind
    "snapshots": "snapshot",
    "turns": "turn",
    "windows": "window",
    "products of tasks": "product of a task",
    "fitted pipelines": "fitted pipeline",
    "graphs, cards, references and residuals": "graph, card, reference or file of residuals",
    "executed notebooks": "executed notebook",
    "decisions of the gate": "decision of the gate",
    "origins": "origin",
    "other files of runs": "other file of a run",
}
REMEDIES = {
    "snapshots": "Bring it back: loopbook snapshots restore {stem}; or copy it from a backup",
    "windows": "Restore it from a backup, or judge the window again: loopbook monitor --as-of DAY",
    "products of tasks": "Make it again: loopbook build --force (of monitoring: loopbook monitor)",
    "turns": "Restore it from a backup",
}
REMEDY_OF_A_RUN = (
    "Restore the artifacts of its run from a backup; if it serves, loopbook rollback --reason WHY"
)


@dataclass
class Shelf:
    """Where sealed files are now.

    Attributes
    ----------
    registry : for files that are on a tracking server
    digests : what was read already, by name
    """

    project: Project
    logged: Logged
    registry: Registry
    digests: dict[str, Seal | None] = field(default_factory=dict)

    def place(self, name: str) -> Path | None:
        """A file's path on this machine; None where it is elsewhere, or nobody knows where."""
        if name.startswith((RUN, MODEL)):
            kind, which, inside = name.split("/", 2)
            address = self._address(f"{kind}/", which)
            folder = local(address) if address else None
            return folder and folder / inside
        return self.project.root / name

    def is_known(self, name: str) -> bool:
        """Whether its run or fitted pipeline is still in the registry."""
        if not name.startswith((RUN, MODEL)):
            return True
        kind, which, _ = name.split("/", 2)
        return self._address(f"{kind}/", which) is not None

    def _address(self, kind: str, which: str) -> str | None:
        if kind == MODEL:
            return self.logged.models.get(which)
        run = self.logged.runs.get(which)
        return run and run.artifacts

    def seal(self, name: str) -> Seal | None:
        """What a file is now, all of its bytes read; None if it is not there."""
        if name not in self.digests:
            self.digests[name] = self._read(name)
        return self.digests[name]

    def _read(self, name: str) -> Seal | None:
        place = self.place(name)
        try:
            if place is not None:
                return Seal.of_file(place)
            _, which, inside = name.split("/", 2)
            folder, _, file = inside.rpartition("/")
            held = Version("run", "", which, {}, self._address(RUN, which) or "")
            return Seal.of_bytes(self.registry.content(held, file, folder or "."))
        except (OSError, LoopbookError):
            return None

    def size(self, name: str) -> int | None:
        """A file's size on this machine; None if it is not there."""
        place = self.place(name)
        try:
            return place.stat().st_size if place else None
        except OSError:
            return None


def kind_of(name: str) -> str:
    """What a sealed file is to people."""
    if name.startswith(RUN):
        return IN_RUNS.get(name.split("/")[2], "other files of runs")
    return next(kind for beginning, kind in KINDS.items() if name.startswith(beginning))


def names_of(ledger: Ledger) -> list[str]:
    """The sealed files."""
    return [
        name
        for name in ledger.seals
        if name.startswith(("var/", RUN, MODEL)) and not name.endswith(f"/{FACTS}")
    ]


def check(
    shelf: Shelf, ledger: Ledger, *, quick: bool, served: Collection[str]
) -> tuple[list[Finding], Counter]:
    """What of the sealed files is no longer as it was, and how many of each kind were looked at.

    Parameters
    ----------
    served : collection of str
        The runs whose versions have an alias: their files are read whole in any case.
    """
    names = names_of(ledger)
    if quick:  # of other runs nobody asked where they are
        names = [name for name in names if name.startswith("var/") or shelf.is_known(name)]
    gone = {name for name in names if not shelf.is_known(name)}
    findings = _lost_runs(gone)
    read = [n for n in names if n not in gone and _is_read(shelf, n, quick=quick, served=served)]
    now: dict[str, Any] = {}
    waits.expect(len(read), "files")
    with ThreadPoolExecutor(READERS) as pool:
        for name, seal in zip(read, pool.map(shelf.seal, read), strict=True):
            now[name] = seal
            waits.advance()
    for name in names:
        if name in gone:
            continue
        sealed = ledger.seals[name]
        if name in now:
            findings += differences(name, sealed, now[name])
        elif shelf.place(name) is not None:
            size = shelf.size(name)
            found = None if size is None else Seal(sealed.sha256, size)
            findings += differences(name, sealed, found)
    return findings, Counter(map(kind_of, names))


def _is_read(shelf: Shelf, name: str, *, quick: bool, served: Collection[str]) -> bool:
    if not quick:
        return not (name.startswith(MODEL) and shelf.place(name) is None)
    if name.startswith(RUN):
        _, run, inside = name.split("/", 2)
        return run in served and inside.startswith("service/")
    size = shelf.size(name) if name.startswith("var/") else None
    return size is not None and size <= SMALL


def differences(name: str, sealed: Seal, now: Seal | None) -> list[Finding]:
    """What a file's difference from its seal is."""
    if now == Seal(sealed.sha256, sealed.size):
        return []
    expected = f"{sealed.size:,} bytes, SHA-256 {sealed.sha256[:12]}…"
    remedy = remedy_of(name)
    if now is None:
        return [Finding(MISSING, name, "no such file", expected, remedy)]
    found = f"SHA-256 {now.sha256[:12]}…" if now.size == sealed.size else f"{now.size:,} bytes"
    return [Finding(CHANGED, name, found, expected, remedy)]


def remedy_of(name: str) -> str:
    kind = kind_of(name)
    return REMEDIES.get(kind, REMEDY_OF_A_RUN).format(stem=Path(name).stem[:12])


def _lost_runs(names: Iterable[str]) -> list[Finding]:
    """One finding for each run or fitted pipeline that is no longer there."""
    whose = Counter("/".join(name.split("/", 2)[:2]) for name in names)
    return [
        Finding(
            MISSING, where, "no such run in the registry", counted(files, "file"), REMEDY_OF_A_RUN
        )
        for where, files in whose.items()
    ]


def not_sealed(shelf: Shelf, ledger: Ledger, runs: Iterable[str]) -> dict[str, Path]:
    """Files that are kept and have no seal, by the names that they would have.

    Parameters
    ----------
    runs : iterable of str
        Those of registered versions.
    """
    root, var = shelf.project.root, shelf.project.var
    patterns = ("snapshots/*.parquet", "snapshots/*.json", "loop/turns/*.json")
    found = [path for pattern in patterns for path in var.glob(pattern)]
    found += [path for path in var.glob("monitor/windows/*/*") if path.is_file()]
    named = {path.relative_to(root).as_posix(): path for path in found}
    for run in runs:
        said = shelf.logged.runs.get(run)
        folder = local(said.artifacts) if said else None
        if folder is not None and folder.is_dir():
            files = [path for path in folder.rglob("*") if path.is_file()]
            named |= {f"{RUN}{run}/{path.relative_to(folder).as_posix()}": path for path in files}
    hidden = {name for name, path in named.items() if path.name.startswith(".")}
    return {n: path for n, path in named.items() if n not in ledger.seals and n not in hidden}


def misnamed_snapshots(shelf: Shelf, ledger: Ledger) -> list[Finding]:
    """Snapshots without a seal whose bytes are not those that name them."""
    findings = []
    for path in sorted(shelf.project.snapshots.glob("*.parquet")):
        name = path.relative_to(shelf.project.root).as_posix()
        now = None if name in ledger.seals else shelf.seal(name)
        if now and now.sha256 != path.stem:
            found, expected = f"SHA-256 {now.sha256[:12]}…", f"SHA-256 {path.stem[:12]}…, its name"
            findings.append(Finding(CHANGED, name, found, expected, remedy_of(name)))
    return findings


def counted_by_kind(names: Mapping[str, Any]) -> str:
    """How many files of each kind, for people."""
    counts = Counter(map(kind_of, names))
    return ", ".join(counted(count, ONE[kind], kind) for kind, count in counts.items())
