"""Monitoring: false alarms, how soon a shift is seen, and what a run costs; ours and Evidently's."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from loopbook.data import sources, validation
from loopbook.monitoring import drift
from loopbook.project import clock
from loopbook.project.contract import read_contract
from loopbook.registry.reference import column_types, monitored

ROOT = Path(__file__).parents[1]
REFERENCE_ROWS = 10_000
SHIFTS = (0.1, 0.2, 0.4)  # standard deviations, of one column


def population() -> tuple[pl.DataFrame, list[str]]:
    """Every row of the source, and the columns that are watched."""
    table = read_contract(ROOT / "contract.yaml")
    known, _ = sources.known_by(sources.read_source(table, ROOT), None, table, now=clock.utc_now())
    rows = validation.conform(validation.without_known_faults(known, table)[0], table)
    names = monitored(table)
    kinds = column_types(table)
    return rows.select(pl.col(n).cast(kinds[n]) for n in names), names


def ours(reference: pl.DataFrame, current: pl.DataFrame, names: list[str], seed: int) -> set[str]:
    options = {"false_alarms": 0.01, "floor": 0.05, "seed": seed}
    found = drift.compare(reference, current, names, **options)
    return {column.column for column in found if column.has_drifted}


def evidentlys(reference: pl.DataFrame, current: pl.DataFrame, names: list[str]) -> set[str]:
    """The columns that Evidently's defaults call drifted."""
    texts = [n for n in names if reference[n].dtype == pl.String]
    numbers = [n for n in names if n not in texts]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    tables = [
        Dataset.from_pandas(
            pd.DataFrame({n: r[n].cast(pl.Float64) if n in numbers else r[n] for n in names}),
            data_definition=definition,
        )
        for r in (current, reference)
    ]
    found = Report([DataDriftPreset()], include_tests=True).run(*tables).dict()
    return {
        test["metric_config"]["params"]["column"]
        for test in found["tests"]
        if "column" in test["metric_config"]["params"] and test["status"] == "FAIL"
    }


def run(windows: int = 500, theirs: int = 20) -> Iterator[str]:
    """Lines of text, as they are measured."""
    rows, names = population()
    shifted_column = next(n for n in names if rows[n].dtype.is_numeric())
    yield (
        f"alarms in undrifted windows, {len(names)} columns ({windows} windows; Evidently's {theirs})"
    )
    draw = np.random.default_rng(11)
    for size in (200, 2_000, 20_000):
        counts, compared = [0, 0], [0, 0]
        shift_found = {shift: [0, 0] for shift in SHIFTS}
        for place in range(windows):
            reference = rows[draw.integers(0, rows.height, REFERENCE_ROWS)]
            current = rows[draw.integers(0, rows.height, size)]
            counts[0] += bool(ours(reference, current, names, place))
            compared[0] += 1
            if place < theirs:
                counts[1] += bool(evidentlys(reference, current, names))
                compared[1] += 1
                for shift in SHIFTS:
                    moved = pl.col(shifted_column) + shift * rows[shifted_column].std()
                    shifted = current.with_columns(moved)
                    shift_found[shift][0] += shifted_column in ours(
                        reference, shifted, names, place
                    )
                    theirs_found = evidentlys(reference, shifted, names)
                    shift_found[shift][1] += shifted_column in theirs_found
        rates = [f"{c / n:.1%}" for c, n in zip(counts, compared, strict=True)]
        yield f"  {size:6,} rows  ours {rates[0]:>6}  Evidently's defaults {rates[1]:>6}"
        for shift, (mine, others) in shift_found.items():
            # a shift that is seen in a share p of windows is seen after 1 / p windows on average
            delays = [f"{theirs / n:.1f}" if n else f"more than {theirs}" for n in (mine, others)]
            yield (
                f"          {shifted_column} moved by {shift:g} standard deviations: seen after "
                f"{delays[0]} windows, Evidently {delays[1]}"
            )
    yield from cost()


def cost() -> Iterator[str]:
    """A whole run on 20,000 answers, and on the newest 20,000 of a log of many."""
    sys.path.insert(0, str(ROOT / "tests"))
    from small_house import environment, give, make_project

    fill = (
        "import served, sys, polars as pl\nfrom datetime import datetime, UTC\n"
        "rows = served.sales(datetime(2015, 3, 2, tzinfo=UTC), datetime(2015, 4, 1, tzinfo=UTC))\n"
        "for _ in range(int(sys.argv[1])): served.answer(rows)"
    )
    path = f"{ROOT}:{ROOT / 'src'}:{ROOT / 'tests'}"
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project")
        give(project, 1, "champion")
        usual = 0.0
        for times in (11, 100):
            words = [sys.executable, "-c", fill, str(times)]
            subprocess.run(
                words, cwd=project, env=environment(project, PYTHONPATH=path), check=True
            )
            start = time.perf_counter()
            code = "from loopbook.cli.main import main; main()"
            words = [sys.executable, "-c", code, "monitor", "--as-of", "2015-04-01"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(words, cwd=project, env=environment(project), check=True, **quiet)
            took = time.perf_counter() - start
            usual = usual or took
            size = (project / "var/predictions.db").stat().st_size / 1e6
            yield f"monitoring run: {took:.1f} s, log of {size:,.0f} MB, ratio {took / usual:.2f}"
