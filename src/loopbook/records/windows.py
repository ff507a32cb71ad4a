"""Windows: where the record of a monitored window lies, and how it is read.

It decides the folder of a window and what counts as a whole one. Dashboards,
the service's metrics, the loop and the command line read records here and
compute nothing, so the same number stands in every place.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopbook.project.clock import parse_instant
from loopbook.project.files import read_json, replacing, write_json
from loopbook.project.paths import Project
from loopbook.records import seals
from loopbook.records.verdicts import ALERTS

if TYPE_CHECKING:  # whoever only reads records needs no Matplotlib
    from matplotlib.figure import Figure

RECORD, REPORT = "record.json", "report.html"
MOST_SHOWN = 60  # windows of a figure


def windows_folder(project: Project) -> Path:
    return project.var / "monitor" / "windows"


def window_folder(project: Project, as_of: str) -> Path:
    """Where all that belongs to the window that ends at `as_of` lies."""
    return windows_folder(project) / f"{parse_instant(as_of):%Y%m%dT%H%M%SZ}"


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
    kept = [folder / name for name in (RECORD, *figures, *(file.name for file in files))]
    seals.keep(*dict.fromkeys(kept), why=f"window {folder.name}")
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
    records = []
    for path in sorted(windows_folder(project).glob(f"*/{RECORD}")):
        try:
            record = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and {"as_of", "verdict", "numbers"} <= record.keys():
            records.append(record)
    return records


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
