"""`--target 'delay > 15'`: a yes or no that a comparison makes of a column."""

import random

import polars as pl
import pytest
from test_proposal import placed

from loopbook.data import sources
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError


def landings(rows: int = 400) -> pl.DataFrame:
    """Flights with a delay in minutes, missing where none landed."""
    draw = random.Random(4)
    delays = [None if i % 20 == 3 else draw.randint(-20, 60) for i in range(rows)]
    return pl.DataFrame({
        "wind": [draw.gauss(5, 1) for _ in range(rows)],
        "carrier": [draw.choice(["AA", "UA"]) for _ in range(rows)],
        "Delay (min)": delays,
        "told": ["n/a" if d is None else f"{d} min" for d in delays],
        "state": [draw.choice(["late", "on time", "gone"]) for _ in range(rows)],
    })  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    ("wish", "target", "right"),
    [
        ("Delay (min) > 15", "delay_min_over_15", lambda delay, _: delay > 15),
        ("delay_min<=-2.5", "delay_min_up_to_minus_2_5", lambda delay, _: delay <= -2.5),
        ("told >= 30", "told_from_30", lambda delay, _: delay >= 30),
        ("state = on time", "state_is_on_time", lambda _, state: state == "on time"),
        ("state != 'gone'", "state_is_not_gone", lambda _, state: state != "gone"),
    ],
)
def test_a_comparison_makes_a_target_and_leaves_its_column_out(tmp_path, name, wish, target, right):
    table = landings()
    proposal, became = placed(table, tmp_path, name, target=wish)
    assert became.is_sound, became.check
    assert (proposal.aim.task, proposal.target.name) == ("binary", target)
    assert proposal.made.header in proposal.roles.ignored
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    pairs = zip(table["Delay (min)"], table["state"], strict=True)
    of_delay = proposal.made.header != "state"
    expected = [
        str(right(delay, state)).lower()
        for delay, state in pairs
        if not (of_delay and delay is None)
    ]
    assert sorted(rows[target].drop_nulls()) == sorted(expected)


def test_a_made_target_is_marked_as_what_makes_it(tmp_path):
    placed(landings(), tmp_path, target="Delay (min) > 15")
    text = (tmp_path / "contract.yaml").read_text()
    assert "unlabelled: drop" in text
    assert "meaning: Whether Delay (min) > 15." in text
    assert "- Delay (min)  # delay_min_over_15 is made of it" in text


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("dely > 15", "has no column 'dely'"),
        ("Delay (min) > soon", "holds numbers, and 'soon' is none"),
        ("state > 3", "a category by = and !="),
        ("state = lost", "no row has 'lost' there; there are gone, late, on time"),
        (
            "Delay (min) > 500",
            "is false in every row, so there is nothing to learn; Delay (min) goes from -20 to 60",
        ),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_with_what_could_be(tmp_path, wish, said):
    with pytest.raises(LoopbookError) as caught:
        placed(landings(), tmp_path, target=wish)
    assert said in str(caught.value)


def test_a_header_with_a_sign_is_a_header(tmp_path):
    table = landings().rename({"carrier": "a > b"})
    proposal, _ = placed(table, tmp_path, target="a > b")
    assert (proposal.made, proposal.target.header) == (None, "a > b")
