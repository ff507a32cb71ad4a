"""Shift walks: how a version's shift goes from day to day, from what had come true by then.

It decides the level of the newest residuals (a line, weighted so that it forgets), how far a
single truth, a day and a flood of truths may move it, and the bounds. A walk begins at
the first truth and takes a step at each midnight (UTC), so that the shift as of an instant
follows from rows alone, and not from which states were ever made. It walks as the rows were
known: one that was corrected or called broken counts until then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loopbook.models.task import Task
from loopbook.models.truths import DAY_US, Truths, log_probabilities, softmax

PRIOR_ROWS = 5.0  # no shift counts as much as so many rows
PRIOR_DAYS = 10.0  # no trend counts as much as those rows, so many days away
DAY_ROWS = 50.0  # a day counts as fewer rows than this: its rows share what moved that day
DRAWN_IN = 3.0  # a residual farther from the level than so many spreads counts as that far
MOST_SPREADS = 3.0  # where no bound is given: a level that far is the whole error, not a part
OWN_DAYS = 28  # the version's own history: what became known in its first four weeks
REACH = 2.5  # half-lives beyond the middle of its weight that the line is followed
REMEMBERED = 10  # half-lives: what is older weighs under a thousandth
LEAST_CLASS_SPREAD = np.log(2) / MOST_SPREADS  # odds may double, however calm the history
NEWTON_STEPS = 6


@dataclass(frozen=True)
class Step:
    """Where a walk stands at an instant (microseconds since 1970).

    `shift` and `wanted` have the shape of the walk: (1,) for a number and for yes or no, (K,)
    for several classes. `wanted` is the level before the bounds; `truths` stand behind it.
    """

    instant: int
    shift: np.ndarray
    wanted: np.ndarray
    truths: int
    most: float
    most_a_day: float

    @property
    def at_bound(self) -> bool:
        """Whether the bound in all holds the level back."""
        return bool((np.abs(self.wanted) > self.most).any() and self._is_full)

    @property
    def _is_full(self) -> bool:
        return bool((np.abs(self.shift) >= self.most * (1 - 1e-9)).any())


class Walk:
    """One walk over truths; each step takes in what became known since the last.

    Parameters
    ----------
    task : Task
    truths : Truths
        Sorted by when they became known.
    rule : Rule
        See `calibration_states`.
    until : int
        Where it ends, in microseconds since 1970.
    still : sequence of (int, int)
        Stretches `[start, end)`, none over another, in which it does not move. A day that lies
        in one adds nothing to how far it may move afterwards.

    Notes
    -----
    The level is locally linear (Fan and Gijbels, 1996) with exponential weights, as weighted
    ridge regression. A number's residual is drawn in around the shift as it stood when
    the truth became known (Huber, 1964), so that a flood cannot move what it is measured
    against. For classes the residuals are working residuals of logistic regression, taken at
    that shift too (dynamic generalised linear models: West, Harrison and Migon, 1985), so
    that where it stays, the mean probability is the share of what happened.
    """

    def __init__(
        self,
        task: Task,
        truths: Truths,
        rule,
        until: int,
        still: Sequence[tuple[int, int]] = (),
    ):
        self.task, self.truths, self.rule, self.until = task, truths, rule, until
        self.still = still
        self.width = 1 if task.positive is not None else task.width
        # a window has one length whatever else is known, so that its sums have the same bits
        self.window = int(REMEMBERED * rule.half_life_days) + 1
        self.first_day = int(truths.at.min() // DAY_US) - self.window
        days = until // DAY_US - self.first_day + 1
        self.rows = np.zeros(days)
        self.weights, self.pulls = np.zeros((days, self.width)), np.zeros((days, self.width))
        self.days = truths.at // DAY_US - self.first_day  # of each row
        self.of_rows = np.zeros((2, len(truths), self.width))  # weight and pull, once taken in
        self.counts = np.zeros(len(truths), bool)
        self.leaving = np.argsort(truths.until, kind="stable")
        self.left = 0
        self.shift, self.taken, self.now = np.zeros(self.width), 0, None
        self.daily: list[float] = []  # classes: how far each step's own rows were off
        self.spread, self.own = 0.0, 0  # of numbers: by how many of the first rows

    def midnights(self) -> Iterator[Step]:
        """A step at each midnight from the first truth to the end, both included."""
        first = -(-int(self.truths.known[0]) // DAY_US)
        for day in range(first, self.until // DAY_US + 1):
            yield self.to(day * DAY_US)

    def to(self, instant: int) -> Step:
        """Go on to an instant, at most a day after the last."""
        self._take_in(instant)
        most = self.rule.most if self.rule.most is not None else MOST_SPREADS * self.spread
        a_day = self.rule.most_a_day
        a_day = most / self.rule.half_life_days if a_day is None else a_day
        elapsed = self._moving_days(instant - DAY_US if self.now is None else self.now, instant)
        wanted, truths = self._level(instant)
        move = np.clip(wanted - self.shift, -a_day * elapsed, a_day * elapsed)
        self.shift, self.now = np.clip(self.shift + move, -most, most), instant
        return Step(instant, self.shift, wanted, truths, most, a_day)

    def _moving_days(self, since: int, until: int) -> float:
        """How much of the time between two instants it may move in."""
        still = sum(max(0, min(until, end) - max(since, start)) for start, end in self.still)
        return (until - since - still) / DAY_US

    def _take_in(self, instant: int) -> None:
        """Add the rows that became known since the last step to the days on which they happened."""
        self._let_go(instant)
        end = int(np.searchsorted(self.truths.known, instant, side="right"))
        places = np.arange(self.taken, end)
        places, self.taken = places[self.truths.until[places] > instant], end
        if not len(places):
            return
        self.counts[places] = True
        rows = self.truths[places]
        pulls, weights = self._of_classes(rows) if self.task.classes else self._of_numbers(rows)
        self.of_rows[:, places] = weights, pulls
        self._add(places)

    def _let_go(self, instant: int) -> None:
        """Leave out what no longer counts, as if its days had never had it."""
        gone = self.left
        while self.left < len(self.leaving) and (
            self.truths.until[self.leaving[self.left]] <= instant
        ):
            self.left += 1
        places = self.leaving[gone : self.left]
        places = places[self.counts[places]]
        if not len(places):
            return
        self.counts[places] = False
        if not self.task.classes and places.min() < self.own:
            self._measure_spread()
        days = np.unique(self.days[places])
        for sums in (self.rows, self.weights, self.pulls):
            sums[days] = 0
        self._add(np.flatnonzero(self.counts & np.isin(self.days, days)))

    def _add(self, places: np.ndarray) -> None:
        days = self.days[places]
        np.add.at(self.rows, days, 1.0)
        np.add.at(self.weights, days, self.of_rows[0, places])
        np.add.at(self.pulls, days, self.of_rows[1, places])

    @property
    def _is_own(self) -> bool:
        """Whether what was taken in last belongs to the version's own history."""
        newest = self.truths.known[self.taken - 1]
        is_early = newest <= self.truths.known[0] + OWN_DAYS * DAY_US
        return bool(is_early) or self.taken <= self.rule.least_truths

    def _measure_spread(self) -> None:
        """By those of the version's own history that still count."""
        own = self.truths[: self.own][self.counts[: self.own]]
        if len(own):
            self.spread = _spread(np.abs(residuals(self.task, own)), self.task, own.observed)

    def _of_numbers(self, rows: Truths) -> tuple[np.ndarray, np.ndarray]:
        if self._is_own:
            self.own = self.taken
            self._measure_spread()
        found = residuals(self.task, rows)[:, None]
        reach = DRAWN_IN * self.spread
        return np.clip(found, self.shift - reach, self.shift + reach), np.ones_like(found)

    def _of_classes(self, rows: Truths) -> tuple[np.ndarray, np.ndarray]:
        logs, happened = (
            log_probabilities(rows.raw),
            np.eye(self.task.width)[rows.observed.astype(int)],
        )
        places = slice(None) if self.task.positive is None else [self.task.positive]
        errors, weights = self._errors(logs, happened, self.shift, places)
        own, left = self.shift, errors
        for _ in range(NEWTON_STEPS):
            left, curved = self._errors(logs, happened, own, places)
            pull = left.sum(axis=0) - PRIOR_ROWS * (own - self.shift)
            own = own + np.clip(pull / (curved.sum(axis=0) + PRIOR_ROWS), -1, 1)
        if self._is_own:
            self.daily.append(float(np.abs(own).max()))
            self.spread = max(1.4826 * float(np.median(self.daily)), LEAST_CLASS_SPREAD)
        left, _ = self._errors(logs, happened, own, places)
        weights = weights * _steepening(errors, left, weights, own - self.shift)
        return errors + weights * self.shift, weights

    def _errors(self, logs, happened, shift, places) -> tuple[np.ndarray, np.ndarray]:
        """What happened less its probability under a shift, and the curvature of each."""
        full = np.zeros(self.task.width)
        full[places] = shift
        chance = softmax(logs + full, axis=1)[:, places]
        # of several classes p is the bound on the curvature that keeps each by itself
        curvature = chance if self.task.positive is None else chance * (1 - chance)
        return happened[:, places] - chance, curvature

    def _level(self, instant: int) -> tuple[np.ndarray, int]:
        """The end of the line at an instant, and how many truths stand behind it."""
        now = instant / DAY_US - self.first_day
        half_life = self.rule.half_life_days
        kept = slice(int(now) + 1 - self.window, int(now) + 1)
        rows = self.rows[kept]
        truths = int(rows.sum())
        if truths < max(self.rule.least_truths, 1):
            return np.zeros(self.width), truths
        age = now - (np.arange(kept.start, kept.stop) + 0.5)  # of noon on each day
        weight = 0.5 ** (np.maximum(age, 0) / half_life) / (1 + rows / DAY_ROWS)
        centre = float((weight * rows * age).sum() / (weight * rows).sum())
        back = max(centre - REACH * half_life, 0)
        weights, pulls = (weight[:, None] * of[kept] for of in (self.weights, self.pulls))
        return _end_of_line(back - age, weights, pulls), truths


def _steepening(
    errors: np.ndarray, left: np.ndarray, weights: np.ndarray, way: np.ndarray
) -> np.ndarray:
    """How much more the log likelihood bends on the way to its optimum than where it starts.

    At a confident probability it is almost straight, and a step by that curvature would be
    thrown far over.
    """
    bent = np.divide(
        errors.sum(axis=0) - left.sum(axis=0), way, out=np.zeros_like(way), where=way != 0
    )
    return np.maximum(bent / np.maximum(weights.sum(axis=0), 1e-300), 1.0)


def _end_of_line(x: np.ndarray, weights: np.ndarray, pulls: np.ndarray) -> np.ndarray:
    """The value at 0 of the line through the days, a column each.

    Its level in the middle of the weights is drawn to 0 and its trend to none, each by
    itself: drawn to 0 at its end, a line would rather tilt than follow.
    """
    total = weights.sum(axis=0)
    middle = (x[:, None] * weights).sum(axis=0) / total
    apart = x[:, None] - middle
    level = pulls.sum(axis=0) / (total + PRIOR_ROWS)
    trend = (apart * pulls).sum(axis=0)
    trend /= (apart**2 * weights).sum(axis=0) + PRIOR_ROWS * PRIOR_DAYS**2
    return level - trend * middle


def residuals(task: Task, rows: Truths) -> np.ndarray:
    """What would have to be added to each raw answer in the link's space, shape (n,); numbers."""
    return task.linked(rows.observed) - task.linked(rows.raw)


def _spread(sizes: np.ndarray, task: Task, observed: np.ndarray) -> float:
    """How far a version's answers are usually off; of one that is mostly right, how far if not."""
    usual = 1.4826 * float(np.median(sizes))
    return usual or float(np.quantile(sizes, 0.9)) or task.spread(observed)
