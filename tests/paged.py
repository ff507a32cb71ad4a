"""Projects whose pages have something to show, for a number, yes or no and one of several.

The model, its answers and all that is found about them are real; no notebook runs.
"""

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import polars as pl
import small_classes
from small_classes import START

from loopbook.data.splits import PART
from loopbook.features import rows as row_features
from loopbook.models import evaluation, inference, margins
from loopbook.models.evaluation import Confidence
from loopbook.models.task import task_of
from loopbook.monitoring import findings, record, verdict
from loopbook.pages import error_plots, plain, plots
from loopbook.project.paths import Project
from loopbook.records import windows as window_records
from loopbook.registry.reader import Version
from loopbook.registry.reference import column_types, monitored

SURE = Confidence(0.95, 200, 7)
LEARNED, COUNT = 900, 1500


def answered(task: str) -> pl.DataFrame:
    """All rows as a window has them, with the real answers of the version."""
    about = small_classes.table(task)
    of, (_, graph, card) = task_of(about), small_classes.version(task)
    rows = small_classes.rows(task, COUNT)
    matrix = row_features.model_matrix(rows, about, card["categories"])
    return rows.select(
        pl.col("at").alias("as_of_ts"),
        *[pl.col(name).cast(kind) for name, kind in column_types(about).items()],
        pl.col(about.target.name).cast(of.observed_type).alias("observed"),
    ).with_columns(of.column(inference.predict(inference.session(graph), matrix)))


def keep_window(folder: Path, task: str) -> dict:
    """Judge the newest answers, and keep record and figures as a monitoring run does."""
    about = small_classes.table(task)
    of, rows = task_of(about), answered(task)
    card = small_classes.version(task)[2]
    flags = [pl.lit(value=True).alias(name) for name in (findings.IS_CURRENT, findings.IS_JUDGED)]
    parts = [("train", "test")[place >= 600] for place in range(LEARNED)]
    before = rows.head(LEARNED).with_columns(pl.Series(PART, parts))
    now = rows.tail(COUNT - LEARNED).with_columns(*flags)
    names = monitored(about)
    columns = findings.find_drift(now, before, about, names, findings.DriftRules(0.01, 0.05, 1, 7))
    found = findings.find_performance(now, before, about, names, SURE, least_slice_rows=20)
    told = {"rows": now.height, "columns": columns, "faults": [], "errors": found}
    window = findings.as_window({"wanting": []}, **told, champion_age_days=30)
    rules = verdict.Rules(1, 1, 0.1, 1e9, 1e9, 1, of.measure, of.bias_measure)
    end = START + timedelta(hours=COUNT)
    facts = {
        "as_of": end.isoformat(),
        "current": [(START + timedelta(hours=LEARNED)).isoformat(), end.isoformat()],
        "champion": {"name": about.name, "version": "1", "candidate": "linear"}
        | {"promoted_at": START.isoformat(), "promoted_as_of": START.isoformat()}
        | {"fitted": {"until": START.isoformat(), "rows": LEARNED}},
    }
    kept = record.make_record(
        facts,
        verdict.judge(window, rules),
        record.make_numbers(now.height, found, columns, {}),
        record.Findings(columns, columns, [], found, {}),
        task=of,
        decided_at=end,
    )
    pairs = of.observed(now["observed"]), of.of_column(now["answer"])
    trend, marks = window_records.trend([kept])
    pictures = {
        "columns": plots.beyond_threshold(plain.named(columns, about)),
        "shares": plots.shares(plain.named(columns, about)),
        "periods": error_plots.over_time(
            findings.read_periods(found.periods), found.reference_error, of.measure
        ),
        "slices": error_plots.slices(found.slices, of.measure),
        "calibration": error_plots.calibration(of, pairs[0], {"champion": pairs[1]}),
        "errors": next(iter(error_plots.errors(of, *pairs, card.get("decision")).values())),
        "trend": error_plots.over_time(trend, found.reference_error, of.measure, marks),
    }
    figures = {f"{name}.svg": picture for name, picture in pictures.items()}
    window_records.keep(Project(folder), kept, [], figures)
    return kept


def decision(task: str) -> dict:
    """The record of the build of a version: one that answers all alike against it."""
    about = small_classes.table(task)
    of, rows = task_of(about), answered(task)
    observed, answers = of.observed(rows["observed"]), of.of_column(rows["answer"])
    same = of.constant(observed, len(observed))
    loss, usual = of.losses(observed, answers), of.losses(observed, same)
    zones = {"zone": rows["zone"].to_numpy()}
    against = evaluation.compare(loss, usual, zones, SURE, least_rows=20)
    ranked = [
        {"candidate": name, "loss": float(of_all.mean()), "bias": 0.0, "exportable": True}
        | {"latency_ms": 0.02}
        for name, of_all in (("linear", loss), ("baseline", usual))
    ]
    return {
        "sentence": "Refused: not better beyond doubt than the baseline",
        "decided_at": START.isoformat(),
        "as_of": START.isoformat(),
        "rows": COUNT,
        "metric": of.metric,
        "measure": asdict(of.measure),
        "bias_measure": asdict(of.bias_measure),
        "scale": asdict(margins.scale(of, observed, same)),
        "ranked": ranked,
        "against": {"baseline": {name: asdict(i) for name, i in against.items()}},
        "checks": [{"name": "baseline", "passed": False, "reason": "not better"}],
        "importance": [{"feature": "size", "rise": float(loss.mean())}],
        "ways_on": ['loopbook promote 1 --reason "…" (it serves all the same)', "more rows"],
    }


class Built(small_classes.Shelf):
    """A registry in memory, whose versions have the record of their build."""

    def content(self, version: Version, file: str, folder: str = "", most: int = 0) -> bytes:
        if file == "decision.json":
            return json.dumps(decision(version.name.removeprefix("small-"))).encode()
        return super().content(version, file, folder, most)
