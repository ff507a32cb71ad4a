"""The command line: what a person types, and what they read.

It decides words and exit codes. Heavy modules are imported where a command
needs them, so that `--help` is quick.
"""

import sys
from typing import Annotated

import typer

from loopbook import cli_loop, cli_stores, project
from loopbook.cli_loop import Changes, changes_of
from loopbook.errors import LoopbookError

app = typer.Typer(
    help="Notebooks that close the loop.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def build(
    changes: Changes = None,
    force: Annotated[bool, typer.Option(help="Run every task, up to date or not.")] = False,
) -> None:
    """Run the notebooks that are not up to date, and end with a champion."""
    from loopbook import pipeline

    pipeline.build(project.current(), changes_of(changes), force=force)


@app.command()
def check(changes: Changes = None) -> None:
    """Check contract, env.yaml, source and graph, without running anything."""
    from loopbook import pipeline

    here = project.current()
    stale = pipeline.stale_tasks(here, changes_of(changes))
    what = f"{len(stale)} tasks would run: {', '.join(stale)}" if stale else "nothing would run"
    print(f"contract.yaml, env.yaml and pipeline.yaml are in order; {what}.")
    print("Next: loopbook build")


@app.command()
def monitor(
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of", metavar="DAY", help="A day or an instant in UTC; newest: the newest answer."
        ),
    ] = "newest",
    changes: Changes = None,
) -> None:
    """Judge the newest answers: drift, realized error, and one verdict with its reasons."""
    from loopbook import pipeline

    here = project.current()
    pipeline.build(here, changes_of(changes) | {"as_of": as_of}, graph=here.monitor_graph)


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

    tasks = pipeline.plan(project.current(), changes_of(changes))
    if not task:
        print(json.dumps(tasks, indent=2))
        return
    found = [t for t in tasks if t["name"] == task]
    if not found:
        raise KnobError(f"no task {task!r}; there are {', '.join(t['name'] for t in tasks)}.")
    print(json.dumps(found[0]["parameters"], indent=2))


@app.command()
def score(
    rows: Annotated[str, typer.Argument(metavar="IN", help="Parquet, CSV or JSON lines.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Parquet or CSV.")],
    as_of: Annotated[
        str,
        typer.Option("--as-of", metavar="DAY", help="Answer for this day; else each row's own."),
    ] = "",
    scheduler: Annotated[
        str, typer.Option(metavar="ADDRESS", help="A Dask scheduler, or local.")
    ] = "",
) -> None:
    """Score a file with the champion, whatever its size."""
    from pathlib import Path

    from loopbook import scoring
    from loopbook.contract import read_contract
    from loopbook.knobs import read_moment

    here = project.current()
    moment = read_moment(as_of, "--as-of") if as_of else None
    contract = read_contract(here.contract)
    words = {"as_of": moment, "scheduler": scheduler or None}
    done = scoring.score(here, contract, Path(rows), Path(target), **words)
    resumed = f", {done.resumed_rows:,} of them done before" if done.resumed_rows else ""
    print(f"Wrote {done.rows:,} rows to {done.path} by {contract.name} v{done.version}{resumed}.")


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


for command in cli_loop.COMMANDS:
    app.command()(command)
app.add_typer(cli_stores.keys_app, name="keys", no_args_is_help=True)
app.add_typer(cli_stores.log_app, name="log", no_args_is_help=True)
app.add_typer(cli_stores.features_app, name="features", no_args_is_help=True)
app.add_typer(cli_stores.snapshots_app, name="snapshots", invoke_without_command=True)


def main() -> None:
    """Run a command; what a person did wrong ends in a message and exit code 1."""
    try:
        app()
    except LoopbookError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
