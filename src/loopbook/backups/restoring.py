"""Restoring: a backup, put into a project that keeps nothing yet.

It decides that nothing is written over, and that nothing counts before all of it
was read and held against its digests. The files come to their places last, so that
a restore that failed leaves no half of a `var/`.
"""

import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from loopbook.backups import archive, postgresql_tables, redis_keys, registry_addresses, stores
from loopbook.backups.stores import FEATURES, KEYS, LOG, POSTGRESQL, REDIS, REGISTRY, SQLITE, Store
from loopbook.backups.taking import FORM, is_passing
from loopbook.data import prediction_log
from loopbook.features import store as feature_store
from loopbook.project import waits
from loopbook.project.addresses import sqlite_address
from loopbook.project.contract import Contract, read_contract
from loopbook.project.counts import counted
from loopbook.project.errors import BackupError
from loopbook.project.paths import Project
from loopbook.project.template import identity_of
from loopbook.registry.state_store import StateStore
from loopbook.serving import api_keys

# a new database has rows in these: MLflow's first experiment, the form of the log
OF_A_NEW_ONE = ("experiments", "workspaces", "log_form")


def look(path: Path) -> list[str]:
    """Read a whole backup and write nothing; what it is, for people."""
    about = archive.unpacked(path, None)
    following = (
        f"Put it into a clone that keeps nothing yet: loopbook restore {shlex.quote(str(path))}"
    )
    return [*_lines(path, about), f"Nothing was put back. {following}"]


def restore(project: Project, path: Path) -> list[str]:
    """Put a backup into a project; what was done, for people.

    Raises
    ------
    BackupError
        If the project keeps something already, the backup is another project's,
        is not whole, or needs a store that the environment does not name. Then
        nothing was written.
    """
    contract = read_contract(project.contract)
    _refuse_filled_var(project)
    here = stores.outside(project, contract)
    project.var.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=project.var, prefix=".restore-") as name:
            folder = Path(name)
            about = archive.unpacked(path, folder)
            _refuse_another(path, about, project, contract)
            _refuse_other_stores(path, about, here)
            _Restoring(project, contract, here, folder, about).run()
    except OSError as reason:
        raise BackupError(
            f"{project.var}: cannot be written ({reason.strerror or reason}), so no file was put "
            "back. Free space, or correct the folder's rights."
        ) from None
    return [
        *_lines(path, about),
        f"All of it is in {project.root} now. Next: loopbook verify, then make serve",
    ]


def _lines(path: Path, about: Mapping[str, Any]) -> list[str]:
    size = sum(file["bytes"] for file in about["files"].values())
    taken = about["taken_at"][:16].replace("T", " ")
    lines = [
        f"{path}: {about['contract']} as of {taken} UTC by loopbook {about['loopbook']}, "
        f"{counted(len(about['files']), 'file')}, {size / 1e6:,.1f} MB unpacked; each is as it was taken."
    ]
    return [*lines, *(f"Not in it: {what}." for what in about["left_out"])]


def _refuse_filled_var(project: Project) -> None:
    there = [
        path.relative_to(project.root).as_posix()
        for path in project.var.rglob("*")
        if path.is_file() and not is_passing(path.relative_to(project.root))
    ]
    if there:
        first = ", ".join(sorted(there)[:3])
        raise BackupError(
            f"{project.var}: holds {counted(len(there), 'file')} already ({first}), and no backup is put over "
            "them. Restore into a new clone of the project, or move var/ away first."
        )


def _refuse_another(
    path: Path, about: Mapping[str, Any], project: Project, contract: Contract
) -> None:
    own = identity_of(project.root)
    if about.get("form") != FORM:
        raise BackupError(
            f"{path}: is of form {about.get('form')}, and this loopbook reads form {FORM}. Restore it "
            f"with loopbook {about.get('loopbook')}, then: loopbook upgrade"
        )
    if about["contract"] != contract.name or (about["project"] and about["project"] != own):
        raise BackupError(
            f"{path}: is of {about['contract']!r} (project {about['project'] or 'without an id'}), and "
            f"this is {contract.name!r} (project {own or 'without an id'}); nothing was put back. "
            "Restore it into a clone of its own project."
        )


def _refuse_other_stores(path: Path, about: Mapping[str, Any], here: list[Store]) -> None:
    """The same stores have to be outside `var/` as when the backup was taken."""
    wanted = {name: said["kind"] for name, said in about["stores"].items()}
    named = {store.name: store.kind for store in here}
    faults = [
        f"{stores.VARIABLES[name]} names {named.get(name, 'nothing')} here, and "
        f"{wanted.get(name, 'nothing')} when the backup was taken"
        for name in stores.VARIABLES
        if wanted.get(name) != named.get(name)
    ]
    if faults:
        raise BackupError(
            f"{path}: {'; '.join(faults)}; nothing was put back. Set each variable to an empty "
            "database of that kind, or unset it where the backup has none."
        )


class _Restoring:
    def __init__(
        self,
        project: Project,
        contract: Contract,
        here: list[Store],
        folder: Path,
        about: Mapping[str, Any],
    ):
        self.project, self.contract, self.here = project, contract, here
        self.folder, self.about = folder, about

    def run(self) -> None:
        self._refuse_filled()
        places = self._places()
        for file in (self.folder / "var").rglob("*.db"):
            registry_addresses.move(registry_addresses.engine(sqlite_address(file)), places)
        with waits.leaving(
            "a part of the backup was put back. Empty var/ and the databases that the environment "
            "names, then type the same command again."
        ):
            self._put_back(places)

    def _put_back(self, places: Mapping[Path, Path]) -> None:
        servers = sorted(self._of(POSTGRESQL), key=lambda store: store.address)
        columns = {name: said["tables"] for name, said in self.about["stores"].items()}
        for _, together in groupby(servers, lambda store: store.address):
            postgresql_tables.put_back(list(together), columns, self.folder)
        for store in self._of(REDIS):
            redis_keys.put_back(store, self.folder)
        for store in self._of(SQLITE):
            target = stores.file_of(store)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.folder / stores.place(store), target)
        for store in self.here:
            if store.name == REGISTRY:
                registry_addresses.move(registry_addresses.engine(store.address), places)
        self._place_files()

    def _of(self, kind: str) -> Iterable[Store]:
        return [store for store in self.here if store.kind == kind]

    def _refuse_filled(self) -> None:
        """Refuse stores that hold something; make their tables where there are none."""
        for store in self.here:
            held: list[str] = []
            if store.kind == SQLITE:
                held = [str(stores.file_of(store))] if stores.file_of(store).exists() else []
            elif store.kind == REDIS:
                held = ["features"] if redis_keys.filled(store) else []
            else:
                self._make_tables(store)
                held = postgresql_tables.filled(store, but=OF_A_NEW_ONE)
            if held:
                raise BackupError(
                    f"{store.where}: holds rows already ({', '.join(held[:3])}), and no backup is put "
                    "over them. Name an empty database."
                )

    def _make_tables(self, store: Store) -> None:
        """Let each store make its own tables in a PostgreSQL database."""
        if store.name == LOG:
            log = prediction_log.at(store.address, self.contract, self.folder / "var")
            StateStore(log.database).close()
        elif store.name == FEATURES:
            feature_store.connect(self.project, self.contract).close()
        elif store.name == KEYS:
            api_keys.connect(self.project).database.close()
        else:
            from loopbook.registry.tracking import connect_to  # takes seconds to import

            connect_to(store.address).search_experiments(max_results=1)

    def _places(self) -> dict[Path, Path]:
        """Where the files of the registry were, and where they are from now on."""
        places = {Path(self.about["root"]) / "var": self.project.var}
        return places | {
            Path(root): self.project.mlflow / "elsewhere" / str(number)
            for number, root in enumerate(self.about["elsewhere"])
        }

    def _place_files(self) -> None:
        for number, _ in enumerate(self.about["elsewhere"]):
            came = self.folder / "elsewhere" / str(number)
            if came.exists():
                target = self.folder / "var" / "mlflow" / "elsewhere" / str(number)
                target.parent.mkdir(parents=True, exist_ok=True)
                came.replace(target)
        # one by one and not the folder itself, which may be a volume
        for path in sorted(self.folder.glob("var/*")):
            path.replace(self.project.var / path.name)
