"""Replay results: error and bias of the policies, and what the loop did.

It decides what is compared: every policy's answers to the same requests, by
month and over the last three months, with what each had retrained.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from loopbook.data import prediction_log
from loopbook.data.row_keys import RowKeys
from loopbook.loop.scenarios import SCENARIOS, disturbed
from loopbook.models import evaluation
from loopbook.monitoring import performance
from loopbook.pages import loop_plots
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.files import read_json
from loopbook.project.paths import Project
from loopbook.records import roles
from loopbook.records import turns as turn_records
from loopbook.records.turns import POLICIES as NAMES

FIRST, FIRST_STEP = "first", "first-step"  # what is made once; see replay_projects
LOOP, SCHEDULED, NEVER = "loop", "scheduled", "never"
STEPS = ("week", "month")
NEWEST_MONTHS = 3


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


def answers(
    project: Project, contract: Contract, policy: str, since: datetime, until: datetime
) -> pl.DataFrame:
    """What a policy's service answered: `key`, `as_of_ts`, `answer`, `version`."""
    names = ["key", "as_of_ts", "answer", "version"]
    file = project.var / ("never.db" if policy == NEVER else "predictions.db")
    empty = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    if not file.exists():
        return empty
    log = prediction_log.at(f"sqlite:///{file}", contract, project.var)
    try:
        parts = [
            part.filter(pl.col("role") == roles.CHAMPION).select(names)
            for part in log.rows(since=since, until=until)
        ]
    finally:
        log.close()
    return pl.concat(parts) if parts else empty


def collect(folder: Path, contract: Contract) -> dict[str, Any]:
    """Error and bias by month and policy, the turns, and how many requests failed."""
    plan = read_json(folder / "plan.json")
    start, end = parse_instant(plan["start"]), parse_instant(plan["end"])
    scenario, since = SCENARIOS.get(plan["scenario"]), moments(start, end, plan["step"])[0]
    loops = Project(folder / LOOP)
    projects = (
        {LOOP: loops}
        if plan["scenario"]
        else {NEVER: loops, SCHEDULED: Project(folder / SCHEDULED), LOOP: loops}
    )
    sent = disturbed(
        pl.read_parquet(folder / "rows.parquet", glob=False), scenario, contract, since
    )
    judged = {
        policy: answers(project, contract, policy, start, end).join(
            _observed(sent, contract, project), on="key"
        )
        for policy, project in projects.items()
    }
    months, last_months = _by_month(judged, contract)
    turns = turn_records.listed(loops)
    states = {policy: state_of(folder / policy) for policy in projects if policy != NEVER}
    result = plan | {
        "months": months,
        "last_months": last_months,
        "turns": turns,
        "retrains": {LOOP: sum(bool(t.get("attempt")) for t in turns)}
        | {policy: states[policy]["builds"] for policy in states if policy != LOOP},
        "requests": sum(month["rows"] for month in months),
        "failed": sum(state["failed"] for state in states.values()),
    }
    if scenario:
        later = [t for t in turns if parse_instant(t["as_of"]) >= since]
        result |= {"right": scenario.is_right(later, since), "expected": scenario.expected}
    return result


def _observed(rows: pl.DataFrame, contract: Contract, project: Project) -> pl.DataFrame:
    """The key of each row as the log of a project writes it, and its observed target."""
    of = RowKeys(contract, project.var)
    keys = [of.text(plain(row)) for row in rows.to_dicts()]
    return rows.with_columns(pl.Series("key", keys)).select("key", contract.target.name)


def _by_month(
    judged: Mapping[str, pl.DataFrame], contract: Contract
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Errors by policy and month, and by policy over the newest months."""
    months, last_months = [], {}
    for policy, rows in judged.items():
        by_month = rows.sort("as_of_ts").group_by(
            pl.col("as_of_ts").dt.truncate("1mo"), maintain_order=True
        )
        months += [
            {"policy": policy, "month": f"{month:%Y-%m}", **_errors(some, contract)}
            for (month,), some in by_month
        ]
        newest = sorted({m["month"] for m in months})[-NEWEST_MONTHS:]
        late = rows.filter(pl.col("as_of_ts").dt.strftime("%Y-%m").is_in(newest))
        if not late.is_empty():
            last_months[policy] = _errors(late, contract)
    return months, last_months


def _errors(some: pl.DataFrame, contract: Contract) -> dict[str, float]:
    observed, answered = some[contract.target.name].to_numpy(), some["answer"].to_numpy()
    return {
        "rows": some.height,
        "error": float(evaluation.losses(observed, answered).mean()),
        "bias": float(performance.log_errors(observed, answered).mean()),
    }


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
    by = {(m["policy"], m["month"]): m for m in result["months"]}
    policies = [p for p in NAMES if any(m["policy"] == p for m in result["months"])]
    rows = ["month     " + "".join(f"{NAMES[p]:>26}" for p in policies)]
    for month in sorted({m["month"] for m in result["months"]}):
        cells = [by.get((p, month)) for p in policies]
        rows.append(
            f"{month:<10}"
            + "".join(f"{c['error']:>16.2%} {c['bias']:>+8.3f} " if c else " " * 26 for c in cells)
        )
    rows.append(
        f"retrained {'':<24}0{result['retrains'].get(SCHEDULED, 0):>26}{result['retrains'][LOOP]:>26}"
    )
    last, ours = result["last_months"], result["last_months"].get(LOOP)
    for policy in (NEVER, SCHEDULED):
        if ours and policy in last:
            theirs = last[policy]
            rows.append(
                f"last {NEWEST_MONTHS} months: {ours['error']:.2%} {ours['bias']:+.3f}, against "
                f"{theirs['error']:.2%} {theirs['bias']:+.3f} ({NAMES[policy]}): the error is "
                f"{ours['error'] / theirs['error'] - 1:+.1%}, the bias "
                f"{abs(ours['bias'] / theirs['bias']):.2f} of theirs"
            )
    rows.append(f"{result['failed']} of {result['requests']:,} requests failed")
    return rows


def figure(result: Mapping[str, Any]) -> Any:
    """The error of the policies by month, with what the loop did."""
    series = {
        NAMES[policy]: [
            (parse_instant(f"{m['month']}-15"), m["error"])
            for m in result["months"]
            if m["policy"] == policy
        ]
        for policy in NAMES
    }
    turns = result["turns"]
    return loop_plots.policies(
        series,
        turn_records.changes(turns),
        "MAPE of the month's answers",
        turn_records.verdicts(turns),
    )
