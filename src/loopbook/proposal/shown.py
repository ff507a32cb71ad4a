"""Shown: a proposal as a table that a person reads in a terminal.

It decides the columns and the words. Nothing of the data is markup here.
"""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopbook.project.counts import counted
from loopbook.proposal.columns import GUESS, LIKELY, SURE, Column
from loopbook.proposal.proposals import Proposal
from loopbook.proposal.written import example_of

LONGEST = 34
NARROW = 110  # columns, where no terminal says how wide it is
SHOWN_VALUES = 4
COLOURS = {SURE: "", LIKELY: "yellow", GUESS: "bold yellow"}


def show(proposal: Proposal, console: Console) -> None:
    """Print each column with type, role, values, missing share, and how sure it is and why."""
    rows = proposal.table.height
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("column", "type", "role", "range or values", "missing", "sure", "why"):
        table.add_column(name, overflow="fold", justify="right" if name == "missing" else "left")
    for header, column in proposal.table.columns.items():
        role, why = proposal.role(header)
        sure = _sure(proposal, header, column)
        missing = f"{100 * column.missing:.1f} %" if column.missing else ""
        parts = [header, column.kind, role, _values(proposal, column), missing, sure, why]
        style = "dim" if role == "ignored" else COLOURS[sure]
        table.add_row(
            *(
                Text(_short(str(part)) if place < 6 else str(part))
                for place, part in enumerate(parts)
            ),
            style=style,
        )
    console.print(
        Text(
            f"{proposal.table.opened.told}: {counted(rows, 'row')}, {counted(len(proposal.table.columns), 'column')}"
        )
    )
    console.print(table)
    if proposal.notes:
        console.print(Text("Look at:"))
        for note in proposal.notes:
            console.print(Text(f"  - {note}"), soft_wrap=True)


def console() -> Console:
    """Where people read: as wide as the terminal, or wide enough."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=NARROW)


def _sure(proposal: Proposal, header: str, column: Column) -> str:
    role, _ = proposal.role(header)
    guessed = {"target": "target", "event time": "event_time", "key": "key"}.get(role)
    if guessed in proposal.guesses:
        return GUESS
    return column.sure


def _values(proposal: Proposal, column: Column) -> str:
    believable = proposal.ranges.get(column.header)
    if believable is not None:
        return f"{believable.low:,.6g} to {believable.high:,.6g}"
    if column.kind in ("integer", "number") and column.distinct:
        return f"{column.values.min():,.6g} to {column.values.max():,.6g}"
    if column.kind == "time" and column.distinct:
        return f"{column.values.min():%Y-%m-%d} to {column.values.max():%Y-%m-%d}"
    if column.kind == "category":
        counts = column.values.drop_nulls().value_counts(sort=True)
        first = ", ".join(str(v) for v in counts[counts.columns[0]].head(SHOWN_VALUES))
        return first if column.distinct <= SHOWN_VALUES else f"{column.distinct:,}: {first}, …"
    if column.kind == "boolean":
        return f"mostly {str(example_of(column, proposal)).lower()}"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
