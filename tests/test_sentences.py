"""Sentences and tables of notebooks: what they say of numbers that are known, and never as markup."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopbook.models.measures import Measure, amount
from loopbook.pages import formats, plots, reading, sentences
from loopbook.project.counts import counted

HOSTILE = "<img src=x onerror=alert(1)> $a$ *b* [c](http://d)"
PERCENT = Measure("error", "%", 100, "points")
MONDAY = datetime(2024, 1, 1)


def weeks(values: list, name: str = "value", skip: tuple[int, ...] = ()) -> pl.DataFrame:
    kept = [k for k in range(len(values)) if k not in skip]
    periods = [MONDAY + timedelta(weeks=k) for k in kept]
    return pl.DataFrame({"period": periods, name: [values[k] for k in kept]})


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "0 rows"), (1, "1 row"), (1.0, "1 row"), (2, "2 rows"), (0.5, "0.5 rows"),
     (np.int64(21_613), "21,613 rows")],
)  # fmt: skip
def test_one_of_something_is_no_several(number, told):
    assert counted(number, "row") == told
    assert counted(number, "row has", "rows have").startswith(told)


@pytest.mark.parametrize(
    ("value", "digits", "told"),
    [(0.0, 1, "0.0 %"), (0.0003, 1, "under 0.1 %"), (0.0005, 1, "0.1 %"), (0.004, 0, "under 1 %"),
     (0.128, 1, "12.8 %"), (1.0, 0, "100 %")],
)  # fmt: skip
def test_a_share_that_is_not_none_is_never_told_as_none(value, digits, told):
    assert formats.share(value, digits) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(1e-7, "0.000000100"), (2.346e-5, "0.0000235"), (0.00012, "0.000120"), (1e-13, "1.0e-13")],
)
def test_an_amount_has_three_digits_and_no_exponent_that_a_reader_meets(value, told):
    assert amount(value) == told
    assert amount(value, signed=True) == f"+{told}"
    assert amount(0.0, signed=True) == amount(-0.0) == "0"  # none at all has no sign


def test_a_table_has_no_type_no_quotes_and_its_amounts_at_the_right():
    rows = [
        {"class": "a", "rows": 1200, "share": reading.per_cent(0.02), "loss": 0.123456, "ok": True},
        {"class": "b", "rows": None, "share": reading.per_cent(None), "loss": 1234.5, "ok": False},
    ]
    shown = reading.table(rows)
    assert repr(shown).splitlines() == [
        "class   rows      share   loss  ok",
        "a      1,200      2.0 %  0.123  yes",
        "b          –  not known  1,234  no",
    ]
    page = shown._repr_html_()
    assert page.count('<td style="text-align: right">') == 6
    assert "f64" not in page
    assert "shape" not in page
    assert "&quot;" not in page


def test_a_table_without_rows_is_a_sentence():
    assert reading.table([], none="Every row has a value.") == "Every row has a value."


def test_a_value_of_the_data_is_neither_markup_nor_a_formula_in_a_table_or_a_sentence():
    page = reading.table([{HOSTILE: HOSTILE}])._repr_html_()
    assert "<img" not in page
    assert page.count("$") == page.count("<span>$</span>") == 4
    told = reading.Sentence(HOSTILE)._repr_markdown_()
    assert "<img" not in told.replace("&lt;", "")
    assert told.count("$") == told.count("<span>$</span>") == 2
    assert r"\*b\*" in told
    assert "](http" not in told


def test_a_list_of_what_is_wrong_holds_no_markup_of_the_data():
    told = reading.bullets([HOSTILE, "`a`\n# b"])
    assert told.count("\n- ") == 1
    assert "<img" not in told.replace("&lt;", "")
    assert r"\`a\`" in told
    assert reading.bullets([], none="None *is*.") == r"None \*is\*\."


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (634_123.4, "USD", "634,123 USD"),
        (1975.0, "year", "1975"),
        (2_000_000.0, None, "2,000,000"),
        (2.25, "count", "2.25"),
        (0.1234, "miles", "0.123 miles"),
        (None, "USD", "not known"),
        (float("nan"), "USD", "not known"),
    ],
)
def test_an_amount_has_three_digits_and_its_unit_and_a_year_has_neither(number, unit, text):
    assert reading.in_unit(number, unit) == text


def test_counts_by_week_say_how_many_are_missing_and_which_are_small():
    told = sentences.of_counts(weeks([40, 40, 40, 2, 40, 40], skip=(2,)))
    assert "the median week has 40 rows" in told
    assert "1 week in between has none" in told
    assert "the week of 22 January 2024" in told
    assert "No week is missing" in sentences.of_counts(weeks([40, 41, 42]))
    days = pl.DataFrame(
        {"period": [MONDAY + timedelta(k) for k in range(5)], "value": [9, 9, 1, 9, 9]}
    )
    told = sentences.of_counts(days, "answers", "day")
    assert told.startswith("From 1 January 2024 to 5 January 2024, the median day has 9 answers")
    assert told.endswith("Under a quarter of the median: 3 January 2024.")
    assert sentences.of_counts(weeks([])) == sentences.NOTHING


def test_a_line_says_from_where_to_where_it_went():
    rising = sentences.of_line(weeks([1.0] * 4 + [2.0] * 4, "share of a"), reading.in_unit)
    assert rising == "Share of a rose from 1 to 2 (first 4 weeks against last 4 weeks)."
    both = sentences.of_line(weeks([1.0] * 4 + [2.0] * 4, "a").with_columns(b=5.0), reading.in_unit)
    assert both == "A rose from 1 to 2; b is 5 throughout (first 4 weeks against last 4 weeks)."
    assert "1 throughout" in sentences.of_line(weeks([1.0] * 8), reading.in_unit)
    assert "the one week" in sentences.of_line(weeks([1.0]), reading.in_unit)


def test_the_last_group_is_held_against_the_first():
    groups = {"train": np.array([1.0, 2.0, 3.0]), "test": np.array([2.0, 3.0, 4.0])}
    told = sentences.of_groups(groups, "USD")
    assert told == (
        "The median of test is 50.0 % above that of train. Medians: train 2 USD; test 3 USD."
    )
    words = {"train": pl.Series(["a", "b"]), "test": pl.Series(["b", "b", None])}
    told = sentences.of_groups(words, order=["a", "b"])
    assert (
        told == "“a” differs most: it is 50.0 % of the rows of train, and 0.0 % of those of test."
    )
    assert sentences.of_groups({"all": pl.Series([], dtype=pl.String)}) == "No row has a value."


def test_one_group_has_its_middle_its_ends_and_what_is_missing():
    told = sentences.of_groups({"built": np.array([1900.0, 1950.0, 2000.0, np.nan])}, "year")
    assert "The median is 1950" in told
    assert "all between 1900 and 2000. 1 row has no value." in told


def test_a_candidate_that_may_not_challenge_is_told_though_its_error_is_less():
    told = sentences.of_best(["a", "baseline"], [0.2, 0.1], PERCENT.said, "a")
    assert told == "a has 20.0 %; baseline has less, 10.0 %, and cannot be the challenger."
    assert "next one is b with 30.0 %" in sentences.of_best(
        ["a", "b"], [0.2, 0.3], PERCENT.said, "a"
    )


def test_a_name_that_is_below_zero_is_among_those_with_no_more_than_zero():
    """A feature that lowers the error when it is shuffled does not raise it."""
    told = sentences.of_ranking(["a", "b", "c", "d"], [2, 1, 0, -0.5], str, little=0)
    assert told == "The largest of 4: a 2, b 1 and d -0.5. 2 have 0 or less."


def test_a_figure_stands_between_how_it_is_read_and_what_it_shows():
    picture = plots.ranking(["a", "b"], [2.0, 1.0], "x")
    picture.reading, picture.finding = "Look at *both* ends.", "No row has a value."
    above, drawn, below = reading.explained(picture)
    assert (above._repr_markdown_(), drawn) == ("Look at *both* ends.", picture)
    assert below == "No row has a value."
    picture.finding = picture.reading = HOSTILE
    above, _, below = (
        getattr(part, "_repr_markdown_", str)() for part in reading.explained(picture)
    )
    assert "<img" not in above + below
    assert "](" not in above + below
