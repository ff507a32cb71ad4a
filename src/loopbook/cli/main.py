"""The command line: what a person types, and what they read.

It decides words and exit codes. Heavy modules are imported where a command
needs them, so that `--help` is quick.
"""

import sys
from typing import Annotated

import typer

from loopbook.cli import backups as backup_commands
from loopbook.cli import champion as champion_commands
from loopbook.cli import differences as difference_commands
from loopbook.cli import dossier as dossier_commands
from loopbook.cli import export as export_commands
from loopbook.cli import init as init_commands
from loopbook.cli import loop as loop_commands
from loopbook.cli import projects
from loopbook.cli import quarantine as quarantine_commands
from loopbook.cli import reproduce as reproduce_commands
from loopbook.cli import stores as store_commands
from loopbook.cli import tune as tune_commands
from loopbook.cli import verify as verify_commands
from loopbook.cli import why as why_commands
from loopbook.cli.loop import Changes, Scheduler, changes_of
from loopbook.cli.printed import Json, as_text, only_json, report
from loopbook.cli.usage import App
from loopbook.project import paths, volumes, waits
from loopbook.project.counts import counted
from loopbook.project.errors import LoopbookError
from loopbook.project.terminal import say

app = App(
    help="Turn notebooks into a pipeline that trains, serves, monitors and retrains a model.",
    epilog="Begin: loopbook check, then loopbook build. Options of a command: "
    "loopbook COMMAND --help",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(epilog="Next: loopbook status, or serve the champion: make serve")
def build(
    changes: Changes = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run every task, also those that are up to date.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Keep the kernel of a task that fails for an hour, to look at its variables in "
            "JupyterLab; the next build goes on from the failed cell.",
        ),
    ] = False,
) -> None:
    """Run the notebooks that are out of date; ends with a champion."""
    with waits.waiting("build"):  # the import takes seconds
        from loopbook.pipeline import graph

    graph.build(paths.current(), changes_of(changes), force=force, is_debug=debug)


@app.command(epilog="Next: loopbook build")
def check(
    changes: Changes = None,
    without_table: Annotated[
        bool, typer.Option("--without-table", help="Check the files alone; open no table.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check contract, env.yaml, graph and table; run nothing.

    The table is read, validated and split as a build would, so that what the
    build would stop with is said here. A URL or a database is asked as well.
    """
    with only_json(as_json), waits.waiting("check"):  # its imports take seconds
        from loopbook.cli import checked

        found = checked.check(paths.current(), changes_of(changes), with_table=not without_table)
    report(found.as_json(), found.lines, as_json=as_json)


@app.command(epilog="Next: make reports")
def monitor(
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of",
            metavar="DAY",
            help="Judge as of this day or instant in UTC; newest is that of the newest answer.",
        ),
    ] = "newest",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Judge the newest answers: drift, error and one verdict.

    The window's record, figures and Evidently's report are kept in
    var/monitor/windows.
    """
    from loopbook.project.files import read_json

    here = paths.current()
    with waits.waiting("monitor"):  # the import takes seconds
        from loopbook.pipeline import graph
    with only_json(as_json):
        graph.build(here, changes_of(changes) | {"as_of": as_of}, graph=here.monitor_graph)
    if as_json:
        print(as_text(read_json(here.var / "monitor" / "record.json")))


@app.command(epilog="Interrupted? Type the same command again: finished parts are reused.")
def score(
    rows: Annotated[
        str, typer.Argument(metavar="IN", help="The file to read: Parquet, CSV or JSON lines.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="The file to write: Parquet or CSV.")
    ],
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of",
            metavar="DAY",
            help="Predict every row as of this day; without it as of the row's own event time.",
        ),
    ] = "",
    scheduler: Scheduler = "",
    prediction_set: Annotated[
        bool,
        typer.Option(
            "--prediction-set",
            help="Add the classes that hold the truth as often as the contract's interval says.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Score a file of any size with the champion."""
    from pathlib import Path

    from loopbook.project.contract import read_contract
    from loopbook.project.knobs import read_moment
    from loopbook.serving import scoring

    here = paths.current()
    moment = read_moment(as_of, "--as-of") if as_of else None
    contract = read_contract(here.contract)
    how = scoring.How(scheduler or None, prediction_set)
    leaving = waits.leaving("finished parts are kept. Type the same command again to go on.")
    with only_json(as_json), leaving, waits.waiting("score"):
        done = scoring.score(here, contract, Path(rows), Path(target), as_of=moment, how=how)

    def lines() -> list[str]:
        resumed = f", {done.resumed_rows:,} of them done before" if done.resumed_rows else ""
        wrote = (
            f"Wrote {counted(done.rows, 'row')} to {done.path} by {contract.name} v{done.version}"
        )
        return [f"{wrote}{resumed}.", *(f"Unknown: {column}." for column in done.unknown)]

    report(done, lines, as_json=as_json)


@app.command(epilog="This repository's picture: make picture")
def picture(
    path: Annotated[str, typer.Argument(metavar="FILE", help="The SVG file to write.")],
) -> None:
    """Draw the graph of pipeline.yaml as an SVG file."""
    from pathlib import Path

    from loopbook.pipeline import tasks
    from loopbook.pipeline.picture import draw
    from loopbook.project.files import replacing

    with replacing(Path(path)) as target:
        target.write_text(draw(tasks.plan(paths.current())), encoding="utf-8")
    say(f"Wrote {path}.")


@app.command(epilog="Next: what the last line says, such as make build")
def status(as_json: Json = False) -> None:
    """Show what serves, its age, the last gate, what is stale and why."""
    here = paths.current()
    with waits.waiting("status"):  # what it imports takes most of the time
        from loopbook.cli import status as status_module

        told = status_module.look(here)
    report(told, lambda: status_module.lines(told), as_json=as_json)


ours = loop_commands.COMMANDS | projects.COMMANDS | init_commands.COMMANDS
ours |= champion_commands.COMMANDS
ours |= why_commands.COMMANDS
ours |= difference_commands.COMMANDS
ours |= verify_commands.COMMANDS
ours |= reproduce_commands.COMMANDS
ours |= dossier_commands.COMMANDS
ours |= tune_commands.COMMANDS
ours |= export_commands.COMMANDS
ours |= backup_commands.COMMANDS
for command, following in ours.items():
    app.command(epilog=following)(command)
app.add_typer(store_commands.keys_app, name="keys", no_args_is_help=True)
app.add_typer(store_commands.log_app, name="log", no_args_is_help=True)
app.add_typer(store_commands.features_app, name="features", no_args_is_help=True)
app.add_typer(store_commands.snapshots_app, name="snapshots", invoke_without_command=True)
app.add_typer(quarantine_commands.quarantine_app, name="quarantine", invoke_without_command=True)


def _complain(text: str) -> None:
    """A message on stderr, below an empty line, in the width of a terminal."""
    say("", *text.splitlines(), stream=sys.stderr)


def main() -> None:
    """Run a command; what a person did wrong ends in a message and exit code 1."""
    try:
        app()
    except LoopbookError as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:
        root = paths.find_root()
        if not (told := volumes.told(error, root and paths.Project(root))):
            raise
        _complain(told)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "loopbook").partition(".")[0] == "loopbook":
            raise
        _complain(
            f"This needs the package {error.name}, which is not installed here. The service's "
            "image has only what serving, scoring and materialising need: run this in the "
            "workbench image, or in the project's environment (make env)."
        )
        sys.exit(1)
    except KeyboardInterrupt:  # before or after the command itself
        waits.tell_interrupted()
        sys.exit(waits.INTERRUPTED)
