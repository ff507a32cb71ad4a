"""Monitoring: Evidently's report of a window. The only module that imports it.

It decides what the report holds. Distances and thresholds are `drift`'s, and its
part about drift has the judged columns only, so that the report, the record and
the dashboards cannot disagree: Evidently's own choice of method changes with the
number of rows, and it calls a table drifted where half of the columns are.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset, DataSummaryPreset

from loopbook.monitoring.drift import ColumnDrift
from loopbook.project.files import replacing

# A page that is built by others must not take a value for markup.
PLAIN = str.maketrans({"<": "‹", ">": "›", "&": "+", '"': "”", "'": "’", "`": "’"})


def report(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    columns: Sequence[ColumnDrift],
    *,
    html: Path,
    json: Path,
) -> None:
    """Write Evidently's drift and data quality report of a window as HTML and JSON.

    Parameters
    ----------
    reference, current : polars.DataFrame, not empty
        At most some ten thousand rows each: the page shows every column's
        distribution.
    columns : sequence of ColumnDrift
        The distance and threshold of each column that both tables have. Columns that
        are empty in either table are left out, since Evidently stops at them. What
        moves with time by its nature is summarized and not judged.
    """
    kept = [
        c for c in columns if _has_values(reference[c.column]) and _has_values(current[c.column])
    ]
    names = [c.column for c in kept]
    texts = [name for name in names if reference[name].dtype == pl.String]
    numbers = [name for name in names if name not in texts]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    judged = [c for c in kept if c.is_judged]
    parts = [*([_drift_part(judged)] if judged else []), DataSummaryPreset()]
    tables = [
        Dataset.from_pandas(_plain(rows, names), data_definition=definition)
        for rows in (current, reference)
    ]
    done = Report(parts).run(*tables)
    with replacing(html) as path:
        done.save_html(str(path))
    with replacing(json) as path:
        done.save_json(str(path))


def _drift_part(columns: Sequence[ColumnDrift]) -> DataDriftPreset:
    """Evidently's part about drift, with our distances and thresholds."""
    return DataDriftPreset(
        columns=[c.column for c in columns],
        per_column_method={c.column: _stattest(c) for c in columns},
        per_column_threshold={c.column: c.threshold for c in columns},
        drift_share=0.5 / len(columns),  # as soon as one has moved
    )


def _stattest(column: ColumnDrift) -> str:
    """The name of a drift method for Evidently that says what `drift.compare` has found."""
    method = StatTest(
        name=f"calibrated Jensen-Shannon distance of {column.column}",
        display_name="Jensen-Shannon distance, calibrated",
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
    )
    register_stattest(method, lambda *_: (column.distance, column.has_drifted))
    return method.name


def _has_values(column: pl.Series) -> bool:
    return column.null_count() < column.len()


def _plain(rows: pl.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    table = {
        name: [None if value is None else value.translate(PLAIN) for value in rows[name]]
        if rows[name].dtype == pl.String
        else rows[name].cast(pl.Float64).to_numpy()
        for name in names
    }
    return pd.DataFrame(table)
