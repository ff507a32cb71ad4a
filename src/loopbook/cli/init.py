"""`loopbook init`: a proposed contract for a table that nobody has described.

It decides what is asked in the terminal and what is read there. What is
proposed is decided in `loopbook.proposal`.
"""

import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from loopbook.project import waits
from loopbook.project.counts import counted
from loopbook.project.terminal import say
from loopbook.proposal.wishes import Wishes

if TYPE_CHECKING:
    from pathlib import Path

    from loopbook.cli.questions import Propose
    from loopbook.project.paths import Project
    from loopbook.proposal.placing import Placed
    from loopbook.proposal.proposals import Proposal

Target = Annotated[
    str,
    typer.Option(metavar="COLUMN", help="What is predicted; or a comparison, 'delay > 15'."),
]
Time = Annotated[
    str,
    typer.Option(
        metavar="COLUMNS",
        help="When a row happened: a column, or several with commas (day,hour); none: no time.",
    ),
]
Entity = Annotated[str, typer.Option(metavar="COLUMN", help="What the rows are about, over time.")]
Key = Annotated[
    str, typer.Option(metavar="COLUMNS", help="What names a row: one or several columns.")
]
Query = Annotated[str, typer.Option(metavar="SQL", help="Of a database: the rows.")]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing; mark in the file what was guessed.")]


@dataclass(frozen=True)
class Options:
    """What a person typed of a table."""

    target: str = ""
    time: str = ""
    entity: str = ""
    key: str = ""
    query: str = ""
    yes: bool = False

    def wishes(self) -> "Wishes":
        from loopbook.cli.questions import timed
        from loopbook.proposal.wishes import Wishes

        key = tuple(part.strip() for part in self.key.split(",") if part.strip())
        return timed(Wishes(target=self.target, entity=self.entity, key=key), self.time)


def init(  # noqa: PLR0913, PLR0917 - the options of a command
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file, a folder, a URL or a database.")
    ],
    target: Target = "",
    time: Time = "",
    entity: Entity = "",
    key: Key = "",
    query: Query = "",
    yes: Yes = False,
) -> None:
    """Propose contract.yaml for a table that nobody described.

    Prints what each column seems to be, and why. A contract that is there is
    never overwritten: then the difference is shown. Ranges, types and roles are
    guesses from the rows: read the file's comments.
    """
    from loopbook.proposal.placing import project_here

    project, options = project_here(), Options(target, time, entity, key, query, yes)
    describe(project, looked_at(source, project.root, options), options)


def looked_at(source: str, root: "Path", options: Options) -> "Proposal":
    """The proposal for a source by what a person typed; refuses before anything is written."""
    from loopbook.project import clock
    from loopbook.project.errors import SourceError

    if not options.yes and not sys.stdin.isatty():
        raise SourceError(
            "loopbook init asks what it cannot know, and there is no terminal to ask in. Type it in "
            "one, or take the proposals: --yes"
        )
    leaving = waits.leaving("nothing was written. Type the same command again.")
    with leaving, waits.waiting("init"):  # its imports take seconds
        from loopbook.proposal import opened
        from loopbook.proposal.columns import read_table
        from loopbook.proposal.proposals import proposed

        waits.at("reading the table")
        table = read_table(opened.opened(source, root, query=options.query))
        waits.at("looking at its columns")
        return proposed(table, options.wishes(), now=clock.utc_now())


def describe(
    project: "Project", proposal: "Proposal", options: Options, build: str = "loopbook build"
) -> None:
    """Show a proposal, ask and write; `build` is what to type after it."""
    from loopbook.project import clock
    from loopbook.proposal import placing, shown
    from loopbook.proposal.proposals import proposed

    now = clock.utc_now()
    console = shown.console()
    shown.show(proposal, console)
    if not options.yes and placing.is_free(project.contract):
        table, wishes = proposal.asked_for
        answers = _asked(wishes, lambda some: proposed(table, some, now=now))
        if answers != wishes:
            proposal = proposed(table, answers, now=now)
            shown.show(proposal, console)
    _told(project, placing.place(project, proposal, now=now), build)


def _asked(wishes: "Wishes", propose: "Propose") -> "Wishes":
    """The answers; without them nothing is written."""
    from loopbook.cli.questions import asked

    # polars lets a read go on after Ctrl-C, which a question would notice with the next Enter only
    signal.siginterrupt(signal.SIGINT, True)
    try:
        return asked(wishes, propose)
    except (typer.Abort, EOFError, KeyboardInterrupt):
        say(
            "",
            "Nothing was written. Ask again with the same command, or take the proposals: --yes",
        )
        raise typer.Exit(1) from None


def _told(project: "Project", placed: "Placed", build: str) -> None:
    if not placed.is_written:
        say("contract.yaml is there and stays as it is. The proposal differs so:", "")
        print("\n".join(placed.difference) or "in nothing.")  # lines to copy, never broken
        say("", "Next: take over what you want, then loopbook check")
        return
    guessed = project.contract.read_text(encoding="utf-8").count("# GUESSED")
    say(
        "",
        f"Wrote {project.contract.name}; {counted(guessed, 'line is', 'lines are')} marked GUESSED. Read it.",
    )
    if placed.knobs:
        say("Set in env.yaml: " + ", ".join(placed.knobs))
    say(*placed.check)
    if placed.is_sound:
        say(f"Next: {build}")
    else:
        say(
            "The build would stop with this. Correct contract.yaml or the table, then: loopbook check"
        )
        raise typer.Exit(1)


COMMANDS = {init: "Next: read contract.yaml, then loopbook build"}
