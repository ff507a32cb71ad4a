"""Aggregates: what the values that are there at each instant come to.

It decides how counts, means, medians and the ends follow from spans of time in
which a value is there, so that the answer depends on which values these are
and not on how they came: a pass that starts later gives the same numbers to
the last bit. It knows nothing of facts and windows. Pure: no file, no clock.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import itemgetter

import numpy as np
from sortedcontainers import SortedList

MANTISSA = 53  # bits of a float64
MANY = 8  # values an instant, from which on they are merged in at once


def counts_at(times: np.ndarray, enters: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """How many of the half-open spans `[enter, leave)` hold each instant."""
    came = np.searchsorted(np.sort(enters), times, "right")
    return came - np.searchsorted(np.sort(leaves), times, "right")


def means_at(
    times: np.ndarray, enters: np.ndarray, leaves: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """The mean of the values that are there at each instant; NaN where none is.

    A sum of floats depends on their order, and facts come and go in another
    one where a pass starts later. So values are added as whole numbers of the
    smallest power of two that divides them all, without loss, and what is
    rounded once is the quotient.
    """
    mantissas, exponents = np.frexp(values)
    wholes = np.ldexp(mantissas, MANTISSA).astype(np.int64).tolist()
    least = int(exponents.min(initial=0)) - MANTISSA
    shifts = (exponents - MANTISSA - least).tolist()
    exact = np.array([w << s for w, s in zip(wholes, shifts, strict=True)], dtype=object)
    sums, counts = [], []
    for instants in (enters, leaves):
        order = np.argsort(instants, kind="stable")
        passed = np.searchsorted(instants[order], times, "right")
        running = [0, *accumulate(exact[order].tolist())]
        sums.append([running[n] for n in passed])
        counts.append(passed)
    there = (counts[0] - counts[1]).tolist()
    answer = np.full(times.size, np.nan)
    for place, (came, went, count) in enumerate(zip(*sums, there, strict=True)):
        if count:
            answer[place] = (came - went) / (count << -least)
    return answer


def ordered_at(
    times: np.ndarray, enters: np.ndarray, leaves: np.ndarray, values: np.ndarray, aggregate: str
) -> np.ndarray:
    """The median, least or greatest value that is there at each instant; NaN where none is.

    One pass over the spans in time, with the present values kept in order: the
    answer depends on which values are there and not on how they came, so a
    pass that starts later gives the same numbers to the last bit. Where many
    facts share an instant (days, and not seconds) they are merged in at once.
    """
    one_pass = in_batches if values.size > MANY * times.size else one_by_one
    return np.array(list(one_pass(times, enters, leaves, values, PICKS[aggregate])))


def one_by_one(times, enters, leaves, values, pick) -> Iterator[float]:
    """The pass for facts that each have an instant of their own."""
    coming, going = np.argsort(enters, kind="stable"), np.argsort(leaves, kind="stable")
    entering, entered = enters[coming].tolist(), values[coming].tolist()
    leaving, left = leaves[going].tolist(), values[going].tolist()
    present: SortedList = SortedList()
    i = j = 0
    for instant in times.tolist():
        if not present and i == j == 0:
            there = (enters <= instant) & (leaves > instant)
            present.update(values[there].tolist())
            i = int(np.searchsorted(enters[coming], instant, "right"))
            j = int(np.searchsorted(leaves[going], instant, "right"))
        while i < len(entering) and entering[i] <= instant:
            present.add(entered[i])
            i += 1
        while j < len(leaving) and leaving[j] <= instant:
            present.remove(left[j])
            j += 1
        yield pick(present) if present else np.nan


def in_batches(times, enters, leaves, values, pick) -> Iterator[float]:
    """The pass for many facts an instant: a merge into one sorted array."""
    coming, going = np.argsort(enters, kind="stable"), np.argsort(leaves, kind="stable")
    came = np.searchsorted(enters[coming], times, "right")
    went = np.searchsorted(leaves[going], times, "right")
    present, i, j = np.empty(0), 0, 0
    for place in range(times.size):
        entered = np.sort(values[coming[i : came[place]]])
        present = np.insert(present, np.searchsorted(present, entered), entered)
        left = np.sort(values[going[j : went[place]]])
        # the n-th of some equal values that leave stands n places after the first
        nth = np.arange(left.size) - np.searchsorted(left, left)
        present = np.delete(present, np.searchsorted(present, left) + nth)
        i, j = came[place], went[place]
        yield float(pick(present)) if present.size else np.nan


def _middle(present: Sequence[float]) -> float:
    middle = len(present) // 2
    if len(present) % 2:
        return present[middle]
    return (present[middle - 1] + present[middle]) / 2


PICKS = {"median": _middle, "min": itemgetter(0), "max": itemgetter(-1)}
