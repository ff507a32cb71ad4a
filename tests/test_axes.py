"""Axes: a share stands as per cent as in its sentence; and what sentences say of classes."""

import polars as pl
import pytest

from loopbook.models.evaluation import Interval
from loopbook.models.measures import LOG_LOSS
from loopbook.pages import axes, error_words, plots, sentences


def ticks(axis) -> list[str]:
    axis.figure.canvas.draw()
    return [label.get_text() for label in axis.get_ticklabels() if label.get_text()]


@pytest.mark.parametrize("label", axes.SHARES)
def test_a_share_is_per_cent_on_its_axis_and_below_the_bar(label):
    """The axis went to 0.010 where the sentence said 1.1 %."""
    figure = plots.ranking(["rain", "carrier"], [0.011, 0.004], label)
    assert all(text.endswith(" %") for text in ticks(figure.axes[0].xaxis))
    assert figure.finding == "rain comes first with 1.1 %, carrier last with 0.4 %."
    weeks = pl.DataFrame({"period": [1, 2], "value": [0.2, 0.3]})
    assert all(t.endswith(" %") for t in ticks(plots.over_time(weeks, label).axes[0].yaxis))


def test_a_single_difference_says_whether_it_may_be_chance():
    def told(low: float, high: float) -> str:
        rows = {"a against b": Interval((low + high) / 2, low, high, 90)}
        return error_words.changed(rows, LOG_LOSS).rpartition("; ")[2]

    assert told(-0.004, 0.012) == "that may be chance."
    assert told(-0.012, -0.004) == "better beyond doubt."
    assert told(0.004, 0.012) == "worse beyond doubt."


def test_the_threshold_of_a_yes_is_told_with_what_it_saves():
    """It was `threshold 0.191; cost 0.501; cost at half 0.687; …`."""
    decision = {"threshold": 0.191, "cost": 0.5012, "cost_at_half": 0.687}
    decision |= {"cost_of_no": 0.855, "cost_of_yes": 0.715, "rows": 3043}
    assert sentences.of_decision(decision, "late") == (
        "Chosen on 3,043 rows: “late” is answered from a probability of 19.1 % on, and a row then "
        "costs 0.501 on average. From 50 % on it would cost 0.687, with “late” never answered "
        "0.855, always answered 0.715."
    )
    never = sentences.of_decision(decision | {"threshold": 1.1}, "late")
    assert "“late” is never answered, and" in never
