"""The command line: what a person types, and what they read.

It decides words and exit codes. Heavy modules are imported where a command
needs them, so that `--help` is quick.
"""

import sys
from typing import Annotated

import typer

from loopbook.cli import loop as loop_commands
from loopbook.cli import stores as store_commands
from loopbook.cli.loop import Changes, changes_of
from loopbook.project import paths
from loopbook.project.errors import LoopbookError

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
    from loopbook.pipeline import graph

    graph.build(paths.current(), changes_of(changes), force=force)


@app.command()
def check(changes: Changes = None) -> None:
    """Check contract, env.yaml, source and graph, without running anything."""
    from loopbook.pipeline import graph

    here = paths.current()
    stale = graph.stale_tasks(here, changes_of(changes))
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
    from loopbook.pipeline import graph

    here = paths.current()
    graph.build(here, changes_of(changes) | {"as_of": as_of}, graph=here.monitor_graph)


@app.command()
def plan(
    task: Annotated[
        str, typer.Argument(help="One task only: its parameters, for papermill -f.")
    ] = "",
    changes: Changes = None,
) -> None:
    """Print the resolved tasks as JSON: what any engine needs to run them."""
    import json

    from loopbook.pipeline import graph
    from loopbook.project.errors import KnobError

    tasks = graph.plan(paths.current(), changes_of(changes))
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

    from loopbook.project.contract import read_contract
    from loopbook.project.knobs import read_moment
    from loopbook.serving import scoring

    here = paths.current()
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

    from loopbook.pipeline import graph
    from loopbook.pipeline.picture import draw
    from loopbook.project.files import replacing

    with replacing(Path(path)) as target:
        target.write_text(draw(graph.plan(paths.current())), encoding="utf-8")
    print(f"Wrote {path}.")


@app.command()
def status() -> None:
    """Say what serves, how old it is, what the last gate said, and what is stale."""
    from loopbook.cli import status as status_module

    print("\n".join(status_module.describe(paths.current())))


for command in loop_commands.COMMANDS:
    app.command()(command)
app.add_typer(store_commands.keys_app, name="keys", no_args_is_help=True)
app.add_typer(store_commands.log_app, name="log", no_args_is_help=True)
app.add_typer(store_commands.features_app, name="features", no_args_is_help=True)
app.add_typer(store_commands.snapshots_app, name="snapshots", invoke_without_command=True)


def main() -> None:
    """Run a command; what a person did wrong ends in a message and exit code 1."""
    try:
        app()
    except LoopbookError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
