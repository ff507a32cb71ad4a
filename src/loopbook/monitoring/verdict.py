"""The verdict: one judgement on a window, with its reasons.

It decides between `healthy`, `watch`, `investigate` and `retrain`. It reads
numbers and returns words; it knows no model, no table, no file and no clock.

Broken inputs come first, since whatever else is measured then means little,
and nobody should train on them. Then the realized error, if there is enough
ground truth: that of the answers as they were given, so a bias that the
calibration takes away asks for nothing. What a level cannot mend does: an error
that grew all the same, a slice that drifts apart, intervals that hold too few in
two windows, a calibration at its bound. Drift by itself never retrains: a model
may be right about people whom it has seen less often. And want of data is never
health. Where a person said what retraining and errors cost, and that this decides, a retraining
must pay for itself, and one that does is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loopbook.monitoring.costs import Costs, Weighed, weighed
from loopbook.project.counts import counted
from loopbook.records.verdicts import HEALTHY, INVESTIGATE, RETRAIN, WATCH

if TYPE_CHECKING:
    from loopbook.models.evaluation import Interval
    from loopbook.models.measures import Measure


@dataclass(frozen=True)
class Rules:
    """What a window is held against; see env.yaml.

    The margins are in the unit of the errors, which `said` and `said_bias`
    write: `margins` makes them from the knobs. `coverage_margin` is a share: by so
    much the intervals may hold more or less than `interval_level` of the targets.
    `costs` is None where nobody said what a retraining costs.
    """

    min_rows: int
    min_labels: int
    min_coverage: float
    error_margin: float
    bias_margin: float
    cooldown_days: float
    said: Measure
    said_bias: Measure
    slice_margin: float = math.inf
    coverage_margin: float = 1.0
    interval_level: float = 0.9
    costs: Costs | None = None


@dataclass(frozen=True)
class Window:
    """All that the verdict is told. Errors are in the unit of the table's loss, shares in [0, 1].

    Attributes
    ----------
    wanting : sentences about what is not there at all (a champion, a log)
    broken, odd : sentences about inputs that are broken, and that are only odd
    drifted : sentences, one a column beyond its threshold
    worse : realized error minus the reference's, over the same model
    bias : realized bias, the mean signed error; 0 is what it should be
    bias_of : the class whose bias it is; else the target
    estimated : the estimated error minus the reference's, or None
    champion_age_days : since promotion, or None if unknown
    inside : the share of observed targets that the intervals (of classes the sets) held, or None
    has_sets : whether that is of sets of classes
    was_uncovered : whether the window before held too few or too many beyond doubt
    at_bound : what the calibration state says of its bound, where it is held back there
    apart : by slice, how far its bias has moved since promotion beside that of all rows
    was_apart : the slices of which that was said beyond doubt of the window before
    a_day : how many answers the window has a day
    """

    rows: int
    due: int
    labels: int
    wanting: Sequence[str] = ()
    broken: Sequence[str] = ()
    odd: Sequence[str] = ()
    drifted: Sequence[str] = ()
    worse: Interval | None = None
    bias: Interval | None = None
    bias_of: str | None = None
    estimated: float | None = None
    champion_age_days: float | None = None
    inside: Interval | None = None
    has_sets: bool = False
    was_uncovered: bool = False
    at_bound: str | None = None
    apart: Mapping[str, Interval] = field(default_factory=dict)
    was_apart: Sequence[str] = ()
    a_day: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """A level with its reasons, the weightiest first."""

    level: str
    reasons: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The level and the first reason, as the dashboards show it."""
        return f"{self.level.capitalize()}: {self.reasons[0]}."


def judge(window: Window, rules: Rules) -> Verdict:
    """The verdict on a window."""
    if window.wanting:
        return Verdict(WATCH, list(window.wanting))
    apart = drifted_apart(window.apart, rules)
    once = [told for name, told in apart.items() if name not in window.was_apart]
    notes = [*once, *window.drifted, *window.odd]
    if told := uncovered(window, rules):
        notes = [told, *notes]
    if window.broken:
        return Verdict(INVESTIGATE, [*window.broken, *_error_reasons(window, rules), *notes])
    wanting = _want_of_data(window, rules)
    worse, too_dear = ([], []) if wanting else _weighed_reasons(window, rules)
    if worse:
        age = window.champion_age_days
        if age is not None and age < rules.cooldown_days:
            rest = (
                f"the champion serves for {counted(round(age), 'day')}, and for {rules.cooldown_days:g} "
                "it is given time"
            )
            return Verdict(WATCH, [f"{worse[0]}; {rest}", *worse[1:], *notes])
        return Verdict(RETRAIN, [*worse, *notes])
    suspected = _estimate_reasons(window, rules) if wanting else []
    suspected += _bound_reasons(window) if wanting else []
    if reasons := [*wanting, *too_dear, *suspected, *notes]:
        return Verdict(WATCH, reasons)
    return Verdict(HEALTHY, [_all_is_well(window, rules)])


def worth(window: Window, rules: Rules) -> Weighed | None:
    """What a retraining would save, held against its costs; None where these are not known."""
    if rules.costs is None or window.worse is None or not window.a_day:
        return None
    return weighed(rules.costs, window.worse, window.a_day)


def _weighed_reasons(window: Window, rules: Rules) -> tuple[list[str], list[str]]:
    """The reasons for a retraining; or why there is none, as it would not pay."""
    worse, told = _error_reasons(window, rules), worth(window, rules)
    if told is None:
        return worse, []
    if worse and told.costs.decide and told.saved <= told.costs.retraining:
        return [], [f"{worse[0]}; {told.sentence}", *worse[1:]]
    if worse or (told.costs.decide and told.pays):
        return [*worse, told.sentence], []
    return [], []


def _want_of_data(window: Window, rules: Rules) -> list[str]:
    reasons = []
    if window.rows < rules.min_rows:
        reasons.append(
            f"only {counted(window.rows, 'answer')} in the window, {rules.min_rows:,} are needed to "
            "judge its inputs"
        )
    if window.due and window.labels < rules.min_coverage * window.due:
        reasons.append(
            f"ground truth is late: {window.labels:,} of {window.due:,} answers that should "
            f"have it do ({100 * window.labels / window.due:.0f} %, {100 * rules.min_coverage:.0f} % are needed)"
        )
    elif window.labels < rules.min_labels:
        reasons.append(
            f"too little ground truth: {counted(window.labels, 'answer has', 'answers have')} it, {rules.min_labels:,} "
            "are needed to judge the error"
        )
    return reasons


def _error_reasons(window: Window, rules: Rules) -> list[str]:
    """Why the realized error is worse than it was, beyond margin and doubt."""
    reasons = []
    if window.bias and not -rules.bias_margin <= _nearest_to_zero(window.bias) <= rules.bias_margin:
        side = "too little" if window.bias.mean < 0 else "too much"
        of = f" of {window.bias_of}" if window.bias_of else ""
        change, i = rules.said_bias.said_change, window.bias
        reasons.append(
            f"the model predicts {side}{of}: its bias is {change(i.mean)} ({change(i.low)} to "
            f"{change(i.high)}, n = {i.n:,}), beyond {rules.said_bias.said(rules.bias_margin)}"
        )
    if window.worse and window.worse.low > rules.error_margin:
        change, i = rules.said.said_change, window.worse
        reasons.append(
            f"the error has grown by {change(i.mean)} ({change(i.low)} to {change(i.high)}, "
            f"n = {i.n:,}), more than {change(rules.error_margin)}"
        )
    reasons += _bound_reasons(window)
    reasons += [
        f"{told}, and so it was in the window before"
        for name, told in drifted_apart(window.apart, rules).items()
        if name in window.was_apart
    ]
    if window.was_uncovered and (told := uncovered(window, rules)):
        reasons.append(f"{told}, and so it was in the window before")
    return reasons


def uncovered(window: Window, rules: Rules) -> str | None:
    """That the intervals hold too few or too many targets, beyond margin and doubt; or None.

    A set always has the likeliest class, so sets of one hold too many where the model is
    right more often than the level asks: that is no fault.
    """
    share, level = window.inside, rules.interval_level
    if share is None:
        return None
    low, high = level - rules.coverage_margin, level + rules.coverage_margin
    if low <= share.high and share.low <= high:
        return None
    if window.has_sets and share.mean > level:
        return None
    word = "few" if share.mean < level else "many"
    return (
        f"the {'sets' if window.has_sets else 'intervals'} hold too {word} of the observed targets: {100 * share.mean:.1f} % "
        f"({100 * share.low:.1f} % to {100 * share.high:.1f} %, n = {share.n:,}) of {100 * level:.0f} %"
    )


def _bound_reasons(window: Window) -> list[str]:
    """That the level cannot follow what it sees."""
    return [f"the calibration is at its bound: {window.at_bound}"] if window.at_bound else []


def drifted_apart(apart: Mapping[str, Interval], rules: Rules) -> dict[str, str]:
    """By slice, that its bias has moved away by itself: one level for all cannot mend that."""
    change = rules.said_bias.said_change
    return {
        name: f"{name} drifts apart: its bias has moved by {change(i.mean)} ({change(i.low)} to "
        f"{change(i.high)}, n = {i.n:,}) beside that of all rows, beyond "
        f"{rules.said_bias.said(rules.slice_margin)}"
        for name, i in apart.items()
        if abs(_nearest_to_zero(i)) > rules.slice_margin
    }


def _nearest_to_zero(interval: Interval) -> float:
    if interval.low <= 0 <= interval.high:
        return 0.0
    return interval.low if interval.low > 0 else interval.high


def _estimate_reasons(window: Window, rules: Rules) -> list[str]:
    if window.estimated is None or window.estimated <= rules.error_margin:
        return []
    return [f"the error is estimated to have grown by {rules.said.said_change(window.estimated)}"]


def _all_is_well(window: Window, rules: Rules) -> str:
    return (
        f"the error has not grown beyond the margin since promotion ({rules.said.said_change(window.worse.mean)}, "
        f"n = {window.worse.n:,}), and no input has moved beyond chance"
        if window.worse
        else "no input has moved beyond chance"
    )
