"""Residuals: what a version answered to rows that it had not seen, frozen with it.

It decides what a version's calibration begins with, before anything that it
served has come true: the rows of `test`. Those of `validation` were answered
by another fit, which stood at another level. All answers are raw: no level
moved them. The registry has the file's digest, as it has the reference's.
"""

from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl

from loopbook.data.splits import PART
from loopbook.models.task import task_of
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import MonitorError
from loopbook.registry.reader import RESIDUALS, Registry, Version
from loopbook.registry.service_files import DIGEST_TAGS, digest_mismatch

MOST_ROWS = 50_000
TAG = DIGEST_TAGS[RESIDUALS]
INSTANT = pl.Datetime("us", "UTC")


def column_types(contract: Contract) -> Mapping[str, pl.DataType]:
    """The columns of what came true: when it was asked and known, the raw answer, what happened."""
    task = task_of(contract)
    return {
        "at": INSTANT,
        "known_ts": INSTANT,
        "raw": task.frame_type,
        "observed": task.observed_type,
    }


def paired(
    rows: pl.DataFrame, answers: np.ndarray, contract: Contract, *, moment: datetime
) -> pl.DataFrame:
    """Rows of a split and the raw answers to them, as what came true.

    Parameters
    ----------
    rows : polars.DataFrame
        Of `split`, those that the version was not taught.
    answers : array of shape (rows,), or (rows, K) for classes
    moment : datetime in UTC
        When a row happened and was known, where the table has no event time.
    """
    task, kinds = task_of(contract), column_types(contract)
    happened = pl.col(EVENT_TS) if EVENT_TS in rows.columns else pl.lit(moment)
    known = pl.col(KNOWN_TS) if KNOWN_TS in rows.columns else happened
    return rows.select(
        happened.cast(INSTANT).alias("at"),
        known.cast(INSTANT).alias("known_ts"),
        task.column(answers).alias("raw"),
        pl.col(contract.target.name).cast(kinds["observed"]).alias("observed"),
    )


def freeze(pairs: pl.DataFrame, *, seed: int) -> bytes:
    """What came true as a Parquet file: at most 50,000 rows, a random sample of more."""
    if pairs.height > MOST_ROWS:
        draw = np.random.default_rng(seed)
        pairs = pairs[np.sort(draw.choice(pairs.height, MOST_ROWS, replace=False))]
    written = BytesIO()
    pairs.write_parquet(written)
    return written.getvalue()


def held_back(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a split that a version has not seen."""
    return rows.filter(pl.col(PART) == "test")


def kept(registry: Registry, version: Version, contract: Contract) -> pl.DataFrame | None:
    """What came true before a version served, if it is what the registry says.

    None for a version of an earlier loopbook, which has no such file, and for
    one that predicted another target.

    Raises
    ------
    MonitorError
        If the file was changed.
    RegistryError
        If it cannot be fetched.
    """
    if TAG not in version.tags:
        return None
    content = registry.content(version, RESIDUALS)
    if mismatch := digest_mismatch(version, RESIDUALS, content):
        raise MonitorError(f"{mismatch} It was changed; restore it, or build anew.")
    pairs = pl.read_parquet(BytesIO(content))
    return pairs if dict(pairs.schema) == dict(column_types(contract)) else None


def sound(pairs: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Pairs that have a residual: the truth and the answer are there, and no number ends arithmetic."""
    task = task_of(contract)
    observed: Any = task.observed(pairs["observed"])
    return pairs.filter(task.is_measurable(observed, task.of_column(pairs["raw"])))
