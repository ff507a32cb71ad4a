"""Shown: a proposal as a table that a person reads in a terminal.

It decides the columns and the words. Nothing of the data is markup here.
"""

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loopbook.project.counts import counted
from loopbook.proposal.columns import GUESS, LIKELY, SURE, Column
from loopbook.proposal.proposals import Proposal
from loopbook.proposal.written import example_of

NAMES = ("column", "type", "role", "range or values", "missing", "sure", "why")
LONGEST = 34
YEARS = (1700, 2199)  # numbers that are written as years
GAP = 3  # columns between two of the table
TEXTS = (3, 6)  # places of what may break between words
NARROW = 110  # columns, where no terminal says how wide it is
SHOWN_VALUES = 4
COLOURS = {SURE: "", LIKELY: "yellow", GUESS: "bold yellow"}


def show(proposal: Proposal, console: Console) -> None:
    """Print each column with type, role, values, missing share, and how sure it is and why.

    A row each; on a terminal that is too narrow for the words of a row, two lines each.
    """
    rows = proposal.table.height
    described = [_described(proposal, header) for header in proposal.table.columns]
    console.print(
        Text(
            f"{proposal.table.opened.told}: {counted(rows, 'row')}, {counted(len(proposal.table.columns), 'column')}"
        )
    )
    _print(described, console)
    if proposal.notes:
        console.print(Text("Look at:"))
        for note in proposal.notes:
            console.print(Text(f"  - {note}"), soft_wrap=True)


def _described(proposal: Proposal, header: str) -> tuple[list[str], str]:
    """What is said of a column, in the order of NAMES, and the style that it is said in."""
    column = proposal.table.columns[header]
    role, why = proposal.role(header)
    sure = _sure(proposal, header, column)
    missing = f"{100 * column.missing:.1f} %" if column.missing else ""
    parts = [header, column.kind, role, _values(proposal, column), missing, sure]
    return [*map(_short, parts), why], "dim" if role == "ignored" else COLOURS[sure]


def _print(described: list[tuple[list[str], str]], console: Console) -> None:
    columns = zip(NAMES, *(parts for parts, _ in described), strict=True)
    least = [
        max(len(piece) for text in some for piece in (text.split() if place in TEXTS else [text]))
        for place, some in enumerate(columns)
    ]
    if sum(least) + GAP * (len(NAMES) - 1) > console.width:
        for (header, kind, role, values, missing, sure, why), style in described:
            absent = f"{missing} missing" if missing else ""
            told = "; ".join(part for part in (values, absent, why, sure) if part)
            console.print(Text(f"{header}  {kind}, {role}", style=style))
            console.print(Padding(Text(told, style=style), (0, 0, 0, 4), expand=False))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(NAMES):
        justify = "right" if name == "missing" else "left"
        table.add_column(name, overflow="fold", justify=justify, no_wrap=place not in TEXTS)
    for parts, style in described:
        table.add_row(*map(Text, parts), style=style)
    console.print(table)


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
        return _between(believable.low, believable.high)
    if column.kind in ("integer", "number") and column.distinct:
        return _between(column.values.min(), column.values.max())
    if column.kind == "time" and column.distinct:
        return f"{column.values.min():%Y-%m-%d} to {column.values.max():%Y-%m-%d}"
    if column.kind == "category":
        counts = column.values.drop_nulls().value_counts(sort=True)
        first = ", ".join(str(v) for v in counts[counts.columns[0]].head(SHOWN_VALUES))
        return first if column.distinct <= SHOWN_VALUES else f"{column.distinct:,}: {first}, …"
    if column.kind == "boolean":
        return f"mostly {str(example_of(column, proposal)).lower()}"
    return ""


def _between(low: float, high: float) -> str:
    """Two ends; years have no sign between their digits."""
    comma = "" if low >= YEARS[0] and high <= YEARS[1] else ","
    return f"{low:{comma}.6g} to {high:{comma}.6g}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
