"""Replay results: error and bias of the policies, and what the loop did.

It decides what is compared: every policy's answers to the same requests, by
month and over the last three months, with what each had retrained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopbook.data import prediction_log
from loopbook.data.row_keys import RowKeys
from loopbook.loop import hindsight
from loopbook.loop.scenarios import SCENARIOS, disturbed
from loopbook.models.evaluation import farthest_off
from loopbook.models.measures import Measure, amount, of_record
from loopbook.models.task import Task, task_of
from loopbook.monitoring import performance
from loopbook.pages import loop_plots
from loopbook.project.addresses import SQLITE
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.files import read_json
from loopbook.project.paths import Project
from loopbook.records import roles
from loopbook.records import turns as turn_records
from loopbook.records.turns import POLICIES as NAMES

FIRST, FIRST_STEP = "first", "first-step"  # what is made once; see replay_projects
LOOP, SCHEDULED, NEVER, LEVEL, LOOP_RAW = "loop", "scheduled", "never", "level", "loop_raw"
WITHOUT_LEVEL = (SCHEDULED, LOOP_RAW)  # projects whose answers no calibration moves
PINNED = (NEVER, LEVEL)  # the first version, on services of its own beside the loop's
STEPS = ("week", "month")
NEWEST_MONTHS = 3
COST_ROWS = {"cost": "answered", "each paid": "paid", "regret": "regrets"}
GAP = 3  # characters between the columns of two policies


def moments(start: datetime, end: datetime, step: str) -> list[datetime]:
    """The ends of the steps from `start` on; the last one is the first that is not before `end`."""
    ends, at = [], start
    while at < end:
        if step == "week":
            at += timedelta(days=7)
        else:
            at = (at.replace(day=1) + timedelta(days=32)).replace(day=1)
        ends.append(at)
    return ends


def state_of(folder: Path) -> dict[str, Any]:
    """How far a policy is; empty where its project is not ready."""
    try:
        return read_json(folder / "var" / "replay.json")
    except (OSError, ValueError):
        return {}


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Days and instants of a row as text."""
    return {n: v.isoformat() if isinstance(v, datetime | date) else v for n, v in row.items()}


def log_name(policy: str) -> str:
    """The prediction log of a policy, below its project's `var`."""
    return f"{policy}.db" if policy in PINNED else "predictions.db"


def answers(
    project: Project, contract: Contract, address: str, since: datetime, until: datetime
) -> pl.DataFrame:
    """What the service of a log answered: `key`, `as_of_ts`, `answer`, `version`, its interval."""
    schema = {"key": pl.String, "as_of_ts": pl.Datetime("us", "UTC")}
    schema |= {"answer": task_of(contract).frame_type, "version": pl.String}
    schema |= dict.fromkeys(("low", "high", "least"), pl.Float64)
    names = list(schema)
    empty = pl.DataFrame(schema=schema)
    file = address.removeprefix(SQLITE)
    if file != address and not Path(file).exists():
        return empty
    log = prediction_log.at(address, contract, project.var)
    try:
        parts = [
            part.filter(pl.col("role") == roles.CHAMPION).select(names)
            for part in log.rows(since=since, until=until)
        ]
    finally:
        log.close()
    return pl.concat(parts) if parts else empty


def collect(
    folder: Path, contract: Contract, log_of: Callable[[Project, str], str]
) -> dict[str, Any]:
    """Error and bias by month and policy, the turns, and how many requests failed.

    Parameters
    ----------
    log_of : function
        The address of the prediction log of a project's policy.
    """
    plan = read_json(folder / "plan.json")
    start, end = parse_instant(plan["start"]), parse_instant(plan["end"])
    scenario, since = SCENARIOS.get(plan["scenario"]), moments(start, end, plan["step"])[0]
    loops = Project(folder / LOOP)
    projects = (
        {LOOP: loops}
        if plan["scenario"]
        else {policy: Project(folder / (LOOP if policy in PINNED else policy)) for policy in NAMES}
    )
    sent = disturbed(
        pl.read_parquet(folder / "rows.parquet", glob=False), scenario, contract, since
    )
    judged = {
        policy: answers(project, contract, log_of(project, policy), start, end).join(
            _observed(sent, contract, project), on="key"
        )
        for policy, project in projects.items()
    }
    task = task_of(contract)
    of = _farthest_off(judged[LOOP], task, contract)
    months, last_months = _by_month(judged, task, contract, of)
    turns = turn_records.listed(loops)
    states = {policy: state_of(folder / policy) for policy in projects if policy not in PINNED}
    result = plan | {
        "loss": task.metric,
        "measure": asdict(task.measure),
        "bias_measure": asdict(task.bias_measure),
        "bias_of": of if task.classes else None,
        "months": months,
        "last_months": last_months,
        "turns": turns,
        "retrains": {
            policy: _retrained(project, states.get(policy, {}), policy)
            for policy, project in projects.items()
        },
        "schedules": {
            policy: hindsight.schedule(rows, [start, *moments(start, end, plan["step"])])
            for policy, rows in judged.items()
        },
        "requests": sum(month["rows"] for month in months),
        "failed": sum(state["failed"] for state in states.values()),
    }
    if scenario:
        later = [t for t in turns if parse_instant(t["as_of"]) >= since]
        bias = partial(_bias, judged[LOOP], task, contract, of)
        result |= {"right": scenario.is_right(later, since, bias), "expected": scenario.expected}
    return result


def _bias(
    rows: pl.DataFrame, task: Task, contract: Contract, of: str, since: datetime, until: datetime
) -> float | None:
    """Of what was answered from one instant to another; None where nothing was."""
    some = rows.filter(pl.col("as_of_ts").is_between(since, until, closed="left"))
    return None if some.is_empty() else _errors(*_pairs(some, task, contract), task, of)["bias"]


def _retrained(project: Project, state: Mapping[str, Any], policy: str) -> int:
    """How often a policy retrained, whatever came of it."""
    if policy in PINNED:
        return 0
    attempts = sum(bool(turn.get("attempt")) for turn in turn_records.listed(project))
    return attempts + state.get("builds", 0)


def _observed(rows: pl.DataFrame, contract: Contract, project: Project) -> pl.DataFrame:
    """The key of each row as the log of a project writes it, and its observed target."""
    of = RowKeys(contract, project.var)
    keys = [of.text(plain(row)) for row in rows.to_dicts()]
    return rows.with_columns(pl.Series("key", keys)).select("key", contract.target.name)


def _farthest_off(rows: pl.DataFrame, task: Task, contract: Contract) -> str:
    """Whose bias is told, the same for every policy: of classes the one that the loop misses most."""
    observed, answers = _pairs(rows, task, contract)
    return farthest_off(task, observed, answers)


def _pairs(rows: pl.DataFrame, task: Task, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    return task.observed(rows[contract.target.name]), task.of_column(rows["answer"])


def _by_month(
    judged: Mapping[str, pl.DataFrame], task: Task, contract: Contract, of: str
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Errors by policy and month, and by policy over the newest months."""
    months, last_months = [], {}

    def errors(some: pl.DataFrame) -> dict[str, float]:
        told = some.rename({contract.target.name: "observed"})
        inside = {n: v for n, v in performance.shares(task, told).items() if v is not None}
        return _errors(*_pairs(some, task, contract), task, of) | inside

    for policy, rows in judged.items():
        by_month = rows.sort("as_of_ts").group_by(
            pl.col("as_of_ts").dt.truncate("1mo"), maintain_order=True
        )
        months += [
            {"policy": policy, "month": f"{month:%Y-%m}", **errors(some)}
            for (month,), some in by_month
        ]
        newest = sorted({m["month"] for m in months})[-NEWEST_MONTHS:]
        late = rows.filter(pl.col("as_of_ts").dt.strftime("%Y-%m").is_in(newest))
        if not late.is_empty():
            last_months[policy] = errors(late)
    return months, last_months


def _errors(observed: np.ndarray, answers: np.ndarray, task: Task, of: str) -> dict[str, float]:
    """The mean loss and the bias; beside them `mape` where a number has one, as people know it."""
    mape = task.metrics(observed, answers).get("mape")
    return {
        "rows": observed.size,
        "error": float(task.losses(observed, answers).mean()),
        "bias": float(task.signed_errors(observed, answers)[of].mean()),
    } | ({} if mape is None else {"mape": mape})


def lines(result: Mapping[str, Any]) -> list[str]:
    """The result as a table for people."""
    if result["scenario"]:
        return [
            *(
                f"  {t['as_of'][:10]}  {t.get('verdict') or '-':<11}  {t['outcome']:<11}  "
                f"{t.get('champion')}  {t['reason'][:110]}"
                for t in result["turns"]
            ),
            f"expected    {result['expected']}",
            f"that is     {'what it did' if result['right'] else 'NOT what it did'}; "
            f"{result['failed']} of {result['requests']:,} requests failed",
        ]
    measure, bias_measure = of_record(result)
    by = {(m["policy"], m["month"]): m for m in result["months"]}
    policies = [p for p in NAMES if any(m["policy"] == p for m in result["months"])]
    whose = f" of {result['bias_of']}" if result.get("bias_of") else ""
    table = [["month", *(NAMES[p] for p in policies)]]
    for month in sorted({m["month"] for m in result["months"]}):
        cells = [by.get((p, month)) for p in policies]
        table.append([month, *(_shown(c, measure, bias_measure) if c else "" for c in cells)])
    table.append(["retrained", *(f"{result['retrains'].get(p, 0)}" for p in policies)])
    told = result.get("costs")
    for name, of in COST_ROWS.items() if told else ():
        cells = [told[of].get(p) for p in policies]
        is_signed = of == "paid"
        table.append([name, *("" if c is None else amount(c, signed=is_signed) for c in cells)])
    rows = [f"the {measure.title} and the {bias_measure.title}{whose}, by month", *_aligned(table)]
    rows += [hindsight.sentence(told)] if told else []
    last, ours = result["last_months"], result["last_months"].get(LOOP)
    for policy in [p for p in policies if p != LOOP]:
        if ours and policy in last:
            theirs = last[policy]
            rows.append(
                f"last {NEWEST_MONTHS} months: {_shown(ours, measure, bias_measure)}, against "
                f"{_shown(theirs, measure, bias_measure)} ({NAMES[policy]}): the error is "
                f"{100 * ours['error'] / theirs['error'] - 100:+z.1f} %, the bias "
                f"{abs(ours['bias'] / theirs['bias']):.2f} of theirs"
            )
    if mapes := [
        f"{NAMES[p]} {100 * last[p]['mape']:.2f} %" for p in policies if "mape" in last.get(p, {})
    ]:
        rows.append(f"mean absolute percentage error of these months: {', '.join(mapes)}")
    if held := [f"{NAMES[p]} {_held(last[p])}" for p in policies if "inside" in last.get(p, {})]:
        rows.append(f"observed targets in their interval or set, these months: {', '.join(held)}")
    rows.append(f"{result['failed']} of {result['requests']:,} requests failed")
    return rows


def _held(errors: Mapping[str, float]) -> str:
    """How many targets the intervals held with the misses, or the sets with their size."""
    inside = f"{100 * errors['inside']:.1f} %"
    if "set_size" in errors:
        return f"{inside} ({errors['set_size']:.2f} classes a set)"
    return f"{inside} ({100 * errors['above']:.1f} % above, {100 * errors['below']:.1f} % below)"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column on the left, the others on the right."""
    widths = [max(map(len, column)) + GAP for column in zip(*table, strict=True)]
    return [
        f"{first:<{widths[0]}}"
        + "".join(f"{c:>{w}}" for c, w in zip(cells, widths[1:], strict=True))
        for first, *cells in table
    ]


def _shown(errors: Mapping[str, float], measure: Measure, bias_measure: Measure) -> str:
    return f"{measure.said(errors['error'])} ({bias_measure.said_change(errors['bias'])})"


def figure(result: Mapping[str, Any]) -> Any:
    """The error of the policies by month, with what the loop did."""
    measure, _ = of_record(result)
    series = {
        NAMES[policy]: [
            (parse_instant(f"{m['month']}-15"), measure.shown(m["error"]))
            for m in result["months"]
            if m["policy"] == policy
        ]
        for policy in NAMES
    }
    turns = result["turns"]
    return loop_plots.policies(
        series,
        turn_records.changes(turns),
        measure.axis,
        turn_records.verdicts(turns),
    )
