"""Commands of what is stored: API keys, the prediction log, features, snapshots.

It decides words, as `cli` does for the rest.
"""

import sys
from typing import Annotated

import typer

from loopbook.cli import completion
from loopbook.cli.loop import Scheduler
from loopbook.cli.printed import Json, report, table
from loopbook.cli.signing import sign
from loopbook.cli.usage import App
from loopbook.project import paths, waits
from loopbook.project.terminal import say

keys_app = App(
    help="API keys of the service; the key that signs versions.",
    epilog="Begin: loopbook keys create OWNER, or loopbook keys sign --create",
)
keys_app.command(epilog="Next: loopbook dossier VERSION --sign")(sign)


@keys_app.command(epilog="Send it as the header X-API-Key. Revoke it: loopbook keys revoke ID")
def create(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who will use the key.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="predict, feedback, metrics or admin; may be repeated. Without it: predict and feedback.",
        ),
    ] = None,
) -> None:
    """Create a key and show it once."""
    from loopbook.serving import api_keys

    store = api_keys.connect(paths.current())
    secret, key = store.create(owner, frozenset(scope or ["predict", "feedback"]))
    print(secret)  # alone on stdout, so that a shell can put it into a file
    scopes = ", ".join(sorted(key.scopes))
    say(f"Key {key.id} of {owner} ({scopes}). It is not shown again.", stream=sys.stderr)


@keys_app.command(name="list", epilog="Revoke one: loopbook keys revoke ID")
def list_keys(as_json: Json = False) -> None:
    """List every key with its state and scopes, not its secret."""
    from loopbook.serving import api_keys

    keys = api_keys.connect(paths.current()).listed()

    def lines() -> list[str]:
        if not keys:
            return ["There is no key yet. Make one: loopbook keys create OWNER"]
        states = [f"revoked {k.revoked_at[:10]}" if k.revoked_at else "valid" for k in keys]
        rows = [
            (k.id, k.made_at[:10], state, " ".join(sorted(k.scopes)), k.owner)
            for k, state in zip(keys, states, strict=True)
        ]
        return table(("id", "made", "state", "scopes", "owner"), rows)

    report({"keys": keys}, lines, as_json=as_json)


@keys_app.command(epilog="Next: loopbook keys list")
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id; loopbook keys list shows it.")
    ],
) -> None:
    """Revoke a key."""
    from loopbook.serving import api_keys

    api_keys.connect(paths.current()).revoke(key_id)
    say(f"Key {key_id} is revoked; a running service knows within two seconds.")


log_app = App(
    help="Export or prune the prediction log.",
    epilog="Begin: loopbook log export FILE",
)


@log_app.command(epilog="Delete old answers: loopbook log prune --older-than DAYS")
def export(
    path: Annotated[str, typer.Argument(metavar="FILE", help="The Parquet file to write.")],
    since: Annotated[
        str, typer.Option(metavar="DAY", help="Answers received from this day on.")
    ] = "",
    until: Annotated[
        str, typer.Option(metavar="DAY", help="Answers received before this day.")
    ] = "",
) -> None:
    """Write the log and its ground truth to a Parquet file."""
    from loopbook.cli import log_files

    with waits.waiting("export"):
        told = log_files.export(paths.current(), path, since, until)
    say(*told)


@log_app.command(name="prune", epilog="Keep a copy first: loopbook log export FILE")
def prune_log(
    older_than: Annotated[
        str,
        typer.Option(metavar="DAYS", help="A number of days such as 90, or a day: 2025-01-01."),
    ],
) -> None:
    """Delete old answers and the ground truth that was for them."""
    from loopbook.cli import log_files

    with waits.waiting("prune"):
        told = log_files.prune(paths.current(), older_than)
    say(*told)


features_app = App(
    help="Fill the feature store, or show an entity's features.",
    epilog="Begin: loopbook features materialize",
)
snapshots_app = App(
    help="List, prune or restore snapshots of the training data.",
    epilog="Begin: loopbook snapshots",
)
AsOf = Annotated[
    str, typer.Option("--as-of", metavar="DAY", help="A day or an instant in UTC, or newest.")
]


@features_app.command(epilog="Next: loopbook features show ENTITY")
def materialize(
    as_of: AsOf = "newest",
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Empty the store first and fill it from all rows.")
    ] = False,
    scheduler: Scheduler = "",
) -> None:
    """Fill the feature store and make calibration states.

    Both as of a moment, of what was known then. A contract without history has
    no features to store, and its states are made.
    """
    from loopbook.features import materialize as feature_table
    from loopbook.project.contract import read_contract
    from loopbook.project.knobs import read_knobs, read_moment
    from loopbook.registry import calibration

    here = paths.current()
    contract, moment = read_contract(here.contract), read_moment(as_of, "--as-of")
    rule = calibration.rule_of_knobs(contract, read_knobs(here.knobs))
    done = []
    with waits.waiting("materialize"):
        if contract.history or rule is None:
            how = {"rebuild": rebuild, "scheduler": scheduler or None}
            done = feature_table.materialize(here, as_of, **how)
        waits.at("making the calibration states")
        states = calibration.made(here, contract, rule, moment)
    say(*done, *calibration.lines(states))


@features_app.command(epilog="Out of date? loopbook features materialize")
def show(
    entity: Annotated[
        str,
        typer.Argument(
            metavar="ENTITY",
            help="A value of the contract's entity; none where it names no entity.",
        ),
    ] = "",
    as_of: AsOf = "newest",
    as_json: Json = False,
) -> None:
    """Print an entity's features, computed and as stored."""
    from loopbook.features import materialize as feature_table

    with waits.waiting("features"):
        shown = feature_table.show(paths.current(), entity, as_of)

    def lines() -> list[str]:
        names = ("feature", "computed", "in the store", "meaning")
        features = table(names, shown.rows(), numbers=(1, 2))
        return [*shown.heading(), *features, *shown.about_the_store()]

    report(shown, lines, as_json=as_json)


@snapshots_app.callback()
def snapshots(context: typer.Context, as_json: Json = False) -> None:
    """List, prune or restore snapshots of the training data.

    Without a command: list them with time, rows, window, size and the versions
    that use them.
    """
    if context.invoked_subcommand is None:
        with waits.waiting("snapshots"):  # its imports take seconds
            from loopbook.cli import snapshot_uses

            told = snapshot_uses.record(paths.current())
        report({"snapshots": told}, lambda: snapshot_uses.lines(told), as_json=as_json)


@snapshots_app.command(epilog="See them first: loopbook snapshots")
def prune() -> None:
    """Delete the snapshots that no version and no build uses."""
    with waits.waiting("snapshots prune"):  # its imports take seconds
        from loopbook.cli import snapshot_uses

        told = snapshot_uses.prune(paths.current())
    say(*told)


@snapshots_app.command(epilog="Next: loopbook snapshots")
def restore(
    snapshot: Annotated[
        str,
        typer.Argument(
            metavar="SHA256",
            autocompletion=completion.snapshots,
            help="The first characters of its SHA-256.",
        ),
    ],
) -> None:
    """Fetch a version's snapshot from the team's DVC remote."""
    with waits.waiting("snapshots restore"):  # its imports take seconds
        from loopbook.cli import snapshot_uses

        told = snapshot_uses.restore(paths.current(), snapshot)
    say(*told)
