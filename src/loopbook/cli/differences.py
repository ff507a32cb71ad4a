"""The command `loopbook diff`: what two versions differ in.

It decides words and exit codes, as `cli` does for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopbook.cli import completion
from loopbook.cli.printed import Json, as_text
from loopbook.pages.formats import in_terminal
from loopbook.project import paths, waits
from loopbook.project.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from loopbook.provenance.differences import Differences

DIFFER = 3  # with --exit-code


def diff(
    versions: Annotated[
        tuple[str, str],
        typer.Argument(
            metavar="A B",
            autocompletion=completion.named_versions,
            help="Two versions: numbers, or champion, previous, challenger, newest.",
        ),
    ],
    *,
    base: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="Look A up there: the folder of another copy of this project, or a "
            "tracking address.",
        ),
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")
    ] = False,
    as_json: Json = False,
    html: Annotated[
        str, typer.Option(metavar="FILE", help="Write a page of HTML there as well.")
    ] = "",
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 3 if the two are not identical.")
    ] = False,
) -> None:
    """Show what two versions differ in, and what came of it.

    Rows, cells, modules, pipeline, contract, knobs and lock; then candidate,
    distributions, metrics on the same rows and the answers that changed most.
    """
    from pathlib import Path

    from loopbook.project.files import replacing

    here = paths.current()
    with waits.waiting(f"diff {' '.join(versions)}"):  # its imports take seconds
        from loopbook.provenance import version_pairs

        found = version_pairs.compare(here, *versions, base=base)
    if html:
        with replacing(Path(html)) as file:
            file.write_text(_page(found), encoding="utf-8")
    if as_json:
        print(as_text(found.as_json()))
    elif markdown:
        print(_comment(found), end="")
    else:
        _print(found)
    if exit_code and not found.is_identical:
        raise typer.Exit(DIFFER)


COMMANDS = {diff: "Versions: loopbook history. What made one: loopbook why --version B"}


def _page(found: Differences) -> str:
    from loopbook.pages import differences

    return differences.page(found)


def _comment(found: Differences) -> str:
    from loopbook.pages import differences, markdown

    return markdown.comment(differences.title(found), differences.sections(found))


def _print(found: Differences) -> None:
    from rich.text import Text

    from loopbook.pages import differences
    from loopbook.proposal.shown import console as console_of

    console: Console = console_of()
    if (label := found.before.label) == found.after.label and found.is_identical:
        say(f"Both are {label}. Two others: loopbook diff A B; which there are: loopbook history")
        return
    for section in differences.sections(found):
        console.print(Text(section.title, style="bold"))
        say(in_terminal(section.sentence))
        for note in section.notes:
            say(f"  {in_terminal(note)}.")
        for table in section.tables:
            _print_table(table, console)
        for code in section.code:
            console.print(Text(in_terminal(code.title), style="bold"))
            for line in code.lines:
                style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
                console.print(Text(f"  {in_terminal(line)}", style=style), soft_wrap=True)
        console.print()


def _print_table(table: Any, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from loopbook.pages.formats import Amount, cell

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(table.names):
        is_number = bool(table.rows) and isinstance(table.rows[0][place], Amount | int | float)
        shown.add_column(name, overflow="fold", justify="right" if is_number else "left")
    for row in table.rows:
        shown.add_row(*(Text(in_terminal(v if isinstance(v, str) else cell(v))) for v in row))
    console.print(shown)
    if table.more:
        console.print(Text(f"  and {table.more:,} more"))
