"""Taking: a backup of a running project, all of it as of one moment.

It decides the order in which things are read, so that what refers to something is
never newer than that: files first, then each database in a snapshot of its own, then
the files that came meanwhile. Builds and turns seal what they write; if anything was
sealed during the last two steps they are done again. Nobody waits for it.
"""

import re
import shlex
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from itertools import groupby
from pathlib import Path
from typing import Any

from loopbook.backups import archive, postgresql_tables, redis_keys, registry_addresses, stores
from loopbook.backups.stores import POSTGRESQL, REDIS, SQLITE, Store
from loopbook.project import waits
from loopbook.project.addresses import sqlite_file
from loopbook.project.clock import utc_now
from loopbook.project.contract import Contract, read_contract
from loopbook.project.counts import counted
from loopbook.project.database import shown
from loopbook.project.errors import BackupError
from loopbook.project.paths import Project, tracking_address
from loopbook.project.template import identity_of
from loopbook.records import seals

FORM = 1
ATTEMPTS, PAUSE_S = 6, 5.0
SQLITE_HEADER = b"SQLite format 3\0"
SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
# of a process that runs; half a file that somebody is writing
PASSING = re.compile(r".*\.(lock|pid|kernel\.json)|service\.json|\..*\.\d+-[0-9a-f]{8}")
PACKAGES, LOGGED = "requirements.lock", "artifacts"  # a lock of packages; where runs log files


def is_passing(path: Path) -> bool:
    """Whether a file, by its path below the project, is of a process that runs, and no record."""
    is_record = path.name == PACKAGES or LOGGED in path.parts
    return not is_record and PASSING.fullmatch(path.name) is not None


@dataclass
class Taken:
    """What went into a backup, for people.

    Attributes
    ----------
    left_out : what belongs to the project and is not in it
    """

    path: Path
    files: int = 0
    size: int = 0
    stores: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        others = f", with {' and '.join(self.stores)}" if self.stores else ""
        said = (
            f"Wrote {self.path}: {counted(self.files, 'file')}, {self.size / 1e6:,.1f} MB{others}."
        )
        trial = f"Try it: loopbook restore --check {shlex.quote(str(self.path))}"
        return [said, *(f"Not in it: {what}." for what in self.left_out), trial]


def take(project: Project, path: Path) -> Taken:
    """Write a new file with everything that the project keeps.

    Raises
    ------
    BackupError
        If the file is there already or would lie in `var/`, a store cannot be read,
        the disk is full, or a build wrote during each of several attempts. No
        file is left then.
    """
    path, contract = path.resolve(), read_contract(project.contract)
    if not path.name.endswith(archive.NAMES):
        raise BackupError(
            f"{path}: expected a name that ends in {' or '.join(archive.NAMES)}. Name it so."
        )
    if path.exists():
        raise BackupError(f"{path}: is there already, and no backup is written over. Name another.")
    if path.is_relative_to(project.var.resolve()):
        raise BackupError(
            f"{path}: lies in {project.var}, which it would be a copy of. Name a file elsewhere, "
            "best on another disk."
        )
    outside = stores.outside(project, contract)
    try:
        with tempfile.TemporaryDirectory(dir=_made(path.parent), prefix=".backup-") as folder:
            return _Taking(project, contract, outside, Path(folder)).into(path)
    except OSError as reason:
        raise BackupError(
            f"{path}: cannot be written ({reason.strerror or reason}), and no half of it is left. "
            "Free space, or name a place that you may write to."
        ) from None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class _Taking:
    project: Project
    contract: Contract
    outside: list[Store]
    folder: Path

    def into(self, path: Path) -> Taken:
        taken = Taken(path)
        with archive.writing(path) as tar:
            waits.at("copying files")
            tar.take(self._files(taken))  # most of it, before anything has to stand still
            for _ in range(ATTEMPTS):
                before = self._sealed()
                waits.at("copying databases")
                columns = self._databases()
                files = self._files(taken)
                waits.at("copying what came meanwhile")
                tar.take(files)
                if self._sealed() == before:
                    break
                time.sleep(PAUSE_S)
            else:
                raise BackupError(
                    f"{self.project.var}: a build or a turn of the loop wrote during each of "
                    f"{ATTEMPTS} attempts, so no backup was taken. Take it when that has ended."
                )
            copies = {
                file.relative_to(self.folder).as_posix(): file
                for file in self.folder.rglob("*")
                if file.is_file()
            }
            tar.forget_but(files | copies)
            tar.take(copies)
            tar.close(self._about(columns, taken))
            taken.files = len(tar.held)
        taken.size = path.stat().st_size
        taken.stores = [f"{store.name} from {store.where}" for store in self.outside]
        return taken

    def _sealed(self) -> int:
        """How long the ledger is: it grows with all that is kept."""
        try:
            return seals.file_of(self.project).stat().st_size
        except FileNotFoundError:
            return 0

    def _databases(self) -> dict[str, dict[str, list[str]]]:
        """Copy every database, each as of one moment; the columns of the tables on servers."""
        for file in self._sqlite_files():
            _copy(file, self.folder / file.relative_to(self.project.root))
        columns: dict[str, dict[str, list[str]]] = {}
        servers = [store for store in self.outside if store.kind == POSTGRESQL]
        servers.sort(key=_database)
        for _, together in groupby(servers, _database):
            columns |= postgresql_tables.copied(list(together), self.folder)
        for store in self.outside:
            if store.kind == REDIS:
                redis_keys.copied(store, self.folder)
            elif store.kind == SQLITE:
                _copy(stores.file_of(store), self.folder / stores.place(store))
        return columns

    def _sqlite_files(self) -> list[Path]:
        """The databases below `var/`, also those of replays."""
        found = (p for p in self.project.var.rglob("*") if p.suffix in SQLITE_SUFFIXES)
        return sorted(path for path in found if path.is_file() and _is_sqlite(path))

    def _files(self, taken: Taken) -> dict[str, Path]:
        """Every other file, by its name in the archive."""
        project, databases = self.project, set(self._sqlite_files())
        beside = {f"{file}{end}" for file in databases for end in ("-wal", "-shm", "-journal")}
        var = [path for path in project.var.rglob("*") if path not in databases]
        special = sum(path.is_symlink() for path in var)
        files = {
            path.relative_to(project.root).as_posix(): path
            for path in var
            if path.is_file() and not path.is_symlink() and str(path) not in beside
            if not is_passing(path.relative_to(project.root))
        }
        taken.left_out = [f"{special:,} links below var/"] if special else []
        for number, root in enumerate(self._roots(taken)):
            below = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
            files |= {
                f"elsewhere/{number}/{path.relative_to(root).as_posix()}": path for path in below
            }
        return files

    def _roots(self, taken: Taken | None = None) -> list[Path]:
        """The folders outside `var/` in which the registry keeps files; the others are told."""
        var, address = self.project.var, tracking_address(self.project)
        file = sqlite_file(address)
        if file is not None and not file.exists():
            return []
        folders = set()
        for root in registry_addresses.roots(registry_addresses.engine(address)):
            folder = registry_addresses.local_folder(root)
            if folder is None or not folder.is_dir():
                if taken is not None and (folder is None or not folder.is_relative_to(var)):
                    where = "which this machine does not see" if folder else "a store of its own"
                    taken.left_out.append(
                        f"artifacts at {shown(root) if '://' in root else root}, {where}; back them up there"
                    )
            elif not folder.is_relative_to(var):
                folders.add(folder)
        return sorted(folders)

    def _about(self, columns: Mapping[str, Any], taken: Taken) -> dict[str, Any]:
        return {
            "form": FORM,
            "loopbook": installed("loopbook"),
            "mlflow": installed("mlflow"),
            "taken_at": utc_now().isoformat(timespec="seconds"),
            "project": identity_of(self.project.root),
            "contract": self.contract.name,
            "root": str(self.project.root),
            "elsewhere": [str(root) for root in self._roots()],
            "stores": {
                store.name: {"kind": store.kind, "tables": columns.get(store.name, {})}
                for store in self.outside
            },
            "left_out": taken.left_out,
        }


def _database(store: Store) -> str:
    return store.address.partition("://")[2]


def _is_sqlite(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    return False


def _copy(source: Path, target: Path) -> None:
    """Copy a SQLite database as of one moment, whoever writes to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)
            # its own name for the copy's journal would be one more file
            written.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as reason:
        raise BackupError(
            f"{source}: cannot be copied ({reason}), so no backup was taken. loopbook verify says "
            "what is wrong with it; free space if the disk is full."
        ) from None
    target.chmod(source.stat().st_mode & 0o777)
