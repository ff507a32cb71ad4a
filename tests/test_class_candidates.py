"""Candidates of yes or no and of several classes, and those of numbers that are no logs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbook.models import (
    calibration_states,
    candidates,
    decisions,
    estimators,
    export,
    fitted_parts,
    grid,
    inference,
    steps,
    trial,
)
from loopbook.models.task import task_of
from loopbook.project.contract import Contract
from loopbook.project.errors import CandidateError
from loopbook.project.paths import Project

# the converter's own use of numpy and onnx, not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NUMBER = {"type": "number", "example": 1.0, "meaning": "A number."}
CATEGORY = {"type": "category", "example": "x", "meaning": "A kind."}
FACTS = {"n30": {"aggregate": "count", "window_days": 30, "meaning": "How many."}}


def table(task: str, *, categories: bool = True, **target) -> Contract:
    """A contract of two numbers, and of a category, a history and a time unless told otherwise."""
    features = {"size": NUMBER, "age": NUMBER} | ({"kind": CATEGORY} if categories else {})
    about = {"name": "a-table", "meaning": "A row.", "task": task, "key": ["id"]}
    about |= {"source": {"path": "rows.parquet"}, "features": features}
    about["target"] = {"name": "y", "meaning": "What is predicted."} | target
    if categories:
        about |= {"event_time": "at", "entity": "kind"}
        value = {} if target.get("classes") else {"value": "y"}
        about["history"] = value | {"features": FACTS}
    return Contract.model_validate(about, strict=False)


YES = table("binary", classes=["no", "yes"])
KINDS = table("multiclass", classes=["a", "b", "c"])
BARE_YES = table("binary", categories=False, classes=["no", "yes"])
BARE_KINDS = table("multiclass", categories=False, classes=["a", "b", "c"])
BARE_NUMBER = table("regression", categories=False)
SQUARES = table("regression", metric="squared_error")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Boosting of a few trees: how many there are changes nothing of what is asked here."""
    monkeypatch.setattr(estimators, "TREES", 40)
    monkeypatch.setattr(estimators, "CLASS_TREES", 40)


def possible(contract: Contract) -> list[str]:
    return [n for n in grid.LIBRARY if n not in grid.NEEDS or grid.NEEDS[n](contract)]


def fitted(name: str, contract: Contract, X, y):
    model = candidates.build(name, contract, 3, len(y))
    return fitted_parts.in_float32(steps.fitted(model, X, y))


def both(model, contract: Contract, X) -> tuple[np.ndarray, np.ndarray]:
    """What a fitted model answers, and its graph."""
    graph = inference.session(export.export(model, contract, X.shape[1]))
    return task_of(contract).answers(model, X), inference.predict(graph, X)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("contract", "name"),
    [
        (contract, name)
        for contract in (YES, KINDS, BARE_YES, BARE_KINDS, BARE_NUMBER, SQUARES)
        for name in possible(contract)
    ],
)
def test_a_candidate_of_any_target_answers_the_same_when_exported(contract, name):
    """Also where values are missing, a category is unknown, inputs are beyond all seen, and moved.

    By a shift of each row, as arithmetic on the answers moves them; by none it is the same bits.
    """
    X, y = trial.made_up(contract)
    task, model = task_of(contract), fitted(name, contract, X, y)
    nothing = np.full((1, X.shape[1]), np.nan, np.float32)
    asked = np.vstack([X, nothing, X[:20] + np.float32(70)])
    answers, exported = both(model, contract, asked)
    assert answers.shape == exported.shape == (len(asked), *task.shape)
    assert export.parity(task, answers, exported, spread=task.spread(y))["passed"]
    graph = inference.session(export.export(model, contract, X.shape[1]))
    unmoved = inference.predict_both(graph, asked, np.zeros(task.width))
    assert all(np.array_equal(some, exported) for some in unmoved)
    shift = np.random.default_rng(1).uniform(-0.5, 0.5, (len(asked), task.width))
    moved, raw = inference.predict_both(graph, asked, shift)
    assert np.array_equal(raw, exported)
    arithmetic = calibration_states.moved(task, answers, shift)
    assert export.parity(task, arithmetic, moved, spread=task.spread(y))["passed"]
    known = {f"model_{key}" for key in ("alpha", "C", "max_iter", "criterion", "n_estimators")}
    members = {f"model_{member.name}" for member in estimators.family(task).members}
    assert (known | members) & candidates.settings(model).keys()


@pytest.mark.parametrize("contract", [YES, KINDS])
def test_classes_have_a_straight_line_trees_and_boosting(contract):
    assert possible(contract) == [
        *("baseline", "ridge", "extra_trees", "hist_gradient_boosting", "ensemble"),
        "with_history",
    ]
    of_sixty = table("multiclass", classes=[f"class {n}" for n in range(60)])
    assert possible(of_sixty) == ["baseline", "ridge"]


@pytest.mark.parametrize("name", possible(BARE_KINDS))
def test_a_class_that_no_row_had_has_the_probability_0(name):
    """In the graph as in the model; the others are in the contract's order."""
    X, y = trial.made_up(BARE_KINDS)
    model = fitted(name, BARE_KINDS, X[y != 1], y[y != 1])
    answers, exported = both(model, BARE_KINDS, X)
    assert (answers[:, 1] == 0).all()
    assert (exported[:, 1] == 0).all()
    assert np.abs(answers - exported).max() < 1e-6
    assert task_of(BARE_KINDS).losses(y, answers)[y != 1].mean() < 0.7


@pytest.mark.parametrize(
    ("contract", "expected"),
    [(BARE_YES, [0.2, 0.8]), (BARE_KINDS, [0.2, 0.8, 0.0]), (BARE_NUMBER, 1.0)],
)
def test_the_baseline_of_a_table_without_categories_is_one_answer(contract, expected):
    """The shares of the classes; of a number the median, which a far row does not move."""
    X, y = np.ones((10, 2), np.float32), np.array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    y = y if task_of(contract).classes else np.where(y == 0, 1e6, y.astype(float))
    answers, exported = both(fitted("baseline", contract, X, y), contract, X)
    assert answers == pytest.approx(np.broadcast_to(expected, answers.shape))
    assert exported == pytest.approx(answers)


def test_the_baseline_of_classes_knows_how_often_each_kind_has_one():
    X, _ = trial.made_up(YES)
    kind = np.nan_to_num(X[:, -1], nan=0.0)
    y = (np.random.default_rng(1).random(len(kind)) < np.where(kind == 2, 0.9, 0.2)).astype(int)
    answers = task_of(YES).answers(fitted("baseline", YES, X, y), X)
    assert answers[X[:, -1] == 2, 1].mean() == pytest.approx(0.9, abs=0.12)
    assert answers[X[:, -1] == 1, 1].mean() == pytest.approx(0.2, abs=0.12)


def heavy(rows: int = 2000):
    """Minutes with a sign, the half of them near 0 and some in the thousands."""
    draw = np.random.default_rng(5)
    X = draw.uniform(-1, 1, (rows, 2)).astype(np.float32)
    return X, 10 * X[:, 0] + draw.standard_t(1.1, rows) * 8


def test_of_a_target_with_heavy_tails_the_robust_candidate_errs_least():
    (X, y), task = heavy(), task_of(BARE_NUMBER)

    def error(name):
        model = fitted(name, BARE_NUMBER, X[:1000], y[:1000])
        return task.losses(y[1000:], task.answers(model, X[1000:])).mean()

    assert error("robust") < error("baseline")
    assert error("robust") < 0.9 * error("hist_gradient_boosting")


def test_a_squared_error_is_minimised_by_all_that_vote():
    members = estimators.family(task_of(SQUARES)).members
    assert not any(member.robust for member in members)
    assert any(member.robust for member in estimators.family(task_of(BARE_NUMBER)).members)


@pytest.mark.parametrize("contract", [BARE_YES, BARE_KINDS])
def test_boosting_of_classes_compares_with_what_its_graph_holds(contract):
    """Rounded down to float32: the converter rounds to the nearest, which is another branch."""
    X, y = trial.made_up(contract)
    model = fitted("hist_gradient_boosting", contract, X, y)
    nodes = [p.nodes["num_threshold"] for stage in model[-1]._predictors for p in stage]
    values = np.concatenate(nodes)
    assert (values == values.astype(np.float32))[np.isfinite(values)].all()


def test_sizes_follow_the_number_of_rows_and_an_own_candidate_says_its_own():
    few = candidates.build("extra_trees", YES, 3, 10_000)[-1]
    many = candidates.build("extra_trees", YES, 3, 300_000)[-1]
    assert (few.min_samples_leaf, many.min_samples_leaf) == (5, 60)
    trees = estimators.family(task_of(YES)).boosting(9, 3).set_params(max_iter=1000)
    assert estimators.sized(trees, 50_000).max_iter == 1000
    assert estimators.sized(trees, 50_001).max_iter == estimators.FEWER_TREES
    assert trees.learning_rate == 0.1


def test_an_own_candidate_without_probabilities_is_refused_for_classes(tmp_path, monkeypatch):
    own = """
from sklearn.linear_model import Ridge
from loopbook.models import steps

def mine(contract, random_seed):
    return steps.pipeline(contract, Ridge(), steps.scaled(), steps.one_hot())
"""
    (tmp_path / "candidates.py").write_text(own)
    (tmp_path / "contract.yaml").touch()
    (tmp_path / "pipeline.yaml").touch()
    monkeypatch.chdir(tmp_path)
    (told,) = trial.faults_of("mine", YES, Project(tmp_path))
    assert told == (
        "candidates.py: mine has no predict_proba. End it with a classifier that gives "
        "probabilities"
    )
    (tmp_path / "candidates.py").write_text(
        own.replace("import Ridge", "import LogisticRegression").replace(
            "Ridge()", "LogisticRegression()"
        )
    )
    assert trial.faults_of("mine", KINDS, Project(tmp_path)) == []


chances = st.integers(0, 20).map(lambda n: n / 20)


@given(st.lists(st.tuples(st.booleans(), chances), min_size=1, max_size=30), chances, chances)
def test_no_other_threshold_costs_less(rows, false_positive, false_negative):
    """Against all that there are: every probability that was said, and above all."""
    costs = {"false_positive": false_positive + 0.1, "false_negative": false_negative + 0.1}
    is_yes, said = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    found = decisions.cheapest(is_yes, said, **costs)

    def cost(threshold):
        false, missed = (said >= threshold) & ~is_yes, (said < threshold) & is_yes
        return (costs["false_positive"] * false + costs["false_negative"] * missed).mean()

    assert found.cost == pytest.approx(cost(found.threshold))
    least = min(cost(threshold) for threshold in [*said, 2.0])
    assert found.cost == pytest.approx(least)
    assert 0 <= found.threshold <= np.nextafter(1.0, 2.0)


def test_a_threshold_is_the_one_of_right_probabilities_where_that_costs_no_more():
    draw = np.random.default_rng(3)
    said = draw.random(50_000)
    is_yes = draw.random(50_000) < said
    found = decisions.cheapest(is_yes, said, false_positive=1, false_negative=5)
    assert found.threshold == pytest.approx(1 / 6, abs=0.03)
    assert found.cost < found.cost_at_half
    assert found.cost < min(found.cost_of_no, found.cost_of_yes)
    apart = decisions.cheapest(
        np.array([False, True]), np.array([0.1, 0.9]), false_positive=1, false_negative=5
    )
    assert (apart.threshold, apart.cost) == (1 / 6, 0.0)


def test_no_threshold_parts_rows_of_one_probability():
    """Seen failing where it was looked for between them: it said yes to both, which costs 2.5."""
    is_yes, said = np.array([False, True]), np.array([0.5, 0.5])
    found = decisions.cheapest(is_yes, said, false_positive=5, false_negative=1)
    assert found.threshold > 0.5
    assert found.cost == 0.5


def test_a_candidate_without_any_input_is_refused_for_classes_too():
    X, y = trial.made_up(YES)
    with pytest.raises(CandidateError, match="none of 200 rows has a value"):
        fitted("ensemble", YES, np.full_like(X, np.nan), y)
