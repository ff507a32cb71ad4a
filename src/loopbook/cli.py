"""The command line: what a person types, and what they read.

It decides words and exit codes. Heavy modules are imported where a command
needs them, so that `--help` is quick.
"""

import sys
from typing import Annotated

import typer

from loopbook import project
from loopbook.errors import LoopbookError

app = typer.Typer(
    help="Notebooks that close the loop.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help="A knob of env.yaml for this run."),
]


def _changes(pairs: list[str] | None) -> dict[str, str]:
    from loopbook.errors import KnobError

    pairs = pairs or []
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise KnobError(f"--set {wrong[0]}: expected KNOB=VALUE, such as as_of=2014-10-01.")
    return dict(pair.split("=", 1) for pair in pairs)


@app.command()
def build(
    changes: Changes = None,
    force: Annotated[bool, typer.Option(help="Run every task, up to date or not.")] = False,
) -> None:
    """Run the notebooks that are not up to date, and end with a champion."""
    from loopbook import pipeline

    pipeline.build(project.current(), _changes(changes), force=force)


@app.command()
def check(changes: Changes = None) -> None:
    """Check contract, env.yaml, source and graph, without running anything."""
    from loopbook import pipeline

    here = project.current()
    stale = pipeline.stale_tasks(here, _changes(changes))
    what = f"{len(stale)} tasks would run: {', '.join(stale)}" if stale else "nothing would run"
    print(f"contract.yaml, env.yaml and pipeline.yaml are in order; {what}.")
    print("Next: loopbook build")


@app.command()
def plan(
    task: Annotated[
        str, typer.Argument(help="One task only: its parameters, for papermill -f.")
    ] = "",
    changes: Changes = None,
) -> None:
    """Print the resolved tasks as JSON: what any engine needs to run them."""
    import json

    from loopbook import pipeline
    from loopbook.errors import KnobError

    tasks = pipeline.plan(project.current(), _changes(changes))
    if not task:
        print(json.dumps(tasks, indent=2))
        return
    found = [t for t in tasks if t["name"] == task]
    if not found:
        raise KnobError(f"no task {task!r}; there are {', '.join(t['name'] for t in tasks)}.")
    print(json.dumps(found[0]["parameters"], indent=2))


@app.command()
def picture(path: Annotated[str, typer.Argument(help="The SVG file to write.")]) -> None:
    """Draw the graph of pipeline.yaml as an SVG."""
    from pathlib import Path

    from loopbook import pipeline
    from loopbook.files import replacing
    from loopbook.picture import draw

    with replacing(Path(path)) as target:
        target.write_text(draw(pipeline.plan(project.current())), encoding="utf-8")
    print(f"Wrote {path}.")


@app.command()
def status() -> None:
    """Say what serves, how old it is, what the last gate said, and what is stale."""
    from loopbook import status as present

    print("\n".join(present.describe(project.current())))


def main() -> None:
    """Run a command; what a person did wrong ends in a message and exit code 1."""
    try:
        app()
    except LoopbookError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
