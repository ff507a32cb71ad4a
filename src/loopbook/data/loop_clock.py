"""The clock of the loop: up to which instant a project's answers have come.

It decides which answer is the newest. A project lives now, where requests say
nothing of their time, or by the times that its callers send, such as those of
last year's rows. What is dated otherwise than most is answered and logged, and
moves no window and no build: a request for the year 9999, or one without
`as_of` in a project that lives in the past.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from loopbook.data.prediction_log import PredictionLog

LATELY = 5_000  # answers by their arrival: by most of them it is known how a project dates
NEAR = timedelta(days=1)  # an answer for about the instant at which it was asked
SLACK = timedelta(minutes=5)  # between the clocks of two machines
GAP = timedelta(days=35)  # without an answer: what comes after it is another time
SHARE, MOST_NEEDED = 0.1, 20  # of the answers, so many make another time the project's


def newest(log: PredictionLog, now: datetime) -> datetime | None:
    """The instant of the newest answer by the clock of the loop; None if there is none.

    Parameters
    ----------
    now : datetime in UTC
        The clock on the wall: what is dated after it has not come yet.
    """
    limit = now + SLACK
    come = [(received, at) for received, at in log.dated(LATELY) if at <= limit]
    dated = [at for received, at in come if abs(at - received) > NEAR]
    if 2 * len(dated) <= len(come):
        return log.newest(until=limit)
    return end_of(dated)


def end_of(instants: Sequence[datetime]) -> datetime:
    """The end of the newest stretch without a long gap that enough instants lie in."""
    stretches: list[list[datetime]] = []
    for instant in sorted(instants):
        if not stretches or instant - stretches[-1][-1] > GAP:
            stretches.append([])
        stretches[-1].append(instant)
    needed = max(min(2, len(instants)), min(MOST_NEEDED, ceil(SHARE * len(instants))))
    enough = [stretch for stretch in stretches if len(stretch) >= needed]
    return (enough or [max(stretches, key=len)])[-1][-1]
