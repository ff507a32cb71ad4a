"""Levels: what a calibration state adds to a model that is frozen, and to one that is retrained.

Houses (trained as of October 2014), bikes (2012) and flights (July 2013), to the end of
each table: on each day the state of what was known at its midnight moves that
day's answers. Four lanes: never retrained, never with states, retrained every 28
days, and that with states. A version begins with the residuals of the 38 days
before it, as a fit without them answers; those are a build's validation and
test rows. Fixed split conformal on the same residuals is the control for intervals, and
MAPIE's intervals for time series (`adaptive`) are the yardstick.

These periods have been looked at before: the half-life was not chosen on them, and
nothing else was, but no claim of an untouched test can be made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from bench import adaptive, league
from loopbook.models import calibration_states, grid
from loopbook.models.calibration_states import Rule
from loopbook.models.task import Task, task_of
from loopbook.project import clock, paths
from loopbook.project.contract import Contract

CANDIDATE = "hist_gradient_boosting"
KEPT_DAYS, EVERY_DAYS = 38, 28
TABLES = {
    "houses": ("", datetime(2014, 10, 1, tzinfo=UTC), datetime(2015, 3, 1, tzinfo=UTC)),
    "bikes": ("examples/bikes", datetime(2012, 1, 1, tzinfo=UTC), None),
    "flights": ("examples/flights", datetime(2013, 7, 1, tzinfo=UTC), None),
}
NEVER, STATES, RETRAINED, BOTH = (
    *("never retrained", "never retrained, with states"),
    *(f"retrained every {EVERY_DAYS} days", f"retrained every {EVERY_DAYS} days, with states"),
)


@dataclass(frozen=True)
class Asked:
    """Rows that were asked about: what was answered raw and moved, and the interval said.

    `before` has the rows that it began with, and the raw answers to them.
    """

    rows: pl.DataFrame
    raw: np.ndarray
    moved: np.ndarray
    ends: np.ndarray  # (rows, 2)
    fixed: np.ndarray  # (rows, 2)
    before: tuple[pl.DataFrame, np.ndarray] | None = None


def served(
    table: Contract, rows: pl.DataFrame, start: datetime, end: datetime, name: str = CANDIDATE
) -> Asked:
    """A version of a start, and what it answers until an end, with the state of each day."""
    task = task_of(table)
    taught = rows.filter(pl.col(clock.KNOWN_TS) <= start)
    newest = taught[clock.EVENT_TS].max() - timedelta(days=KEPT_DAYS)
    is_kept = taught[clock.EVENT_TS] > newest
    here = league.Round(table, taught, taught, is_kept.to_numpy())
    kept, asked = (
        taught.filter(is_kept),
        rows.filter(pl.col(clock.EVENT_TS).is_between(start, end, closed="left")),
    )
    before, _ = league.answered(name, here, taught.filter(~is_kept), kept)
    raw, _ = league.answered(name, here, taught, asked)
    known = pl.concat([league.came_true(task, kept, before), league.came_true(task, asked, raw)])
    fixed = np.full((asked.height, 2), np.nan)
    if not task.classes:
        off = task.linked(task.observed(kept[table.target.name])) - task.linked(before)
        fixed = _apart(task, raw, *(np.array([-1, 1]) * _split(np.abs(off), table.target.interval)))
    return Asked(asked, raw, *daily(task, known, asked, raw), fixed, (kept, before))


def daily(task: Task, known: pl.DataFrame, asked: pl.DataFrame, raw: np.ndarray):
    """Answers and intervals of each row under the state of its midnight."""
    rule = Rule(interval=task.contract.target.interval)
    days = asked[clock.EVENT_TS].dt.truncate("1d")
    answers, ends = raw.copy(), np.full((len(raw), 2), np.nan)
    for day in days.unique(maintain_order=True):
        there = (days == day).to_numpy()
        state = calibration_states.decide(task, known, day, rule)
        answers[there] = calibration_states.moved(task, raw[there], state.shift)
        ends[there] = np.column_stack(calibration_states.interval(task, answers[there], state))
    return answers, ends


def _split(sizes: np.ndarray, level: float) -> float:
    """Half the width of a fixed split conformal interval."""
    place = min(int(np.ceil((len(sizes) + 1) * level)), len(sizes))
    return float(np.sort(sizes)[place - 1])


def _apart(task: Task, answers: np.ndarray, low: float, high: float) -> np.ndarray:
    inside = task.linked(answers)[:, None] + np.array([low, high])
    return np.exp(inside) if task.link == "log" else inside


def retrained(table: Contract, rows: pl.DataFrame, start: datetime) -> Asked:
    """A version every 28 days, each asked until the next."""
    end, parts = rows[clock.EVENT_TS].max() + timedelta(microseconds=1), []
    while start < end:
        after = min(start + timedelta(days=EVERY_DAYS), end)
        if not rows.filter(
            pl.col(clock.EVENT_TS).is_between(start, after, closed="left")
        ).is_empty():
            parts.append(served(table, rows, start, after))
        start = after
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in FIELDS}
    return Asked(pl.concat([p.rows for p in parts]), **joined)


FIELDS = ("raw", "moved", "ends", "fixed")


def table_of(name: str, data: Path | None) -> tuple[Contract, pl.DataFrame]:
    with TemporaryDirectory() as folder:
        source = paths.current().root / TABLES[name][0]
        return league.rows_of(league.gathered(source, Path(folder), data))


def run(tables: list[str] | None = None, data: Path | None = None) -> Iterator[str]:
    """Markdown: a line a lane, then coverage by month."""
    for name in tables or TABLES:
        _, start, after = TABLES[name]
        table, rows = table_of(name, data)
        end = rows[clock.EVENT_TS].max() + timedelta(microseconds=1)
        frozen, again = served(table, rows, start, end), retrained(table, rows, start)
        lanes = {NEVER: (frozen, "raw"), STATES: (frozen, "moved")}
        lanes |= {RETRAINED: (again, "raw"), BOTH: (again, "moved")}
        for since in filter(None, (start, after)):
            yield from losses(name, table, lanes, since)
            yield ""
        if not task_of(table).classes:
            yield from coverage(name, table, {STATES: frozen, BOTH: again})
            yield ""
    yield from ablation(tables, data)


def losses(
    name: str, table: Contract, lanes: dict[str, tuple[Asked, str]], since: datetime
) -> Iterator[str]:
    """The contract's loss, against never, the bias and the error in the target's unit."""
    task = task_of(table)
    yield f"| {name}, from {since:%d %B %Y} | {task.measure.title} | against never | bias | MAE | MAPE, % |"
    yield "|---|---|---|---|---|---|"
    first = None
    for lane, (asked, which) in lanes.items():
        there = (asked.rows[clock.EVENT_TS] >= since).to_numpy()
        observed = task.observed(asked.rows[table.target.name])[there]
        answers = getattr(asked, which)[there]
        loss = float(task.losses(observed, answers).mean())
        first = first or loss
        bias = next(iter(task.signed_errors(observed, answers).values())).mean()
        off = "| |" if task.classes else _off(observed, answers)
        yield f"| {lane} | {loss:.4f} | {loss / first - 1:+.2%} | {bias:+.4f} {off}"


def _off(observed: np.ndarray, answers: np.ndarray) -> str:
    share = np.abs(answers / observed - 1).mean() if (observed != 0).all() else np.nan
    return f"| {np.abs(answers - observed).mean():,.1f} | {share:.2%} |"


def coverage(name: str, table: Contract, lanes: dict[str, Asked]) -> Iterator[str]:
    """Share held by month, each tail, and the width against the fixed interval's."""
    task = task_of(table)
    months = next(iter(lanes.values())).rows[clock.EVENT_TS].dt.strftime("%Y-%m").unique().sort()
    yield f"| {name}: held | {' | '.join(months)} | all | below | above | width |"
    yield f"|---|{'---|' * (len(months) + 4)}"
    every = {lane: (asked, asked.ends) for lane, asked in lanes.items()}
    control = next(iter(lanes.values()))
    every["fixed split conformal, never retrained"] = (control, control.fixed)
    for method, title in adaptive.METHODS.items():
        ends = adaptive.ends(task, control.before, (control.rows, control.raw), method)
        every[f"{title}, never retrained"] = (control, ends)
    fixed = _width(task, control.fixed)
    for lane, (asked, ends) in every.items():
        observed = task.observed(asked.rows[table.target.name])
        held = (ends[:, 0] <= observed) & (observed <= ends[:, 1])
        month = asked.rows[clock.EVENT_TS].dt.strftime("%Y-%m").to_numpy()
        by_month = " | ".join(f"{held[month == m].mean():.1%}" for m in months)
        below, above = (observed < ends[:, 0]).mean(), (observed > ends[:, 1]).mean()
        yield (
            f"| {lane} | {by_month} | {held.mean():.1%} | {below:.1%} | {above:.1%} "
            f"| {_width(task, ends) / fixed:.2f} |"
        )


def _width(task: Task, ends: np.ndarray) -> float:
    """The median ratio of the ends where the link is a log, else their median distance."""
    inside = task.linked(ends)
    found = float(np.median(inside[:, 1] - inside[:, 0]))
    return float(np.exp(found)) if task.link == "log" else found


def ablation(tables: list[str] | None = None, data: Path | None = None) -> Iterator[str]:
    """Which candidates still add something where answers carry a level: never retrained."""
    for name in tables or TABLES:
        start = TABLES[name][1]
        table, rows = table_of(name, data)
        task, end = task_of(table), rows[clock.EVENT_TS].max() + timedelta(microseconds=1)
        yield f"| {name}, never retrained | {task.measure.title}, raw | with states |"
        yield "|---|---|---|"
        for candidate in grid.LIBRARY:
            if not grid.NEEDS.get(candidate, lambda _: True)(table):
                continue
            asked = served(table, rows, start, end, candidate)
            observed = task.observed(asked.rows[table.target.name])
            raw, moved = (task.losses(observed, a).mean() for a in (asked.raw, asked.moved))
            yield f"| {candidate} | {raw:.4f} | {moved:.4f} |"
        yield ""
