"""Probation: a new champion against its predecessor, on the same answered requests.

It decides whether a champion has shown itself: both versions answered the same
requests (the one before as a shadow), and their errors are compared pair by pair.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from loopbook.data import prediction_log
from loopbook.data.prediction_log import PredictionLog
from loopbook.models import evaluation
from loopbook.models.evaluation import Confidence, Interval
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
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


def difference(pairs: pl.DataFrame, confidence: Confidence) -> Interval:
    """The champion's loss less its predecessor's: above 0 the champion is worse."""
    observed = pairs["observed"].to_numpy()
    loss = evaluation.losses(observed, pairs["answer"].to_numpy())
    return confidence.mean(loss - evaluation.losses(observed, pairs["answer_before"].to_numpy()))


def read(
    project: Project,
    contract: Contract,
    *,
    since: datetime,
    as_of: datetime,
    most_rows: int,
    seed: int,
) -> pl.DataFrame:
    """Answers of `[since, as_of)`, all or a sample, with the ground truth known by then."""
    log: PredictionLog | None = prediction_log.connect_if_there(project, contract)
    names = ("id", "role", "version", "shadow_of", "observed", "answer", "known_ts")
    if log is None:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    try:
        sample, _ = log.sample(since, as_of, most_rows=most_rows, seed=seed)
    finally:
        log.close()
    if sample is None:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    known = pl.when(pl.col("known_ts") <= as_of).then(pl.col("observed"))
    return sample.select(names).with_columns(known.alias("observed"))


def judge(
    interval: Interval | None,
    *,
    champion: Mapping[str, Any],
    as_of: datetime,
    days: float,
    labels: int,
    margin: float,
) -> tuple[str, str]:
    """What becomes of a champion on probation: `passed`, `failed` or `waits`, and why.

    Parameters
    ----------
    champion : mapping
        Its `label` and `promoted_as_of`.
    margin : float
        MAPE in [0, 1]: beyond it the champion is surely worse.
    """
    count = interval.n if interval else 0
    over = as_of >= parse_instant(champion["promoted_as_of"]) + timedelta(days=days)
    if interval and count >= labels:
        numbers = (
            f"its error is {interval.mean * 100:+.2f} points from its predecessor's on the same "
            f"{count:,} requests ({interval.low * 100:+.2f} to {interval.high * 100:+.2f})"
        )
        if interval.low > margin:
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
        f"truth, {labels:,} are needed"
    )
