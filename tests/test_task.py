"""The task: one seam for numbers and classes."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from loopbook.models.task import task_of
from loopbook.project.contract import Contract

ROOT = Path(__file__).parents[1]
BARE = {
    "name": "a-table",
    "meaning": "A row is a thing.",
    "task": "regression",
    "source": {"path": "data/rows.parquet"},
    "key": ["id"],
    "features": {"size": {"type": "number", "example": 1.0, "meaning": "How large."}},
}


def table(task: str = "regression", **target) -> Contract:
    about = {"name": "y", "meaning": "What is predicted."} | target
    return Contract.model_validate(BARE | {"task": task, "target": about})


def faults(task: str = "regression", **target) -> str:
    with pytest.raises(ValidationError) as caught:
        table(task, **target)
    return str(caught.value)


YES = {"classes": ["no", "yes"]}
KINDS = {"classes": ["a", "b", "c"]}


def test_the_metric_follows_from_the_contract_and_never_from_rows():
    assert task_of(table()).metric == "absolute_error"
    log = table(transform="log", range=[1.0, 9.0])
    assert task_of(log).metric == "absolute_log_error"
    assert task_of(table("binary", **YES)).metric == "log_loss"
    asked = table(metric="squared_error")
    assert task_of(asked).metric == "squared_error"
    zeros = np.array([0.0, 10.0])
    assert task_of(table()).losses(zeros, np.array([1.0, 8.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("task", "target", "told"),
    [
        ("regression", YES, "target.classes: task: regression has none"),
        ("regression", {"metric": "log_loss"}, "is for classes"),
        ("regression", {"metric": "absolute_log_error"}, "needs transform: log"),
        ("regression", {"metric": "absolute_percentage_error"}, "divides by the target"),
        ("regression", {"transform": "log", "range": [0.0, 9.0]}, "a least value above 0"),
        ("regression", {"costs": {"false_positive": 1.0, "false_negative": 5.0}}, "has none"),
        ("binary", {}, "target.classes: task: binary needs them"),
        ("binary", KINDS, "task: binary has two, found 3"),
        ("binary", YES | {"positive": "maybe"}, "'maybe' is not one of the classes"),
        ("binary", YES | {"metric": "absolute_error"}, "is for numbers"),
        ("binary", YES | {"range": [0.0, 1.0]}, "target.range: is for numbers"),
        ("binary", {"classes": ["yes", "yes"]}, "'yes' stands twice"),
        ("binary", YES | {"costs": {"false_positive": -1.0, "false_negative": 5.0}}, "greater than 0"),
        ("multiclass", YES, "with two classes say task: binary"),
        ("multiclass", KINDS | {"positive": "a"}, "target.positive: is for task: binary"),
        ("multiclass", {"classes": [str(n) for n in range(2000)]}, "found 2,000, expected at most"),
    ],
)  # fmt: skip
def test_a_target_that_its_task_does_not_bear_is_told_with_a_remedy(task, target, told):
    assert told in faults(task, **target)


def test_a_class_is_the_text_that_a_category_of_the_table_becomes():
    assert table("binary", classes=[False, True]).target.classes == ["false", "true"]
    assert table("binary", classes=[0, 1]).target.classes == ["0", "1"]
    assert table("binary", classes=[" no ", "ｙｅｓ"]).target.classes == ["no", "yes"]


def test_classes_are_encoded_in_the_order_of_the_contract():
    task = task_of(table("multiclass", classes=["b", "c", "a"]))
    observed = task.observed(pl.Series(["a", "b", None]))
    assert observed[:2].tolist() == [2.0, 0.0]
    assert np.isnan(observed[2])


def test_the_loss_of_a_class_is_minus_the_log_of_its_probability():
    task = task_of(table("multiclass", **KINDS))
    answers = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    losses = task.losses(np.array([1.0, 1.0]), answers)
    assert losses == pytest.approx([-np.log(0.5), 0.0], abs=1e-9)
    assert np.isfinite(task.losses(np.array([0.0, 0.0]), answers)).all()


class Seen:
    """A classifier that has seen the first and the last class only."""

    classes_ = np.array([0, 2])

    def predict_proba(self, X):
        return np.tile([0.25, 0.75], (len(X), 1))


def test_a_class_that_a_classifier_never_saw_has_probability_0():
    task = task_of(table("multiclass", **KINDS))
    assert task.answers(Seen(), np.zeros((2, 1))).tolist() == [[0.25, 0, 0.75]] * 2


def test_the_bias_of_yes_or_no_is_mean_probability_less_the_rate():
    task = task_of(table("binary", **YES, positive="yes"))
    answers = np.array([[0.4, 0.6], [0.8, 0.2]])
    (bias,) = task.signed_errors(np.array([1.0, 0.0]), answers).values()
    assert bias.mean() == pytest.approx(0.4 - 0.5)


def test_the_bias_of_a_log_target_is_in_log_units_and_of_another_in_its_unit():
    observed, answers = np.array([100.0, 100.0]), np.array([110.0, 90.0])
    log = task_of(table(transform="log", range=[1.0, 1000.0]))
    assert log.signed_errors(observed, answers)["y"] == pytest.approx(np.log([1.1, 0.9]))
    plain = task_of(table(unit="minutes"))
    assert plain.signed_errors(observed, answers)["y"].tolist() == [10.0, -10.0]


def test_parity_near_zero_is_held_against_the_spread_of_the_target():
    task = task_of(table(unit="minutes"))
    spread = task.spread(np.linspace(-50, 50, 1001))
    assert spread == pytest.approx(90)
    apart = task.apart(np.array([1e-9]), np.array([4e-6]), spread)
    assert apart.max() < 1e-6
    of_classes = task_of(table("binary", **YES))
    assert of_classes.apart(np.array([[0.5, 0.5]]), np.array([[0.4, 0.6]])) == pytest.approx([0.1])


def test_yes_is_answered_from_the_threshold_on():
    task = task_of(table("binary", classes=["yes", "no"], positive="yes"))
    answers = np.array([[0.3, 0.7], [0.1, 0.9]])
    assert task.decided(answers) == ["no", "no"]
    assert task.decided(answers, {"threshold": 0.3}) == ["yes", "no"]


def test_what_people_read_has_the_unit_of_the_contract():
    log = task_of(table(transform="log", range=[1.0, 9.0])).measure
    assert (log.said(0.1106), log.said_change(-0.0052)) == ("11.1 %", "-0.520 points")
    minutes = task_of(table(unit="minutes")).measure
    assert (minutes.said(29.13), minutes.said_change(1234.6)) == ("29.1 minutes", "+1,235 minutes")
    assert task_of(table("binary", **YES)).measure.said(0.4742) == "0.474"


def test_a_figure_never_says_a_unit_twice():
    assert table(unit="minutes").label("y") == "y (minutes)"
    assert table(unit="Y").label("y") == "y"
    assert table().label("y") == "y"


def test_metrics_of_classes_have_known_values():
    task = task_of(table("binary", **YES))
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    found = task.metrics(np.array([0.0, 1.0, 0.0, 1.0]), answers)
    assert found["accuracy"] == 0.5
    assert found["recall_yes"] == 0.5
    assert found["precision_yes"] == 0.5
    assert found["roc_auc"] == 0.75
    assert found["bias"] == pytest.approx(0.45 - 0.5)
    alone = task.metrics(np.array([0.0, 0.0, 0.0, 0.0]), answers)
    assert "roc_auc" not in alone
    assert "recall_yes" not in alone


def test_nobody_but_the_seam_asks_for_the_task():
    """No module compares the task, or the transform, of a contract with a word.

    What `init` proposes is an aim, of a contract that does not exist yet.
    """
    asks = re.compile(r"(?<!aim\.)task\s*[=!]=|\.task\b\s*in\b|transform\s*[=!]=")
    allowed = {"models/task.py", "project/target.py", "project/target_faults.py"}
    library = ROOT / "src" / "loopbook"
    found = {
        str(path.relative_to(library)): asks.findall(path.read_text())
        for path in library.rglob("*.py")
    }
    assert {name for name, hits in found.items() if hits} <= allowed
