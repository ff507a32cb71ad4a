"""When the loop may retrain, and what becomes of a champion on probation."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from small_house import ROOT

from loopbook.loop import guards, probation
from loopbook.loop.guards import Limits
from loopbook.models.evaluation import Confidence
from loopbook.models.task import task_of
from loopbook.project.contract import read_contract
from loopbook.records.turns import FAILED, PROMOTED, REFUSED, UNCHANGED, Attempt

NOW = datetime(2015, 3, 1, tzinfo=UTC)
LIMITS = Limits(most_a_day=2, refused_days=6, backoff_minutes=60)
TASK = task_of(read_contract(ROOT / "contract.yaml"))
SURE = Confidence(0.95, 500, 1)


def granted(level="retrain", *attempts: tuple[float, str], asked=None, grown=None) -> bool:
    tried = [Attempt(NOW - timedelta(hours=hours), outcome) for hours, outcome in attempts]
    found = guards.may_retrain(
        level, asked=asked, grown=grown, attempts=tried, limits=LIMITS, as_of=NOW
    )
    assert found.reason
    return found.granted


@pytest.mark.parametrize("level", ["healthy", "watch", "investigate"])
def test_only_the_verdict_retrain_retrains_by_itself(level):
    assert granted("retrain")
    assert not granted(level)


def test_who_asks_outweighs_the_verdict_and_the_rests_but_not_broken_inputs_or_the_limit():
    assert granted("healthy", asked="ana")
    assert granted("watch", (1, REFUSED), asked="ana")
    assert granted("retrain", (0.1, FAILED), asked="ana")
    assert not granted("investigate", asked="ana")
    assert not granted("retrain", (5, PROMOTED), (3, PROMOTED), asked="ana")


def test_growth_outweighs_the_verdict_and_neither_broken_inputs_nor_a_rest():
    assert granted("healthy", grown="many rows")
    assert granted("watch", (24 * 7, REFUSED), grown="many rows")
    assert not granted("investigate", grown="many rows")
    assert not granted("healthy", (24, REFUSED), grown="many rows")
    assert not granted("healthy", (5, PROMOTED), (3, PROMOTED), grown="many rows")


def test_a_day_has_a_limit_and_the_next_day_another():
    assert not granted("retrain", (5, PROMOTED), (3, PROMOTED))
    assert granted("retrain", (30, PROMOTED), (3, PROMOTED))


def test_after_a_refusal_there_is_rest():
    assert not granted("retrain", (24 * 5, REFUSED))
    assert granted("retrain", (24 * 6, REFUSED))
    assert not granted("retrain", (24 * 5, UNCHANGED))
    assert granted("retrain", (24 * 6, UNCHANGED))


def test_after_failures_the_wait_doubles_and_a_success_ends_it():
    assert not granted("retrain", (0.9, FAILED))
    assert granted("retrain", (1.1, FAILED))
    assert not granted("retrain", (50, FAILED), (40, FAILED), (3.9, FAILED))
    assert granted("retrain", (50, FAILED), (40, FAILED), (4.1, FAILED))
    assert granted("retrain", (50, FAILED), (1.1, PROMOTED))


def answers(worse: float, rows: int = 400) -> pl.DataFrame:
    """Both versions' answers to the same requests; the champion's are worse by a share."""
    draw = np.random.default_rng(3)
    observed = np.exp(draw.normal(13, 0.5, rows))
    before = observed * np.exp(draw.normal(0, 0.15, rows))
    now = observed * (1 + (before / observed - 1) * (1 + worse))
    ids = [f"id{i}" for i in range(rows)]
    common = {"observed": observed, "known_ts": [NOW] * rows}
    ours = {"id": ids, "role": "champion", "version": "2", "shadow_of": None, "answer": now}
    theirs = {"id": [f"s{i}" for i in ids], "role": "shadow", "version": "1"}
    theirs |= {"shadow_of": ids, "answer": before}
    kinds = {"shadow_of": pl.String}
    return pl.concat(
        [
            pl.DataFrame(ours | common, schema_overrides=kinds),
            pl.DataFrame(theirs | common, schema_overrides=kinds).with_columns(
                pl.lit(None, pl.Float64).alias("observed")
            ),
        ],
        how="diagonal",
    )


def state(worse: float, rows: int = 400, days: float = 10) -> str:
    pairs = probation.paired(answers(worse, rows), "2", "1")
    assert pairs.height == rows
    return probation.judge(
        probation.difference(TASK, pairs, SURE),
        probation.Terms(days=28, labels=200, margin=0.0025, measure=TASK.measure),
        champion={"label": "m v2", "promoted_as_of": NOW.isoformat()},
        as_of=NOW + timedelta(days=days),
    )[0]


def test_a_champion_that_is_surely_worse_fails_and_one_that_is_not_waits_and_passes():
    assert state(0.3) == "failed"
    assert state(0.0) == "waits"
    assert state(-0.2) == "waits"
    assert state(-0.2, days=28) == "passed"
    assert state(0.3, days=28) == "failed"


def test_too_few_labels_never_roll_back():
    assert state(0.3, rows=150) == "waits"
    assert state(0.3, rows=150, days=28) == "passed"


def test_only_requests_that_both_answered_are_compared():
    some = answers(0.0)
    assert probation.paired(some.filter(pl.col("role") != "shadow"), "2", "1").is_empty()
    assert probation.paired(some, "2", "3").is_empty()
    assert probation.paired(pl.concat([some, some.tail(9)]), "2", "1").height == 400
