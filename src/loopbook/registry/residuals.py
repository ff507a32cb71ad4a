"""Residuals: what a version answered to rows that it had not seen, frozen with it.

It decides what a version's calibration begins with, before anything that it
served has come true: the rows of `test`, and the newest rows that taught it, as
fits without each of them answered (`out_of_fold`). What a candidate said to
`validation` is left out: that fit knew nothing of those weeks, and stood at
another level. All answers are raw: no level moved them. The registry has the
file's digest, as it has the reference's.
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
LEFT_OUT = "left_out"  # answered by a fit without the row's week, and not by one that may serve
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


def predictions(
    parts: Mapping[str, pl.DataFrame],
    answers: Mapping[str, np.ndarray],
    left_out: tuple[pl.DataFrame, np.ndarray],
    contract: Contract,
) -> pl.DataFrame:
    """What a candidate answered to rows that it had not seen, as `05_train` hands it on.

    Parameters
    ----------
    parts, answers : mapping
        Rows by part, and the answers to all rows of some parts.
    left_out : tuple
        Rows that taught it, and what fits without them answered (`out_of_fold`).
    """
    task = task_of(contract)

    def answered(rows: pl.DataFrame, said: np.ndarray, is_left_out: bool) -> pl.DataFrame:
        return rows.select(
            *contract.key,
            PART,
            task.column(said).alias("predicted"),
            pl.lit(is_left_out).alias(LEFT_OUT),
        )

    frames = [answered(parts[part], said, False) for part, said in answers.items()]
    return pl.concat([*frames, answered(*left_out, True)])


def of_candidate(
    stored: pl.DataFrame, every: pl.DataFrame, contract: Contract, *, moment: datetime
) -> pl.DataFrame:
    """What came true of a candidate, from its `predictions` and all rows of the split."""
    counted = stored.filter(pl.col(LEFT_OUT) | (pl.col(PART) == "test"))
    rows = every.join(
        counted.select(*contract.key, "predicted"), on=contract.key, maintain_order="left"
    )
    answers = task_of(contract).of_column(rows["predicted"])
    return paired(rows.drop("predicted"), answers, contract, moment=moment)


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
