"""Dataset versions: snapshots under DVC, so that a team can share them. The only importer.

It decides that `var/snapshots` is a DVC repository of its own, without git: a
snapshot's pointer (a few lines of YAML with an MD5) is written beside it and
kept with every run that used it, so nothing needs a commit inside the loop. A
team adds its remote with `dvc remote add` and uses `dvc push` and `dvc pull`;
our own check of what came back is the snapshot's SHA-256.

DVC is an extra, `loopbook[dvc]`. Without it a snapshot has no pointer, and
`restore` says what to install.
"""

import logging
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from loopbook.project.errors import SourceError
from loopbook.project.files import replacing, sha256_of

if TYPE_CHECKING:
    from dvc.repo import Repo

SUFFIX = ".parquet"
INSTALL = "pip install 'loopbook[dvc]' (in loopbook's own repository: make dvc)"


def is_installed() -> bool:
    """Whether DVC can be imported."""
    return find_spec("dvc") is not None


def keep(folder: Path, snapshot: Path) -> str:
    """Put a snapshot under DVC and give its pointer; again changes nothing.

    The cache holds a hard link where the file system has them, so that the
    rows lie on the disk once; the file becomes read-only. Without DVC the
    pointer is empty, unless the snapshot has one from before.
    """
    pointer = _pointer(snapshot)
    if not pointer.exists():
        if not is_installed():
            return ""
        from dvc.exceptions import DvcException

        try:
            with closing(_repository(folder)) as repository:
                repository.add([str(snapshot)])
        except DvcException as reason:
            raise SourceError(
                f"snapshot {snapshot.stem[:12]}: DVC cannot keep it ({reason}). "
                f"Free space, or delete {folder / '.dvc/tmp'}, and build again."
            ) from None
    return pointer.read_text(encoding="utf-8")


def restore(folder: Path, sha256: str, pointer: str) -> Path:
    """Bring a snapshot back from the team's remote, byte for byte.

    Raises
    ------
    SourceError
        If DVC is not installed, no remote has the snapshot, or what came is
        another file.
    """
    _demand(f"snapshot {sha256[:12]}: only DVC can bring it back")
    from dvc.exceptions import DvcException

    path = folder / f"{sha256}{SUFFIX}"
    with replacing(_pointer(path)) as target:
        target.write_text(pointer, encoding="utf-8")
    try:
        with closing(_repository(folder)) as repository:
            repository.pull([str(_pointer(path))])
    except DvcException as reason:
        _pointer(path).unlink(missing_ok=True)
        raise SourceError(
            f"snapshot {sha256[:12]}: no remote gives it ({str(reason).splitlines()[0]}). "
            f"Add the team's remote: cd {quote(str(folder))} && dvc remote add -d team ADDRESS"
        ) from None
    received = sha256_of(path)
    if received != sha256:
        raise SourceError(
            f"snapshot {sha256[:12]}: the remote gave a file with SHA-256 {received[:12]}…, "
            "so it is another one. Ask whoever pushed it."
        )
    return path


def forget(folder: Path, snapshots: list[Path]) -> None:
    """Delete snapshots, their pointers and what DVC's cache holds of them.

    Raises
    ------
    SourceError
        If DVC holds some of them and is not installed; nothing is deleted then.
    """
    is_repository = (folder / ".dvc" / "config").exists()
    if is_repository:
        _demand(f"{folder}: DVC holds copies of these snapshots, so nothing was deleted")
    for snapshot in snapshots:
        _pointer(snapshot).unlink(missing_ok=True)
        snapshot.unlink(missing_ok=True)
    if is_repository:
        with closing(_repository(folder)) as repository:
            repository.gc(workspace=True)


def _demand(why: str) -> None:
    if not is_installed():
        raise SourceError(f"{why}, and DVC is not installed. Type: {INSTALL}")


def _pointer(snapshot: Path) -> Path:
    return snapshot.with_name(snapshot.name + ".dvc")


def _repository(folder: Path) -> "Repo":
    """The repository in `folder`, made where it is not there yet."""
    from dvc.repo import Repo

    if not (folder / ".dvc" / "config").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # it would say so on stdout, in the middle of a notebook
        logging.getLogger("dvc.repo.init").setLevel(logging.WARNING)
        made = Repo.init(str(folder), no_scm=True, force=True)
        with closing(made), made.config.edit("repo") as config:
            config["core"] |= {"analytics": False, "check_update": False}
            config["cache"]["type"] = ["reflink", "hardlink", "copy"]
    return Repo(str(folder))
