"""Findings: what a window shows, put together for the verdict.

It decides which columns are judged and against which rows of the reference,
which rows the error is taken from, and how findings become sentences. Each
part may be empty: then nothing is found, and the verdict is told what is
wanting. Pure: no file, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from loopbook.data.splits import PART
from loopbook.models import evaluation
from loopbook.models.evaluation import Confidence, Interval
from loopbook.models.measures import amount
from loopbook.models.task import Task, task_of
from loopbook.monitoring import calendar, drift, performance, quality
from loopbook.monitoring.drift import ColumnDrift
from loopbook.monitoring.quality import Fault
from loopbook.monitoring.verdict import Window
from loopbook.project.contract import Contract

ANSWER, OBSERVED = "answer", "observed"
IS_CURRENT, IS_JUDGED = "is_current", "is_judged"  # a row of the window, and of the due one


def judged_columns(columns: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """Columns whose drift counts: not those that move with time by their nature."""
    return [column for column in columns if column.is_judged]


@dataclass(frozen=True)
class DriftRules:
    """From when on a column counts as moved.

    Attributes
    ----------
    false_alarms : share of windows without drift that may be alarmed, over all columns together
    floor : least distance that matters
    least_rows : what has fewer is not compared
    seed : of the draws from the reference
    """

    false_alarms: float
    floor: float
    least_rows: int
    seed: int


def find_drift(
    rows: pl.DataFrame,
    reference: pl.DataFrame,
    contract: Contract,
    inputs: Sequence[str],
    rules: DriftRules,
    decision: Mapping[str, Any] | None = None,
) -> list[ColumnDrift]:
    """Inputs, answers and outcomes of a window against the reference.

    The answers are those of `drift.with_shown`, which shows a class, by the
    champion's `decision`, and probabilities.

    Inputs are compared with the rows that the model was fitted on; answers
    with those to rows that it had not seen (about rows that it has, a model
    says what it was told); outcomes of the judged answers with all outcomes.
    The rate of false alarms is shared out among all of these by their number.
    Those that moved farthest come first; then the trailing features and what
    follows from the calendar, which are shown and not judged.
    """
    if rows.is_empty() or reference.is_empty():
        return []
    rows, reference, answered = drift.with_shown(rows, reference, contract, decision)
    current, fitted_on = rows.filter(IS_CURRENT), reference.filter(pl.col(PART) != "test")
    known = rows.filter(pl.col(IS_JUDGED) & pl.col(OBSERVED).is_not_null())
    by_nature = [*calendar.expected(fitted_on, current, contract, inputs), *contract.trailing]
    groups = [(fitted_on, current, [name for name in inputs if name not in by_nature])]
    groups.append((reference.filter(pl.col(PART) == "test"), current, answered))
    groups.append((reference, known, [OBSERVED]))
    sizes = [len(names) for _, _, names in groups]
    columns: list[ColumnDrift] = []
    options = {"floor": rules.floor, "seed": rules.seed}
    for (before, now, names), size in zip(groups, sizes, strict=True):
        if not names or min(before.height, now.height) < rules.least_rows:
            continue
        options["false_alarms"] = rules.false_alarms * size / sum(sizes)
        columns += drift.compare(before, now, names, **options)
    columns = sorted(columns, key=_by_excess)
    if by_nature and min(current.height, fitted_on.height) >= rules.least_rows:
        options["false_alarms"] = rules.false_alarms
        moving = drift.compare(fitted_on, current, by_nature, **options)
        columns += [replace(column, is_judged=False) for column in moving]
    return columns


def _by_excess(column: ColumnDrift) -> tuple[float, str]:
    return -column.distance / max(column.threshold, 1e-12), column.column


def find_faults(
    rows: pl.DataFrame,
    reference: pl.DataFrame,
    contract: Contract,
    inputs: Sequence[str],
    *,
    margin: float,
    least_rows: int,
) -> list[Fault]:
    """What is broken or odd in a window: inputs, trailing features, answers, ground truth.

    Of fewer than `least_rows` rows nothing is said: two callers who left a
    field out are no broken source.
    """
    if rows.is_empty() or reference.is_empty():
        return []
    current, fitted_on = rows.filter(IS_CURRENT), reference.filter(pl.col(PART) != "test")
    known = rows.filter(pl.col(IS_JUDGED) & pl.col(OBSERVED).is_not_null())
    if current.height < least_rows or fitted_on.is_empty():
        return []
    follows = calendar.expected(fitted_on, current, contract, inputs)
    faults = quality.faults(fitted_on, current, contract, inputs, margin=margin, expected=follows)
    faults = [_with_remedy(fault, fitted_on, current, contract) for fault in faults]
    trailing = quality.faults(fitted_on, current, contract, list(contract.trailing), margin=margin)
    # a level that leaves its range has moved with time, and is no fault
    faults += [fault for fault in trailing if fault.kind == quality.MISSING]
    task = task_of(contract)
    faults += quality.answer_faults(task.of_column(current[ANSWER]))
    if known.height >= least_rows:
        faults += quality.faults(reference, known, contract, [OBSERVED], margin=margin)
    return sorted(faults, key=lambda fault: (not fault.is_broken, -fault.share, fault.column))


def _with_remedy(
    fault: Fault, fitted_on: pl.DataFrame, current: pl.DataFrame, contract: Contract
) -> Fault:
    """A value that training had not seen, with the word that helps if the calendar brought it."""
    is_new = fault.is_broken and fault.kind in (quality.NEW, quality.IMPLAUSIBLE)
    if is_new and calendar.same_all_day(fitted_on, current, contract, fault.column):
        return replace(fault, sentence=fault.sentence + calendar.REMEDY)
    return fault


@dataclass(frozen=True)
class Performance:
    """Realized and estimated errors of a window; None where they cannot be known.

    `bias` is that of the class that is farthest off, `bias_of`, where there are classes;
    `raw_bias` the same before any level moved the answers. `inside` is the share of
    observed targets that the intervals held, `above` and `below` the shares of the others; of
    classes that of the sets, and `set_size` how many classes a set has on average.
    `apart` has, by slice, how far its bias has moved since promotion beside all.
    """

    due: int = 0
    labels: int = 0
    error: Interval | None = None
    bias: Interval | None = None
    raw_bias: Interval | None = None
    inside: Interval | None = None
    above: float | None = None
    below: float | None = None
    set_size: float | None = None
    bias_of: str | None = None
    reference_error: float | None = None
    reference_rows: int = 0
    worse: Interval | None = None
    moved: Interval | None = None
    estimated: float | None = None
    estimated_then: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    periods: list[dict[str, Any]] = field(default_factory=list)
    slices: dict[str, Interval] = field(default_factory=dict)
    apart: dict[str, Interval] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Performance":
        intervals = {
            name: record[name] and Interval(**record[name])
            for name in ("error", "bias", "raw_bias", "inside", "worse", "moved")
        }
        by_slice = {
            which: {name: Interval(**interval) for name, interval in record[which].items()}
            for which in ("slices", "apart")
        }
        return cls(**{**record, **intervals, **by_slice})


def find_performance(
    rows: pl.DataFrame,
    reference: pl.DataFrame,
    contract: Contract,
    inputs: Sequence[str],
    confidence: Confidence,
    *,
    least_slice_rows: int,
) -> Performance:
    """How wrong the champion was, against how wrong it was when it was promoted.

    The error at promotion is that on the rows of the reference which the
    promoted model had not seen.
    """
    if rows.is_empty() or reference.is_empty():
        return Performance()
    task = task_of(contract)
    tested = measurable(task, reference.filter(pl.col(PART) == "test"))
    due, labels = performance.coverage(rows.filter(IS_JUDGED))
    known = measurable(task, rows.filter(IS_JUDGED))
    if tested.is_empty():
        return Performance(due=due, labels=labels)
    guesses = performance.estimated_losses(task, tested, rows, inputs, seed=confidence.seed)
    rows = rows.with_columns(
        pl.Series("estimated", guesses if guesses is not None else [None] * rows.height, pl.Float64)
    )
    without_truth = Performance(
        due=due,
        labels=labels,
        reference_error=float(task.losses(*performance.pairs(task, tested)).mean()),
        reference_rows=tested.height,
        estimated=rows.filter(IS_CURRENT)["estimated"].mean(),
        estimated_then=rows.filter(IS_JUDGED)["estimated"].mean(),
    )
    if known.is_empty():
        return replace(without_truth, periods=_periods(task, rows, known, confidence, of=""))
    of = evaluation.farthest_off(task, *performance.pairs(task, known))
    slices = performance.by_slice(known, contract, confidence, least_rows=least_slice_rows)
    apart = performance.moved_slices(
        known, tested, contract, confidence, of=of, least_rows=least_slice_rows
    )
    return replace(
        without_truth,
        **_realized(task, known, tested, confidence, of=of),
        **performance.inside_intervals(task, known, confidence),
        periods=_periods(task, rows, known, confidence, of=of),
        slices=slices,
        apart=apart,
    )


def measurable(task: Task, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose error can be computed: the truth and the answer are there, and sound."""
    return rows.filter(task.is_measurable(*performance.pairs(task, rows)))


def _realized(
    task: Task, known: pl.DataFrame, tested: pl.DataFrame, confidence: Confidence, *, of: str
) -> dict[str, Any]:
    """The errors of answers with ground truth, beside those at promotion."""
    now, before = performance.pairs(task, known), performance.pairs(task, tested)
    loss, usual = task.losses(*now), task.losses(*before)
    bias, usual_bias = (task.signed_errors(*both)[of] for both in (now, before))
    enough = min(loss.size, usual.size) > 1
    return {
        "error": confidence.mean(loss),
        "bias": evaluation.bias(task, *now, confidence, of=of),
        "raw_bias": evaluation.bias(
            task, now[0], performance.raw_answers(task, known), confidence, of=of
        ),
        "bias_of": of if task.classes else None,
        # of one row nobody can say how far its error is from others by chance
        "worse": confidence.difference(loss, usual) if enough else None,
        "moved": confidence.difference(bias, usual_bias) if enough else None,
        "metrics": task.metrics(*now),
    }


def _periods(
    task: Task, rows: pl.DataFrame, known: pl.DataFrame, confidence: Confidence, *, of: str
) -> list[dict[str, Any]]:
    """Realized and estimated error by week; either may be missing."""
    weekly = performance.by_period(task, known, confidence, of=of)
    realized = {p["period"]: p for p in weekly.iter_rows(named=True)}
    weeks = rows.group_by(pl.col("as_of_ts").dt.truncate("1w").alias("period"))
    estimated = dict(weeks.agg(pl.col("estimated").mean()).iter_rows())
    return [
        {"period": period.isoformat(), "estimated": estimated.get(period)}
        | {
            name: realized.get(period, {}).get(name)
            for name in ("n", "error", "low", "high", "bias", *performance.SHARES)
        }
        for period in sorted(estimated.keys() | realized.keys())
    ]


def read_periods(periods: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Periods of a record, with their instants."""
    return [{**p, "period": datetime.fromisoformat(p["period"])} for p in periods]


def as_window(
    facts: Mapping[str, Any],
    *,
    rows: int,
    columns: Sequence[ColumnDrift],
    faults: Sequence[Fault],
    errors: Performance,
    champion_age_days: float | None,
) -> Window:
    """All that the verdict is told about a window; `columns` are the judged ones."""
    named = {ANSWER: "the answers", OBSERVED: "the ground truth"}
    sentences = [
        f"{named.get(c.column, c.column)} moved: distance {amount(c.distance)} from the reference, "
        f"up to {amount(c.threshold)} may be chance"
        for c in columns
        if c.has_drifted
    ]
    growth = (
        errors.estimated - errors.reference_error
        if errors.estimated is not None and errors.reference_error is not None
        else None
    )
    return Window(
        rows=rows,
        due=errors.due,
        labels=errors.labels,
        wanting=facts["wanting"],
        broken=[fault.sentence for fault in faults if fault.is_broken],
        odd=[fault.sentence for fault in faults if not fault.is_broken],
        drifted=sentences,
        worse=errors.worse,
        bias=errors.bias,
        bias_of=errors.bias_of,
        estimated=growth,
        champion_age_days=champion_age_days,
        inside=errors.inside,
        has_sets=errors.set_size is not None,
        was_uncovered=bool(facts.get("was_uncovered")),
        was_apart=facts.get("was_apart", ()),
        at_bound=_at_bound(facts.get("calibration")),
        apart=errors.apart,
        a_day=_a_day(facts, rows),
    )


def _a_day(facts: Mapping[str, Any], rows: int) -> float:
    """How many answers the newest window has a day, where only a part of them was read too."""
    if not facts.get("looked_at"):
        return 0.0
    start, end = (datetime.fromisoformat(moment) for moment in facts["current"])
    return rows * facts["logged"] / facts["looked_at"] / ((end - start).total_seconds() / 86_400)


def _at_bound(state: Mapping[str, Any] | None) -> str | None:
    """What a state at its bound says of itself; None where it is not there."""
    return state["reason"].rstrip(".") if state and state["at_bound"] else None
