"""The commands `backup` and `restore`: all that a project keeps, as one file, and back.

It decides words, as `cli` does for the rest.
"""

from pathlib import Path
from typing import Annotated

import typer

from loopbook.cli.printed import Json, only_json, report
from loopbook.project import paths, waits
from loopbook.project.terminal import say

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The archive: .tar, or .tar.gz to compress it.")
]


def backup(path: File, as_json: Json = False) -> None:
    """Write all that the project keeps to one file.

    Registry, artifacts, prediction log, keys, features, records and snapshots,
    on SQLite, PostgreSQL and Redis, while services go on writing.
    """
    from loopbook.backups import taking

    leaving = waits.leaving("no file was written. Type the same command again.")
    with only_json(as_json), leaving, waits.waiting("backup"):
        taken = taking.take(paths.current(), path)
    report(taken, taken.lines, as_json=as_json)


def restore(
    path: File,
    check: Annotated[
        bool, typer.Option("--check", help="Read the whole backup and put nothing back.")
    ] = False,
) -> None:
    """Put a backup into a clone that keeps nothing yet.

    Nothing is written over: var/ and the stores that the environment names have
    to be empty.
    """
    from loopbook.backups import restoring

    leaving = waits.leaving("nothing was put back. Type the same command again.")
    with leaving, waits.waiting("restore"):
        done = restoring.look(path) if check else restoring.restore(paths.current(), path)
    say(*done)


COMMANDS = {
    backup: "Try it: loopbook restore --check FILE",
    restore: "Next: loopbook verify, then start the service: make serve",
}
