"""Truths: raw answers that came true, as a version's calibration state is made of them.

It decides which rows count: those that were known by an instant, whose answer and
target can be measured, and which are not older than `LONGEST_DAYS`. It puts them in
one order, so that nothing after it depends on the order in which they came. A row that was
corrected or called broken counts until then, as it did at the time.
"""

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from loopbook.models.task import Task
from loopbook.project.clock import KNOWN_TS

AT = "at"  # when the row happened that was asked about
UNTIL_TS = "until_ts"  # when a row was corrected or called broken; null, or no column: not yet
STILL = 2**63 - 1  # microseconds: what counts still
DAY_US = 86_400_000_000
LONGEST_DAYS = 1_000  # what is older has no weight; one row of 1970 must not cost a walk to today
LEAST_PROBABILITY = 1e-6  # as in `calibrated`: a smaller one counts as this much, in float32 too


@dataclass(frozen=True)
class Truths:
    """Rows in a stated order; `at`, `known` and `until` in microseconds since 1970.

    `raw` has shape (n,) or (n, K) and `observed` (n,), as the task has them. `until` is
    `STILL` of a row that counts at the end.
    """

    at: np.ndarray
    known: np.ndarray
    raw: np.ndarray
    observed: np.ndarray
    until: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, places) -> "Truths":
        return Truths(*(getattr(self, field.name)[places] for field in fields(self)))

    @property
    def standing(self) -> "Truths":
        """Those that count at the end."""
        return self[self.until == STILL]


def of_frame(task: Task, came_true: pl.DataFrame, as_of: datetime) -> Truths:
    """The rows of a frame that count as of an instant.

    A row that became known before it happened, or after `as_of`, does not count.
    """
    now = microseconds(as_of)
    rows = came_true.drop_nulls([AT, KNOWN_TS, "raw", "observed"])
    at, known = (_us(rows[name]) for name in (AT, KNOWN_TS))
    until = np.full(len(at), STILL)
    if UNTIL_TS in rows.columns:
        until = rows[UNTIL_TS].dt.epoch("us").fill_null(STILL).to_numpy()
    raw, observed = task.of_column(rows["raw"]), task.observed(rows["observed"])
    counts = (known <= now) & (at <= known) & (at > now - LONGEST_DAYS * DAY_US)
    counts &= (known < until) & task.is_measurable(observed, raw)
    kept = Truths(at, known, raw, observed, np.where(until > now, STILL, until))[counts]
    columns = kept.raw.reshape(len(kept), task.width).T
    return kept[np.lexsort((*columns, kept.until, kept.observed, kept.at, kept.known))]


def log_probabilities(raw: np.ndarray) -> np.ndarray:
    """The log of each probability, none smaller than `LEAST_PROBABILITY`."""
    return np.log(np.maximum(raw, LEAST_PROBABILITY))


def softmax(logs: np.ndarray, axis: int = -1) -> np.ndarray:
    """Probabilities whose logs these are but for a constant: SciPy's, without which the service is."""
    weights = np.exp(logs - logs.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def microseconds(instant: datetime) -> int:
    """An instant with a time zone as microseconds since 1970, exact."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _us(column: pl.Series) -> np.ndarray:
    return column.dt.epoch("us").to_numpy().astype(np.int64)
