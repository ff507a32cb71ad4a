"""Monitor records: what was found about each window, kept where everybody reads it.

It decides where a record lies and what its numbers are called. Dashboards, the
service's metrics and the command line read these and compute nothing, so the
same number stands in every place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the service reads records, and needs neither SciPy nor Matplotlib
    from loopbook.models.evaluation import Interval
    from loopbook.models.task import Task
    from loopbook.monitoring.drift import ColumnDrift
    from loopbook.monitoring.findings import Performance
    from loopbook.monitoring.quality import Fault
    from loopbook.monitoring.verdict import Verdict


def interval_numbers(interval: Interval | None, name: str) -> dict[str, float | int | None]:
    """An interval as numbers of a record; None where there is none."""
    if interval is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    ends = (interval.mean, interval.low, interval.high)
    values = [value if math.isfinite(value) else None for value in ends]
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def make_numbers(
    rows: int,
    errors: Performance,
    judged: Sequence[ColumnDrift],
    skew: Mapping[str, Any],
) -> dict[str, float | int | None]:
    """The numbers of a window, as they are called everywhere; None is not known."""
    return {
        "rows": rows,
        "due": errors.due,
        "labels": errors.labels,
        "coverage": errors.labels / errors.due if errors.due else None,
        **interval_numbers(errors.error, "error"),
        **interval_numbers(errors.bias, "bias"),
        **interval_numbers(errors.raw_bias, "raw_bias"),
        **interval_numbers(errors.inside, "inside"),
        "above": errors.above,
        "below": errors.below,
        "set_size": errors.set_size,
        **interval_numbers(errors.worse, "error_growth"),
        **interval_numbers(errors.moved, "bias_moved"),
        "reference_error": errors.reference_error,
        "reference_rows": errors.reference_rows,
        "estimated_error": errors.estimated,
        "estimated_error_of_judged": errors.estimated_then,
        "drifted_columns": sum(column.has_drifted for column in judged),
        "judged_columns": len(judged),
        "skew_share": skew.get("share"),
    }


@dataclass(frozen=True)
class Findings:
    """What was found in a window; `judged` are those of `columns` whose drift counts."""

    columns: Sequence[ColumnDrift]
    judged: Sequence[ColumnDrift]
    faults: Sequence[Fault]
    performance: Performance
    skew: Mapping[str, Any]


def make_record(
    facts: Mapping[str, Any],
    verdict: Verdict,
    numbers: Mapping[str, float | int | None],
    findings: Findings,
    *,
    task: Task,
    decided_at: datetime,
) -> dict[str, Any]:
    """The decision record of a window, as JSON.

    Parameters
    ----------
    numbers : mapping
        As `make_numbers` gives.
    task : Task
        What the error is: the record names it (`loss`) and holds how it and a
        bias are shown (`measure`, `bias_measure`), so that it can be read when
        the contract is another one.
    """
    return {
        **facts,
        "decided_at": decided_at.isoformat(),
        "verdict": {"level": verdict.level, "sentence": verdict.sentence}
        | {"reasons": verdict.reasons},
        "loss": task.metric,
        "measure": asdict(task.measure),
        "bias_measure": asdict(task.bias_measure),
        "bias_of": findings.performance.bias_of,
        "numbers": dict(numbers),
        "metrics": findings.performance.metrics,
        "columns": [
            asdict(c) | {"has_drifted": c.has_drifted, "is_judged": c in findings.judged}
            for c in findings.columns
        ],
        "faults": [asdict(fault) for fault in findings.faults],
        "periods": findings.performance.periods,
        "slices": {
            name: asdict(interval) for name, interval in findings.performance.slices.items()
        },
        "skew": dict(findings.skew),
    }


def was_uncovered(history: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> bool:
    """Whether the window before, of the same version, had intervals that surely did not hold."""
    return bool(_before(history, facts).get("uncovered"))


def was_apart(history: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """The slices that surely drifted apart in the window before, of the same version."""
    return list(_before(history, facts).get("apart", ()))


def _before(history: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> Mapping[str, Any]:
    version = (facts.get("champion") or {}).get("version")
    if not history or (history[-1].get("champion") or {}).get("version") != version:
        return {}
    return history[-1]
