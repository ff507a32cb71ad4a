"""Sources: the keys of a contract by which its rows are read as they were found to be meant.

It decides whether a query is needed, and writes it: where texts are no plain
numbers or times, where a time is made of several columns, and where a key is
made of the row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from loopbook.data import formats
from loopbook.data.places import THE_SOURCE
from loopbook.project.errors import SourceError
from loopbook.proposal.clocks import Clock
from loopbook.proposal.columns import Column
from loopbook.proposal.forms import quoted
from loopbook.proposal.keys import Key
from loopbook.proposal.made_targets import MadeTarget
from loopbook.proposal.opened import Opened


def source_of(
    opened: Opened,
    used: Sequence[Column],
    clock: Clock | None,
    key: Key,
    target: MadeTarget | None = None,
) -> dict[str, Any]:
    """The contract's `source`: the place, and a query or a dialect where one is needed.

    Parameters
    ----------
    used : sequence of Column
        Features, target and key; how the others are written does not matter.
    """
    odd = [c for c in used if not c.is_plain_text]
    only_commas = all(c.form.is_decimal_comma and not c.is_often_odd for c in odd)
    points = any(c.kind == "number" and c.is_plain_text and c.is_text for c in used)
    made = {clock.name: clock.sql} if clock and clock.sql else {}
    made |= {target.name: target.sql} if target else {}
    made |= {key.names[0]: key.sql} if key.sql else {}
    if odd and only_commas and not made and not points and _is_csv(opened):
        dialect = {"separator": _separator(opened), "decimal_comma": True}
        return opened.source | {"dialect": dialect}
    if not odd and not made:
        return opened.source
    _refuse_twins(opened)
    query = _query({c.header: c.sql for c in odd}, made, clock, _nameless(opened))
    if "database" in opened.source:
        return {"parts": {THE_SOURCE: opened.source}, "query": query}
    return opened.source | {"query": query}


def is_queried(source: dict[str, Any]) -> bool:
    """Whether a query of ours stands between the table and the contract."""
    return "parts" in source or ("query" in source and "database" not in source)


def _nameless(opened: Opened) -> list[str]:
    """What DuckDB calls a column without a header, which no contract can name."""
    return [f"v{place}" for place, header in enumerate(opened.rows.columns) if not header]


def _is_csv(opened: Opened) -> bool:
    return opened.file is not None and opened.form == "csv"


def _separator(opened: Opened) -> str:
    return formats.sniffed(opened.file).separator


def _refuse_twins(opened: Opened) -> None:
    plain = [header.lower() for header in opened.rows.columns]
    twins = [header for header in opened.rows.columns if plain.count(header.lower()) > 1]
    if twins:
        raise SourceError(
            f"source {opened.told}: has {' and '.join(map(repr, twins))}, which differ in capitals "
            "only, and a query is needed to read the table. Rename one of them."
        )


def _query(
    changed: Mapping[str, str],
    made: Mapping[str, str],
    clock: Clock | None,
    nameless: Sequence[str],
) -> str:
    """One SELECT over the source, laid out to be read."""
    gone = list(nameless)
    if clock and clock.sql:
        gone += clock.headers
    changed = {h: sql for h, sql in changed.items() if h not in gone}
    first = "SELECT *"
    if gone:
        first += f" EXCLUDE ({', '.join(quoted(h, chr(34)) for h in gone)})"
    if changed:
        lines = [f"         {sql} AS {quoted(h, chr(34))}" for h, sql in changed.items()]
        first += " REPLACE (\n" + ",\n".join(lines) + "\n       )"
    selected = [first, *(f"       {sql} AS {name}" for name, sql in made.items())]
    return ",\n".join(selected) + f"\nFROM {THE_SOURCE}"
