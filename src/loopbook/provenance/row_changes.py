"""Row changes: which rows two snapshots share by key, and which values of these differ.

It decides what counts as added, removed and corrected. A key that stands twice
is told apart by its place among its equals. Pure: no file, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

EXAMPLES = 5  # of each kind
_NTH, _THERE = "_nth", "_there"


@dataclass(frozen=True)
class Correction:
    """One value of a row that both snapshots have."""

    key: dict[str, Any]
    column: str
    before: Any
    after: Any


@dataclass(frozen=True)
class RowChanges:
    """What became of the rows of a snapshot in another one.

    Attributes
    ----------
    corrected : how many rows with the same key differ in a column that both have
    columns : of the corrected rows, how many differ in each column
    added_keys, removed_keys, corrections : the first few, in the order of their snapshot
    added_columns, removed_columns : those that one of the snapshots does not have
    """

    before: int
    after: int
    added: int
    removed: int
    corrected: int
    columns: dict[str, int]
    added_keys: list[dict[str, Any]]
    removed_keys: list[dict[str, Any]]
    corrections: list[Correction]
    added_columns: list[str]
    removed_columns: list[str]

    @property
    def are_none(self) -> bool:
        return not (
            self.added
            or self.removed
            or self.corrected
            or self.added_columns
            or self.removed_columns
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> RowChanges:
    """What became of the rows of `before` in `after`.

    Parameters
    ----------
    key : sequence of str
        Columns that both have. A missing part equals a missing part.
    """
    by = [*key, _NTH]
    one, other = (_numbered(rows, key) for rows in _alike(before, after, key))
    shared = [n for n in before.columns if n in after.columns and n not in key]
    how = {"on": by, "nulls_equal": True, "maintain_order": "left"}
    added, removed = other.join(one, how="anti", **how), one.join(other, how="anti", **how)
    pairs = one.join(other.select(*by, *shared), how="inner", suffix="_after", **how)
    differ = {name: _differs(pairs[name], pairs[f"{name}_after"]) for name in shared}
    changed = pl.DataFrame(differ) if differ else pl.DataFrame()
    counts = {name: int(changed[name].sum()) for name in changed.columns}
    return RowChanges(
        before=before.height,
        after=after.height,
        added=added.height,
        removed=removed.height,
        corrected=int(changed.select(pl.any_horizontal(pl.all())).sum().item()) if shared else 0,
        columns={name: count for name, count in counts.items() if count},
        added_keys=_keys(added, key),
        removed_keys=_keys(removed, key),
        corrections=_corrections(pairs, changed, key),
        added_columns=[name for name in after.columns if name not in before.columns],
        removed_columns=[name for name in before.columns if name not in after.columns],
    )


def _alike(
    before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with keys of one type: as text, where a column is held otherwise in each."""
    texts = [pl.col(n).cast(pl.String) for n in key if before[n].dtype != after[n].dtype]
    return before.with_columns(texts), after.with_columns(texts)


def _numbered(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Rows, each with its place among those of the same key."""
    return rows.with_columns(pl.int_range(pl.len()).over(list(key)).alias(_NTH))


def _differs(before: pl.Series, after: pl.Series) -> pl.Series:
    """Which values are others; a number that is held in another type is the same number."""
    if before.dtype != after.dtype:
        kind = pl.Float64 if before.dtype.is_numeric() and after.dtype.is_numeric() else pl.String
        before, after = before.cast(kind), after.cast(kind)
    return before.ne_missing(after)


def _keys(rows: pl.DataFrame, key: Sequence[str]) -> list[dict[str, Any]]:
    return rows.select(key).head(EXAMPLES).to_dicts()


def _corrections(
    pairs: pl.DataFrame, changed: pl.DataFrame, key: Sequence[str]
) -> list[Correction]:
    """The first values that differ, row by row."""
    if not changed.width:
        return []
    places = changed.select(pl.any_horizontal(pl.all()).arg_true().alias("place"))["place"]
    found = []
    for place in places.head(EXAMPLES):
        row, differs = pairs.row(place, named=True), changed.row(place, named=True)
        about: Mapping[str, Any] = {name: row[name] for name in key}
        found += [
            Correction(dict(about), name, row[name], row[f"{name}_after"])
            for name, is_changed in differs.items()
            if is_changed
        ]
    return found[:EXAMPLES]
