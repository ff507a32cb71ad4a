"""Residual quantiles: how far truths were from what was answered, and how likely they were said to be.

It decides which residuals an interval is made of (the newest known ones, each after the shift
of its own day), whether rows of different size need intervals of their own, and
the correction for few rows. An interval of so few rows that it would have no end is none.
"""

from dataclasses import dataclass

import numpy as np

from loopbook.models.truths import DAY_US

NEWEST_DAYS = 28
LEAST_ROWS = 100  # with fewer known in four weeks, those of eight, sixteen, ... count too
GROUPS = 3
BEYOND_DOUBT = 3.0  # standard errors; asked anew each day, so that two would often be chance


@dataclass(frozen=True)
class Quantiles:
    """The ends of residuals by group; `cuts` part the groups by the answer in the link's space."""

    cuts: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def newest(known: np.ndarray, as_of: int) -> np.ndarray:
    """Which rows, shape (n,): known in the last four weeks, or in as many as hold enough."""
    days = NEWEST_DAYS
    recent = known > as_of - days * DAY_US
    while recent.sum() < LEAST_ROWS and not recent.all():
        days *= 2
        recent = known > as_of - days * DAY_US
    return recent


def of_numbers(residuals: np.ndarray, answers: np.ndarray, level: float) -> Quantiles:
    """Quantiles with equal tails, by thirds of the answer where one interval would not fit all.

    Parameters
    ----------
    residuals, answers : arrays of shape (n,)
        In the link's space, both after the shift.
    level : float
        The share of truths that an interval holds.
    """
    pooled = _ends(residuals, level)
    if pooled is None:
        return Quantiles()
    cuts = np.unique(np.quantile(answers, np.arange(1, GROUPS) / GROUPS))
    group = np.searchsorted(cuts, answers, side="right")
    parts = [residuals[group == place] for place in range(len(cuts) + 1)]
    if min(map(len, parts)) >= LEAST_ROWS and any(_differs(p, *pooled, level) for p in parts):
        low, high = zip(*(_ends(part, level) for part in parts), strict=True)
        return Quantiles(tuple(cuts.tolist()), low, high)
    return Quantiles((), (pooled[0],), (pooled[1],))


def least_probability(said: np.ndarray, level: float) -> float | None:
    """The smallest probability with which a class is in the set; None where all would be.

    Parameters
    ----------
    said : array of shape (n,)
        The probability that was said of what happened (split conformal; Vovk et al., 2005).
    """
    place = int((len(said) + 1) * (1 - level) + 1e-9)
    return float(np.sort(said)[place - 1]) if place else None


def _ends(residuals: np.ndarray, level: float) -> tuple[float, float] | None:
    """The order statistics that hold a further residual at this level or more."""
    count, tail = len(residuals), (1 - level) / 2
    place = int((count + 1) * tail + 1e-9)  # 0.05 * 20 is a whole number
    if not place:
        return None
    ordered = np.sort(residuals)
    return float(ordered[place - 1]), float(ordered[count - place])


def _differs(residuals: np.ndarray, low: float, high: float, level: float) -> bool:
    """Whether the common interval misses more or fewer of these rows than it should, on a side."""
    tail = (1 - level) / 2
    error = BEYOND_DOUBT * np.sqrt(tail * (1 - tail) / len(residuals))
    missed = np.array([np.mean(residuals < low), np.mean(residuals > high)])
    return bool((np.abs(missed - tail) > error).any())
