"""Whatever stands in the log, a window ends in a verdict and a record, never in an error."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from small_house import ROOT

from loopbook.models.evaluation import Confidence
from loopbook.models.task import task_of
from loopbook.monitoring import drift, findings, record, verdict
from loopbook.project.contract import Contract
from loopbook.project.knobs import read_knobs
from loopbook.registry.reference import column_types, monitored

KNOBS = read_knobs(ROOT / "env.yaml")
AT = datetime(2015, 1, 1, tzinfo=UTC)
ABOUT = {"meaning": "A column."}
TABLE = Contract.model_validate(
    {
        "name": "flats",
        "meaning": "A flat.",
        "task": "regression",
        "source": {"path": "flats.csv"},
        "key": ["id"],
        "target": {"name": "price"} | ABOUT,
        "features": {
            "size": {"type": "integer", "example": 5} | ABOUT,
            "zone": {"type": "category", "example": "a"} | ABOUT,
        },
        "slices": {"zone": None, "size": [3.0]},
    }
)
TASK = task_of(TABLE)
KINDS = column_types(TABLE) | {"observed": pl.Float64, "answer": pl.Float64}


def rows(count: int, **columns: object) -> pl.DataFrame:
    """Sound rows; a column may be one value everywhere, or its first values."""
    made = {
        "size": [float(place % 7) for place in range(count)],
        "zone": ["ab"[place % 2] for place in range(count)],
        "observed": [10.0 + place % 5 for place in range(count)],
        "answer": [10.5 + place % 5 for place in range(count)],
    }
    for name, value in columns.items():
        made[name] = (
            value + made[name][len(value) :] if isinstance(value, list) else [value] * count
        )
    return pl.DataFrame(made, schema=KINDS)


def window(count: int, **columns: object) -> pl.DataFrame:
    flags = [pl.lit(value=True).alias(name) for name in (findings.IS_CURRENT, findings.IS_JUDGED)]
    instants = pl.Series("as_of_ts", [AT + place * timedelta(hours=1) for place in range(count)])
    return rows(count, **columns).with_columns(instants.cast(pl.Datetime("us", "UTC")), *flags)


def judged(current: pl.DataFrame, reference: pl.DataFrame) -> verdict.Verdict:
    """The verdict, by way of the record that is kept as JSON."""
    names = monitored(TABLE)
    faults = findings.find_faults(current, reference, TABLE, names, margin=0.05, least_rows=1)
    rules = findings.DriftRules(0.01, 0.05, 1, 7)
    columns = findings.find_drift(current, reference, TABLE, names, rules)
    found = findings.find_performance(
        current, reference, TABLE, names, Confidence(0.95, 200, 7), least_slice_rows=1
    )
    found = findings.Performance.from_dict(json.loads(json.dumps(found.as_dict(), allow_nan=False)))
    facts = {"wanting": []}
    told = {"rows": current.height, "columns": columns, "faults": faults, "errors": found}
    told_window = findings.as_window(facts, **told, champion_age_days=30)
    names = [n for n in verdict.Rules.__dataclass_fields__ if hasattr(KNOBS, f"monitor_{n}")]
    limits = {n: getattr(KNOBS, f"monitor_{n}") for n in names}
    limits |= {"said": TASK.measure, "said_bias": TASK.bias_measure}
    level = verdict.judge(told_window, verdict.Rules(**limits))
    numbers = record.make_numbers(current.height, found, columns, {})
    kept = record.Findings(columns, columns, faults, found, {})
    kept = record.make_record(facts, level, numbers, kept, task=TASK, decided_at=AT)
    json.dumps(kept, allow_nan=False)
    return level


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setitem(drift.calibrate.__kwdefaults__, "resamples", 50)


def reference(count: int = 60, part: str | None = None, **columns: object) -> pl.DataFrame:
    parts = [part or ("train", "test")[2 * place >= count] for place in range(count)]
    return rows(count, **columns).with_columns(pl.Series("part", parts, dtype=pl.String))


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of 1e308 + 1e308, which is nobody's error
@pytest.mark.parametrize(
    "columns",
    [
        {"observed": None},
        {"observed": [5.0] + [None] * 59},
        {"observed": [1e308, -1e308, 1e-320, 0.0]},
        {"observed": -5.0},
        {"observed": 0.0},
        {"answer": float("nan")},
        {"answer": float("inf")},
        {"answer": 0.0},
        {"size": None, "zone": None},
        {"size": [1e308, -1e308, float("inf"), float("nan")]},
        {"size": 1.0, "zone": "a", "observed": 5.0, "answer": 5.0},
        {"zone": ["<img src=x onerror=alert(1)>", "$x_1$\n\0", "9" * 5_000]},
    ],
    ids=" ".join,
)
def test_a_window_of_any_content_gets_a_verdict(columns):
    assert judged(window(60, **columns), reference()).reasons


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_window_of_hardly_any_rows_gets_one_too(count):
    assert judged(window(count), reference()).reasons


@pytest.mark.parametrize(
    "before",
    [
        reference(0),
        reference(1),
        reference(part="train"),
        reference(part="test"),
        reference(observed=0.0),
        reference(size=None, zone=None),
    ],
    ids=["nothing", "one row", "no test", "only test", "a target of 0", "no inputs"],
)
def test_a_reference_of_any_content_is_no_error(before):
    assert judged(window(60), before).reasons


def test_one_known_truth_has_an_error_and_no_growth():
    """Its interval would have no ends: that was infinity in a record that is JSON."""
    found = findings.find_performance(
        window(60, observed=[5.0] + [None] * 59), reference(), TABLE, monitored(TABLE),
        Confidence(0.95, 200, 7), least_slice_rows=1,
    )  # fmt: skip
    assert (found.labels, found.error.n, found.worse, found.moved) == (1, 1, None, None)
