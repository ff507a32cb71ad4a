"""What must be true of models and of the gate, whatever the table."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import skops.io

from loopbook.data import sources, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import (
    calibration_states,
    candidates,
    estimators,
    evaluation,
    export,
    fitted_parts,
    grid,
    inference,
    promotion,
    steps,
)
from loopbook.models.evaluation import ALL, Interval
from loopbook.models.margins import Scale
from loopbook.models.task import task_of
from loopbook.project import clock
from loopbook.project.contract import read_contract

ROOT = Path(__file__).parents[1]
CONTRACT = read_contract(ROOT / "contract.yaml")
TASK = task_of(CONTRACT)
SCALE = Scale(loss=0.25, bias=0.25)  # a margin of 0.01 is a quarter of a point
GATE = promotion.Gate(margin=0.01, slice_margin=0.08, min_rows=200, latency_ms=10, bias_margin=0.04)


@pytest.fixture(scope="module")
def sample():
    """3,000 real sales: inputs, log price, and the same in dollars; 2,000 teach."""
    rows = sources.with_clock(sources.read_source(CONTRACT, ROOT), CONTRACT)
    rows, _ = validation.without_known_faults(rows, CONTRACT)
    rows = validation.conform(rows, CONTRACT)
    rows = history.with_history(rows, history.facts(rows, CONTRACT), CONTRACT).sample(3000, seed=1)
    rows = rows.sort(clock.EVENT_TS)
    X = row_features.model_matrix(rows, CONTRACT, row_features.learn_categories(rows, CONTRACT))
    return X, np.log(rows[CONTRACT.target.name].to_numpy())


def fitted(name, X, y):
    return steps.fitted(candidates.build(name, CONTRACT, 3), X, y)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Boosting of a few trees: how many there are changes nothing of what is asked here."""
    monkeypatch.setattr(estimators, "TREES", 40)
    monkeypatch.setattr(estimators, "STEP", 0.2)


@pytest.mark.medium
# the converter's own use of numpy and onnx, not ours
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", candidates.RECIPES)
def test_every_candidate_answers_the_same_when_exported(name, sample):
    """Also where values are missing, where a category is unknown, and with a shift of each row."""
    X, y = sample
    model = fitted_parts.in_float32(fitted(name, X[:2000], y[:2000]))
    holes = X[2000:].copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.1] = np.nan
    asked = np.vstack([X, holes, np.full((1, X.shape[1]), np.nan, np.float32)])
    runtime = inference.session(export.export(model, CONTRACT, X.shape[1]))
    spread = TASK.spread(np.exp(y[:2000]))
    both = TASK.answers(model, asked), inference.predict(runtime, asked)
    found = export.parity(TASK, *both, spread=spread)
    assert found["passed"], found
    assert np.array_equal(inference.predict_many(runtime, asked), both[1])
    shift = np.random.default_rng(1).uniform(-0.5, 0.5, (len(asked), 1))
    moved, raw = inference.predict_both(runtime, asked, shift)
    assert np.array_equal(raw, both[1])
    both = calibration_states.moved(TASK, both[0], shift), moved
    found = export.parity(TASK, *both, spread=spread)
    assert found["passed"], found


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["baseline", "ridge"])
def test_a_category_of_thousands_of_values_has_no_column_for_each(name, sample):
    """300,000 flights of 4,000 aircraft took 22 GB, and the kernel was killed."""
    X, y = sample
    X = X.copy()
    place = row_features.input_names(CONTRACT).index(CONTRACT.categories[0])
    X[:, place] = np.random.default_rng(0).integers(0, 900, len(X))
    model = fitted_parts.in_float32(fitted(name, X[:2000], y[:2000]))
    assert model[0].transform(X).shape[1] < 100
    X[-1, place] = np.nan
    runtime = inference.session(export.export(model, CONTRACT, X.shape[1]))
    both = TASK.answers(model, X), inference.predict(runtime, X)
    assert export.parity(TASK, *both, spread=TASK.spread(np.exp(y[:2000])))["passed"]


@pytest.mark.medium
@pytest.mark.parametrize("name", ["ensemble", "with_history", "ridge"])
def test_one_tree_of_each_boosting_tells_the_types_of_all(name, sample):
    """MLflow reads back only what it is told to trust."""
    X, y = sample
    model = fitted(name, X[:500], y[:500])
    few = skops.io.dumps(fitted_parts.with_one_tree(model))
    whole = skops.io.dumps(model)
    assert len(few) < len(whole) or name == "ridge"
    types = [sorted(skops.io.get_untrusted_types(data=held)) for held in (few, whole)]
    assert types[0] == types[1] != []
    assert np.isfinite(model.predict(X)).all()  # the model itself is untouched


@pytest.mark.medium
@pytest.mark.parametrize("height", [0, 1, 191, 193, 577, 1_000])
def test_many_rows_by_threads_have_the_bits_of_one_call(height, sample):
    X, y = sample
    model = fitted_parts.in_float32(fitted("ridge", X[:2000], y[:2000]))
    runtime = inference.session(export.export(model, CONTRACT, X.shape[1]))
    answers = inference.predict_many(runtime, X[:height])
    assert np.array_equal(answers, inference.predict(runtime, X[:height]))


def test_rounding_to_float32_changes_no_prediction(sample):
    X, y = sample
    model = fitted("hist_gradient_boosting", X[:2000], y[:2000])
    before = model.predict(X)
    assert np.allclose(fitted_parts.in_float32(model).predict(X), before, rtol=1e-6, atol=0)


def test_a_model_beats_the_baseline_and_a_shuffled_target_destroys_its_skill(sample):
    X, y = sample

    def r2(target):
        model = fitted("hist_gradient_boosting", X[:2000], target[:2000])
        return TASK.metrics(np.exp(target[2000:]), TASK.answers(model, X[2000:]))["r2"]

    simple = TASK.answers(fitted("baseline", X[:2000], y[:2000]), X[2000:])
    assert r2(y) > TASK.metrics(np.exp(y[2000:]), simple)["r2"] + 0.05
    assert r2(np.random.default_rng(0).permutation(y)) < 0.05


def test_no_input_is_the_target_in_disguise(sample):
    """Neither alone (rank correlation) nor together (a straight line through all)."""
    X, y = sample
    ranks = pl.DataFrame(np.nan_to_num(np.column_stack([X, y]))).select(pl.all().rank())
    assert np.abs(np.corrcoef(ranks.to_numpy().T)[-1, :-1]).max() < 0.95
    line = fitted("ridge", X[:2000], y[:2000]).predict(X[2000:])
    assert np.corrcoef(y[2000:], line)[0, 1] ** 2 < 0.97


def test_metrics_of_a_known_error():
    """Ten per cent too much everywhere."""
    observed = np.array([100.0, 200.0, 400.0])
    found = TASK.metrics(observed, observed * 1.1)
    assert found["absolute_log_error"] == pytest.approx(np.log(1.1))
    assert found["mape"] == pytest.approx(0.1)
    assert found["median_ape"] == pytest.approx(0.1)
    assert found["bias"] == pytest.approx(np.log(1.1))
    assert found["rmse_log"] == pytest.approx(np.log(1.1))
    assert found["mae"] == pytest.approx(70 / 3)
    assert found["n"] == 3


def test_a_paired_interval_covers_the_true_difference_as_often_as_it_says():
    draw = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        values = draw.normal(0.3, 1, 80)
        i = evaluation.Confidence(0.9, 400, seed).mean(values)
        covered += i.low <= 0.3 <= i.high
    assert 165 <= covered <= 195


def test_permutation_importance_finds_the_column_that_matters():
    rows = pl.DataFrame({"used": np.arange(1.0, 501), "unused": np.arange(500.0)})
    rows = rows.with_columns(target=pl.col("used") * 10)
    table = evaluation.permutation_importance(
        lambda some: (some["target"] - some["used"] * 10).abs().to_numpy(),
        rows,
        ["unused", "used"],
        seed=0,
    )
    assert table["feature"].to_list() == ["used", "unused"]
    assert table["rise"][1] == 0


def test_importance_is_the_same_however_many_orders_are_asked_at_once(monkeypatch):
    draw = np.random.default_rng(3)
    rows = pl.DataFrame({name: draw.normal(size=300) for name in "abc"})
    calls = []

    def loss(some: pl.DataFrame) -> np.ndarray:
        calls.append(some.height)
        return (some["a"] * some["b"] - some["c"]).abs().to_numpy()

    once = evaluation.permutation_importance(loss, rows, ["a", "b", "c"], seed=1)
    assert calls == [300, 1_800]
    monkeypatch.setattr(evaluation, "AT_ONCE", 1)
    one_by_one = evaluation.permutation_importance(loss, rows, ["a", "b", "c"], seed=1)
    assert calls[2:] == [300, 600, 600, 600]
    assert once.equals(one_by_one)


def evidence(**changes) -> promotion.Evidence:
    """A challenger that passes every check, but for what a test changes."""
    better = {ALL: Interval(-0.01, -0.012, -0.008, 900)}
    usual = {"rows": 900, "parity": 1e-6, "latency_ms": 0.1, "scale": SCALE}
    usual |= {"against_baseline": better, "against_champion": better}
    return promotion.Evidence(**usual | changes)


@pytest.mark.parametrize(
    ("worse", "champion", "challenger", "promoted"),
    [
        (0.001, -0.03, -0.002, True),  # it mends a bias, and costs a tenth of a point
        (0.003, -0.03, -0.002, False),  # it costs more than the margin
        (0.001, -0.03, -0.025, False),  # it mends hardly any of it
        (0.001, -0.03, 0.029, False),  # it leans as far to the other side
        (0.001, -0.012, 0.0, False),  # the champion may be within the margin
    ],
)
def test_a_challenger_that_mends_a_bias_may_be_no_better_in_error(
    worse, champion, challenger, promoted
):
    found = {
        "against_champion": {ALL: Interval(worse, worse - 0.003, worse + 0.003, 900)},
        "bias": {
            "champion": Interval(champion, champion - 0.01, champion + 0.01, 900),
            "challenger": Interval(challenger, challenger - 0.01, challenger + 0.01, 900),
        },
    }
    decision = promotion.decide(evidence(**found), GATE, TASK)
    assert decision.promoted is promoted
    assert promoted == ("not worse than the champion (+0.100 points" in decision.sentence)
    assert promoted == ("it mends a bias: -0.200 % against -3.00 %" in decision.sentence)


def test_a_better_challenger_is_promoted():
    decision = promotion.decide(evidence(), GATE, TASK)
    assert decision.promoted
    assert "better than the champion (-1.00 points on the same 900 rows" in decision.sentence


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parity": 2e-4}, "does not answer as the fitted model"),
        ({"latency_ms": 11}, "one row takes 11.000 ms, allowed 10 ms"),
        ({"rows": 199}, "199 rows that no compared model has seen, needed 200"),
        (
            {"against_baseline": {ALL: Interval(-0.01, -0.03, 0.001, 900)}},
            "not better beyond doubt than the baseline",
        ),
        (
            {"against_champion": {ALL: Interval(-0.001, -0.005, 0.003, 900)}},
            "may be worse than the champion (-0.100 points",
        ),
        (
            {
                "against_champion": {
                    ALL: Interval(-0.01, -0.012, -0.008, 900),
                    "zone b": Interval(0.05, 0.03, 0.07, 60),
                }
            },
            "worse than the champion in zone b (+5.00 points, n = 60)",
        ),
        (
            {"champion_obstacle": "houses v1 needs rooms, which the contract no longer has"},
            "the champion cannot be compared: houses v1 needs rooms, which the contract no longer "
            "has; to replace it all the same: loopbook build --set gate_incomparable",
        ),
    ],
)
def test_each_check_of_the_gate_can_refuse_alone(changes, told):
    decision = promotion.decide(evidence(**changes), GATE, TASK)
    assert not decision.promoted
    assert [check.passed for check in decision.checks].count(False) == 1
    assert told in decision.sentence


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        (Interval(-0.01, -0.012, -0.008, 900), "Promoted: better than the champion"),
        (Interval(-0.001, -0.003, 0.0024, 900), "Promoted: not worse than the champion"),
        (Interval(0.001, -0.001, 0.0024, 900), "Refused: not worse than the champion"),
        (Interval(-0.001, -0.005, 0.0026, 900), "Refused: may be worse than the champion"),
        (Interval(0.01, 0.008, 0.012, 900), "Refused: worse than the champion"),
    ],
)
def test_better_not_worse_and_worse_are_three_words_for_three_things(interval, word):
    """The margin is 0.0025: a hundredth of the baseline's loss."""
    decision = promotion.decide(evidence(against_champion={ALL: interval}), GATE, TASK)
    assert decision.sentence.startswith(word)
    gains = "its error is no smaller, so a change gains nothing"
    assert (gains in decision.sentence) == (word == "Refused: not worse than the champion")


def test_the_same_model_again_is_neither_promoted_nor_refused():
    same = {"same_as_champion": "houses v3"}
    decision = promotion.decide(evidence(**same), GATE, TASK)
    told = "Nothing changed: houses v3 still serves, and this build made the same model again."
    assert (decision.sentence, decision.outcome, decision.promoted) == (told, "unchanged", False)
    late = promotion.decide(evidence(**same, latency_ms=11), GATE, TASK)
    assert late.outcome == "unchanged"
    assert late.sentence.endswith("it would be refused: one row takes 11.000 ms, allowed 10 ms.")


def test_the_reason_of_a_first_champion_is_true_also_when_it_is_read_later():
    decision = promotion.decide(evidence(against_champion=None), GATE, TASK)
    told = "Promoted: no other version served, so it had to beat the baseline alone"
    assert (decision.promoted, decision.sentence) == (True, told)


def test_a_champion_that_cannot_be_compared_is_replaced_only_when_a_person_says_so():
    gate = dataclasses.replace(GATE, incomparable_champion="replace")
    assert promotion.decide(evidence(champion_obstacle="another target"), gate, TASK).promoted


def test_a_contract_has_only_the_candidates_that_it_can_have():
    """The names of the grid are those of the recipes, and each idea has its twin."""
    assert set(grid.NEEDS) | set(grid.WITHOUT) | set(grid.WITHOUT.values()) <= set(
        candidates.RECIPES
    )
    plain = CONTRACT.model_copy(update={"history": None, "event_time": None})
    lost = {name for name, need in grid.NEEDS.items() if not need(plain)}
    assert lost == {"with_history"}
    assert all(need(CONTRACT) for need in grid.NEEDS.values())
