"""Commands of a project as a whole: `loopbook new` and `loopbook upgrade`.

It decides words, as `main` does for the rest.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from loopbook.cli.init import Entity, Key, Options, Query, Target, Time, Yes, describe, looked_at
from loopbook.project import paths, waits
from loopbook.project.terminal import say

NOT_MADE = "no project was made. Type the same command again."


def new(  # noqa: PLR0913, PLR0917 - the options of a command
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    example: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Begin with the contract and data of bikes, flights, houses or penguins.",
        ),
    ] = "empty",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The model's name; else the folder's.")
    ] = "",
    source: Annotated[
        str, typer.Option("--from", metavar="SOURCE", help="Describe this table: loopbook init.")
    ] = "",
    target: Target = "",
    time: Time = "",
    entity: Entity = "",
    key: Key = "",
    query: Query = "",
    yes: Yes = False,
) -> None:
    """Make a project of your own."""
    from loopbook.project.new import make_project

    if source:
        from_table(folder, source, name, Options(target, time, entity, key, query, yes))
        return
    with waits.leaving(NOT_MADE), waits.waiting("new"):
        made = make_project(folder, name=name or folder.absolute().name, example=example)
    say(f"{made}: a project with a git history of one commit.")
    fill = ["  edit contract.yaml  it says what your table is"] if example == "empty" else []
    build = "  make build          its environment, then a champion"
    say("Next:", f"  cd {shlex.quote(str(folder))}", *fill, build)


def from_table(folder: Path, source: str, name: str, options: Options) -> None:
    """Make a project and describe a table in it; a table that cannot be read leaves none behind."""
    import tempfile

    from loopbook.project.new import check_place, make_project
    from loopbook.project.paths import Project

    name = name or folder.absolute().name
    check_place(folder, name)  # a table may take long to read
    is_file = "://" not in source and not source.startswith("${")
    place = str(Path(source).expanduser().absolute()) if is_file else source
    with tempfile.TemporaryDirectory() as spare:
        proposal = looked_at(place, Path(spare), options)
        with waits.leaving(NOT_MADE), waits.waiting("new"):
            made = make_project(folder, name=name, example="empty")
        say(f"{made}: a project with a git history of one commit.")
        describe(Project(made), proposal, options, f"cd {shlex.quote(str(folder))} && make build")


def upgrade(
    to: Annotated[
        str, typer.Option("--to", metavar="VERSION", help="Or a wheel's path; else this one's.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
) -> None:
    """Merge a newer loopbook's files into this project."""
    from loopbook.project.upgrade import upgrade as merge

    leaving = waits.leaving("nothing was changed. Type the same command again.")
    with leaving, waits.waiting("upgrade"):
        told = merge(paths.current().root, to, dry_run=dry_run)
    say(*told)


COMMANDS = {
    new: "Next: cd DIR, then make build",
    upgrade: "Next: git diff HEAD, then make build",
}  # and what to type after each
