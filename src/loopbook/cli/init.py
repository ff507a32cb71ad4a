"""`loopbook init`: a proposed contract for a table that nobody has described.

It decides what is asked in the terminal and what is read there. What is
proposed is decided in `loopbook.proposal`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loopbook.project.paths import Project
    from loopbook.proposal.placing import Placed
    from loopbook.proposal.proposals import Proposal, Wishes

Target = Annotated[str, typer.Option(metavar="COLUMN", help="What is predicted.")]
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
        from loopbook.proposal.proposals import Wishes

        times = tuple(part.strip() for part in self.time.split(",") if part.strip())
        is_none = times == ("none",)
        return Wishes(
            target=self.target,
            time=() if is_none else times,
            entity=self.entity,
            key=tuple(part.strip() for part in self.key.split(",") if part.strip()),
            no_time=is_none,
        )


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

    describe(project_here(), source, Options(target, time, entity, key, query, yes))


def describe(
    project: "Project", source: str, options: Options, build: str = "loopbook build"
) -> None:
    """Propose, show, ask and write; `build` is what to type after it."""
    from loopbook.project import clock
    from loopbook.project.errors import SourceError
    from loopbook.proposal import opened, placing, shown
    from loopbook.proposal.columns import read_table
    from loopbook.proposal.proposals import proposed

    if not options.yes and not sys.stdin.isatty():
        raise SourceError(
            "loopbook init asks what it cannot know, and there is no terminal to ask in. Type it in "
            "one, or take the proposals: --yes"
        )
    now = clock.utc_now()
    table = read_table(opened.opened(source, project.root, query=options.query))
    wishes = options.wishes()
    first = proposed(table, wishes, now=now)
    console = shown.console()
    if not options.yes:
        shown.show(first, console)
        wishes = asked(first, wishes)
        first = proposed(table, wishes, now=now) if wishes != options.wishes() else first
    shown.show(first, console)
    _told(project, placing.place(project, first, now=now), build)


def asked(
    proposal: "Proposal", wishes: "Wishes", ask: Callable[..., str] | None = None
) -> "Wishes":
    """What a person answers to what no value tells."""
    from dataclasses import replace

    ask = ask or typer.prompt
    if not wishes.target:
        wishes = replace(
            wishes, target=ask("Which column is to be predicted?", default=proposal.target.header)
        )
    if proposal.clock and not wishes.time:
        told = ",".join(proposal.clock.headers)
        answer = ask(f"Is {told} when the event happened? Its name, another, or none", default=told)
        wishes = replace(
            wishes,
            time=() if answer == "none" else tuple(part.strip() for part in answer.split(",")),
            no_time=answer == "none",
        )
    if proposal.clock and not wishes.no_time and wishes.label_delay_days is None:
        days = ask(
            "How many days after it is the target known?", default=proposal.delay_days, type=float
        )
        wishes = replace(wishes, label_delay_days=float(days))
    if proposal.aim.task == "binary" and wishes.costs is None:
        wishes = replace(wishes, costs=_costs(proposal, ask))
    return wishes


def _costs(proposal: "Proposal", ask: Callable[..., str]) -> tuple[float, float] | None:
    positive = proposal.aim.keys["positive"]
    wrong = ask(f"What does it cost to answer {positive} wrongly?", default=1.0, type=float)
    missed = ask(f"And to miss {positive}?", default=1.0, type=float)
    return None if wrong == missed or min(wrong, missed) <= 0 else (float(wrong), float(missed))


def _told(project: "Project", placed: "Placed", build: str) -> None:
    if not placed.is_written:
        print("contract.yaml is there and stays as it is. The proposal differs so:\n")
        print("\n".join(placed.difference) or "in nothing.")
        print("\nNext: take over what you want, then loopbook check")
        return
    guessed = project.contract.read_text(encoding="utf-8").count("# GUESSED")
    print(f"\nWrote {project.contract.name}; {_lines(guessed)} marked GUESSED. Read it.")
    if placed.knobs:
        print("Set in env.yaml: " + ", ".join(placed.knobs))
    print("\n".join(placed.check))
    if placed.is_sound:
        print(f"Next: {build}")
    else:
        print(
            "The build would stop with this. Correct contract.yaml or the table, then: loopbook check"
        )
        raise typer.Exit(1)


def _lines(count: int) -> str:
    return "1 line is" if count == 1 else f"{count} lines are"


COMMANDS = {init: "Next: read contract.yaml, then loopbook build"}
