"""Addresses: a file as an address, and back.

It decides which characters of a path an address cannot hold as they are. Like
`paths` it imports the standard library only.
"""

import re
from pathlib import Path
from urllib.parse import quote, unquote

SQLITE = "sqlite:///"


def sqlite_address(file: Path) -> str:
    """The address of a SQLite file, for SQLAlchemy and what is built on it.

    SQLAlchemy decodes what follows a `%`, and cuts at a `?`. Everything else it
    takes as it is, so the address of an ordinary path is the path itself. From
    the first folder on that has one of the two, all is encoded, the slashes
    too: MLflow makes the folders that it reads in an address without decoding
    it, and so made one beside the project.
    """
    path = str(file)
    if special := re.search(r"[^/]*[%?]", path):
        path = path[: special.start()] + quote(path[special.start() :], safe="")
    return SQLITE + path


def sqlite_file(address: str) -> Path | None:
    """The file that SQLAlchemy opens for an address; None if the address is of something else."""
    if not address.startswith(SQLITE):
        return None
    return Path(unquote(address.removeprefix(SQLITE).partition("?")[0]))
