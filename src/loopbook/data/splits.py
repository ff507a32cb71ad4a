"""Splits: which rows teach, which compare, which judge.

It decides three parts: `train`, `validation` (candidates are compared here,
then fitted again with it) and `test` (the gate judges here, and no fitted
model of the run has seen it). With an event time the newest rows are kept
back; without one a hash of the key decides, so that a row stays in its part
when the table grows.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import SplitError

PART = "part"
PARTS = ("train", "validation", "test")
LEAST_ROWS = 30
LEAST_TRAIN_ROWS = 2 * LEAST_ROWS  # as many as the two others hold at least
LEAST_CLASS_ROWS = 10
SHOWN = 5  # classes that a sentence names
STRETCH = 4  # how many times longer than asked the newest window may get


@dataclass(frozen=True)
class Bounds:
    """Where the parts meet; each is `[start, end)` in UTC. Without an event time, the share."""

    train_start: datetime | None = None
    validation_start: datetime | None = None
    test_start: datetime | None = None
    end: datetime | None = None
    holdout_share: float | None = None

    def as_dict(self) -> dict[str, str | float | None]:
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in vars(self).items()}


def split(
    rows: pl.DataFrame,
    contract: Contract,
    *,
    validation_days: int,
    test_days: int,
    holdout_share: float,
    least_rows: int = 1,
) -> tuple[pl.DataFrame, Bounds]:
    """Add the column `part` to every row.

    Parameters
    ----------
    rows : polars.DataFrame
        With `event_ts` where the contract has an event time.
    validation_days, test_days : int
        Length of the two newest windows, counted back from the midnight after
        the newest event. Where the newest days are thin, `test` goes back
        further, at most to four times as many days, until it holds `least_rows`.
    holdout_share : float in (0, 0.5)
        Share of rows in each of the two, where there is no event time.

    Raises
    ------
    SplitError
        If a part is too small to learn or to judge from, or all rows of
        `train` have one class.
    """
    if contract.event_time:
        parted, bounds = _by_time(rows, validation_days, test_days, least_rows)
    else:
        parted, bounds = _by_key(rows, contract, holdout_share), Bounds(holdout_share=holdout_share)
    _check_sizes(parted, contract, bounds)
    _check_classes(parted, contract)
    return parted, bounds


def _by_time(rows: pl.DataFrame, validation_days: int, test_days: int, least_rows: int):
    newest, oldest = rows[EVENT_TS].max(), rows[EVENT_TS].min()
    end = _moved(newest.replace(hour=0, minute=0, second=0, microsecond=0), 1)
    times = rows[EVENT_TS].sort(descending=True)
    least = times[min(least_rows, len(times)) - 1]
    needed = -(-(end - least) // timedelta(days=1))
    days = min(max(test_days, needed), STRETCH * test_days)
    test_start = _moved(end, -days)
    validation_start = _moved(test_start, -validation_days)
    part = (
        pl.when(pl.col(EVENT_TS) >= test_start)
        .then(pl.lit("test"))
        .when(pl.col(EVENT_TS) >= validation_start)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    bounds = Bounds(oldest, validation_start, test_start, end)
    return rows.with_columns(part.alias(PART)), bounds


def _moved(instant: datetime, days: int) -> datetime:
    """An instant some days later or earlier, as far as the calendar goes."""
    try:
        return instant + timedelta(days=days)
    except OverflowError:
        end = datetime.max if days > 0 else datetime.min
        return end.replace(tzinfo=instant.tzinfo)


def key_fraction(rows: pl.DataFrame, key: list[str]) -> np.ndarray:
    """A number in [0, 1) for every row, from its key alone: the same today and next year."""
    text = rows.select(pl.concat_str(pl.col(key).cast(pl.String), separator="\x1f")).to_series()
    digests = (hashlib.blake2b(t.encode(), digest_size=8).digest() for t in text)
    return np.array([int.from_bytes(d, "big") / 2**64 for d in digests])


def fraction_of(rows: pl.DataFrame, key: list[str], group: str | None) -> np.ndarray:
    """The number of `key_fraction`, one for all rows of a group; a row of none has its own."""
    own = key_fraction(rows, key)
    if group is None:
        return own
    there = rows[group].is_not_null()
    own[there.to_numpy()] = key_fraction(rows.filter(there), [group])
    return own


def _by_key(rows: pl.DataFrame, contract: Contract, share: float) -> pl.DataFrame:
    fraction = fraction_of(rows, contract.key, contract.group)
    part = np.where(fraction < share, "test", np.where(fraction < 2 * share, "validation", "train"))
    return rows.with_columns(pl.Series(PART, part, dtype=pl.String))


def _check_sizes(rows: pl.DataFrame, contract: Contract, bounds: Bounds) -> None:
    counts = dict(rows[PART].value_counts().iter_rows())
    small = [
        f"{part} has {counts.get(part, 0):,} rows, expected at least {least:,}"
        for part, least in zip(PARTS, (LEAST_TRAIN_ROWS, LEAST_ROWS, LEAST_ROWS), strict=True)
        if counts.get(part, 0) < least
    ]
    if small:
        window = (
            f", from {bounds.train_start:%Y-%m-%d} to {bounds.end:%Y-%m-%d}" if bounds.end else ""
        )
        raise SplitError(
            f"contract '{contract.name}': {rows.height:,} rows{window}: {'; '.join(small)}. "
            f"Change {_knobs(contract)} in env.yaml, or choose a later as_of."
        )


def _knobs(contract: Contract) -> str:
    return "validation_days and test_days" if contract.event_time else "holdout_share"


def _check_classes(rows: pl.DataFrame, contract: Contract) -> None:
    if not contract.target.classes:
        return
    counts = class_counts(rows, contract)
    learned = counts.filter(pl.col("train") > 0)
    if learned.height < 2:
        only = learned["class"].to_list()
        found = f"all {int(counts['train'].sum()):,} rows of train have the class {', '.join(only)}"
        raise SplitError(
            f"contract '{contract.name}': {found}, expected at least two classes. "
            f"Change {_knobs(contract)} in env.yaml, or bring rows of another class."
        )


def class_counts(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows of each class of the contract in each part: `class`, then a column a part."""
    target = pl.col(contract.target.name)
    counted = rows.group_by(target.alias("class")).agg(
        (pl.col(PART) == part).sum().alias(part) for part in PARTS
    )
    every = pl.DataFrame({"class": contract.target.classes}, schema={"class": pl.String})
    joined = every.join(counted, on="class", how="left", maintain_order="left")
    return joined.with_columns(pl.col(PARTS).fill_null(0))


def class_notes(rows: pl.DataFrame, contract: Contract) -> list[str]:
    """What few or no rows of a class mean for the models, a sentence each; nothing for a number."""
    if not contract.target.classes:
        return []
    train, validation, test = (pl.col(part) for part in PARTS)
    fitted = train + validation
    cases = (
        (
            fitted + test == 0,
            "no row has the class {}: no model can answer it; take it out of target.classes, or "
            "wait for rows",
        ),
        (
            (fitted == 0) & (test > 0),
            "of the class {} only test has rows: the model never saw it, and each of these rows "
            "counts as a large error",
        ),
        (
            (train == 0) & (validation > 0),
            "of the class {} train has no row and validation has: candidates are compared on what "
            "they could not learn",
        ),
        (
            (train > 0) & (fitted < LEAST_CLASS_ROWS),
            f"of the class {{}} fewer than {LEAST_CLASS_ROWS} rows teach: hardly anything is "
            "learned of it; more rows help, or putting rare classes together",
        ),
        (
            (fitted > 0) & (test == 0),
            "of the class {} test has no row: the gate cannot see how well it is answered",
        ),
    )
    counts = class_counts(rows, contract)
    named = [(counts.filter(case)["class"].to_list(), text) for case, text in cases]
    return [text.format(_some(classes)) for classes, text in named if classes]


def _some(classes: list[str]) -> str:
    more = f" and {len(classes) - SHOWN:,} others" if len(classes) > SHOWN else ""
    return ", ".join(classes[:SHOWN]) + more
