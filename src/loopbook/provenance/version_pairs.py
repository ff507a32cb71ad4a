"""Version pairs: which two versions are meant, and where each of them is.

It decides what a person may call a version, and where the earlier one is looked
for when it is in another copy of the project or in another registry.
"""

from pathlib import Path
from urllib.parse import urlsplit

from loopbook.project.addresses import sqlite_file
from loopbook.project.contract import read_contract
from loopbook.project.database import shown
from loopbook.project.errors import RegistryError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import MARKS, Project, tracking_address
from loopbook.provenance import differences, version_parts
from loopbook.provenance.differences import Differences
from loopbook.provenance.version_parts import VersionParts
from loopbook.records.roles import CHALLENGER, CHAMPION, PREVIOUS, SHADOW
from loopbook.registry import reader, tracking
from loopbook.registry.reader import Registry, Version

NEWEST, HERE = "newest", "here"
CALLED = (CHAMPION, PREVIOUS, CHALLENGER, SHADOW)


def compare(project: Project, before: str, after: str, *, base: str = "") -> Differences:
    """What two versions of a project differ in.

    Parameters
    ----------
    before, after : str
        See `find`.
    base : str
        Where the earlier one is looked for: a folder that is another copy of
        the project, or a tracking address. Empty: in the project.

    Raises
    ------
    RegistryError
        If a version is unknown, or `base` is neither.
    TrackingError
        If a version's graph or card is gone or was changed.
    """
    other = _project_of(base, project)
    address = tracking_address(project)
    name = read_contract(project.contract).name
    there = _address_of(base, other) if base else address
    theirs = read_contract(other.contract).name
    one, here = (_place_of(base), HERE) if base else ("", "")
    sides = [
        _parts(other, there, find(reader.connect(there), theirs, before), one),
        _parts(project, address, find(reader.connect(address), name, after), here),
    ]
    return differences.compare(*sides, read_knobs(project.knobs))


def _project_of(base: str, project: Project) -> Project:
    folder = Path(base).expanduser()
    if not base or not folder.is_dir():
        return project
    absent = [mark for mark in MARKS if not (folder / mark).is_file()]
    if absent:
        raise RegistryError(
            f"--base {base}: that folder has no {' and no '.join(absent)}. Name the folder of a "
            "copy of this project, or a tracking address such as http://mlflow:5000."
        )
    return Project(folder.resolve())


def _address_of(base: str, project: Project) -> str:
    """The tracking address that `base` is, or the own one of the project in that folder."""
    is_folder = Path(base).expanduser().is_dir()
    address = project.environment()["MLFLOW_TRACKING_URI"] if is_folder else base
    file = sqlite_file(address)
    if file is not None and not file.exists():
        raise RegistryError(
            f"--base {base}: there is no registry ({file}). Build there first: loopbook build"
        )
    if file is None and urlsplit(address).scheme not in ("http", "https", "postgresql"):
        raise RegistryError(
            f"--base {base}: is neither a folder nor a tracking address. Name the folder of a "
            "copy of this project, or an address such as http://mlflow:5000."
        )
    return address


def _place_of(base: str) -> str:
    """What a place is called beside a version."""
    folder = Path(base).expanduser()
    return folder.resolve().name if folder.is_dir() else shown(base)


def _parts(project: Project, address: str, version: Version, place: str) -> VersionParts:
    registry, client = reader.connect(address), tracking.connect_to(address)
    return version_parts.read(project, client, registry, version, place=place)


def find(registry: Registry, name: str, called: str) -> Version:
    """The version that a person means.

    Parameters
    ----------
    called : str
        Its number, with or without a `v` before it; `newest`; or an alias:
        champion, previous, challenger, shadow.

    Raises
    ------
    RegistryError
        If there is none: which there are.
    """
    there = registry.versions(name)
    if called in CALLED:
        if held := registry.held(name, called):
            return next((v for v in there if v.number == held.number), held)
    elif called == NEWEST and there:
        return there[0]
    number = called.removeprefix("v")
    if match := next((version for version in there if version.number == number), None):
        return match
    raise RegistryError(_unknown(name, called, there))


def _unknown(name: str, called: str, there: list[Version]) -> str:
    told = reader.no_version(name, called, there, is_role=called in CALLED)
    others = " Or name champion, previous, challenger or newest: loopbook history"
    return f"{told}{others if there else ''}"
