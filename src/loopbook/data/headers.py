"""Headers: the columns of a file under the names of the contract.

It decides which column of a file is which of the contract's, once, right after
the file is opened; everything behind sees names. It never looks at values.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
import polars.selectors as cs

from loopbook.project.contract import Contract, Dialect
from loopbook.project.errors import SourceError
from loopbook.project.names import is_name, plain_header


def source_names(columns: Sequence[str], contract: Contract, where: str) -> dict[str, str]:
    """From each column of the contract's source to its name.

    Parameters
    ----------
    where : str
        What the source is called for people.

    Raises
    ------
    SourceError
        If a column is missing, or there is one that the contract does not know.
    """
    names = _found(columns, {n: [header] for n, header in contract.header_of.items()}, where)
    ignored = {plain_header(header) for header in contract.ignored_headers}
    missing = [header for name, header in contract.header_of.items() if name not in names.values()]
    added = [c for c in columns if c not in names and plain_header(c) not in ignored]
    faults = []
    if missing:
        faults.append(f"missing: {quoted(missing)}")
    if added:
        faults.append(f"not in the contract: {quoted(added)}")
    if missing and added:
        faults.append("a column may have been renamed")
    if faults:
        raise SourceError(
            f"source {where}: found {len(columns)} columns that are not those of "
            f"contract '{contract.name}' ({'; '.join(faults)}). Correct the table, describe the "
            "column under features (column: says what the file calls it), or list it under "
            "ignored in contract.yaml."
        )
    return names


def given_names(columns: Sequence[str], contract: Contract, where: str) -> dict[str, str]:
    """From the columns of a file to score to their names, as far as the contract knows them.

    A column may be called by its name, its alias or by what the source calls it.

    Raises
    ------
    SourceError
        If one column stands there under two of its names.
    """
    known = {name: [name, header] for name, header in contract.header_of.items()}
    for alias, name in contract.aliases.items():
        known[name].append(alias)
    return _found(columns, known, where)


def renamed(table: pl.LazyFrame, names: dict[str, str]) -> pl.LazyFrame:
    """The columns that have a name, under it."""
    # by_name, and not col: a header may be `*` or `^a$`, which mean others there
    return table.select(cs.by_name(*names)).rename(names)


def written(file: Path, dialect: Dialect) -> list[str]:
    """The headers of a CSV file as they are meant.

    Raises
    ------
    SourceError
        If one stands more than once: polars would call the second something else.
    """
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        lines = csv.reader(opened, delimiter=dialect.separator, quotechar=dialect.quote)
        try:
            columns = next(lines, [])
        except csv.Error as reason:
            raise SourceError(
                f"{file.name}: its first line is no line of headers ({reason}). Write it again."
            ) from None
    counts = Counter(columns)
    twins = [header for header, count in counts.items() if count > 1]
    if twins:
        raise SourceError(
            f"{file.name}: has {quoted(twins)} more than once among its {counts.total()} columns, "
            "so nobody knows which is meant. Give each column a name of its own."
        )
    return columns


def quoted(headers: Iterable[str]) -> str:
    """Headers in a sentence: what is no name in quotes, so that an empty one and a space are seen."""
    return ", ".join(header if is_name(header) else repr(header) for header in headers)


def _found(columns: Sequence[str], known: dict[str, list[str]], where: str) -> dict[str, str]:
    """From a file's column to its name, by what is seen of it."""
    found: dict[str, str] = {}
    for name, texts in known.items():
        plain = {plain_header(text) for text in texts}
        there = [c for c in columns if plain_header(c) in plain]
        if len(there) > 1:
            raise SourceError(
                f"{where}: has {quoted(there)}, which are the one column {name!r}. Remove one."
            )
        found |= dict.fromkeys(there, name)
    return found
