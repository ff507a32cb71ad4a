"""What moves with the target, and what is the target under another name."""

import numpy as np
import polars as pl
import pytest
from test_task import KINDS, YES, table

from loopbook.models import associations
from loopbook.models.task import task_of


def rows(task: str, n: int = 300) -> pl.DataFrame:
    """`up` rises with the target, `noise` does not, `flat` never moves, `other` is its name."""
    rng = np.random.default_rng(4)
    place = rng.integers(0, 3 if task == "multiclass" else 2, n)
    names = {"regression": None, "binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}[task]
    target = place + rng.random(n) if names is None else [names[k] for k in place]
    return pl.DataFrame(
        {
            "y": target,
            "noise": rng.random(n),
            "up": place + rng.normal(0, 0.4, n),
            "flat": 1.0,
            "other": target if names is None else [f"code {k}" for k in place],
        }
    ).with_columns(up=pl.when(pl.int_range(n) > 5).then("up"))


@pytest.mark.parametrize(
    ("task", "target", "of"),
    [("regression", {}, None), ("binary", YES, "yes"), ("multiclass", KINDS, "a")],
)
def test_the_column_that_moves_with_the_target_comes_first(task, target, of):
    about = task_of(table(task, **target))
    found = associations.with_target(about, rows(task), ["flat", "noise", "up"])
    assert [one.column for one in found] == ["up", "noise", "flat"]
    assert abs(found[0].strength) > 0.7
    assert abs(found[1].strength) < 0.3
    assert found[2].strength == 0
    assert found[0].of == of


def test_a_number_that_is_larger_in_each_row_of_the_yes_has_1():
    about = task_of(table("binary", **YES))
    seen = pl.DataFrame({"y": ["no", "yes", "yes", "no"], "x": [1.0, 4.0, 3.0, 2.0]})
    assert associations.with_target(about, seen, ["x"])[0].strength == pytest.approx(1)
    assert associations.with_target(about, seen.with_columns(-pl.col("x")), ["x"])[
        0
    ].strength == pytest.approx(-1)


@pytest.mark.parametrize(
    ("task", "target"), [("regression", {}), ("binary", YES), ("multiclass", KINDS)]
)
def test_a_column_that_is_the_target_under_another_name_is_told(task, target):
    about = task_of(table(task, **target))
    assert associations.tell(about, rows(task), ["up", "noise", "flat", "other"]) == ["other"]


def test_a_measurement_that_tells_the_classes_apart_is_no_name_of_them():
    about = task_of(table("binary", **YES))
    seen = pl.DataFrame({"y": ["no", "yes", "yes", "no"], "x": [1.0, 4.0, 3.0, 2.0]})
    assert associations.tell(about, seen, ["x"]) == []
