"""Keys: which columns name a row.

It decides the smallest set of columns that is unique and means something: an
identifier, or a time and what it is about. A measured number is no name, even
where no two rows share it. Where nothing names a row, a key is made of the
whole row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import polars as pl

from loopbook.project.names import OF_A_KEY
from loopbook.proposal import wording
from loopbook.proposal.clocks import Clock
from loopbook.proposal.columns import GUESS, LIKELY, SURE, Column, is_row_count
from loopbook.proposal.forms import quoted

MADE = "row_key"
LOOKED_ROWS = 20_000
MOST_COLUMNS = 3
MOST_TRIED = 14  # columns of which combinations are tried
MANY = 50


@dataclass(frozen=True)
class Key:
    """The columns that name a row, by the contract's names; `sql` where one is made."""

    names: tuple[str, ...]
    headers: tuple[str, ...]
    sql: str | None
    sure: str
    why: str
    twice: int = 0


def key_of(
    columns: Sequence[Column], clock: Clock | None, target: str, named: Sequence[str], table: str
) -> Key:
    """The key of a table.

    Parameters
    ----------
    target : str
        Its header: what is predicted names no row.
    named : sequence of str
        What a person said; empty: look.
    table : str
        What a query calls the rows.
    """
    parts = {column.header: column for column in columns}
    if named:
        return _named(parts, clock, named)
    timed = {clock.name: clock.values} if clock else {}
    for names, headers in _tried(columns, clock, target):
        series = [
            timed[n] if n in timed else parts[h].values for n, h in zip(names, headers, strict=True)
        ]
        if _is_unique(series):
            sure = SURE if len(names) == 1 and wording.is_identifier(headers[0]) else LIKELY
            return Key(
                names, tuple(h for h in headers if h), None, sure, "unique, and always there"
            )
    made = wording.free_name(MADE, parts)
    quote = quoted(table, '"')
    row = f"md5(CAST({quote} AS VARCHAR))"
    twice = _copies(columns)
    return Key(
        (made,), (), f"{row} || '-' || row_number() OVER (PARTITION BY {row})", GUESS,
        "no column names a row, so it is made of the whole row", twice,
    )  # fmt: skip


def plainly_named(key: Key, features: Sequence[str]) -> Key:
    """A key whose columns keep a header such as `id`, which a feature may not be called."""
    plain = {f"{h}_value": h for h in key.headers if h in OF_A_KEY and h not in features}
    return replace(key, names=tuple(plain.get(name, name) for name in key.names))


def _named(parts: dict[str, Column], clock: Clock | None, named: Sequence[str]) -> Key:
    by_name = {column.name: header for header, column in parts.items()} | {h: h for h in parts}
    names, headers, series = [], [], []
    for text in named:
        if clock and text in (clock.name, *clock.headers):
            names.append(clock.name)
            series.append(clock.values)
            continue
        column = parts[by_name[text]]
        names.append(column.name)
        headers.append(column.header)
        series.append(column.values)
    twice = (
        0 if _is_unique(series) else _height(series) - pl.DataFrame(_numbered(series)).n_unique()
    )
    return Key(tuple(dict.fromkeys(names)), tuple(headers), None, SURE, "named by you", twice)


def _numbered(series: Sequence[pl.Series]) -> list[pl.Series]:
    return [one.alias(str(place)) for place, one in enumerate(series)]


def _height(series: Sequence[pl.Series]) -> int:
    return series[0].len()


def _tried(
    columns: Sequence[Column], clock: Clock | None, target: str
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Sets of columns in the order in which they are the likelier key; names and headers."""
    made_of = set(clock.headers) if clock else set()
    free = [c for c in columns if c.header != target and c.header not in made_of]
    free = [
        c for c in free if c.kind in ("integer", "category") and c.missing == 0 and c.distinct > 1
    ]
    whole = max((c.values.len() for c in free), default=0)
    names = [c for c in free if wording.is_identifier(c.header) or wording.is_row_name(c.header)]
    names = [c for c in names if c.distinct > MANY or c.distinct == whole]
    counts = [c for c in free if is_row_count(c)]
    texts = [c for c in free if c.kind == "category" and c not in names]
    for column in dict.fromkeys((*names, *counts, *texts)):
        if column.distinct == whole and whole > 1:
            yield (column.name,), (column.header,)
    things = list(dict.fromkeys((*names, *texts)))[:MOST_TRIED]
    numbers = [c for c in free if c.kind == "integer" and c not in things and c.distinct > MANY]
    pools = [things, [*things, *numbers][:MOST_TRIED]] if clock else [names[:MOST_TRIED]]
    first = ((clock.name,), ("",)) if clock else ((), ())
    if clock:
        yield first
    for pool in pools:
        for size in range(1 if clock else 2, MOST_COLUMNS + (not clock)):
            for some in combinations(pool, size):
                yield (
                    (*(c.name for c in some), *first[0]),
                    (*(c.header for c in some), *first[1]),
                )


def _is_unique(series: Sequence[pl.Series]) -> bool:
    if any(one.null_count() for one in series):
        return False
    height = series[0].len()
    some = [one.head(LOOKED_ROWS) for one in series]
    if pl.DataFrame(_numbered(some)).n_unique() < min(height, LOOKED_ROWS):
        return False
    return pl.DataFrame(_numbered(series)).n_unique() == height


def _copies(columns: Sequence[Column]) -> int:
    """Rows that are the copy of another one, in every column."""
    table = pl.DataFrame(_numbered([c.values for c in columns if c.kind != "nested"]))
    # rows as numbers of 64 bits: two that differ hardly ever get the same, and memory holds them
    return table.height - table.hash_rows().n_unique()
