"""Commands of the quarantine: list, show, release and drop rows that were set aside.

It decides words, as `cli` does for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopbook.cli.printed import Json, report
from loopbook.cli.usage import App
from loopbook.pages.formats import in_terminal
from loopbook.project import paths
from loopbook.project.counts import counted
from loopbook.project.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopbook.data.quarantine import Entry

LISTED = 50
EMPTY = (
    "No row is set aside. A row that breaks a rule of the contract is kept here, with its reason."
)
quarantine_app = App(
    help="List, show, release or drop rows that were set aside.",
    epilog="Begin: loopbook quarantine",
)
Ids = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Ids as listed, or their beginnings."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the decision.")]


@quarantine_app.callback()
def quarantine(context: typer.Context, as_json: Json = False) -> None:
    """List, show, release or drop rows that were set aside.

    Without a command: list the rows that wait for a decision, and those about
    which somebody decided.
    """
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@quarantine_app.command(name="list", epilog="Look at one: loopbook quarantine show ID")
def list_rows(as_json: Json = False) -> None:
    """List the rows with their reasons."""
    _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    entries = _entries()
    record = [_as_json(entry) for entry in entries]
    report(record, lambda: table(entries), as_json=as_json)


@quarantine_app.command(epilog="Then: loopbook quarantine release ID, or drop ID")
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="The id, or its beginning.")],
    as_json: Json = False,
) -> None:
    """Show a row: what is in it, what it breaks, since when."""
    store = _store()
    try:
        entry = store.find(name)
    finally:
        store.close()
    report(_as_json(entry), lambda: described(entry), as_json=as_json)


@quarantine_app.command(epilog="Next: loopbook build")
def release(ids: Ids, reason: Reason = "") -> None:
    """Use rows in spite of the rules that they break."""
    from loopbook.data.aside_rows import FEEDBACK
    from loopbook.data.quarantine import RELEASED

    entries = _decide(ids, RELEASED, reason)
    truths = [entry.row for entry in entries if entry.row.origin == FEEDBACK]
    _let_in(truths)
    say(
        f"{counted(len(entries), 'row is', 'rows are')} released, and used from the next build on: loopbook build"
    )
    if truths:
        say("Ground truth is in the prediction log now, for monitoring: loopbook monitor")


@quarantine_app.command(epilog="Taken back by: loopbook quarantine release ID")
def drop(ids: Ids, reason: Reason = "") -> None:
    """Leave rows out for good; they are not listed as waiting."""
    from loopbook.data.quarantine import DROPPED

    entries = _decide(ids, DROPPED, reason)
    say(
        f"{counted(len(entries), 'row is', 'rows are')} dropped, and left out of every build from now on."
    )


def _let_in(truths: Sequence[Any]) -> None:
    from loopbook.data import aside_truths, prediction_log
    from loopbook.project.contract import read_contract

    if not truths:
        return
    here = paths.current()
    contract = read_contract(here.contract)
    log = prediction_log.connect(here, contract)
    try:
        aside_truths.let_in(truths, log, contract)
    finally:
        log.close()


def table(entries: Sequence[Entry]) -> list[str]:
    """The rows of the quarantine, a line each, those that wait first."""
    from loopbook.data.quarantine import WAITING

    if not entries:
        return [EMPTY]
    order = sorted(entries, key=lambda entry: entry.state != WAITING)
    lines = [f"{'id':12}  {'state':8}  {'from':8}  {'first seen':16}  row"]
    for entry in order[:LISTED]:
        row, first = entry.row, f"{entry.first_seen:%Y-%m-%d %H:%M}"
        told = in_terminal(f"{row.key}: {'; '.join(row.reasons)}")
        lines.append(f"{row.id:12}  {entry.state:8}  {row.origin:8}  {first:16}  {told}")
    if len(order) > LISTED:
        lines.append(f"and {len(order) - LISTED:,} more: loopbook quarantine --json")
    waiting = sum(entry.state == WAITING for entry in entries)
    lines.append(
        f"{waiting:,} wait for a decision. Look at one: loopbook quarantine show ID"
        if waiting
        else "None waits for a decision."
    )
    return lines


def described(entry: Entry) -> list[str]:
    """A row of the quarantine, for people."""
    row = entry.row
    lines = [f"{row.id}  {in_terminal(row.key)}, from the {row.origin}"]
    lines += [f"breaks     {in_terminal(reason)}" for reason in row.reasons]
    lines.append(f"seen       from {_at(entry.first_seen)} to {_at(entry.last_seen)}")
    if entry.decided_at:
        why = f": {in_terminal(entry.why)}" if entry.why else ""
        lines.append(f"state      {entry.state} at {_at(entry.decided_at)}{why}")
    else:
        lines.append(f"state      {entry.state}")
    lines += [
        f"  {name}: {'no value' if value is None else in_terminal(value)}"
        for name, value in row.content.items()
    ]
    following = (
        f"It cannot be released: {in_terminal(row.fixed)}. Correct it where it comes from, or "
        f"leave it out: loopbook quarantine drop {row.id}"
        if row.fixed
        else f"Use it in spite of its rule: loopbook quarantine release {row.id}"
    )
    return [*lines, following]


def _at(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _as_json(entry: Entry) -> dict[str, Any]:
    row = entry.row
    return {
        **{"id": row.id, "state": entry.state, "origin": row.origin, "key": row.key},
        **{"reasons": row.reasons, "cannot_be_released": row.fixed, "content": row.content},
        "first_seen": entry.first_seen.isoformat(),
        "last_seen": entry.last_seen.isoformat(),
        "decided_at": entry.decided_at and entry.decided_at.isoformat(),
        "why": entry.why,
    }


def _entries() -> list[Entry]:
    from loopbook.data import quarantine as rows_aside

    store = rows_aside.connect_if_there(paths.current())
    if store is None:
        return []
    try:
        return store.entries()
    finally:
        store.close()


def _store() -> Any:
    from loopbook.data import quarantine as rows_aside
    from loopbook.project.errors import QuarantineError

    store = rows_aside.connect_if_there(paths.current())
    if store is None:
        raise QuarantineError(f"quarantine: is empty. {EMPTY}")
    return store


def _decide(ids: Sequence[str], state: str, reason: str) -> list[Entry]:
    from loopbook.project.clock import utc_now

    store = _store()
    try:
        return store.decide(ids, state, reason, now=utc_now())
    finally:
        store.close()
