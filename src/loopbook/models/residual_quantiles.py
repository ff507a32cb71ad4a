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


def of_numbers(
    residuals: np.ndarray, answers: np.ndarray, days: np.ndarray, level: float
) -> Quantiles:
    """Quantiles with equal tails, by thirds of the answer where one interval would not fit all.

    Parameters
    ----------
    residuals, answers : arrays of shape (n,)
        In the link's space, both after the shift.
    days : array of shape (n,)
        On which day each happened.
    level : float
        The share of truths that an interval holds.
    """
    pooled = _ends(residuals, days, level)
    if pooled is None:
        return Quantiles()
    cuts = np.unique(np.quantile(answers, np.arange(1, GROUPS) / GROUPS))
    group = np.searchsorted(cuts, answers, side="right")
    parts = [group == place for place in range(len(cuts) + 1)]
    if min(part.sum() for part in parts) >= LEAST_ROWS and any(
        _differs(residuals[part], *pooled, level) for part in parts
    ):
        ends = (_ends(residuals[part], days[part], level) for part in parts)
        low, high = zip(*ends, strict=True)
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


def _ends(residuals: np.ndarray, days: np.ndarray, level: float) -> tuple[float, float] | None:
    """The order statistics that hold a further residual at this level or more.

    A quantile of n independent rows (Hazen's) is exceeded by (1/2 - tail) / (n + 1) more than
    its tail, which their order statistic allows for; rows that come in days are worth fewer.
    """
    count, tail = len(residuals), (1 - level) / 2
    if (count + 1) * tail < 1 - 1e-9:  # 0.05 * 20 is a whole number
        return None
    ordered = np.sort(residuals)
    tail -= (0.5 - tail) * (1 / (_worth(residuals, days) + 1) - 1 / (count + 1))
    place = max(int((count + 1) * tail + 1e-9), 1)
    return float(ordered[place - 1]), float(ordered[count - place])


def _worth(residuals: np.ndarray, days: np.ndarray) -> float:
    """How many independent rows these are worth, by the correlation within a day (Kish, 1965).

    The correlation is that of ranks in an analysis of variance, so that one far row is
    one row.
    """
    count = len(residuals)
    _, day, sizes = np.unique(days, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or count == len(sizes):
        return float(count) if count == len(sizes) else 1.0
    ranks = np.empty(count)
    ranks[np.argsort(residuals, kind="stable")] = np.arange(count) - (count - 1) / 2
    means = np.bincount(day, ranks) / sizes
    between = float((sizes * means**2).sum()) / (len(sizes) - 1)
    within = float(((ranks - means[day]) ** 2).sum()) / (count - len(sizes))
    usual = (count - float((sizes**2).sum()) / count) / (len(sizes) - 1)
    alike = (between - within) / max(between + (usual - 1) * within, 1e-300)
    return count / (1 + (count / len(sizes) - 1) * min(max(alike, 0.0), 1.0))


def _differs(residuals: np.ndarray, low: float, high: float, level: float) -> bool:
    """Whether the common interval misses more or fewer of these rows than it should, on a side."""
    tail = (1 - level) / 2
    error = BEYOND_DOUBT * np.sqrt(tail * (1 - tail) / len(residuals))
    missed = np.array([np.mean(residuals < low), np.mean(residuals > high)])
    return bool((np.abs(missed - tail) > error).any())
