"""Figures of errors: by the kind of target, in the task's measure."""

from datetime import datetime

import numpy as np
import pytest
from test_task import KINDS, YES, table

from loopbook.models.evaluation import Interval
from loopbook.models.task import task_of
from loopbook.pages import error_plots, figures

NUMBER = task_of(table(unit="minutes"))
BINARY = task_of(table("binary", **YES))
SEVERAL = task_of(table("multiclass", **KINDS))
OF_YES = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
OF_SEVERAL = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2]])


def texts(figure) -> list[str]:
    """All that is written on the first axis."""
    (axis, *_) = figure.axes
    ticks = [*axis.get_xticklabels(), *axis.get_yticklabels()]
    written = [*axis.texts, *ticks, axis.xaxis.label, axis.yaxis.label]
    return [text.get_text() for text in written]


def test_the_name_of_an_axis_takes_as_many_lines_as_a_phone_asks_for():
    rows = {"baseline": Interval(2.5, 1.8, 3.2, 984)}
    label = "change of the mean absolute log error (points), against ridge"
    (axis,) = error_plots.changes(rows, NUMBER.measure, label).axes
    assert axis.get_xlabel() == label
    with figures.on_a_phone():
        (axis,) = error_plots.changes(rows, NUMBER.measure, label).axes
    assert axis.get_xlabel().split("\n") == [
        "change of the mean absolute log error (points),",
        "against ridge",
    ]


def drawn(axis) -> np.ndarray:
    """The points of all lines of an axis, shape (n, 2)."""
    return np.concatenate([line.get_xydata() for line in axis.lines])


@pytest.mark.medium
def test_the_figures_of_a_model_follow_from_the_kind_of_its_target():
    values = np.array([1.0, 2.0])
    assert list(error_plots.errors(NUMBER, values, values)) == [
        "predicted_against_observed",
        "residuals",
    ]
    for task, answers in ((BINARY, OF_YES), (SEVERAL, OF_SEVERAL)):
        found = error_plots.errors(task, np.arange(len(answers)) % 2, answers)
        assert list(found) == ["confusion", "probabilities"]
        assert all(figure.reading and figure._repr_png_() for figure in found.values())


def test_residuals_of_a_target_with_a_sign_are_in_its_unit():
    observed, answers = np.array([-10.0, 0.0, 30.0]), np.array([-5.0, 0.0, 25.0])
    (axis,) = error_plots.errors(NUMBER, observed, answers)["residuals"].axes
    assert axis.get_xlabel() == "signed error (minutes)"
    assert max(bar.get_x() + bar.get_width() for bar in axis.patches) == pytest.approx(5)


def test_a_scatter_of_many_rows_shows_some_and_says_so():
    many = np.linspace(1, 2, 12_000)
    figure = error_plots.errors(NUMBER, many, many)["predicted_against_observed"]
    assert len(figure.axes[0].collections[0].get_offsets()) == 4_000
    assert "4,000 of 12,000 rows" in figure.reading


def test_a_row_of_the_confusion_says_how_often_each_class_was_answered_to_one():
    observed = np.array([0.0, 1.0, 0.0, 1.0])
    figure = error_plots.errors(BINARY, observed, OF_YES)["confusion"]
    (picture,) = figure.axes[0].images
    assert picture.get_array().tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert "yes (n = 2)" in texts(figure)
    careful = error_plots.errors(BINARY, observed, OF_YES, {"threshold": 0.2})["confusion"]
    assert careful.axes[0].images[0].get_array().tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert "`yes` is answered from a probability of 20.0 % on" in careful.reading


def test_the_rarest_of_many_classes_share_a_row_of_the_confusion():
    task = task_of(table("multiclass", classes=[f"c{n}" for n in range(20)]))
    observed = np.array([0, *range(20)], float)
    answers = np.eye(20)[observed.astype(int)]
    figure = error_plots.errors(task, observed, answers)["confusion"]
    assert figure.axes[0].images[0].get_array().tolist() == np.eye(12).tolist()
    assert "9 others (n = 9)" in texts(figure)
    assert "share the last row" in figure.reading
    answers[-1] = answers[-2]  # one of the others is taken for another of them
    mistaken = error_plots.errors(task, observed, answers)["confusion"].axes[0].images[0]
    assert mistaken.get_array()[-1, -1] == pytest.approx(8 / 9)


def test_a_threshold_that_no_probability_reaches_is_told_as_never():
    figure = error_plots.errors(BINARY, np.array([0, 1, 0, 1.0]), OF_YES, {"threshold": 1.1})
    assert "`yes` is never answered" in figure["probabilities"].reading


def test_a_class_that_no_row_has_leaves_its_row_of_the_confusion_empty():
    figure = error_plots.errors(SEVERAL, np.array([0.0, 1.0, 0.0]), OF_SEVERAL)["confusion"]
    assert "c (n = 0)" in texts(figure)
    assert np.isfinite(figure.axes[0].images[0].get_array()).all()


def test_calibration_of_classes_is_a_probability_against_a_share_from_0_to_1():
    figure = error_plots.calibration(BINARY, np.array([0, 1, 0, 1.0]), {"champion": OF_YES}, 2)
    (axis,) = figure.axes
    line, points = axis.lines
    assert line.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert points.get_xydata().tolist() == [
        [pytest.approx(0.2), pytest.approx(0.5)],
        [pytest.approx(0.7), pytest.approx(0.5)],
    ]
    assert axis.get_xlabel() == "mean probability of yes"
    several = error_plots.calibration(SEVERAL, np.array([0, 1, 0.0]), {"champion": OF_SEVERAL})
    assert several.axes[0].get_ylabel() == "share of rows with a class"


def test_answers_that_are_equal_are_one_point_of_the_calibration():
    """Apart, which row stands where would look like an error of a model that is right on average."""
    observed, same = np.repeat([0.0, 1.0], [700, 300]), np.tile([0.7, 0.3], (1000, 1))
    assert BINARY.calibration(observed, same).rows() == [
        (pytest.approx(0.3), pytest.approx(0.3), 1000)
    ]
    assert BINARY.metrics(observed, same)["calibration_error"] == pytest.approx(0)
    half = same.copy()
    half[:500] = [0.9, 0.1]
    assert BINARY.calibration(observed, half)["n"].to_list() == [500, 500]


def test_differences_are_drawn_in_the_unit_of_the_measure():
    rows = {"all rows": Interval(-0.02, -0.03, -0.01, 9)}
    log = task_of(table(transform="log", range=[1.0, 9.0])).measure
    (axis,) = error_plots.changes(rows, log, margin=0.01).axes
    assert axis.get_xlabel() == "change of the mean absolute log error (points)"
    assert {-3.0, -2.0, -1.0, 1.0} <= set(drawn(axis)[:, 0].round(6).tolist())
    (axis,) = error_plots.changes(rows, BINARY.measure).axes
    assert axis.get_xlabel() == "change of the log loss"
    assert -0.02 in drawn(axis)[:, 0]


def test_a_name_is_whole_in_a_sentence():
    name = "with_history against hist_gradient_boosting"
    told = error_plots.changes({name: Interval(0.1, -0.2, 0.4, 90)}, NUMBER.measure).finding
    assert told.startswith(f"{name}: +0.100 minutes")


BETTER, WORSE, NEITHER = Interval(-2, -3, -1, 9), Interval(2, 1, 3, 9), Interval(0, -1, 1, 9)


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([WORSE, NEITHER], "1 of 3 is better beyond doubt and 1 is worse"),
        ([BETTER, NEITHER], "2 of 3 are better beyond doubt and none is worse"),
        ([BETTER, BETTER], "All 3 are better beyond doubt"),
    ],
)
def test_several_are_counted_as_better_and_worse_beyond_doubt(others, told):
    rows = dict(zip(("all rows", "a", "b"), [BETTER, *others], strict=True))
    assert error_plots.changes(rows, NUMBER.measure).finding == (
        f"{told}; all rows: -2.00 minutes (-3.00 minutes to -1.00 minutes, n = 9)."
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([WORSE] * 6, "All 6 are worse beyond doubt; a: +2.00 minutes"),
        ([WORSE, NEITHER, NEITHER], "1 of 3 is worse beyond doubt and none is better; a: "),
        ([NEITHER] * 3, "None of 3 differs beyond doubt; a: 0 minutes"),
    ],
)
def test_that_none_is_better_is_no_count_of_none(rows, told):
    named = dict(zip("abcdef", rows, strict=False))
    assert error_plots.changes(named, NUMBER.measure).finding.startswith(told)


def test_of_two_lines_both_are_told():
    """An idea that makes the model worse was counted, and not named."""
    rows = {"a against b": Interval(-2, -3, -1, 9), "c against d": Interval(2, 1, 3, 9)}
    told = error_plots.changes(rows, NUMBER.measure).finding
    assert "c against d: +2.00 minutes" in told


def test_a_bias_is_named_only_where_it_is_beyond_doubt():
    off, maybe = Interval(2, 1, 3, 9), Interval(-3, -7, 1, 9)
    told = error_plots.biases({"a": off, "b": maybe}, NUMBER.bias_measure).finding
    both = error_plots.biases({"a": off, "b": Interval(3, 2, 4, 9)}, NUMBER.bias_measure).finding
    assert both.startswith("2 of 2 differ from zero beyond doubt, most of all b, at +3.00 minutes")
    assert (
        told
        == "1 of 2 differs from zero beyond doubt: a, at +2.00 minutes (+1.00 minutes to +3.00 minutes, n = 9)."
    )
    told = error_plots.biases({"b": maybe}, NUMBER.bias_measure).finding
    assert told.startswith("None differs from zero beyond doubt; farthest is b, at -3.00 minutes")


def test_a_calibration_says_its_farthest_group_in_the_unit_of_the_target():
    observed = np.array([10.0, 10.0, 40.0, 40.0])
    answers = {"champion": np.array([10.0, 10.0, 35.0, 35.0])}
    found = error_plots.calibration(NUMBER, observed, answers, 2)
    assert found.finding == (
        "Of 2 groups of rows, the farthest off: champion predicted 35 minutes and came to 40 minutes."
    )
    of_yes = error_plots.calibration(BINARY, np.array([0, 1, 0, 1.0]), {"champion": OF_YES}, 2)
    assert "champion predicted 20.0 % and came to 50.0 %" in of_yes.finding


def test_an_axis_of_logs_has_more_than_the_powers_of_ten():
    log = task_of(table(transform="log", range=[1.0, 9e6]))
    values = np.geomspace(1e5, 3e6, 50)
    (axis,) = error_plots.errors(log, values, values)["predicted_against_observed"].axes
    assert {"200 k", "500 k", "1 M", "2 M"} <= set(texts(axis.figure))


def test_a_bias_is_as_bad_below_zero_as_above():
    rows = {"a": Interval(-2.0, -3.0, -1.0, 9), "b": Interval(2.0, 1.0, 3.0, 9)}
    (axis,) = error_plots.biases(rows, NUMBER.bias_measure).axes
    assert len({line.get_color() for line in axis.lines[:4]}) == 1
    assert axis.get_xlabel() == "bias (minutes)"


def test_errors_over_time_and_by_slice_stand_in_the_unit_of_the_measure():
    periods = [
        {
            "period": datetime(2025, 1, 6),
            "error": 29.0,
            "low": 28.0,
            "high": 31.0,
            "estimated": 27.0,
        }
    ]
    (axis,) = error_plots.over_time(periods, 28.5, NUMBER.measure).axes
    assert axis.get_ylabel() == "mean absolute error (minutes)"
    assert {29.0, 27.0, 28.5} <= set(drawn(axis)[:, 1].tolist())
    low, high = axis.get_xlim()
    assert high - low == 14
    (axis,) = error_plots.slices({"all rows": Interval(29, 28, 31, 9)}, NUMBER.measure).axes
    assert axis.get_xlabel() == "mean absolute error (minutes)"


def test_where_nothing_is_known_a_sentence_stands_and_no_empty_axis():
    for figure in (
        error_plots.over_time([], None, NUMBER.measure),
        error_plots.over_time(
            [{"period": datetime(2025, 1, 6), "error": None}], 2.0, NUMBER.measure
        ),
        error_plots.slices({}, NUMBER.measure),
        error_plots.changes({}, NUMBER.measure),
        error_plots.biases({}, NUMBER.measure),
        *error_plots.errors(NUMBER, np.array([]), np.array([])).values(),
        error_plots.calibration(BINARY, np.array([]), {"champion": np.empty((0, 2))}),
    ):
        assert texts(figure)[0] == "nothing to show in this window"


@pytest.mark.parametrize(("count", "look"), [(60, (18, 0.8)), (3_000, (7, 0.35))])
def test_a_few_points_are_large_enough_to_be_seen(count, look):
    values = np.linspace(1.0, 9.0, count)
    drawn = error_plots.errors(NUMBER, values, values)["predicted_against_observed"]
    (points,) = drawn.axes[0].collections
    assert (points.get_sizes()[0], points.get_alpha()) == look
