"""Split leaks: what rows that judge share with rows that teach, and times that had not come.

It decides whether a part that judges is unseen: the same row, or another row of
the same thing, may stand among those that taught. Each is a warning with its
numbers; what is found stops nothing.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from scipy.stats import rankdata

from loopbook.data import instants
from loopbook.models.leaks import LATER, SUSPECTED, Leak

LEAST_SHARE = 0.01  # of the rows
LEAST_TWICE = 10
BEYOND_CHANCE = 3  # times as many rows are the same as differ in one column alone
LEAST_GROUPS = 20  # fewer are categories that come again, and no things
MOST_EACH = 20  # rows of a group, on average
SHARED_LEAST = 0.05  # of the rows that judge
ALIKE_LATER = 0.9  # of the same where the rows that judge come later: it may be asked about again
ALIKE_LEAST = 0.1  # of the target that the mean of the others of a group tells
MOST_OTHERS = 0.05  # of the values that are no time
DECADE = 10 * 366 * 86_400  # seconds around the rows' own times in which numbers may be times
LOOKED = 2_000  # values by which a column is known to be times
YEAR = re.compile(r"(^|_)(year|yr)(_|$)")


def twice(
    learned: pl.DataFrame, asked: pl.DataFrame, names: Sequence[str], target: str
) -> Iterator[Leak]:
    """Rows that are asked about and stand among those learned from, target and all.

    In a table of few categories rows are the same by chance. Then as many others
    differ in one column alone, so those are counted too.
    """
    columns = [*names, target]
    if not asked.height or not learned.height:
        return
    known, new = _hashes(learned, columns), _hashes(asked, columns)
    whole, rows = known.sum(axis=1), new.sum(axis=1)
    is_there = np.isin(rows, whole)
    count = int(is_there.sum())
    if count < max(LEAST_TWICE, LEAST_SHARE * asked.height):
        return
    for place in range(len(columns)):
        near = _others(whole - known[:, place], whole, rows - new[:, place]) > is_there
        if BEYOND_CHANCE * int(near.sum()) > count:
            return
    told = (
        f"{count:,} of {asked.height:,} rows that judge stand among those learned from, "
        f"with the same value in all of {len(columns)} columns"
    )
    remedy = "leave out what stands twice, or add the column that tells the rows apart"
    yield Leak(tuple(names), "twice", SUSPECTED, told, remedy, False)


def _others(known: np.ndarray, whole: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How many different rows there are that have what each asked one has but for a column."""
    pairs = pl.DataFrame({"but": known, "whole": whole}).unique()
    counts = pairs.group_by("but").len("count")
    joined = pl.DataFrame({"but": asked}).join(counts, on="but", how="left", maintain_order="left")
    return joined["count"].fill_null(0).to_numpy()


def _hashes(rows: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """A number for each value, another one in each column, so that sums of them are rows."""
    hashed = [rows[name].hash(place).to_numpy() for place, name in enumerate(columns)]
    return np.column_stack(hashed)


def groups(
    learned: pl.DataFrame,
    asked: pl.DataFrame,
    names: Sequence[str],
    target: str,
    *,
    alike: float = ALIKE_LEAST,
) -> Iterator[Leak]:
    """Things that have rows on both sides and whose rows have nearly the same target.

    Parameters
    ----------
    names : sequence of str
        Columns that may name the thing that a row is about.
    alike : float
        How much of their target the other rows of a thing tell, at least.
    """
    both = pl.concat([learned.select([*names, target]), asked.select([*names, target])])
    truth = _outcomes(both[target])
    teach, judge = truth[: learned.height], truth[learned.height :]
    for name in names:
        count = both[name].n_unique()
        if count < LEAST_GROUPS or both.height > MOST_EACH * count:
            continue
        shared = asked[name].is_in(learned[name].drop_nulls().unique().implode()).fill_null(False)
        if shared.sum() < max(LEAST_TWICE, SHARED_LEAST * asked.height):
            continue
        told = _told_by_others(
            learned[name], teach, asked[name].filter(shared), judge[shared.to_numpy()]
        )
        if told >= alike:
            evidence = (
                f"{shared.sum():,} of {asked.height:,} rows that judge have a {name} of which other "
                f"rows teach, and those alone tell {100 * told:.1f} % of their target"
            )
            remedy = (
                "if new ones will be asked about, the error of those is larger; without an "
                f"event_time, group: {name} keeps each in one part"
            )
            yield Leak((name,), "group", SUSPECTED, evidence, remedy, False)


def _outcomes(target: pl.Series) -> np.ndarray:
    """The ranks of numbers, or which class it is; of shape (rows, 1) or (rows, classes)."""
    if target.dtype in (pl.String, pl.Boolean):
        return target.cast(pl.String).to_dummies().to_numpy().astype(float)
    return rankdata(target.to_numpy())[:, None]


def _told_by_others(
    learned: pl.Series, teach: np.ndarray, asked: pl.Series, judge: np.ndarray
) -> float:
    """The squared correlation of rows with the mean of their group among those that teach."""
    columns = [f"_{place}" for place in range(teach.shape[1])]
    means = pl.DataFrame(teach, schema=columns).with_columns(learned.alias("group"))
    means = means.group_by("group").mean()
    said = asked.to_frame("group").join(means, on="group", how="left", maintain_order="left")
    said = said.select(columns).to_numpy()
    said, judge = said - said.mean(axis=0), judge - judge.mean(axis=0)
    size = (said**2).sum() * (judge**2).sum()
    together = float((said * judge).sum())
    return together**2 / float(size) if size > 0 and together > 0 else 0.0


def later(rows: pl.DataFrame, names: Sequence[str], at: str, zone: str | None) -> Iterator[Leak]:
    """Columns that hold a time after that of their row: it had not come then.

    Parameters
    ----------
    names : sequence of str
        Numbers and categories: a text that is a time, seconds or milliseconds
        since 1970, or a year, where the header says that it is one.
    at : str
        The instants of the rows.
    """
    for name in names:
        times, unit = _as_times(rows[name], name, rows[at], zone)
        if times is None:
            continue
        own, times = (_local(column, zone) for column in (rows[at], times))
        if not unit and (own == own.dt.truncate("1d")).all():
            unit = "1d"  # the row's own hour is not known
        if unit:
            own, times = own.dt.truncate(unit), times.dt.truncate(unit)
        share = float((times > own).filter(times.is_not_null()).mean() or 0.0)
        if share >= LEAST_SHARE:
            evidence = (
                f"{name} is a time, and in {100 * share:.1f} % of {times.drop_nulls().len():,} rows it is "
                "later than the row's own: it had not come then"
            )
            yield Leak((name,), "later", SUSPECTED, evidence, LATER)


def _local(times: pl.Series, zone: str | None) -> pl.Series:
    return times.dt.convert_time_zone(zone or "UTC")


def _as_times(
    column: pl.Series, name: str, at: pl.Series, zone: str | None
) -> tuple[pl.Series | None, str]:
    """A column as instants, or None where it holds none, and how coarse they are."""
    if column.null_count() == column.len() or at.null_count() == at.len():
        return None, ""
    if column.dtype == pl.String:
        return _from_text(column, zone)
    if column.dtype.is_temporal():
        return instants.in_utc(column, zone), "1d" if column.dtype == pl.Date else ""
    return _from_number(column, name, at) if column.dtype.is_numeric() else (None, "")


def _from_text(column: pl.Series, zone: str | None) -> tuple[pl.Series | None, str]:
    some, _ = instants.read(column.drop_nulls().head(LOOKED), zone or "UTC")
    if some.null_count() > MOST_OTHERS * some.len():
        return None, ""
    times, _ = instants.read(column, zone or "UTC")
    return instants.in_utc(times, zone or "UTC"), "1d" if times.dtype == pl.Date else ""


def _from_number(column: pl.Series, name: str, at: pl.Series) -> tuple[pl.Series | None, str]:
    low, high = (float(column.quantile(end)) for end in (MOST_OTHERS, 1 - MOST_OTHERS))
    first, last = at.min().timestamp(), at.max().timestamp()
    for scale in (1, 1_000):
        begins, ends = scale * max(first - DECADE, DECADE), scale * (last + DECADE)
        if begins <= low and high <= ends:
            micros = column.cast(pl.Float64) * (1_000_000 / scale)
            return micros.cast(pl.Int64, strict=False).cast(instants.INSTANT), ""
    if YEAR.search(name.lower()) and low >= 1_000 and high <= 9_999:
        years = column.cast(pl.Int32, strict=False)
        return pl.select(pl.datetime(years, 7, 1, time_zone="UTC")).to_series(), "1y"
    return None, ""
