"""Commands of what is stored: API keys, the prediction log, features, snapshots.

It decides words, as `cli` does for the rest.
"""

from typing import Annotated

import typer

from loopbook.project import paths

keys_app = typer.Typer(help="API keys of the service.")


@keys_app.command()
def create(
    owner: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, feedback or admin; may be repeated.")
    ] = None,
) -> None:
    """Make a key and show it, once."""
    from loopbook.serving import api_keys

    store = api_keys.connect(paths.current())
    secret, key = store.create(owner, frozenset(scope or ["predict", "feedback"]))
    print(f"{secret}")
    print(f"Key {key.id} of {owner} ({', '.join(sorted(key.scopes))}). It is not shown again.")


@keys_app.command(name="list")
def list_keys() -> None:
    """List every key that was made, without its secret."""
    from loopbook.serving import api_keys

    for key in api_keys.connect(paths.current()).listed():
        state = f"revoked {key.revoked_at[:10]}" if key.revoked_at else "valid"
        print(
            f"{key.id}  {key.made_at[:10]}  {state:18}  {' '.join(sorted(key.scopes))}  {key.owner}"
        )


@keys_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From loopbook keys list.")],
) -> None:
    """Let a key open nothing any more."""
    from loopbook.serving import api_keys

    api_keys.connect(paths.current()).revoke(key_id)
    print(f"Key {key_id} is revoked; a running service knows within two seconds.")


log_app = typer.Typer(help="The prediction log.")


@log_app.command()
def export(
    path: Annotated[str, typer.Argument(metavar="FILE", help="The Parquet file to write.")],
    since: Annotated[str, typer.Option(metavar="DAY", help="From this day on.")] = "",
    until: Annotated[str, typer.Option(metavar="DAY", help="Before this day.")] = "",
) -> None:
    """Write the log with its ground truth to a Parquet file."""
    from loopbook.cli import log_files

    print("\n".join(log_files.export(paths.current(), path, since, until)))


@log_app.command(name="prune")
def prune_log(
    older_than: Annotated[str, typer.Option(metavar="DAYS", help="Such as 90, or 2025-01-01.")],
) -> None:
    """Delete answers received before then, and the ground truth of them alone."""
    from loopbook.cli import log_files

    print("\n".join(log_files.prune(paths.current(), older_than)))


features_app = typer.Typer(help="The feature store: what a row knows of earlier rows.")
snapshots_app = typer.Typer(help="Snapshots: the rows that versions learned from.")
AsOf = Annotated[
    str, typer.Option("--as-of", metavar="DAY", help="A day or an instant in UTC, or newest.")
]


@features_app.command()
def materialize(
    as_of: AsOf = "newest",
    rebuild: Annotated[bool, typer.Option(help="Fill the store anew, from all facts.")] = False,
) -> None:
    """Bring the feature store to what was known at a moment."""
    from loopbook.features import materialize as feature_table

    print("\n".join(feature_table.materialize(paths.current(), as_of, rebuild=rebuild)))


@features_app.command()
def show(
    entity: Annotated[str, typer.Argument(help="Whose features, such as 98115.")],
    as_of: AsOf = "newest",
) -> None:
    """Print what was known about an entity at a moment, and what the store says."""
    from loopbook.features import materialize as feature_table

    print("\n".join(feature_table.show(paths.current(), entity, as_of)))


@snapshots_app.callback()
def snapshots(context: typer.Context) -> None:
    """List the snapshots: when, rows, window, size and which versions used them."""
    if context.invoked_subcommand is None:
        from loopbook.cli import snapshot_uses

        print("\n".join(snapshot_uses.table(paths.current())))


@snapshots_app.command()
def prune() -> None:
    """Delete the snapshots that no registered version and no standing build uses."""
    from loopbook.cli import snapshot_uses

    print("\n".join(snapshot_uses.prune(paths.current())))


@snapshots_app.command()
def restore(
    snapshot: Annotated[str, typer.Argument(help="The first characters of its SHA-256.")],
) -> None:
    """Bring a snapshot that a version used back from the team's DVC remote."""
    from loopbook.cli import snapshot_uses

    print("\n".join(snapshot_uses.restore(paths.current(), snapshot)))
