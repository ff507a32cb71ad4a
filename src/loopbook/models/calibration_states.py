"""Calibration states: what is added to a version's answers as of an instant, and how sure they are.

It decides the shift in the link's space and the quantiles of residuals from what came true
and was known by then, and says why they are what they are. It has no clock and reads and
writes no file: the same rows and the same instant give the same bits, in any order of rows.
How the level moves is `shift_walks`', which residuals count for an interval `residual_quantiles`'.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from loopbook.models import residual_quantiles, truths
from loopbook.models.residual_quantiles import Quantiles
from loopbook.models.shift_walks import Step, Walk, residuals
from loopbook.models.task import Task
from loopbook.models.truths import DAY_US, Truths, softmax
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.knobs import Knobs

STANDS_HALF_LIVES = 2  # so long a state stands though none was made since


@dataclass(frozen=True)
class Rule:
    """How states are made; the same defaults for every table.

    Attributes
    ----------
    half_life_days : a truth so much older counts half as much
    least_truths : with fewer, the shift is 0
    most_a_day, most : how far a shift may move within a day and in all, in the link's space;
        None: by the version's own history (`shift_walks`)
    interval : the share of truths that an interval holds
    """

    half_life_days: float = 14.0
    least_truths: int = 30
    most_a_day: float | None = None
    most: float | None = None
    interval: float = 0.9

    @classmethod
    def of(cls, knobs: Knobs, contract: Contract) -> "Rule":
        """The rule that env.yaml and the contract ask for."""
        most_a_day, most = (
            None if bound == "auto" else bound
            for bound in (knobs.calibration_most_a_day, knobs.calibration_most)
        )
        return cls(
            knobs.calibration_half_life_days,
            knobs.calibration_least_truths,
            most_a_day,
            most,
            contract.target.interval,
        )


@dataclass(frozen=True)
class State:
    """A version's calibration state.

    Attributes
    ----------
    as_of : from this instant on it answers
    shift : (1,) of a number; of classes what is added to each log probability, 0 for the no
    truths : how many stand behind the shift
    cuts : where the groups of rows end, by the answer in the link's space; () is one group
    low, high : by group, what is added to the answer in the link's space; () is no interval
    least : of classes, the smallest probability of a class that is in the set; None is no set
    reason : one sentence
    at_bound : whether the bound in all holds the level back
    stands_still : whether it repeats an earlier one, because what is known is not to be trusted
    digest : of the rows, the rule and the instant
    half_life_days : of its rule; one of an earlier loopbook has the default
    """

    as_of: datetime
    shift: tuple[float, ...]
    truths: int
    cuts: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    least: float | None
    reason: str
    at_bound: bool
    stands_still: bool
    digest: str
    half_life_days: float = Rule.half_life_days

    def aged(self, days: int) -> "State":
        """What it says so many whole days after its instant.

        A state that was not made anew stands for two half-lives, and then halves
        each half-life: what it was made of says ever less of today.
        """
        late = days - STANDS_HALF_LIVES * self.half_life_days
        if late <= 0 or not any(self.shift):
            return self
        share = 0.5 ** (late / self.half_life_days)
        why = f"it is {counted(days, 'day')} old, so {share:.0%} of it is left. Make it anew."
        return replace(
            self,
            shift=tuple(share * number for number in self.shift),
            reason=f"{self.reason} But {why}",
        )

    def as_json(self) -> dict[str, Any]:
        """As a record holds it; `of_json` gives the same bits back."""
        return asdict(self) | {"as_of": self.as_of.isoformat()}

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> "State":
        """A state from its record."""
        lists = {name: tuple(record[name]) for name in ("shift", "cuts", "low", "high")}
        return cls(**{**record, **lists, "as_of": datetime.fromisoformat(record["as_of"])})


@dataclass(frozen=True)
class Stillness:
    """When a state must not move.

    Attributes
    ----------
    why : why it must not now, as a clause ("inputs are called broken"); None: it may
    before : what it repeats while it stands still; without one it repeats no shift
    stretches : `[start, end)` in which it stood still: they add nothing to how far it may
        have moved since
    """

    why: str | None = None
    before: State | None = None
    stretches: Sequence[tuple[datetime, datetime]] = ()


def decide(
    task: Task,
    came_true: pl.DataFrame,
    as_of: datetime,
    rule: Rule,
    stillness: Stillness = Stillness(),
) -> State:
    """The state of a version as of an instant.

    Parameters
    ----------
    task : Task
        Of the version's contract.
    came_true : polars.DataFrame
        A row a truth: `at` and `known_ts` (UTC), `raw` as the task's `frame_type`, `observed` as
        its `observed_type`. `until_ts`, if there, says when a row was corrected or called
        broken: it counts until then. Rows that became known later, or cannot be measured,
        are left out.
    as_of : datetime
        With a time zone.
    """
    rows, until = truths.of_frame(task, came_true, as_of), truths.microseconds(as_of)
    stood = [
        tuple(min(truths.microseconds(end), until) for end in both) for both in stillness.stretches
    ]
    why = stillness.why
    digest = _digest(task, rows, as_of, rule, [why, stood] if stood else why)
    if why:
        before = stillness.before or _none(task, as_of, digest, "")
        return _standing(task, before, as_of, digest, why)
    if not len(rows):
        why = f"no truth of the last {truths.LONGEST_DAYS:,} days is known: answers are the model's own."
        return _none(task, as_of, digest, why)
    walked, last = _walked(Walk(task, rows, rule, until, stood))
    quantiles, least = _quantiles(task, rows, walked, until, rule.interval)
    return State(
        as_of=as_of,
        shift=tuple(full_shift(task, last.shift[None])[0].tolist()),
        truths=last.truths,
        **asdict(quantiles),
        least=least,
        reason=_reason(last, rule),
        at_bound=last.at_bound,
        stands_still=False,
        digest=digest,
        half_life_days=rule.half_life_days,
    )


def shifts_at(
    task: Task, came_true: pl.DataFrame, instants: Sequence[datetime] | pl.Series, rule: Rule
) -> np.ndarray:
    """The shift of the day of each instant, from what was known at its midnight (UTC).

    Returns
    -------
    numpy.ndarray
        Shape (n, width): (n, 1) of a number, (n, K) of classes; the same bits as
        `decide` gives as of that midnight. 0 before the first truth.
    """
    wanted = pl.Series(instants, dtype=pl.Datetime("us", "UTC"))
    if not len(wanted):
        return np.zeros((0, task.width))
    days = wanted.dt.epoch("us").to_numpy() // DAY_US
    rows = truths.of_frame(task, came_true, wanted.max())
    if not len(rows):
        return np.zeros((len(days), task.width))
    steps = list(Walk(task, rows, rule, int(days.max()) * DAY_US).midnights())
    return _of_days(task, steps, days)


def moved(task: Task, raw: np.ndarray, shift: Sequence[float] | np.ndarray) -> np.ndarray:
    """Raw answers moved by a shift, or each row by its own; of no shift the same bits.

    Parameters
    ----------
    raw : array of shape (n,) or (n, K)
    shift : of shape (width,) or (n, width)
    """
    shift = np.asarray(shift, np.float64)
    if not shift.any():
        return raw
    if task.classes:
        return softmax(truths.log_probabilities(raw) + shift, axis=1)
    inside = task.linked(raw) + shift[..., 0]
    return np.exp(inside) if task.link == "log" else inside


def interval(task: Task, answers: np.ndarray, state: State | None) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of each answer's interval, in the target's unit; NaN where there is none.

    `answers` are those of a number, moved already. The ends stay within the target's range.
    """
    if state is None or not state.low or task.classes:
        return np.full(len(answers), np.nan), np.full(len(answers), np.nan)
    inside = task.linked(answers)
    if len(answers) == 1:  # as a request asks: the same numbers, in a third of the time
        place = bisect_right(state.cuts, inside[0])
        away = np.array([[state.low[place]], [state.high[place]]])
    else:
        group = np.searchsorted(state.cuts, inside, side="right")
        away = np.asarray([state.low, state.high])[:, group]
    ends = inside + away
    ends = np.exp(ends) if task.link == "log" else ends
    if limits := task.contract.target.range:
        ends = np.minimum(np.maximum(ends, limits[0]), limits[1])
    return ends[0], ends[1]


def likely_classes(task: Task, answers: np.ndarray, state: State | None) -> list[list[str] | None]:
    """For each answer the classes that hold the truth at the level, the likeliest first.

    The most probable class is always among them. None where there is no set.
    """
    if state is None or state.least is None or not task.classes:
        return [None] * len(answers)
    order = np.argsort(-answers, axis=1, kind="stable")
    many = np.maximum((answers >= state.least).sum(axis=1), 1)
    return [[task.classes[k] for k in row[:count]] for row, count in zip(order, many, strict=True)]


def full_shift(task: Task, shifts: np.ndarray) -> np.ndarray:
    """Shifts of a walk, shape (n, 1) or (n, K), as (n, width): 0 for the no of yes or no."""
    if task.positive is None:
        return shifts
    full = np.zeros((len(shifts), task.width))
    full[:, task.positive] = shifts[:, 0]
    return full


def _walked(walk: Walk) -> tuple[list[Step], Step]:
    """The steps at midnights, and the one at the instant at which it ends."""
    steps = list(walk.midnights())
    if steps and steps[-1].instant == walk.until:
        return steps, steps[-1]
    return steps, walk.to(walk.until)


def _of_days(task: Task, steps: list[Step], days: np.ndarray) -> np.ndarray:
    """The shift at the midnight that begins each day, 0 before the first step."""
    if not steps:
        return np.zeros((len(days), task.width))
    places = days - steps[0].instant // DAY_US
    shifts = full_shift(task, np.array([step.shift for step in steps]))
    return np.where(places[:, None] < 0, 0.0, shifts[np.clip(places, 0, len(steps) - 1)])


def _quantiles(
    task: Task, rows: Truths, steps: list[Step], until: int, level: float
) -> tuple[Quantiles, float | None]:
    """Of the newest truths, each after the shift that its day had."""
    rows = rows.standing
    rows = rows[residual_quantiles.newest(rows.known, until)]
    shifts = _of_days(task, steps, rows.at // DAY_US)
    if task.classes:
        said = moved(task, rows.raw, shifts)[np.arange(len(rows)), rows.observed.astype(int)]
        return Quantiles(), residual_quantiles.least_probability(said, level)
    left, answers = residuals(task, rows) - shifts[:, 0], task.linked(rows.raw) + shifts[:, 0]
    return residual_quantiles.of_numbers(left, answers, rows.at // DAY_US, level), None


def _none(task: Task, as_of: datetime, digest: str, reason: str) -> State:
    nothing = (0.0,) * task.width
    return State(as_of, nothing, 0, (), (), (), None, reason, False, False, digest)


def _standing(task: Task, before: State, as_of: datetime, digest: str, why: str) -> State:
    reason = f"it stands still, as before, because {why}."
    return replace(before, as_of=as_of, reason=reason, stands_still=True, digest=digest)


def _reason(step: Step, rule: Rule) -> str:
    if step.truths < rule.least_truths:
        known = f"{counted(step.truths, 'truth is', 'truths are')} known, expected {rule.least_truths:,} or more"
        return f"{known}: the shift falls back to 0."
    if step.at_bound:
        far = float(np.abs(step.wanted).max())
        return f"the level is {far:.3g} and the bound {step.most:.3g}: the shift is at its bound."
    if np.abs(step.wanted - step.shift).max() > 1e-12:
        return f"the level moves by more than {step.most_a_day:.3g} a day: the shift follows it."
    return f"the level of {counted(step.truths, 'truth')}."


def _digest(task: Task, rows: Truths, as_of: datetime, rule: Rule, still: Any) -> str:
    """Of all that a state is made of but the one before it."""
    about = [task.contract.target.name, task.link, as_of.isoformat(), asdict(rule), still]
    parts = [rows.at, rows.known, rows.raw, rows.observed]
    if len(rows.standing) < len(rows):
        parts.append(rows.until)
    found = hashlib.sha256(json.dumps(about).encode())
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()
