"""Promotion: the rule that a challenger must pass before it serves.

It decides, from numbers alone: no file, no registry, no clock. Every check is
carried out even when an earlier one failed, so that the record tells all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loopbook.models.evaluation import ALL, Interval
from loopbook.models.margins import Scale
from loopbook.models.measures import PARITY_TOLERANCE, decimal
from loopbook.models.task import Task
from loopbook.project.counts import counted

PROMOTED, REFUSED, UNCHANGED = "promoted", "refused", "unchanged"
# read later too, when one serves
FIRST = "no other version served, so it had to beat the baseline alone"
BETTER, NOT_WORSE, MAY_BE_WORSE, WORSE = "better", "not worse", "may be worse", "worse"


@dataclass(frozen=True)
class Gate:
    """The gate's settings; env.yaml says what each is for (its `gate_…` knobs).

    `margin` and `slice_margin` are shares of the baseline's loss, `bias_margin`
    of its mean absolute signed error, `latency_ms` milliseconds.
    """

    margin: float
    slice_margin: float
    min_rows: int
    latency_ms: float
    bias_margin: float
    incomparable_champion: Literal["keep", "replace"] = "keep"


@dataclass(frozen=True)
class Evidence:
    """What the gate is told about a challenger.

    `against_*` are differences of losses on the same rows, challenger minus
    the other, as `evaluation.compare` gives; below 0 the challenger is better.
    `against_champion` is None where no champion stands, and
    `champion_obstacle` says why one that stands cannot be compared, and
    `barred` that the same model was rolled back before. `same_as_champion` is
    the label of the champion where the challenger is the same model. `bias` is the bias of
    `challenger` and `champion` on these rows, of `bias_of`, which is the target
    or one of its classes.
    """

    rows: int
    parity: float
    latency_ms: float
    scale: Scale
    against_baseline: Mapping[str, Interval]
    against_champion: Mapping[str, Interval] | None = None
    bias: Mapping[str, Interval] = field(default_factory=dict)
    bias_of: str = ""
    champion_obstacle: str | None = None
    same_as_champion: str = ""
    barred: str | None = None


@dataclass(frozen=True)
class Check:
    """One condition of the gate, with what was found and what was expected.

    `remedy` is what a person can do about one that failed, where there is something.
    """

    name: str
    passed: bool
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether the challenger is promoted, and why.

    `unchanged` is the label of the champion where the build made the same model
    again, so that there is nothing to promote and nothing is refused.
    """

    promoted: bool
    checks: list[Check] = field(default_factory=list)
    unchanged: str = ""

    @property
    def outcome(self) -> str:
        """One of `PROMOTED`, `REFUSED` and `UNCHANGED`."""
        if self.unchanged:
            return UNCHANGED
        return PROMOTED if self.promoted else REFUSED

    @property
    def sentence(self) -> str:
        """The outcome in a sentence for people."""
        if self.promoted:
            return "Promoted: " + self.checks[-1].reason
        failed = "; ".join(c.reason for c in self.checks if not c.passed)
        if self.unchanged:
            but = f" As a new model it would be refused: {failed}." if failed else ""
            return f"Nothing changed: {self.checks[-1].reason}.{but}"
        return f"Refused: {failed}"

    @property
    def remedies(self) -> list[str]:
        """What a person can do about the checks that failed."""
        return [c.remedy for c in self.checks if not c.passed and c.remedy]

    def as_dict(self) -> dict[str, Any]:
        return {
            "promoted": self.promoted,
            "outcome": self.outcome,
            "sentence": self.sentence,
            "checks": [vars(check) for check in self.checks],
        }


def outcome_of(record: Mapping[str, Any]) -> str:
    """The outcome in a decision's record; an earlier loopbook wrote only `promoted`."""
    return record.get("outcome") or (PROMOTED if record["promoted"] else REFUSED)


def decide(evidence: Evidence, gate: Gate, task: Task) -> Decision:
    """Hold a challenger against the gate.

    It passes if its export answers as the fitted model does, in time, on
    enough rows that no compared model has seen; if it is better than the
    baseline beyond doubt; and if, where a champion stands, it is better on the
    same rows and its interval does not reach beyond `margin`, or it mends a
    bias of the champion and is not worse than `margin`; and it is worse than
    `slice_margin` beyond doubt in no slice. The same model again is neither
    promoted nor refused.

    Notes
    -----
    A bias is worth a rule of its own since the size of errors hardly shows it:
    if the target's level moves by a few per cent, nearly all errors shift to
    one side and their mean size changes little.
    """
    checks = [
        _parity(evidence, task),
        _latency(evidence, gate),
        _rows(evidence, gate),
        _baseline(evidence, task),
    ]
    if evidence.barred:
        checks.append(Check("barred", False, evidence.barred))
    checks += _champion(evidence, gate, task)
    same = evidence.same_as_champion
    return Decision(not same and all(check.passed for check in checks), checks, same)


def compared(interval: Interval, margin: float) -> str:
    """The word for a difference of losses, challenger minus the other.

    `BETTER` where the whole interval lies below 0; `NOT_WORSE` where it ends at
    the margin or before it; `WORSE` where it lies above 0 and reaches beyond the
    margin; else `MAY_BE_WORSE`.
    """
    if interval.high < 0:
        return BETTER
    if interval.high <= margin:
        return NOT_WORSE
    return WORSE if interval.low > 0 else MAY_BE_WORSE


def _parity(e: Evidence, task: Task) -> Check:
    passed = e.parity <= PARITY_TOLERANCE
    verb = "answers as the fitted model does" if passed else "does not answer as the fitted model"
    difference = (
        f"largest difference {decimal(e.parity, 2)} {task.parity_words}, "
        f"allowed {decimal(PARITY_TOLERANCE, 2)}"
    )
    remedy = "another candidate (docs/candidates.md says which steps convert)"
    return Check("parity", passed, f"the export {verb} ({difference})", remedy)


def _latency(e: Evidence, gate: Gate) -> Check:
    passed = e.latency_ms <= gate.latency_ms
    reason = f"one row takes {e.latency_ms:.3f} ms, allowed {gate.latency_ms:g} ms"
    return Check("latency", passed, reason, "more time for a row: gate_latency_ms in env.yaml")


def _rows(e: Evidence, gate: Gate) -> Check:
    passed = e.rows >= gate.min_rows
    reason = f"{counted(e.rows, 'row')} that no compared model has seen, needed {gate.min_rows:,}"
    remedy = (
        "more rows to judge by: test_days or holdout_share in env.yaml; or fewer that are asked "
        "for: gate_min_rows"
    )
    return Check("rows", passed, reason, remedy)


def _baseline(e: Evidence, task: Task) -> Check:
    overall, said = e.against_baseline[ALL], task.measure.said_change
    word = compared(overall, 0.0)
    difference = f"{said(overall.mean)}, interval {said(overall.low)} to {said(overall.high)}"
    verb = f"{word} than" if word in (BETTER, WORSE) else "not better beyond doubt than"
    remedy = "more rows, more features, or another candidate (docs/candidates.md)"
    return Check("baseline", word == BETTER, f"{verb} the baseline ({difference})", remedy)


def _champion(e: Evidence, gate: Gate, task: Task) -> list[Check]:
    if e.same_as_champion:
        reason = f"{e.same_as_champion} still serves, and this build made the same model again"
        return [Check("champion", True, reason)]
    if e.champion_obstacle:
        return [_incomparable(e.champion_obstacle, gate)]
    if e.against_champion is None:
        return [Check("champion", True, FIRST)]
    overall, said = e.against_champion[ALL], task.measure.said_change
    margin = gate.margin * e.scale.loss
    word = compared(overall, margin)
    passed = word == BETTER or (word == NOT_WORSE and overall.mean < 0)
    difference = (
        f"{said(overall.mean)} on the same {counted(overall.n, 'row')}, interval "
        f"{said(overall.low)} to {said(overall.high)}, margin {said(margin)}"
    )
    if not passed and _mends_bias(e, gate) and overall.mean <= margin:
        passed, word = True, NOT_WORSE
        of_class = f" of {e.bias_of}" if task.classes else ""
        difference += (
            f", and it mends a bias{of_class}: "
            f"{task.bias_measure.said_change(e.bias['challenger'].mean)} against "
            f"{task.bias_measure.said_change(e.bias['champion'].mean)}"
        )
    slices = {name: i for name, i in e.against_champion.items() if name != ALL}
    reason = f"{word} than the champion ({difference})"
    if word == NOT_WORSE and not passed:
        reason = f"{reason}, but its error is no smaller, so a change gains nothing"
    return [
        _slices(slices, gate.slice_margin * e.scale.loss, task),
        Check("champion", passed, reason),
    ]


def _mends_bias(e: Evidence, gate: Gate) -> bool:
    """Whether the champion leans to one side beyond margin and doubt, and the challenger less."""
    if "champion" not in e.bias:
        return False
    champion, challenger = e.bias["champion"], e.bias["challenger"]
    margin = gate.bias_margin * e.scale.bias
    is_biased = champion.low > margin or champion.high < -margin
    return is_biased and abs(challenger.mean) <= abs(champion.mean) - margin


def _incomparable(obstacle: str, gate: Gate) -> Check:
    reason = f"the champion cannot be compared: {obstacle}"
    if gate.incomparable_champion == "replace":
        return Check("champion", True, f"{reason}; it is replaced, as asked for")
    remedy = "loopbook build --set gate_incomparable_champion=replace"
    return Check("champion", False, f"{reason}; to replace it all the same: {remedy}")


def _slices(slices: Mapping[str, Interval], margin: float, task: Task) -> Check:
    said = task.measure.said_change
    harmed = {n: i for n, i in slices.items() if i.low > margin}
    if not harmed:
        return Check("slices", True, f"no slice of {len(slices)} is worse beyond {said(margin)}")
    worst = ", ".join(f"{name} ({said(i.mean)}, n = {i.n:,})" for name, i in harmed.items())
    return Check("slices", False, f"worse than the champion in {worst}")
