"""Sizes: the knobs that depend on how many rows there are, and from when to when.

It decides how many of the newest days, or which share of the rows, are kept
back, and from how many rows on the gate and monitoring judge.
"""

from datetime import timedelta

import polars as pl

from loopbook.data.splits import LEAST_ROWS, LEAST_TRAIN_ROWS
from loopbook.proposal.clocks import Clock

USUAL = 200  # rows from which on a comparison means something
SHARES = (0.1, 0.15)  # of the rows in test and in validation, where time splits them
OTHERS = {"gate_min_slice_rows": 50, "monitor_min_labels": 200, "loop_probation_labels": 200}
LONGEST = 3650


def knobs_of(
    height: int, clock: Clock | None, labelled: pl.Series
) -> dict[str, float | int] | None:
    """The knobs of a table; None where its time leaves no part large enough.

    Parameters
    ----------
    height : int
        Rows of the table.
    labelled : Boolean series of shape (rows,)
        Which rows have a target.
    """
    rows = int(labelled.sum())
    if clock is None:
        share = 0.15 if rows >= 2_000 else 0.2
        return {"holdout_share": share} | _least(int(0.8 * share * rows))
    times = clock.values.filter(labelled & clock.values.is_not_null()).sort(descending=True)
    if times.is_empty():
        return None
    found = _days(times)
    return None if found is None else found


def _days(times: pl.Series) -> dict[str, float | int] | None:
    """Windows of whole days; `times` from the newest to the oldest."""
    rows = times.len()
    end = times[0].replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    tests = max(LEAST_ROWS * 2, min(int(SHARES[0] * rows), 50_000))
    checks = max(LEAST_ROWS * 2, min(int(SHARES[1] * rows), 75_000))
    if tests + checks + LEAST_TRAIN_ROWS > rows:
        tests = checks = LEAST_ROWS
    if tests + checks + LEAST_TRAIN_ROWS > rows:
        return None
    test_days = min(-(-(end - times[tests - 1]) // timedelta(days=1)), LONGEST)
    test_start = end - timedelta(days=test_days)
    rest = times.filter(times < test_start)
    if rest.len() < checks + LEAST_TRAIN_ROWS:
        return None
    check_days = min(-(-(test_start - rest[checks - 1]) // timedelta(days=1)), LONGEST)
    train = rest.filter(rest < test_start - timedelta(days=check_days)).len()
    counts = rows - rest.len(), rest.len() - train
    if train < LEAST_TRAIN_ROWS or min(counts) < LEAST_ROWS:
        return None
    found: dict[str, float | int] = {"validation_days": check_days, "test_days": test_days}
    found["monitor_window_days"] = max(1, min(LONGEST, test_days))
    return found | _least(rows - rest.len())


def _least(tested: int) -> dict[str, float | int]:
    """From how many rows on something is judged, where fewer than usual are kept back."""
    least = max(LEAST_ROWS, min(USUAL, tested))
    found: dict[str, float | int] = {"gate_min_rows": least}
    if least < USUAL:
        for name, usual in OTHERS.items():
            found[name] = max(30 if name != "gate_min_slice_rows" else 10, usual * least // USUAL)
    return found
