"""An input that is missing: who is asked, where the champion does not use it, and what Evidently counts."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from small_classes import EARLIER, NUMBER, Shelf, table
from test_verdict import RULES

from loopbook.models.measures import decimal
from loopbook.monitoring import drift, quality, verdict
from loopbook.monitoring.drift import ColumnDrift
from loopbook.records.roles import CHAMPION
from loopbook.registry import servable
from loopbook.registry.used_inputs import unused

TABLE = table(EARLIER)
EMPTY = quality.Fault("mean_5d", quality.MISSING, 1.0, 0.0, "mean_5d is missing", is_broken=True)
WIDTH = replace(EMPTY, column="width", sentence="width is missing")


def verdict_on(faults) -> verdict.Verdict:
    broken = [fault.sentence for fault in faults if fault.is_broken]
    odd = [fault.sentence for fault in faults if not fault.is_broken]
    return verdict.judge(verdict.Window(900, 900, 900, broken=broken, odd=odd), RULES)


def test_a_missing_input_that_the_champion_does_not_use_asks_for_nobody():
    found = verdict_on(quality.weighed([EMPTY], ["mean_5d"], TABLE))
    assert found.level == "watch"
    assert found.reasons[-1] == (
        "mean_5d is missing; the champion does not use it, so no answer changed; if the feature "
        "store is not up to date: loopbook features materialize"
    )


def test_a_missing_input_that_the_champion_uses_asks_for_a_person_with_what_to_type():
    found = verdict_on(quality.weighed([WIDTH, EMPTY], [], TABLE))
    assert found.level == "investigate"
    assert found.reasons[0] == "width is missing"
    assert found.reasons[1].endswith("loopbook features materialize")


def test_what_asks_for_a_person_stands_before_what_does_not():
    weighed = quality.weighed([EMPTY, WIDTH], ["mean_5d"], TABLE)
    assert [fault.column for fault in weighed] == ["width", "mean_5d"]


def test_values_in_another_unit_ask_for_a_person_whether_they_are_used_or_not():
    other = replace(EMPTY, kind=quality.IMPLAUSIBLE)
    assert quality.weighed([other], ["mean_5d"], TABLE) == [other]


def fake(answers) -> SimpleNamespace:
    """A version that answers by `answers`, from the size and width of a row."""
    rows = [{"size": float(n), "width": 2.0 * n, "zone": "north"} for n in range(6)]
    at = ["2025-01-01T00:00:00+00:00"] * len(rows)
    return SimpleNamespace(
        card={"examples": {"records": rows, "at": at}},
        contract=table(NUMBER),
        matrix=lambda records, _: np.array(
            [[np.nan if r[n] is None else r[n] for n in ("size", "width")] for r in records]
        ),
        predict=answers,
    )


def test_an_input_that_changes_no_answer_is_not_used():
    assert unused(fake(lambda X: np.nan_to_num(X[:, 0]))) == ["width", "zone"]
    assert unused(fake(lambda X: X[:, 0] + 1e-9 * np.nan_to_num(X[:, 1], nan=1.0))) == ["zone"]


def test_a_card_without_rows_calls_nothing_unused():
    version = fake(lambda X: X[:, 0])
    version.card = {}
    assert unused(version) == []


def test_a_real_version_uses_what_it_was_fitted_on():
    shelf = Shelf(NUMBER)
    assert unused(servable.load(shelf, shelf.held(shelf.name, CHAMPION))) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [(2e6, "2,000,000"), (1975.0, "1975"), (47.5112, "47.5112"), (0.000004, "0.000004"),
     (-122.0, "-122"), (0.0, "0"), (12_345.6, "12,345.6"), (1_234_567.8, "1,234,568")],
)  # fmt: skip
def test_a_value_of_a_column_has_no_exponent_and_a_year_no_comma(value, told):
    assert decimal(value) == told


def test_bins_of_millions_and_of_years_are_named_as_people_write_them():
    dear = drift.binning(pl.Series(np.linspace(1e6, 9e6, 200)))
    assert not [label for label in dear.labels if "e+" in label]
    years = drift.binning(pl.Series(np.repeat(np.arange(1990.0, 2000.0), 9)))
    assert "from 1995" in years.labels


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Evidently's own
@pytest.mark.slow  # Evidently takes seconds to import
def test_evidently_counts_the_judged_columns_only(tmp_path):
    """One of two moved: that is what the page says above it, and nothing else."""
    from loopbook.monitoring import evidently_report

    rows = pl.DataFrame({name: np.linspace(0, 1, 60) for name in ("a", "b", "level")})
    found = [
        ColumnDrift(name, distance, 0.1, [], [], [], is_judged=name != "level")
        for name, distance in (("a", 0.2), ("b", 0.05), ("level", 0.9))
    ]
    pages = {"html": tmp_path / "report.html", "json": tmp_path / "report.json"}
    evidently_report.report(rows, rows, found, **pages)
    metrics = json.loads(pages["json"].read_text())["metrics"]
    (count,) = [m["value"] for m in metrics if "DriftedColumnsCount" in m["metric_name"]]
    assert (count["count"], count["share"]) == (1, 0.5)
    assert "NOT detected" not in pages["html"].read_text()
