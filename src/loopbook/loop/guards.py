"""Guards: whether the loop may retrain now.

It decides from the verdict, the growth of the table, what was tried before and the knobs. It knows no
file and no clock: `as_of` is when it is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loopbook.records.turns import FAILED, REFUSED, UNCHANGED, Attempt
from loopbook.records.verdicts import INVESTIGATE, RETRAIN

WITHOUT_GAIN = {
    REFUSED: "the gate refused a challenger",
    UNCHANGED: "a retraining made the model that serves again",
}


@dataclass(frozen=True)
class Limits:
    """See env.yaml, its `loop_` knobs."""

    most_a_day: int
    refused_days: float
    backoff_minutes: float


@dataclass(frozen=True)
class Permission:
    """Whether to retrain, and the reason either way."""

    granted: bool
    reason: str


def may_retrain(
    level: str,
    *,
    asked: str | None,
    grown: str | None = None,
    attempts: Sequence[Attempt],
    limits: Limits,
    as_of: datetime,
) -> Permission:
    """Whether the loop retrains.

    Parameters
    ----------
    level : str
        The verdict on the newest window.
    asked : str or None
        Who asked for it from outside. A request overrides the verdict and the
        waiting times after a refusal or a failure, but not broken inputs or the
        daily limit.
    grown : str or None
        Why so many more rows are known that it should learn again. It overrides
        the verdict, and nothing else.
    attempts : sequence of Attempt
        Oldest first.
    """
    if level == INVESTIGATE:
        return Permission(False, "inputs are broken, and nothing is trained on them")
    if level != RETRAIN and not asked and not grown:
        return Permission(False, f"the verdict is {level}")
    if limit := _limit(attempts, limits, as_of):
        return Permission(False, limit[1])
    if asked:
        return Permission(True, f"asked for by {asked}")
    if (rest := _rest(attempts, limits)) and as_of < rest[0]:
        return Permission(False, rest[1])
    by_growth = grown if level != RETRAIN else None
    return Permission(True, by_growth or "the verdict is retrain")


def waits(
    attempts: Sequence[Attempt], limits: Limits, as_of: datetime
) -> list[tuple[datetime, str]]:
    """What the loop waits for before it may retrain, each with the moment when the wait ends."""
    both = [_limit(attempts, limits, as_of), _rest(attempts, limits)]
    return [wait for wait in both if wait and as_of < wait[0]]


def _limit(
    attempts: Sequence[Attempt], limits: Limits, as_of: datetime
) -> tuple[datetime, str] | None:
    day = timedelta(days=1)
    today = [a for a in attempts if a.as_of > as_of - day]
    if len(today) < limits.most_a_day:
        return None
    return today[-limits.most_a_day].as_of + day, (
        f"{len(today)} retrainings were tried within a day, and {limits.most_a_day} are allowed"
    )


def _rest(attempts: Sequence[Attempt], limits: Limits) -> tuple[datetime, str] | None:
    if failures := failures_in_a_row(attempts):
        rest = timedelta(minutes=limits.backoff_minutes) * 2 ** (failures - 1)
        again = attempts[-1].as_of + rest
        return again, (
            f"the last {failures} retrainings failed; it is tried again after "
            f"{again:%Y-%m-%d %H:%M} UTC"
        )
    if attempts and (what := WITHOUT_GAIN.get(attempts[-1].outcome)):
        again = attempts[-1].as_of + timedelta(days=limits.refused_days)
        return again, (
            f"{what} on {attempts[-1].as_of:%Y-%m-%d}; the next is "
            f"made after {again:%Y-%m-%d %H:%M} UTC, on newer rows"
        )
    return None


def failures_in_a_row(attempts: Sequence[Attempt]) -> int:
    """How many of the latest attempts failed."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.outcome != FAILED:
            break
        count += 1
    return count
