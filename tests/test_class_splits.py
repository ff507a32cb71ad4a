"""Classes in the parts of a split: what cannot be learned is refused, what hardly can is told."""

import numpy as np
import polars as pl
import pytest

from loopbook.data import rehearsal, splits, validation
from loopbook.project.contract import Contract
from loopbook.project.errors import DataError, SplitError
from loopbook.registry import reference


def table(task: str = "multiclass", **target) -> Contract:
    classes = {} if task == "regression" else {"classes": ["a", "b", "c"]}
    return Contract.model_validate(
        {
            "name": "things",
            "meaning": "A row is a thing.",
            "task": task,
            "source": {"path": "rows.parquet"},
            "key": ["id"],
            "target": {"name": "kind", "meaning": "What it is."} | classes | target,
            "features": {"size": {"type": "number", "example": 1.0, "meaning": "How large."}},
        }
    )


def parted(**counts: tuple[int, int, int]) -> pl.DataFrame:
    """So many rows of each class in train, validation and test."""
    rows = [
        {"kind": name, splits.PART: part}
        for name, sizes in counts.items()
        for part, size in zip(splits.PARTS, sizes, strict=True)
        for _ in range(size)
    ]
    return pl.DataFrame(rows)


def test_a_split_in_which_one_class_teaches_is_refused_with_the_knobs():
    """The newest rows alone have the other two."""
    rows = pl.DataFrame({"id": range(2000), "size": 1.0})
    newest = splits.key_fraction(rows, ["id"]) < 0.3
    kinds = np.where(newest, np.resize(["b", "c"], 2000), "a")
    rows = rows.with_columns(pl.Series("kind", kinds))
    with pytest.raises(SplitError) as refused:
        splits.split(rows, table(), validation_days=1, test_days=1, holdout_share=0.15)
    assert "rows of train have the class a, expected at least two classes" in str(refused.value)
    assert "Change holdout_share in env.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"a": (200, 40, 40), "b": (100, 20, 20)}, "no row has the class c: no model can answer"),
        ({"a": (200, 40, 40), "b": (100, 20, 20), "c": (0, 0, 3)}, "class c only test has rows"),
        ({"a": (200, 40, 40), "b": (100, 20, 20), "c": (0, 30, 3)}, "class c train has no row"),
        ({"a": (200, 40, 40), "b": (100, 20, 20), "c": (5, 1, 3)}, "class c fewer than 10 rows"),
        ({"a": (200, 40, 40), "b": (100, 20, 20), "c": (50, 9, 0)}, "class c test has no row"),
    ],
)
def test_a_class_that_lacks_rows_in_a_part_is_told_with_what_follows(counts, told):
    (note,) = splits.class_notes(parted(**counts), table())
    assert told in note


def test_enough_rows_of_each_class_and_any_number_are_no_news():
    some = parted(a=(50, 20, 20), b=(50, 20, 20), c=(50, 20, 20))
    assert splits.class_notes(some, table()) == []
    assert splits.class_notes(some, table("regression")) == []


def test_many_classes_without_rows_are_one_sentence():
    classes = [str(place) for place in range(1000)]
    some = parted(**{"0": (100, 20, 20), "1": (100, 20, 20)})
    (note,) = splits.class_notes(some, table(classes=classes))
    assert "the class 2, 3, 4, 5, 6 and 993 others" in note


def test_a_number_of_two_values_is_told_to_be_a_yes_or_no():
    rows = pl.DataFrame({"kind": [0, 1, 1, 0]})
    hint = rehearsal._of_two_values(rows, table("regression"))
    assert "kind is 0 or 1 and nothing else" in hint
    assert "task: binary and target.classes: [0, 1]" in hint
    assert rehearsal._of_two_values(pl.DataFrame({"kind": [0, 1, 2]}), table("regression")) is None


@pytest.mark.parametrize(
    ("task", "remedy"),
    [
        ("regression", "has task: binary or multiclass, and target.classes lists its values"),
        ("multiclass", "A class that the table may have is added to target.classes"),
    ],
)
def test_a_target_of_other_classes_is_refused_with_the_remedy(task, remedy):
    rows = pl.DataFrame({"id": [1, 2], "size": [1.0, 2.0], "kind": ["a", "other"]})
    with pytest.raises(DataError, match=remedy):
        validation.conform(rows, table(task))


def test_a_reference_of_many_judged_rows_has_rows_that_taught_too(monkeypatch):
    """Or no drift of the inputs could be measured."""
    monkeypatch.setattr(reference, "MOST_ROWS", 400)
    some = parted(a=(900, 300, 700), b=(900, 300, 700)).with_columns(size=pl.lit(1.0))
    answers = np.tile([0.5, 0.5, 0.0], (some.height, 1))
    kept = pl.read_parquet(reference.freeze(some, answers, table(), seed=1))
    assert kept.height == 400
    assert kept.filter(pl.col(splits.PART) == "test").height == 300
    assert kept.schema["answer"] == pl.Array(pl.Float64, 3)
    assert set(kept["observed"]) == {"a", "b"}
