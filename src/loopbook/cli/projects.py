"""Commands of a project as a whole: `loopbook new` and `loopbook upgrade`.

It decides words, as `main` does for the rest.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    example: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Begin with the contract and data of bikes, flights, houses or penguins.",
        ),
    ] = "empty",
    name: Annotated[str, typer.Option(help="The model's name; else the folder's.")] = "",
) -> None:
    """Make a project of your own."""
    from loopbook.project.new import make_project

    made = make_project(folder, name=name or folder.absolute().name, example=example)
    print(f"{made}: a project with a git history of one commit.")
    fill = "\n  edit contract.yaml  it says what your table is" if example == "empty" else ""
    there = shlex.quote(str(folder))
    print(f"Next:\n  cd {there}{fill}\n  make build          its environment, then a champion")


def upgrade(
    to: Annotated[
        str, typer.Option("--to", metavar="VERSION", help="Or a wheel's path; else this one's.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
) -> None:
    """Merge a newer loopbook's files into this project."""
    from loopbook.project import paths
    from loopbook.project.upgrade import upgrade as merge

    print("\n".join(merge(paths.current().root, to, dry_run=dry_run)))


COMMANDS = {
    new: "Next: cd DIR, then make build",
    upgrade: "Next: git diff HEAD, then make build",
}  # and what to type after each
