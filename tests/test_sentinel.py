"""What a contract says to a leak: it stops a build, is a question, or is accepted and told."""

import numpy as np
import polars as pl
import pytest

from loopbook.data import splits
from loopbook.data.rehearsal import Rehearsed
from loopbook.models import sentinel
from loopbook.project.contract import Contract
from loopbook.project.errors import DataError

ROWS = 600


def table(**change) -> Contract:
    number = {"type": "number", "example": 1.0, "meaning": "A number."}
    about = {
        "name": "hours",
        "meaning": "One row is an hour.",
        "task": "regression",
        "source": {"path": "hours.csv"},
        "key": ["id"],
        "target": {"name": "total", "meaning": "All."},
        "features": dict.fromkeys(("members", "guests", "heat"), number),
    }
    return Contract.model_validate(about | change)


def rows() -> pl.DataFrame:
    """Members and guests are all that there are."""
    draw = np.random.default_rng(3)
    columns = {"members": draw.normal(50, 9, ROWS), "guests": draw.normal(20, 9, ROWS)}
    made = pl.DataFrame({"id": range(ROWS)} | columns | {"heat": draw.normal(9, 3, ROWS)})
    return made.with_columns(total=pl.col("members") + pl.col("guests"))


def rehearsed(contract: Contract) -> list[str]:
    parted = rows().with_columns(pl.Series(splits.PART, ["train", "train", "test"] * (ROWS // 3)))
    done = Rehearsed("hours.csv", ROWS, ROWS, None, {}, parted=parted, with_unlabelled=rows())
    return list(sentinel.rehearsed(done, contract))


def test_inputs_that_come_to_the_target_stop_with_their_names_and_the_remedy():
    with pytest.raises(DataError) as refused:
        rehearsed(table())
    told = str(refused.value)
    assert "the target total follows from members, guests" in told
    assert "members + guests is the target in 100.0 % of the rows" in told
    assert "{column: members, known: after}" in told
    assert 'leaks: {members: {accepted: "…"}}' in told


def test_a_leak_is_accepted_where_each_of_its_columns_is():
    one, both = ({n: {"accepted": "Counted before."} for n in names} for names in (["members"], ["members", "guests"]))  # fmt: skip
    with pytest.raises(DataError, match="the target total follows from guests,"):
        rehearsed(table(leaks=one))
    (sentence,) = rehearsed(table(leaks=both))
    assert sentence.endswith("Accepted: Counted before.")
    (answered,) = sentinel.of_table(rows(), table(leaks=both))
    assert answered.as_dict()["accepted"] == dict.fromkeys(both, "Counted before.")


def test_inputs_made_of_an_accepted_leak_are_accepted_with_it():
    derived = {"twice": {"formula": "members * 2", "meaning": "Twice."}}
    accepted = table(leaks={"members": {"accepted": "Counted before."}}, derived=derived)
    assert sentinel.unaccepted(accepted) == ["guests", "heat"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"leaks": {"id": {"accepted": "Why."}}}, "leaks.id: no feature of that name"),
        ({"leaks": {"heat": {"accepted": ""}}}, "at least 1 character"),
        ({"leaks": {"heat": "accepted"}}, "leaks.heat"),
        ({"ignored": [{"column": "x", "known": "later"}]}, "'after'"),
        ({"ignored": [{"column": "heat", "known": "after"}]}, "'heat' is in use elsewhere"),
        ({"group": "total"}, "group: 'total' is neither a feature nor in key"),
    ],
)
def test_what_is_said_to_no_input_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        table(**change)


def test_what_is_known_afterwards_is_ignored_and_kept_by_name():
    told = table(ignored=["note", {"column": "closed at", "known": "after"}])
    assert told.ignored_headers == ["note", "closed at"]
    assert told.known_after == ["closed at"]


def test_rows_of_a_group_stay_in_one_part_and_rows_of_none_by_their_key():
    bird = pl.Series("bird", [str(i // 4) if i % 4 else None for i in range(2000)])
    made = rows().sample(2000, with_replacement=True, seed=1).with_columns(id=pl.int_range(2000))
    category = {"type": "category", "example": "1", "meaning": "Which bird."}
    told = table(group="bird", features={"bird": category})
    parted, _ = splits.split(
        made.with_columns(bird), told, validation_days=1, test_days=1, holdout_share=0.2
    )
    known = parted.drop_nulls("bird")
    assert known.group_by("bird").agg(pl.col(splits.PART).n_unique())[splits.PART].max() == 1
    loose = parted.filter(pl.col("bird").is_null())
    assert set(loose[splits.PART]) == set(splits.PARTS)
