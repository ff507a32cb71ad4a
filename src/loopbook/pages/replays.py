"""Replay pages: what their template gets of a replay of the past.

It decides how errors and biases of its policies stand side by side, in the
measure that the replay was run in. Pure: nothing is computed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopbook.models.measures import Measure, amount, of_record
from loopbook.pages.formats import Amount
from loopbook.pages.rendering import render
from loopbook.pages.turns import acted, listed
from loopbook.project.counts import counted
from loopbook.records.turns import POLICIES

COSTS = {  # in the unit of costs_retraining and costs_loss
    "errors and retrainings cost": "answered",
    "a retraining paid": "paid",
    "regret beside the best schedule": "regrets",
}
Record = Mapping[str, Any]


def replay_name(result: Record) -> str:
    """A replay as people call it."""
    what = f"scenario {result['scenario']}" if result["scenario"] else "the year"
    where = ", on servers" if result.get("servers") else ""
    return f"{what}, a turn a {result['step']}{where}"


def replay(
    result: Record,
    policies: bytes | None,
    figure: bytes | None = None,
    *,
    records: Sequence[Record] = (),
    root: str = "",
    told: Callable[[str], str] = str,
) -> str:
    """What came of a replay: errors, retrainings, failed requests, and its turns.

    Parameters
    ----------
    policies, figure : bytes or None
        The errors of the policies, and the time line of the turns.
    records : sequence of mappings
        The turns of its loop, oldest first.
    root : str
        The folder of the project that turned.
    told : function
        A reason of a verdict, as a reader is told it.
    """
    return render(
        "replay",
        name=replay_name(result),
        result=result,
        numbers=_replay_numbers(result),
        policies=policies,
        columns=_columns(result),
        groups=[("", 2), *((POLICIES[policy], 2) for policy in _policies_of(result))],
        months=_months(result),
        measure=of_record(result)[0],
        bias=of_record(result)[1],
        turns=listed(records, root, told),
        acted=acted(records),
        figure=figure,
        which=f"{counted(len(records), 'turn')} of this replay, the newest first.",
    )


def _replay_numbers(result: Record) -> list[tuple[str, str]]:
    numbers = [
        (f"retrained: {POLICIES.get(p, p)}", f"{n:,}") for p, n in result["retrains"].items()
    ]
    told = result.get("costs") or {}
    for what, of in COSTS.items():
        numbers += [
            (f"{what}: {POLICIES.get(p, p)}", amount(n)) for p, n in told.get(of, {}).items()
        ]
    if told:
        when = ", ".join(told["best"]["retrained"]) or "never"
        numbers.append(("the best schedule in hindsight retrains", when))
    numbers.append((f"of {result['requests']:,} requests failed", f"{result['failed']:,}"))
    if result.get("seconds"):
        numbers.append(("minutes it took", f"{result['seconds'] / 60:,.0f}"))
    return numbers


def _policies_of(result: Record) -> list[str]:
    there = {month["policy"] for month in result["months"]}
    return [policy for policy in POLICIES if policy in there]


def _columns(result: Record) -> list[str]:
    """Two columns a policy, below its name."""
    measures = of_record(result)
    pair = [_with_unit(m) for m in zip(("error", "bias"), measures, strict=True)]
    return ["month", "answers", *(pair * len(_policies_of(result)))]


def _with_unit(named: tuple[str, Measure]) -> str:
    name, measure = named
    return f"{name}, {measure.unit}" if measure.unit else name


def _months(result: Record) -> list[tuple[Any, ...]]:
    """Error and bias by month, a pair of columns a policy."""
    by = {(m["policy"], m["month"]): m for m in result["months"]}
    measures = of_record(result)
    rows = []
    for month in sorted({month for _, month in by}):
        cells = [by.get((policy, month)) for policy in _policies_of(result)]
        values = [v for cell in cells for v in _errors(cell, measures)]
        answers = max((c["rows"] for c in cells if c), default=0)
        rows.append((month, answers, *values))
    return rows


def _errors(cell: Record | None, measures: tuple[Measure, Measure]) -> tuple[Any, Any]:
    """Error and bias as numbers in the units of the columns; the columns name these."""
    if not cell:
        return None, None
    error, bias = (m.shown(cell[name]) for name, m in zip(("error", "bias"), measures, strict=True))
    return Amount(amount(error)), Amount(amount(bias, signed=True))
