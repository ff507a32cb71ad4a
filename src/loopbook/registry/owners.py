"""Owners: which project a registered version belongs to.

It decides when a project may not use a name in a registry that several
projects share: as soon as another one's versions stand under it there. A
project is told by the id that `loopbook new` gave it, which its copies and
clones keep. A project without one, such as loopbook's own repository, claims
nothing.
"""

from urllib.parse import urlsplit

from loopbook.project.addresses import sqlite_file
from loopbook.project.errors import RegistryError
from loopbook.project.paths import Project, tracking_address
from loopbook.project.template import identity_of
from loopbook.registry.reader import connect

OWNER = "loopbook_project"


def tag_of(project: Project) -> dict[str, str]:
    """The tag of a version that says whose it is; none where the project has no id."""
    identity = identity_of(project.root)
    return {OWNER: identity} if identity else {}


def refuse_anothers(project: Project, name: str) -> None:
    """Refuse a model's name under which another project has versions.

    Raises
    ------
    RegistryError
        If another project has, or a server that was named cannot be asked.
    """
    identity, address = identity_of(project.root), tracking_address(project)
    if identity is None or not _is_shared(project, address):
        return
    owners = {version.tags.get(OWNER) for version in connect(address).versions(name)}
    if owners - {None, identity}:
        raise RegistryError(
            f"{urlsplit(address).netloc or address}: the name {name!r} is another project's there, "
            "so nothing was run. Choose another name in contract.yaml; or, if it is the same "
            "project, give both the same id in pyproject.toml, [tool.loopbook]."
        )


def _is_shared(project: Project, address: str) -> bool:
    """Whether others can have versions there: not in the project's own `var/`, nor in a new file."""
    if address == project.environment()["MLFLOW_TRACKING_URI"]:
        return False
    file = sqlite_file(address)
    return file is None or file.exists()
