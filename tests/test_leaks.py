"""Planted leaks are named with their numbers, and sound columns are not."""

import numpy as np
import polars as pl
import pytest

from loopbook.models import explained, leaks, sentinel, split_leaks, target_functions

ROWS = 1200


def sound() -> pl.DataFrame:
    """A table of four columns that say something about `y`, none of them too much."""
    draw = np.random.default_rng(7)
    wind, heat = draw.normal(5, 1, ROWS), draw.normal(20, 5, ROWS)
    kind = draw.choice(["a", "b", "c"], ROWS)
    y = 40 + 3 * wind + heat + 5 * (kind == "b") + draw.normal(0, 3, ROWS)
    day = np.arange(ROWS) / 10
    return pl.DataFrame(
        {"wind": wind, "heat": heat, "kind": kind, "noise": draw.normal(0, 1, ROWS), "day": day, "y": y}
    )  # fmt: skip


def found(rows: pl.DataFrame, target: str = "y", time: str | None = None) -> list[leaks.Leak]:
    names = [name for name in rows.columns if name not in (target, time, "y")]
    return sentinel.found(explained.as_columns(rows, names, target, time=time))


def named(some: list[leaks.Leak]) -> list[tuple[tuple[str, ...], str]]:
    return [(leak.columns, leak.kind) for leak in some]


Y = pl.col("y")
COUNT = pl.int_range(pl.len())
IS_HIGH = (Y > 75).cast(pl.String)
PLANTED = {
    "a copy": (Y, "copy", leaks.PROVEN),
    "a copy in another unit": (Y * 1.8 + 32, "copy", leaks.PROVEN),
    "the order of it": (Y.exp().log1p() ** 3, "function", leaks.PROVEN),
    "it, rounded": (Y.round(0), "function", leaks.PROVEN),
    "ranges of it, as codes": ((Y / 20).round(0) * 7 % 11, "function", leaks.PROVEN),
    "nearly a copy": (Y + pl.col("noise") * 0.4, "explains", leaks.SUSPECTED),
}  # fmt: skip


def test_a_sound_table_has_no_leak():
    rows = sound().with_columns(high=IS_HIGH)
    assert found(rows.drop("high"), time="day") == []
    assert found(rows.drop("y"), "high", time="day") == []


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_leak_is_named(what):
    planted, kind, certainty = PLANTED[what]
    leak = next(iter(found(sound().with_columns(planted=planted))))
    assert (leak.columns, leak.kind, leak.certainty) == (("planted",), kind, certainty)


@pytest.mark.parametrize(
    ("one", "sign"),
    [(Y - pl.col("wind"), "+"), (Y + pl.col("wind"), "-"), (Y / pl.col("heat"), "*")],
)
def test_two_columns_of_which_the_target_is_made_are_named_together(one, sign):
    leak = found(sound().with_columns(one=one))[0]
    assert leak.kind == "together"
    assert "one" in leak.columns
    assert f" {sign} " in leak.evidence


def test_two_columns_whose_difference_makes_the_classes_are_named_together():
    rows = sound().with_columns(high=IS_HIGH, planned=pl.col("heat") * 9)
    leak = found(rows.with_columns(came=pl.col("planned") + Y), "high")[0]
    assert (leak.columns, leak.certainty) == (("planned", "came"), leaks.PROVEN)
    assert leak.evidence.startswith("planned - came tells the classes apart at -7")


def test_three_columns_with_a_weight_each_are_named_and_no_fourth():
    part = 2 * Y - pl.col("wind") * 0.5 + pl.col("noise") * 3
    (leak,) = found(sound().with_columns(part=part))
    assert set(leak.columns) == {"wind", "noise", "part"}
    assert leak.certainty == leaks.PROVEN


def test_columns_that_are_nearly_always_zero_are_no_copies_of_each_other():
    """They agree in 99.96 % of the rows, and in a third of those in which one is not zero."""
    one, other = np.zeros(60_000), np.zeros(60_000)
    one[:24], other[12:36] = 1, 1
    assert (one == other).mean() > target_functions.COPY
    assert target_functions.agreement(other, one) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("thins_out", "is_made"), [(1.0, True), (0.7, False)])
def test_classes_that_thin_out_towards_each_other_were_made_by_no_threshold(thins_out, is_made):
    """They touch in both cases; the exponent says how closely the rows lie there."""
    away = np.linspace(0, 1, 501)[1:] ** thins_out
    away -= 0.8 * away[0]
    x, y = np.r_[-away, away], np.repeat([0, 1], 500)
    assert target_functions.clean_cuts(x, y) == ("0", is_made)


@pytest.mark.parametrize(("gap", "certainty"), [(0, leaks.PROVEN), (20, leaks.SUSPECTED)])
def test_a_number_that_makes_the_classes_is_proven_and_one_that_finds_them_apart_is_not(
    gap, certainty
):
    rows = sound().with_columns(high=IS_HIGH, cause=Y + pl.when(Y > 75).then(gap).otherwise(0))
    leak = found(rows, "high")[0]
    assert (leak.columns, leak.kind, leak.certainty) == (("cause",), "function", certainty)


def test_a_name_for_some_of_the_classes_is_named():
    rows = sound().with_columns(
        size=pl.when(Y < 70).then(pl.lit("s")).when(Y < 80).then(pl.lit("m")).otherwise(pl.lit("l"))
    )
    rows = rows.with_columns(is_small=pl.col("size") == "s")
    assert named(found(rows, "size")) == [(("is_small",), "function")]


def test_one_column_that_tells_half_of_the_classes_is_a_question_where_the_others_tell_next_to_nothing():
    others = {"other": pl.col("noise") ** 2, "third": COUNT % 7, "mark": Y + pl.col("noise") * 2}
    rows = sound().select("noise", "y", high=IS_HIGH, **others)
    (leak,) = found(rows, "high")
    assert (leak.columns, leak.kind, leak.is_likely) == (("mark",), "explains", False)


@pytest.mark.parametrize("coarse", [3, 1])
def test_classes_that_are_apart_by_nature_are_a_question_also_where_they_are_coarsely_measured(
    coarse,
):
    draw = np.random.default_rng(5)
    kind = draw.integers(0, 2, 150)
    size = (draw.normal(1.5, 0.2, 150) + 2.5 * kind).round(coarse)
    rows = pl.DataFrame({"kind": kind, "size": size}).with_columns(pl.col("kind").cast(pl.String))
    (leak,) = found(rows, "kind")
    assert (leak.certainty, leak.is_likely) == (leaks.SUSPECTED, False)


def test_a_code_for_each_class_is_proven():
    rows = sound().with_columns(code=(Y > 75).cast(pl.Int64) * 4 + 3, high=IS_HIGH)
    (leak,) = found(rows, "high")
    assert (leak.columns, leak.certainty) == (("code",), leaks.PROVEN)


def test_a_second_leak_is_named_beside_one_that_says_all():
    """Beside a copy, what explains nine tenths is far above nothing."""
    rows = sound().with_columns(copy=Y, mark=Y + pl.col("noise") * 1.5)
    assert named(found(rows)) == [(("copy",), "copy"), (("mark",), "explains")]


def test_a_sum_of_two_columns_is_proven_also_where_nearly_all_rows_are_zero():
    rows = sound().with_columns(rare=pl.when(COUNT % 40 == 3).then(Y).otherwise(0.0))
    rows = rows.with_columns(one=pl.col("rare") - pl.col("wind"))
    leak = found(rows, "rare")[0]
    assert (leak.columns, leak.certainty) == (("wind", "one"), leaks.PROVEN)


def test_a_column_whose_being_there_tells_the_class_is_named():
    rows = sound().with_columns(high=IS_HIGH, closed=pl.when(Y > 75).then("noise"))
    assert named(found(rows, "high")) == [(("closed",), "missingness")]


def test_a_column_that_only_rows_of_one_class_have_is_named():
    """A tenth of them, so that being missing tells next to nothing."""
    rows = sound().with_columns(
        high=IS_HIGH, closed=pl.when((Y > 75) & (COUNT % 10 < 2)).then("noise")
    )
    (leak,) = found(rows, "high")
    assert leak.kind == "missingness"
    assert "rows with a value of closed have one class" in leak.evidence


def test_a_column_that_only_rows_of_a_large_target_have_is_named():
    (leak,) = found(sound().with_columns(note=pl.when(Y > 80).then(pl.lit("large"))))
    assert named([leak]) == [(("note",), "missingness")]
    assert "the target is smaller where note is missing" in leak.evidence


def test_a_column_that_only_counts_time_is_named():
    """The target drifts; a counter explains rows between those that it has seen, and no later ones."""
    rows = sound().with_columns(counter=COUNT, y=Y + COUNT / 20)
    assert named(found(rows, time="day")) == [(("counter",), "time")]


def test_a_target_that_only_grows_makes_no_proof_of_a_counter():
    """Any two things that only grow stand in the same order."""
    rows = sound().with_columns(counter=COUNT, y=(COUNT / 20).exp())
    assert all(leak.certainty == leaks.SUSPECTED for leak in found(rows, time="day"))
    assert any(leak.certainty == leaks.PROVEN for leak in found(rows))


def test_a_trend_that_goes_up_and_down_is_no_counter():
    rows = sound().with_columns(trend=COUNT + pl.col("noise") * 30, y=Y + COUNT / 20)
    assert found(rows, time="day") == []


def test_what_holds_in_a_sample_alone_is_no_proof(monkeypatch):
    monkeypatch.setattr(sentinel, "as_columns", _of_the_first_half)
    rows = sound().with_columns(half=pl.when(COUNT < ROWS / 2).then(Y).otherwise(pl.col("noise")))
    (leak,) = sentinel.of_rows(rows, ["wind", "heat", "half"], "y")
    assert leak.certainty == leaks.SUSPECTED
    assert "not in all rows of the table" in leak.evidence


def _of_the_first_half(rows: pl.DataFrame, *words, most: int = ROWS // 2, **more):
    return explained.as_columns(rows.head(most), *words, **more)


def test_rows_that_judge_and_stand_among_those_that_taught_are_counted():
    rows = sound()
    names = ["wind", "heat", "kind"]
    taught, asked = rows.head(900), pl.concat([rows.tail(300), rows.head(60)])
    assert not list(split_leaks.twice(taught, rows.tail(300), names, "y"))
    (leak,) = split_leaks.twice(taught, asked, names, "y")
    assert leak.evidence.startswith("60 of 360 rows")


def test_rows_that_are_the_same_by_chance_are_not_counted():
    """Three columns of few values: nearly each row stands among the others."""
    draw = np.random.default_rng(1)
    columns = {name: draw.integers(0, 4, ROWS) for name in ("a", "b", "c", "y")}
    rows = pl.DataFrame(columns)
    assert not list(split_leaks.twice(rows.head(900), rows.tail(300), ["a", "b", "c"], "y"))


@pytest.mark.parametrize("is_alike", [True, False])
def test_a_thing_in_both_parts_is_named_where_its_rows_are_alike(is_alike):
    draw = np.random.default_rng(2)
    thing = draw.integers(0, 300, ROWS)
    y = draw.normal(0, 1, 300)[thing] * is_alike + draw.normal(0, 0.5, ROWS)
    rows = pl.DataFrame({"thing": thing, "y": y})
    some = list(split_leaks.groups(rows.head(900), rows.tail(300), ["thing"], "y"))
    assert [leak.kind for leak in some] == ["group"] * is_alike
    assert all("group: thing keeps each in one part" in leak.remedy for leak in some)


AT = pl.col("at")
TIMES = {
    "a text": (AT.dt.offset_by("5h").dt.to_string("%Y-%m-%d %H:%M:%S"), True),
    "a later day": (AT.dt.offset_by("2d").dt.to_string("%Y-%m-%d"), True),
    "the same day": (AT.dt.to_string("%Y-%m-%d"), False),
    "seconds": (AT.dt.epoch("s") + 60, True),
    "milliseconds before": (AT.dt.epoch("ms") - 60_000, False),
    "year": (AT.dt.year() + 1, True),
    "year of it": (AT.dt.year(), False),
    "a number": (AT.dt.epoch("s") % 1000, False),
}


@pytest.mark.parametrize("what", TIMES)
def test_a_time_later_than_the_rows_own_is_named(what):
    made, is_later = TIMES[what]
    start = pl.datetime(2024, 1, 1, time_zone="UTC")
    rows = pl.select(at=pl.int_range(400)).select(at=start + pl.duration(hours=AT * 7))
    rows = rows.with_columns(made.alias(what))
    some = list(split_leaks.later(rows, [what], "at", "Europe/Paris"))
    assert [leak.columns for leak in some] == [(what,)] * is_later


@pytest.mark.parametrize(("hours", "is_later"), [(5, False), (29, True)])
def test_a_row_of_which_only_the_day_is_known_is_compared_by_days(hours, is_later):
    start = pl.datetime(2024, 1, 1, time_zone="UTC")
    rows = pl.select(at=pl.int_range(400)).select(at=start + pl.duration(days=AT))
    rows = rows.with_columns(seen=AT.dt.offset_by(f"{hours}h").dt.to_string("%Y-%m-%d %H:%M:%S"))
    assert [leak.kind for leak in split_leaks.later(rows, ["seen"], "at", "UTC")] == (
        ["later"] * is_later
    )
