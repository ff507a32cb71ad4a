"""Monitor records: what was found about each window, kept where everybody reads it.

It decides where a record lies and what its numbers are called. Dashboards, the
service's metrics and the command line read these and compute nothing, so the
same number stands in every place.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopbook.contract import parse_instant
from loopbook.files import read_json, replacing, write_json
from loopbook.project import Project
from loopbook.verdict import ALERTS

if TYPE_CHECKING:  # the service reads records, and needs neither SciPy nor Matplotlib
    from matplotlib.figure import Figure

    from loopbook.drift import ColumnDrift
    from loopbook.evaluation import Interval
    from loopbook.findings import Performance
    from loopbook.quality import Fault
    from loopbook.verdict import Verdict

RECORD, REPORT = "record.json", "report.html"
MOST_SHOWN = 60  # windows of a figure


def windows_folder(project: Project) -> Path:
    return project.var / "monitor" / "windows"


def window_folder(project: Project, as_of: str) -> Path:
    """Where all that belongs to the window that ends at `as_of` lies."""
    return windows_folder(project) / f"{parse_instant(as_of):%Y%m%dT%H%M%SZ}"


def interval_numbers(interval: Interval | None, name: str) -> dict[str, float | int | None]:
    """An interval as numbers of a record; None where there is none."""
    if interval is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    ends = (interval.mean, interval.low, interval.high)
    values = [value if math.isfinite(value) else None for value in ends]
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def make_numbers(
    rows: int,
    found: Performance,
    judged: Sequence[ColumnDrift],
    skew: Mapping[str, Any],
) -> dict[str, float | int | None]:
    """The numbers of a window, as they are called everywhere; None is not known."""
    return {
        "rows": rows,
        "due": found.due,
        "labels": found.labels,
        "coverage": found.labels / found.due if found.due else None,
        **interval_numbers(found.error, "error"),
        **interval_numbers(found.bias, "bias"),
        **interval_numbers(found.worse, "error_growth"),
        **interval_numbers(found.moved, "bias_moved"),
        "reference_error": found.reference_error,
        "reference_rows": found.reference_rows,
        "estimated_error": found.estimated,
        "estimated_error_of_judged": found.estimated_then,
        "drifted_columns": sum(column.has_drifted for column in judged),
        "judged_columns": len(judged),
        "skew_share": skew.get("share"),
    }


def make_record(
    facts: Mapping[str, Any],
    verdict: Verdict,
    numbers: Mapping[str, float | int | None],
    *,
    loss: str | None,
    columns: Sequence[ColumnDrift],
    judged: Sequence[ColumnDrift],
    faults: Sequence[Fault],
    found: Performance,
    skew: Mapping[str, Any],
    decided_at: datetime,
) -> dict[str, Any]:
    """The decision record of a window, as JSON.

    Parameters
    ----------
    numbers : mapping
        As `make_numbers` gives.
    loss : str or None
        What the error is: `mape`, or `mae` (over the mean of the target) where
        the target can be 0; None if there is none yet.
    """
    return {
        **facts,
        "decided_at": decided_at.isoformat(),
        "verdict": {"level": verdict.level, "sentence": verdict.sentence}
        | {"reasons": verdict.reasons},
        "loss": loss,
        "numbers": dict(numbers),
        "metrics": found.metrics,
        "columns": [
            asdict(c) | {"has_drifted": c.has_drifted, "is_judged": c in judged} for c in columns
        ],
        "faults": [asdict(fault) for fault in faults],
        "periods": found.periods,
        "slices": {name: asdict(interval) for name, interval in found.slices.items()},
        "skew": dict(skew),
    }


def keep(
    project: Project,
    record: Mapping[str, Any],
    files: Sequence[Path],
    figures: Mapping[str, Figure],
) -> Path:
    """Keep a record with its files and figures; one of the same `as_of` is replaced.

    The record is written last: a folder that has one is whole.
    """
    folder = window_folder(project, record["as_of"])
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        with replacing(folder / file.name) as path:
            shutil.copyfile(file, path)
    for name, figure in figures.items():
        with replacing(folder / name) as path:
            figure.savefig(path, format="svg")
    write_json(folder / RECORD, record)
    return folder


def trend(
    records: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], dict[datetime, str]]:
    """The error of each window as periods for a figure, and what was said when."""
    periods, marks, last = [], {}, None
    for record in records[-MOST_SHOWN:]:
        numbers, at = record["numbers"], parse_instant(record["as_of"])
        ends = {"low": numbers.get("error_low"), "high": numbers.get("error_high")}
        periods.append({"period": at, "error": numbers.get("error"), **ends})
        level = record.get("verdict", {}).get("level")
        if level in ALERTS and level != last:
            marks[at] = level
        last = level
    return periods, marks


def listed(project: Project) -> list[dict[str, Any]]:
    """Every record, oldest window first. What cannot be read is left out."""
    found = []
    for path in sorted(windows_folder(project).glob(f"*/{RECORD}")):
        try:
            record = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and {"as_of", "verdict", "numbers"} <= record.keys():
            found.append(record)
    return found


def before(project: Project, as_of: datetime) -> list[dict[str, Any]]:
    """The records of earlier windows than that which ends at `as_of`."""
    return [record for record in listed(project) if parse_instant(record["as_of"]) < as_of]


def newest(project: Project) -> dict[str, Any] | None:
    """The record of the latest window, or None."""
    for path in sorted(windows_folder(project).glob(f"*/{RECORD}"), reverse=True):
        try:
            return read_json(path)
        except (OSError, ValueError):
            continue
    return None


def summary_lines(record: Mapping[str, Any]) -> list[str]:
    """A record in a few lines, for the command line."""
    numbers, champion = record["numbers"], record["champion"]
    lines = [
        f"window      {record['current'][0][:10]} to {record['current'][1][:10]}, "
        f"{numbers['rows']:,} answers",
    ]
    if champion:
        lines.append(
            f"champion    {champion['name']} v{champion['version']} ({champion['candidate']})"
        )
    if numbers.get("error") is not None:
        lines.append(
            f"error       {numbers['error']:.2%} ({numbers['error_low']:.2%} to "
            f"{numbers['error_high']:.2%}), {numbers['reference_error']:.2%} at promotion; "
            f"{numbers['labels']:,} of {numbers['due']:,} answers have their ground truth"
        )
    if numbers.get("estimated_error") is not None:
        lines.append(f"estimated   {numbers['estimated_error']:.2%} for the newest answers")
    lines.append(f"verdict     {record['verdict']['level']}")
    return lines + [f"            - {reason}" for reason in record["verdict"]["reasons"]]
