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
    pipeline.build(here, _changes(changes) | {"as_of": as_of}, graph=here.monitor_graph)


@app.command()
def loop(
    once: Annotated[bool, typer.Option(help="One turn; its outcome is the exit code.")] = False,
    as_of: Annotated[
        str, typer.Option("--as-of", metavar="DAY", help="A day or an instant in UTC; else now.")
    ] = "",
    interval: Annotated[
        float, typer.Option(metavar="MINUTES", help="Between two turns; else env.yaml's.")
    ] = 0,
    changes: Changes = None,
) -> None:
    """Turn after turn: materialize, monitor, decide, retrain, gate, promote, confirm.

    One turn ends with 0 (nothing to do), 10 (promoted), 20 (refused), 30
    (investigate), 40 (rolled back) or 1 (error).
    """
    from loopbook import loop as loops
    from loopbook.errors import KnobError
    from loopbook.knobs import read_knobs, read_moment
    from loopbook.loop_records import EXIT_CODES

    here, told = project.current(), _changes(changes)
    if as_of and not once:
        raise KnobError("--as-of is for one turn: loopbook loop --once --as-of DAY")
    if once:
        moment = read_moment(as_of, "--as-of") if as_of else None
        record = loops.turn(here, as_of=moment, changes=told)
        print("\n".join(["", *loops.summary(record)]))
        raise typer.Exit(EXIT_CODES[record["outcome"]])
    minutes = interval or read_knobs(here.knobs, told).loop_interval_minutes
    print(f"A turn every {minutes:g} minutes, and when somebody asks for one. Ctrl-C ends it.")
    loops.run(
        here,
        interval_s=minutes * 60,
        changes=told,
        told=lambda record: print("\n".join(["", *loops.summary(record)]), flush=True),
    )


@app.command()
def replay(
    scenario: Annotated[
        str, typer.Argument(help="A disturbance; none: the year as it was, with two controls.")
    ] = "",
    step: Annotated[str, typer.Option(help="week or month: between two turns.")] = "week",
    start: Annotated[str, typer.Option(metavar="DAY", help="Train as of this day.")] = "2014-10-01",
    until: Annotated[str, typer.Option(metavar="DAY", help="End before this day.")] = "",
    candidates: Annotated[
        str, typer.Option(metavar="NAMES", help="Of these only, with commas; else pipeline.yaml's.")
    ] = "",
    *,
    afresh: Annotated[bool, typer.Option(help="Forget what an earlier one did.")] = False,
) -> None:
    """Send the past through the real service, and let the loop turn; interrupted, it goes on."""
    from loopbook import replay as replays
    from loopbook.knobs import read_moment

    told = replays.run(
        project.current(),
        scenario=scenario or None,
        step=step,
        start=read_moment(start, "--start"),
        until=read_moment(until, "--until") if until else None,
        candidates=[name.strip() for name in candidates.split(",") if name.strip()],
        afresh=afresh,
    )
    print("\n".join(["", *told]))


@app.command()
def history() -> None:
    """Print every turn of the loop: verdict, outcome, champion, and why."""
    from loopbook import loop_records

    print("\n".join(loop_records.lines(loop_records.listed(project.current()))))


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


Reason = Annotated[str, typer.Option(help="Why; it is kept.")]
Moment = Annotated[
    str, typer.Option("--as-of", metavar="DAY", help="By the clock of the data; else now.")
]


def _registry():
    """The registry and the model's name."""
    from loopbook import tracking
    from loopbook.contract import read_contract

    here = project.current()
    return tracking.connect(here), read_contract(here.contract).name


def _as_of(text: str) -> str | None:
    from loopbook.knobs import read_moment

    moment = read_moment(text, "--as-of") if text else None
    return moment.isoformat() if moment else None


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Such as 3.")],
    reason: Reason,
    as_of: Moment = "",
) -> None:
    """Let a registered version serve, by hand; the version before goes on as its shadow."""
    from loopbook import champions
    from loopbook.sources import utc_now

    client, name = _registry()
    words = {"reason": reason, "at": utc_now(), "as_of": _as_of(as_of)}
    promoted = champions.promote_by_hand(client, name, version, **words)
    print(f"{promoted.label} is the champion; a running service follows within seconds.")
    print("It is on probation: the loop rolls it back if it does worse than the one before.")
    print("Back by hand: loopbook rollback --reason '…'   Who served when: loopbook champion")


@app.command()
def rollback(reason: Reason, as_of: Moment = "") -> None:
    """Let the version before serve again, and never promote this one by itself again."""
    from loopbook import champions
    from loopbook.sources import utc_now

    client, name = _registry()
    words = {"reason": reason, "at": utc_now(), "as_of": _as_of(as_of)}
    barred, back = champions.roll_back(client, name, **words)
    print(
        f"{back.label} serves again; {barred.label} is barred until somebody promotes it by hand."
    )


@app.command()
def champion(
    at: Annotated[
        str, typer.Option("--at", metavar="DAY", help="Who served then; else the whole ledger.")
    ] = "",
) -> None:
    """Say who serves and who served: since when, by whose decision, and why."""
    from loopbook import champions
    from loopbook.knobs import read_moment
    from loopbook.sources import utc_now

    client, name = _registry()
    ledger = champions.reconciled(client, name, now=utc_now())
    moment = read_moment(at, "--at") if at else None
    found = champions.at(ledger, moment) if moment else None
    if not ledger:
        print("There was no champion yet. Make one: make build")
    elif moment and found is None:
        print(f"Nobody served on {at}; the first was {name} v{ledger[0].version}.")
    print("\n".join(champions.lines([found] if found else [] if moment else ledger, name)))


keys_app = typer.Typer(help="API keys of the service.")
app.add_typer(keys_app, name="keys", no_args_is_help=True)


@keys_app.command()
def create(
    owner: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, feedback or admin; may be repeated.")
    ] = None,
) -> None:
    """Make a key and show it, once."""
    from loopbook import api_keys

    store = api_keys.connect(project.current())
    secret, key = store.create(owner, frozenset(scope or ["predict", "feedback"]))
    print(f"{secret}")
    print(f"Key {key.id} of {owner} ({', '.join(sorted(key.scopes))}). It is not shown again.")


@keys_app.command(name="list")
def list_keys() -> None:
    """List every key that was made, without its secret."""
    from loopbook import api_keys

    for key in api_keys.connect(project.current()).listed():
        state = f"revoked {key.revoked_at[:10]}" if key.revoked_at else "valid"
        print(
            f"{key.id}  {key.made_at[:10]}  {state:18}  {' '.join(sorted(key.scopes))}  {key.owner}"
        )


@keys_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From loopbook keys list.")],
) -> None:
    """Let a key open nothing any more."""
    from loopbook import api_keys

    api_keys.connect(project.current()).revoke(key_id)
    print(f"Key {key_id} is revoked; a running service knows within two seconds.")


log_app = typer.Typer(help="The prediction log.")
app.add_typer(log_app, name="log", no_args_is_help=True)


@log_app.command()
def export(
    path: Annotated[str, typer.Argument(metavar="FILE", help="The Parquet file to write.")],
    since: Annotated[str, typer.Option(metavar="DAY", help="From this day on.")] = "",
    until: Annotated[str, typer.Option(metavar="DAY", help="Before this day.")] = "",
) -> None:
    """Write the log with its ground truth to a Parquet file."""
    from loopbook import log_files

    print("\n".join(log_files.export(project.current(), path, since, until)))


@log_app.command(name="prune")
def prune_log(
    older_than: Annotated[str, typer.Option(metavar="DAYS", help="Such as 90, or 2025-01-01.")],
) -> None:
    """Delete answers received before then, and the ground truth of them alone."""
    from loopbook import log_files

    print("\n".join(log_files.prune(project.current(), older_than)))


features_app = typer.Typer(help="The feature store: what a row knows of earlier rows.")
snapshots_app = typer.Typer(help="Snapshots: the rows that versions learned from.")
app.add_typer(features_app, name="features", no_args_is_help=True)
app.add_typer(snapshots_app, name="snapshots", invoke_without_command=True)
AsOf = Annotated[
    str, typer.Option("--as-of", metavar="DAY", help="A day or an instant in UTC, or newest.")
]


@features_app.command()
def materialize(
    as_of: AsOf = "newest",
    rebuild: Annotated[bool, typer.Option(help="Fill the store anew, from all facts.")] = False,
) -> None:
    """Bring the feature store to what was known at a moment."""
    from loopbook import feature_table

    print("\n".join(feature_table.materialize(project.current(), as_of, rebuild=rebuild)))


@features_app.command()
def show(
    entity: Annotated[str, typer.Argument(help="Whose features, such as 98115.")],
    as_of: AsOf = "newest",
) -> None:
    """Print what was known about an entity at a moment, and what the store says."""
    from loopbook import feature_table

    print("\n".join(feature_table.show(project.current(), entity, as_of)))


@snapshots_app.callback()
def snapshots(context: typer.Context) -> None:
    """List the snapshots: when, rows, window, size and which versions used them."""
    if context.invoked_subcommand is None:
        from loopbook import snapshot_uses

        print("\n".join(snapshot_uses.table(project.current())))


@snapshots_app.command()
def prune() -> None:
    """Delete the snapshots that no registered version and no standing build uses."""
    from loopbook import snapshot_uses

    print("\n".join(snapshot_uses.prune(project.current())))


@snapshots_app.command()
def restore(
    snapshot: Annotated[str, typer.Argument(help="The first characters of its SHA-256.")],
) -> None:
    """Bring a snapshot that a version used back from the team's DVC remote."""
    from loopbook import snapshot_uses

    print("\n".join(snapshot_uses.restore(project.current(), snapshot)))


def main() -> None:
    """Run a command; what a person did wrong ends in a message and exit code 1."""
    try:
        app()
    except LoopbookError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
