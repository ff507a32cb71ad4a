"""Tables with next to nothing in them: what can be learned is learned, what cannot is named."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopbook.features import rows as row_features
from loopbook.models import (
    candidates,
    estimators,
    evaluation,
    export,
    fitted_parts,
    inference,
    steps,
)
from loopbook.models.measures import Measure
from loopbook.models.task import task_of
from loopbook.monitoring import performance
from loopbook.pages import answers, error_plots, inputs, plots
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import CandidateError

NUMBER = {"type": "number", "example": 1.0, "meaning": "A number."}
CATEGORY = {"type": "category", "example": "a", "meaning": "A category."}
TABLE = Contract.model_validate(
    {
        "name": "flats",
        "meaning": "One row is a flat.",
        "task": "regression",
        "source": {"path": "flats.csv"},
        "key": ["id"],
        "event_time": "day",
        "target": {"name": "rent", "range": [1, 1e6], "transform": "log", "per": "size"}
        | {"meaning": "Rent."},
        "features": {
            "size": NUMBER,
            "lift": NUMBER,
            "one": NUMBER,
            "zone": CATEGORY,
            "only": CATEGORY,
            "none": CATEGORY,
        },
        "derived": {"lifts": {"formula": "lift * 2", "meaning": "Twice."}},
        "history": {
            "value": "rent",
            "features": {
                "level": {"aggregate": "median", "window_days": 9, "over": "all", "meaning": "L."}
            },
        },
    }
)
TASK = task_of(TABLE)
EMPTY = ["lift", "lifts", "none"]


def made(rows: int, lift: int = 0, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Rents in proportion to size; `lift` has a value in the newest so many rows only."""
    chance = np.random.default_rng(seed)
    size = chance.uniform(20, 120, rows)
    table = pl.DataFrame(
        {
            EVENT_TS: [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(rows)],
            "size": size,
            "lift": [None] * (rows - lift) + [1.0] * lift,
            "one": 1.0,
            "zone": chance.choice(["a", "b"], rows),
            "only": "x",
            "none": pl.Series([None] * rows, dtype=pl.String),
            "level": 500.0,
        },
        schema_overrides={"lift": pl.Float64},
    )
    X = row_features.model_matrix(table, TABLE, row_features.learn_categories(table, TABLE))
    return table, X, np.log(10 * size * chance.lognormal(0, 0.05, rows))


@pytest.fixture
def few_trees(monkeypatch):
    """Boosting of a few trees, which is soon done."""
    monkeypatch.setattr(estimators, "TREES", 40)
    monkeypatch.setattr(estimators, "STEP", 0.2)


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the converter's own
@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", candidates.RECIPES)
def test_a_candidate_learns_beside_a_column_that_is_empty(name):
    """And the graph answers what the pipeline does, also when the column has values."""
    _, X, y = made(150)
    model = steps.fitted(candidates.build(name, TABLE, 3), X, y)
    model = fitted_parts.in_float32(model)
    later, asked, _ = made(60, lift=60, seed=1)
    assert later["lift"].null_count() == 0
    runtime = inference.session(export.export(model, TABLE, X.shape[1]))
    guessed = TASK.answers(model, asked)
    both, spread = (guessed, inference.predict(runtime, asked)), TASK.spread(np.exp(y))
    assert export.parity(TASK, *both, spread=spread)["passed"]
    assert np.mean(np.abs(np.log(guessed / (10 * later["size"].to_numpy())))) < 0.2


@pytest.mark.usefixtures("few_trees")
def test_a_column_that_was_empty_changes_no_answer_when_it_is_filled():
    _, X, y = made(150)
    model = steps.fitted(candidates.build("hist_gradient_boosting", TABLE, 3), X, y)
    filled = X.copy()
    filled[:, row_features.input_names(TABLE).index("lift")] = 1.0
    assert np.array_equal(model.predict(filled), model.predict(X))


def test_the_columns_without_a_value_are_named():
    X = made(150)[1]
    assert candidates.without_values(X, TABLE) == EMPTY
    assert candidates.without_values(made(150, lift=1)[1], TABLE) == ["none"]


def test_a_model_without_any_input_is_refused_with_a_sentence():
    _, X, y = made(150)
    with pytest.raises(CandidateError, match="none of 150 rows has a value in any of the columns"):
        steps.fitted(candidates.build("ridge", TABLE, 3), np.full_like(X, np.nan), y)


@pytest.mark.medium
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[], [7.0], [7.0, 7.0, 7.0], [0.0], [-3.0, -3.0], [np.nan]])
def test_a_figure_of_next_to_nothing_is_drawn(values, log):
    figure = plots.distribution({"a": np.array(values)}, "It ($) in $/m$", log=log)
    assert figure._repr_png_()


def test_a_unit_with_dollars_is_drawn_as_it_stands():
    """Between two of them matplotlib sees a formula, and stops at one that is none."""
    interval = evaluation.Interval(0.1, 0.0, 0.2, 9)
    for figure in (
        plots.distribution({"a": np.arange(9.0)}, "Price ($_/m^$)"),
        error_plots.changes({"$_$": interval}, Measure("Price ($_/m^$)", "$")),
        plots.ranking(["$_$", "b"], [1.0, 2.0], "Price ($_/m^$)"),
    ):
        assert figure._repr_png_()


def test_an_input_that_no_row_had_has_no_slider():
    """Moving it would change nothing, and it has no ends."""
    rows = row_features.with_derived(made(150)[0], TABLE)
    card = {"reference": export.reference_statistics(rows, TABLE)}
    seen = [name for name in TABLE.features if inputs.was_seen(card, name)]
    assert seen == ["size", "one", "zone", "only"]
    assert answers.place(card, "lift", 2.0) == "no row that the model learned from had a value"


def test_a_yes_or_no_is_placed_by_how_many_rows_have_it_and_a_number_by_rank():
    card = {
        "reference": {
            "is_open": {"mean": 0.024, "missing_share": 0.0, "quantiles": {"0.5": 0.0}},
            "zone": {"missing_share": 0.0, "shares": {"a": 0.25}},
            "size": {"missing_share": 0.0, "quantiles": {"0.25": 1.0, "0.5": 2.0, "0.75": 3.0}},
        }
    }
    asked = [("is_open", True), ("is_open", False), ("zone", "a"), ("zone", "new"), ("size", 2.5)]
    placed = [answers.place(card, name, value) for name, value in asked]
    assert placed[:2] == ["2.4 % have it", "97.6 % have it"]
    assert placed[2:4] == ["25.0 % have it", "0.0 % have it"]
    assert placed[4] == "above 50 to 75 % of them"


def test_errors_are_estimated_beside_a_column_that_is_empty_in_the_known_rows():
    chance = np.random.default_rng(0)
    known = pl.DataFrame(
        {
            "answer": chance.uniform(1, 9, 300),
            "observed": chance.uniform(1, 9, 300),
            "lift": pl.Series([None] * 300, dtype=pl.Float64),
            "none": pl.Series([None] * 300, dtype=pl.String),
        }
    )
    asked = known.head(5).with_columns(lift=1.0, none=pl.lit("x"))
    guessed = performance.estimated_losses(TASK, known, asked, ["lift", "none"], seed=1)
    assert np.isfinite(guessed).all()
    assert guessed.shape == (5,)
