"""Wishes: what a person said of a table, and what of it the table cannot fulfil.

It decides which columns are meant by what was typed, and the words of a refusal.
"""

import difflib
from dataclasses import dataclass

from loopbook.data.splits import LEAST_ROWS, LEAST_TRAIN_ROWS
from loopbook.project.errors import SourceError
from loopbook.proposal.columns import Column, Table
from loopbook.proposal.roles import Roles


@dataclass(frozen=True)
class Wishes:
    """What a person said of a table; what is empty is found out."""

    target: str = ""
    time: tuple[str, ...] = ()
    entity: str = ""
    key: tuple[str, ...] = ()
    label_delay_days: float | None = None
    costs: tuple[float, float] | None = None
    no_time: bool = False


def refuse_unknown(table: Table, wishes: Wishes) -> None:
    """Refuse columns that are not there, each with the nearest that is."""
    known = {*table.columns, *(c.name for c in table.columns.values())}
    asked = {
        "--target": [wishes.target],
        "--time": wishes.time,
        "--entity": [wishes.entity],
        "--key": wishes.key,
    }
    for option, names in asked.items():
        for name in filter(None, names):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else f"there are {', '.join(table.columns)[:300]}"
                )
                raise SourceError(f"{option} {name}: the table has no such column; {hint}")


def refuse_few(table: Table, target: Column, rows: int) -> None:
    """Refuse a target that too few rows have."""
    least = LEAST_TRAIN_ROWS + 2 * LEAST_ROWS
    if rows < least:
        raise SourceError(
            f"source {table.opened.told}: {rows:,} of {table.height:,} rows have a value of "
            f"{target.header}, and at least {least} are needed: {LEAST_TRAIN_ROWS} to learn from and "
            f"twice {LEAST_ROWS} to compare and to judge by. Bring more rows."
        )


def nothing_left(table: Table, target: Column, roles: Roles) -> str:
    """Why there is nothing to predict from."""
    why = "; ".join(f"{header} {reason}" for header, reason in list(roles.ignored.items())[:5])
    return (
        f"source {table.opened.told}: no column is left that {target.header} could be predicted from"
        f"{f' ({why})' if why else ''}. A series is not predicted from its own past values; add columns."
    )


def headers_of(table: Table) -> dict[str, str]:
    """Headers by what a person may call them: a header before a name."""
    return {c.name: h for h, c in table.columns.items()} | {h: h for h in table.columns}


def header_of(table: Table, name: str) -> str:
    """The header that a person means; empty where there is none."""
    return headers_of(table).get(name, "")
