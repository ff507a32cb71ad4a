"""Figures of columns: numbers and words alike."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from test_error_plots import texts
from test_task import KINDS, YES, table

from loopbook.models.task import task_of
from loopbook.monitoring.drift import ColumnDrift
from loopbook.pages import figures, plots


def bars(figure) -> list[list[float]]:
    """The lengths of the bars of each group."""
    (axis,) = figure.axes
    return [[bar.get_width() for bar in group] for group in axis.containers]


def title(figure) -> str:
    return figure.axes[0].get_title(loc="left")


def test_a_column_of_words_has_bars_in_the_order_of_the_contract():
    groups = {"train": pl.Series(["b", "a", "b", None]), "test": pl.Series(["a", "a"])}
    figure = plots.distribution(groups, "kind", order=["c", "a", "b"])
    assert bars(figure) == [[pytest.approx(1 / 3), pytest.approx(2 / 3)], [1.0, 0.0]]
    assert {"a", "b", "share of rows", "kind"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        (np.array([3, 1, 2, 3, 3]), [0.5, 1.5, 2.5, 3.5]),
        (np.array([1.0, np.nan, 2.0]), [0.5, 1.5, 2.5]),
        (np.array([0.5, 1.0, 2.0]), 50),
        (np.arange(900), 50),
    ],
)
def test_of_few_whole_numbers_each_has_a_bar_of_its_own(values, edges):
    (bars,) = plots.distribution({"value": values}, "hour").axes[0].patches
    drawn = np.unique(bars.get_xy()[:, 0])
    if isinstance(edges, list):
        assert drawn == pytest.approx(edges)
    else:
        assert drawn.size == edges


def test_the_rarest_of_many_words_share_a_bar():
    values = [f"w{n}" for n in range(30) for _ in range(30 - n)]
    figure = plots.distribution({"all": pl.Series(values)}, "word")
    (lengths,) = bars(figure)
    assert len(lengths) == 12
    assert sum(lengths) == pytest.approx(1)
    assert "19 others" in texts(figure)
    assert lengths[-1] == pytest.approx(sum(range(1, 20)) / len(values))


@pytest.mark.parametrize("none", [pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.Float64)])
def test_a_column_without_a_value_is_told(none):
    assert "no row has a value" in texts(plots.distribution({"all": none}, "it"))


def test_numbers_of_a_frame_are_drawn_as_those_of_an_array():
    for values in (pl.Series([1, 2, None]), pl.Series([1.0, 2.0]), np.array([1.0, 2.0])):
        assert plots.distribution({"all": values}, "it").axes[0].get_ylabel() == "share of rows"


def test_what_happened_has_a_mean_that_says_something_whatever_the_target_is():
    yes = task_of(table("binary", **YES)).outcomes(np.array([0.0, 1.0, 1.0, 1.0]))
    assert {name: values.mean() for name, values in yes.items()} == {"share of yes": 0.75}
    several = task_of(table("multiclass", **KINDS)).outcomes(np.array([2.0, 1.0, 2.0]), most=2)
    assert list(several) == ["share of b", "share of c"]
    assert task_of(table()).outcomes(np.array([3.0]))["mean y"].tolist() == [3.0]


def test_the_names_of_two_marks_that_are_near_do_not_touch():
    days = [datetime(2024, 1, 1) + timedelta(days=k) for k in range(60)]
    marks = {"validation": days[50], "test": days[54]}
    picture = plots.over_time(
        pl.DataFrame({"period": days, "value": days}).with_columns(value=1), "rows", marks
    )
    picture.draw_without_rendering()
    one, other = (text.get_window_extent() for text in picture.axes[0].texts)
    assert not one.overlaps(other)


def test_several_lines_over_time_are_told_apart_by_name():
    frame = pl.DataFrame({"period": [1, 2], "share of a": [0.2, 0.3], "share of b": [0.8, 0.7]})
    (axis,) = plots.over_time(frame, "kind").axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == frame.columns[1:]
    alone = plots.over_time(pl.DataFrame({"period": [1, 2], "value": [1, 2]}), "rows")
    assert alone.axes[0].get_legend() is None


def test_one_period_is_shown_by_its_days_and_not_by_four_years():
    at = datetime(2025, 1, 6)
    frame = pl.DataFrame({"period": [at], "value": [3]})
    low, high = (
        plots.over_time(frame, "rows", {"window": at - timedelta(days=5)}).axes[0].get_xlim()
    )
    assert high - low == 7


def test_captions_of_drift_are_right_for_one_column_and_for_many_answers():
    """`the answers` are many and `size` is one; both stand in the same sentence."""
    shares = {"labels": ["low", "high"], "reference": [0.5, 0.5], "current": [0.4, 0.6]}
    for name, told in (("the answers", "The answers"), ("size (cm)", "Size (cm)")):
        column = ColumnDrift(name, 0.05, 0.1, **shares)
        for columns, none in (
            ([column], "The one column has not"),
            ([column] * 2, "None of 2 columns"),
        ):
            assert plots.beyond_threshold(columns).finding == (
                f"{none} moved beyond chance; the distance of {name} is nearest to its threshold, "
                "at 50 % of it."
            )
        with figures.on_a_phone():  # where a distance beside the name would be cut off
            assert title(plots.shares([column])) == name
        assert title(plots.shares([column])) == f"{name}: distance 0.0500, threshold 0.100"
        assert plots.shares([column]).finding.startswith(f"{told} changed most in the bin “low”:")
