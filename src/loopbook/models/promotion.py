"""Promotion: the rule that a challenger must pass before it serves.

It decides, from numbers alone: no file, no registry, no clock. Every check is
carried out even when an earlier one failed, so that the record tells all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from loopbook.models.evaluation import ALL, Interval

PARITY_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Gate:
    """The gate's settings; env.yaml says what each is for (its `gate_…` knobs).

    `margin` and `slice_margin` are shares in [0, 1], `latency_ms` milliseconds,
    `bias_margin` log units.
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
    `barred` that the same model was rolled back before. `bias` is the mean log
    error of `challenger` and `champion` on these rows.
    """

    rows: int
    parity: float
    latency_ms: float
    against_baseline: Mapping[str, Interval]
    against_champion: Mapping[str, Interval] | None = None
    bias: Mapping[str, Interval] = field(default_factory=dict)
    champion_obstacle: str | None = None
    same_as_champion: bool = False
    barred: str | None = None


@dataclass(frozen=True)
class Check:
    """One condition of the gate, with what was found and what was expected."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """Whether the challenger is promoted, and why."""

    promoted: bool
    checks: list[Check] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The outcome in a sentence for people."""
        if self.promoted:
            return "Promoted: " + self.checks[-1].reason
        return "Refused: " + "; ".join(c.reason for c in self.checks if not c.passed)

    def as_dict(self) -> dict[str, Any]:
        return {
            "promoted": self.promoted,
            "sentence": self.sentence,
            "checks": [vars(check) for check in self.checks],
        }


def decide(evidence: Evidence, gate: Gate) -> Decision:
    """Hold a challenger against the gate.

    It passes if its export answers as the fitted model does, in time, on
    enough rows that no compared model has seen; if it is better than the
    baseline beyond doubt; and if, where a champion stands, it is better on the
    same rows and its interval does not reach beyond `margin`, or it mends a
    bias of the champion and is not worse than `margin`; and it is worse than
    `slice_margin` beyond doubt in no slice.

    Notes
    -----
    A bias is worth a rule of its own since MAPE does not see it: with log
    errors of variance v, predictions that are too low by v have the least MAPE
    (Tofallis, 2015), here some 2.5 per cent.
    """
    checks = [
        _parity(evidence),
        _latency(evidence, gate),
        _rows(evidence, gate),
        _baseline(evidence),
    ]
    if evidence.barred:
        checks.append(Check("barred", False, evidence.barred))
    checks += _champion(evidence, gate)
    return Decision(all(check.passed for check in checks), checks)


def _parity(e: Evidence) -> Check:
    passed = e.parity <= PARITY_TOLERANCE
    verb = "answers as the fitted model does" if passed else "does not answer as the fitted model"
    difference = f"largest relative difference {e.parity:.1e}, allowed {PARITY_TOLERANCE:.0e}"
    return Check("parity", passed, f"the export {verb} ({difference})")


def _latency(e: Evidence, gate: Gate) -> Check:
    passed = e.latency_ms <= gate.latency_ms
    reason = f"one row takes {e.latency_ms:.3f} ms, allowed {gate.latency_ms:g} ms"
    return Check("latency", passed, reason)


def _rows(e: Evidence, gate: Gate) -> Check:
    passed = e.rows >= gate.min_rows
    reason = f"{e.rows:,} rows that no compared model has seen, needed {gate.min_rows:,}"
    return Check("rows", passed, reason)


def _baseline(e: Evidence) -> Check:
    overall = e.against_baseline[ALL]
    passed = overall.high < 0
    difference = (
        f"{_points(overall.mean)}, interval {_points(overall.low)} to {_points(overall.high)}"
    )
    verb = "better than" if passed else "not better beyond doubt than"
    return Check("baseline", passed, f"{verb} the baseline ({difference})")


def _champion(e: Evidence, gate: Gate) -> list[Check]:
    if e.same_as_champion:
        return [Check("champion", False, "it is the model that serves already; nothing to change")]
    if e.champion_obstacle:
        return [_incomparable(e.champion_obstacle, gate)]
    if e.against_champion is None:
        return [
            Check("champion", True, "no champion stands, so the baseline is what it had to beat")
        ]
    overall = e.against_champion[ALL]
    passed = overall.mean < 0 and overall.high <= gate.margin
    difference = (
        f"{_points(overall.mean)} on the same {overall.n:,} rows, interval "
        f"{_points(overall.low)} to {_points(overall.high)}, margin {_points(gate.margin)}"
    )
    verb = "better than" if passed else "not better than"
    if not passed and _mends_bias(e.bias, gate) and overall.mean <= gate.margin:
        passed, verb = True, "not worse than"
        difference += (
            f", and it mends a bias: {e.bias['challenger'].mean:+.1%} against "
            f"{e.bias['champion'].mean:+.1%}"
        )
    slices = {name: i for name, i in e.against_champion.items() if name != ALL}
    return [_slices(slices, gate), Check("champion", passed, f"{verb} the champion ({difference})")]


def _mends_bias(bias: Mapping[str, Interval], gate: Gate) -> bool:
    """Whether the champion leans to one side beyond margin and doubt, and the challenger less."""
    if "champion" not in bias:
        return False
    champion, challenger = bias["champion"], bias["challenger"]
    is_biased = champion.low > gate.bias_margin or champion.high < -gate.bias_margin
    return is_biased and abs(challenger.mean) <= abs(champion.mean) - gate.bias_margin


def _incomparable(obstacle: str, gate: Gate) -> Check:
    reason = f"the champion cannot be compared: {obstacle}"
    if gate.incomparable_champion == "replace":
        return Check("champion", True, f"{reason}; it is replaced, as asked for")
    remedy = "loopbook build --set gate_incomparable_champion=replace"
    return Check("champion", False, f"{reason}; to replace it all the same: {remedy}")


def _slices(slices: Mapping[str, Interval], gate: Gate) -> Check:
    harmed = {n: i for n, i in slices.items() if i.low > gate.slice_margin}
    if not harmed:
        reason = f"no slice of {len(slices)} is worse beyond {_points(gate.slice_margin)}"
        return Check("slices", True, reason)
    worst = ", ".join(f"{name} ({_points(i.mean)}, n = {i.n:,})" for name, i in harmed.items())
    return Check("slices", False, f"worse than the champion beyond doubt in {worst}")


def _points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{share * 100:+.2f} points"
