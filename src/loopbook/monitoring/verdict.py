"""The verdict: one judgement on a window, with its reasons.

It decides between `healthy`, `watch`, `investigate` and `retrain`. It reads
numbers and returns words; it knows no model, no table, no file and no clock.

Broken inputs come first, since whatever else is measured then means little,
and nobody should train on them. Then the realized error, if there is enough
ground truth. Drift by itself never retrains: a model may be right about
people whom it has seen less often. And want of data is never health.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loopbook.records.verdicts import HEALTHY, INVESTIGATE, RETRAIN, WATCH

if TYPE_CHECKING:
    from loopbook.models.evaluation import Interval
    from loopbook.models.measures import Measure


@dataclass(frozen=True)
class Rules:
    """What a window is held against; see env.yaml.

    The margins are in the unit of the errors, which `said` and `said_bias`
    write: `margins` makes them from the knobs.
    """

    min_rows: int
    min_labels: int
    min_coverage: float
    error_margin: float
    bias_margin: float
    cooldown_days: float
    said: Measure
    said_bias: Measure


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
    notes = [*window.drifted, *window.odd]
    if window.broken:
        return Verdict(INVESTIGATE, [*window.broken, *_error_reasons(window, rules), *notes])
    wanting = _want_of_data(window, rules)
    worse = [] if wanting else _error_reasons(window, rules)
    if worse:
        age = window.champion_age_days
        if age is not None and age < rules.cooldown_days:
            rest = (
                f"the champion serves for {age:.0f} days, and for {rules.cooldown_days:g} "
                "it is given time"
            )
            return Verdict(WATCH, [f"{worse[0]}; {rest}", *worse[1:], *notes])
        return Verdict(RETRAIN, [*worse, *notes])
    suspected = _estimate_reasons(window, rules) if wanting else []
    if reasons := [*wanting, *suspected, *notes]:
        return Verdict(WATCH, reasons)
    return Verdict(HEALTHY, [_all_is_well(window, rules)])


def _want_of_data(window: Window, rules: Rules) -> list[str]:
    reasons = []
    if window.rows < rules.min_rows:
        reasons.append(
            f"only {window.rows:,} answers in the window, {rules.min_rows:,} are needed to "
            "judge its inputs"
        )
    if window.due and window.labels < rules.min_coverage * window.due:
        reasons.append(
            f"ground truth is late: {window.labels:,} of {window.due:,} answers that should "
            f"have it do ({window.labels / window.due:.0%}, {rules.min_coverage:.0%} are needed)"
        )
    elif window.labels < rules.min_labels:
        reasons.append(
            f"too little ground truth: {window.labels:,} answers have it, {rules.min_labels:,} "
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
    return reasons


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
        f"the error is what it was at promotion ({rules.said.said_change(window.worse.mean)}, "
        f"n = {window.worse.n:,}), and no input has moved beyond chance"
        if window.worse
        else "no input has moved beyond chance"
    )
