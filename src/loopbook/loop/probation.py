"""Probation: a new champion against its predecessor, on the same answered requests.

It decides whether a champion has shown itself: both versions answered the same
requests (the one before as a shadow), and their errors are compared pair by pair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from loopbook.data import prediction_log
from loopbook.data.prediction_log import PredictionLog
from loopbook.models.evaluation import Confidence, Interval
from loopbook.models.measures import Measure
from loopbook.models.task import Task
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.paths import Project
from loopbook.records import roles


def paired(answers: pl.DataFrame, champion: str, before: str) -> pl.DataFrame:
    """Requests that both versions answered and whose ground truth is known.

    Returns
    -------
    polars.DataFrame
        `observed`, `answer` of the champion and `answer_before`, a row a request.
    """
    ours = answers.filter(
        pl.col("role") == roles.CHAMPION,
        pl.col("version") == champion,
        pl.col("observed").is_not_null(),
    )
    theirs = answers.filter(pl.col("role") == roles.SHADOW, pl.col("version") == before).select(
        pl.col("shadow_of").alias("id"), pl.col("answer").alias("answer_before")
    )
    return ours.select("id", "observed", "answer").join(
        theirs.unique("id", keep="first"), on="id", how="inner"
    )


def difference(task: Task, pairs: pl.DataFrame, confidence: Confidence) -> Interval | None:
    """The champion's loss less its predecessor's: above 0 the champion is worse.

    None if fewer than two of the pairs can be compared.
    """
    observed = task.observed(pairs["observed"])
    answers = [task.of_column(pairs[name]) for name in ("answer", "answer_before")]
    sound = np.all([task.is_measurable(observed, said) for said in answers], axis=0)
    if sound.sum() < 2:
        return None
    ours, before = (task.losses(observed[sound], said[sound]) for said in answers)
    return confidence.mean(ours - before)


def read(
    project: Project,
    contract: Contract,
    *,
    since: datetime,
    as_of: datetime,
    most_rows: int,
    seed: int,
) -> tuple[pl.DataFrame, float]:
    """Answers of `[since, as_of)`, all or a sample, with the ground truth known by then.

    Returns
    -------
    polars.DataFrame, float
        And which share of the answers that is.
    """
    log: PredictionLog | None = prediction_log.connect_if_there(project, contract)
    names = ("id", "role", "version", "shadow_of", "observed", "answer", "known_ts")
    nothing = pl.DataFrame(schema=dict.fromkeys(names, pl.String)), 1.0
    if log is None:
        return nothing
    try:
        sample, count = log.sample(since, as_of, most_rows=most_rows, seed=seed)
    finally:
        log.close()
    if sample is None:
        return nothing
    known = pl.when(pl.col("known_ts") <= as_of).then(pl.col("observed"))
    told = sample.select(names).with_columns(known.alias("observed"))
    return told, sample.height / max(count, 1)


@dataclass(frozen=True)
class Terms:
    """What a champion on probation is held against; see env.yaml.

    `margin` is in the unit of the errors, which `measure` writes.
    """

    days: float
    labels: int
    margin: float
    measure: Measure


def judge(
    interval: Interval | None,
    terms: Terms,
    *,
    champion: Mapping[str, Any],
    as_of: datetime,
) -> tuple[str, str]:
    """What becomes of a champion on probation: `passed`, `failed` or `waits`, and why.

    Parameters
    ----------
    champion : mapping
        Its `label` and `promoted_as_of`.
    """
    count = interval.n if interval else 0
    over = as_of >= parse_instant(champion["promoted_as_of"]) + timedelta(days=terms.days)
    if interval and count >= terms.labels:
        said = terms.measure.said_change
        numbers = (
            f"its error is {said(interval.mean)} from its predecessor's on the same "
            f"{counted(count, 'request')} ({said(interval.low)} to {said(interval.high)})"
        )
        if interval.low > terms.margin:
            return "failed", f"{champion['label']} is worse: {numbers}"
        if over:
            return "passed", f"{champion['label']} has shown itself: {numbers}"
        return "waits", f"{champion['label']} is on probation: {numbers}"
    if over:
        return (
            "passed",
            f"{champion['label']}: probation is over with {count:,} comparable requests",
        )
    return "waits", (
        f"{champion['label']} is on probation: {count:,} comparable requests have their ground "
        f"truth, {terms.labels:,} are needed"
    )
