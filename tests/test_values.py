"""One meaning of a value: a column of a table and a value of a request are read alike."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopbook.data import instants, validation, values
from loopbook.data.single_values import reader
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.errors import KnobError
from loopbook.project.knobs import read_moment

BERLIN = "Europe/Berlin"
TABLE = Contract.model_validate(
    {
        "name": "flats",
        "meaning": "A flat.",
        "task": "regression",
        "source": {"path": "flats.csv"},
        "key": ["id"],
        "event_time": "day",
        "time_zone": BERLIN,
        "null_values": ["NA"],
        "target": {"name": "rent", "meaning": "Rent."},
        "features": {
            "number": {"type": "number", "example": 2.5, "meaning": "N."},
            "integer": {"type": "integer", "example": 2, "meaning": "I."},
            "boolean": {"type": "boolean", "example": True, "meaning": "B."},
            "category": {"type": "category", "example": "a", "meaning": "C."},
        },
    }
)
REFUSED = object()
READERS = {kind: reader(kind, TABLE.null_values) for kind in TABLE.features}
TEXTS = st.text("0123456789.+-eE_ nNaAiIfFtyTrueNA\u00a0\u200b\u2003\x1f\x00٣９∞\t", max_size=9)


def in_a_table(kind: str, column: pl.Series) -> list:
    """What a column means: its values, and REFUSED where a failure names the row."""
    rows, failures = validation.checked(pl.DataFrame({kind: column}), TABLE)
    wrong = [any(f.mask[place] for f in failures) for place in range(rows.height)]
    return [
        REFUSED if is_wrong else value for value, is_wrong in zip(rows[kind], wrong, strict=True)
    ]


def alone(kind: str, value) -> object:
    try:
        return READERS[kind](value)
    except ValueError:
        return REFUSED


@pytest.mark.medium
@given(st.sampled_from(list(TABLE.features)), st.lists(TEXTS, min_size=1, max_size=20))
@example("integer", ["9007199254740991", "9007199254740992", "1_0", "1e3", "-0", "3.0", "3.7"])
@example("number", ["infinity", "+inf", "nan", "NaN", "1e400", "-.5", "5.", "0x1", "1e", "１"])
@example("category", ["5.0", "0.0", "05.0", "-1.0", "1.00", "x" * 200, "x" * 201, "a\0", "NA"])
def test_a_text_means_the_same_in_a_table_and_alone(kind, texts):
    """Whatever stands there: the same value, no value, or refused."""
    column = pl.Series(texts, dtype=pl.String)
    assert in_a_table(kind, column) == [alone(kind, text) for text in texts]


@pytest.mark.medium
@given(
    st.sampled_from(list(TABLE.features)),
    st.lists(st.floats() | st.integers(-(2**54), 2**54).map(float), min_size=1, max_size=9),
)
def test_a_number_means_the_same_in_a_table_and_alone(kind, numbers):
    found = in_a_table(kind, pl.Series(numbers, dtype=pl.Float64))
    assert found == [alone(kind, number) for number in numbers]


STORED = [
    ("integer", pl.Series([1.0, None, 3.0]), [1, None, 3]),
    ("integer", pl.Series([1.0, 1.5]), [1, REFUSED]),
    ("integer", pl.Series([1, 2], dtype=pl.UInt8), [1, 2]),
    ("integer", pl.Series([2**53, 2**63], dtype=pl.UInt64), [REFUSED, REFUSED]),
    ("integer", pl.Series([Decimal("2.00"), Decimal("2.50")]), [2, REFUSED]),
    ("integer", pl.Series([None, None]), [None, None]),
    ("integer", pl.Series([True]), [REFUSED]),
    ("number", pl.Series([Decimal("2.50")]), [2.5]),
    ("number", pl.Series([1.5, None], dtype=pl.Float32), [1.5, None]),
    ("number", pl.Series([[1.0]]), [REFUSED]),
    ("number", pl.Series([date(2025, 1, 1)]), [REFUSED]),
    ("boolean", pl.Series([1, 0, 2]), [True, False, REFUSED]),
    ("boolean", pl.Series([1.0, 0.0, None]), [True, False, None]),
    ("category", pl.Series([5, 98115], dtype=pl.Int32), ["5", "98115"]),
    ("category", pl.Series([5.0, None, 1.5, 1e-7, 1e22]), ["5", None, "1.5", "1e-07", "1e+22"]),
    ("category", pl.Series(["a", " b"], dtype=pl.Categorical), ["a", "b"]),
    ("category", pl.Series(["a"], dtype=pl.Enum(["a"])), ["a"]),
    ("category", pl.Series([True]), ["true"]),
    ("category", pl.Series([date(2025, 1, 2)]), ["2025-01-02"]),
    ("category", pl.Series([b"a"]), [REFUSED]),
]


@pytest.mark.parametrize(("kind", "column", "meant"), STORED)
def test_a_value_means_the_same_however_it_is_stored(kind, column, meant):
    assert in_a_table(kind, column) == meant


TIMES = st.builds(
    "{}{}{}{}".format,
    st.dates(date(1900, 1, 1), date(2099, 12, 31)).map(str)  # the zones that polars knows
    | st.sampled_from(["2024-02-30", "0000-01-01", "2024-03-31", "2024-10-27", "20241013"]),
    st.sampled_from(["", "T02:30", " 02:30:00", " 02:30:00.25", "T02:30:59,123456789", "T023000"]),
    st.sampled_from(["", " "]),
    st.sampled_from(["", "Z", "z", "UTC", "+01", "+0100", "-12:00", "+14:00", "+1"]),
)


@pytest.mark.medium
@given(st.lists(TIMES, min_size=1, max_size=12))
@example(["2024-01-01 09:30:00.25+01", "2024-07-01 10:30:00+02", "2024-01-01 10:30"])
@example(["2024-01-01", "2024-01-01T10:30"])
@example(["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_means_the_same_in_a_table_and_alone(texts):
    """All forms in one column; what is none, or never was, is refused and not missing."""

    def single(text: str):
        try:
            return parse_instant(text, BERLIN)
        except ValueError:
            return REFUSED

    rows, failures = values.converted(pl.DataFrame({"day": texts}), TABLE)
    found = instants.in_utc(rows["day"], BERLIN)
    wrong = [any(f.mask[place] for f in failures) for place in range(len(texts))]
    meant = [REFUSED if w else v for v, w in zip(found, wrong, strict=True)]
    assert meant == [single(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-01-01 09:30:00.25+01", datetime(2024, 1, 1, 8, 30, 0, 250_000, UTC)),
        ("2024-07-01 10:30:00+02", datetime(2024, 7, 1, 8, 30, tzinfo=UTC)),
        ("2024-01-01 10:30", datetime(2024, 1, 1, 9, 30, tzinfo=UTC)),
        ("2024-10-27T02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
        ("20141013T000000", datetime(2014, 10, 12, 22, tzinfo=UTC)),
        ("2024-07-01", datetime(2024, 6, 30, 22, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_databases_and_spreadsheets_write_it(text, meant):
    """Of a time that came twice, the earlier."""
    assert parse_instant(text, BERLIN) == meant


@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00+14:00"]
)
def test_a_moment_at_an_end_of_the_calendar_is_refused_in_a_sentence(text):
    """A window before the year 1, or a day after the year 9999, would be none."""
    with pytest.raises(KnobError, match=r"--as-of .*: expected a day .*, or newest"):
        read_moment(text, "--as-of")


def test_a_day_without_a_midnight_begins_when_the_clocks_went_on():
    """In São Paulo 2018-11-04 began at one o'clock."""
    days = pl.Series([date(2018, 11, 4), date(2018, 11, 5)])
    found = instants.in_utc(days, "America/Sao_Paulo")
    assert found.to_list() == [
        datetime(2018, 11, day, hour, tzinfo=UTC) for day, hour in ((4, 3), (5, 2))
    ]
    assert parse_instant("2018-11-04", "America/Sao_Paulo") == found[0]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([6_000_000, 1], dtype=pl.Int32).cast(pl.Date),
        pl.Series([10**18, 1], dtype=pl.Int64).cast(pl.Datetime("us")),
        pl.Series([10**18, 1], dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")),
        pl.Series(["0000-01-01", "1970-01-02"]),
        pl.Series(["9999-12-31T23:59:59-12:00", "1970-01-02"]),
    ],
    ids=["date", "microseconds", "milliseconds", "year 0", "year 10000"],
)
def test_a_stored_time_beyond_the_calendar_is_told_and_ends_in_no_traceback(column):
    rows, (failure,) = values.converted(pl.DataFrame({"day": column}), TABLE)
    assert "day lies outside the years 1 to 9999; first: row 1 (" in str(failure)
    assert rows["day"].is_null().to_list() == [True, False]


def test_what_cannot_be_read_is_told_with_its_key_and_text_and_never_called_missing():
    rows = pl.DataFrame(
        {
            "id": ["1", "2", "3"],
            "day": ["2024-03-31T01:30:00", "2024-03-31T02:30:00", "31.3.2024"],
            "rent": ["5", "NA", "n/a"],
            "number": ["1", "2", "3"],
        }
    )
    told = [str(f) for f in validation.checked(rows, TABLE)[1]]
    assert told == [
        "1 of 3 rows: day is not a day such as 2014-05-02 or an instant such as "
        "2014-05-02T13:00:00Z; first: id 3 (31.3.2024)",
        "1 of 3 rows: day is a time that the clocks of Europe/Berlin skipped; "
        "first: id 2 (2024-03-31T02:30:00)",
        "1 of 3 rows: rent is no number; first: id 3 (n/a)",
        "1 of 3 rows: rent has no value; first: id 2 (None)",
    ]


@pytest.mark.parametrize(
    ("stored", "where", "left"),
    [
        (pl.Series(["0012", "12", "A-1"]), "0012", ["12", "A-1"]),
        (pl.Series(["0012", "12", "A-1"]), 12, ["0012", "A-1"]),
        (pl.Series([12, 17]), "00012", [17]),
        (pl.Series([12, 17]), 17, [12]),
        (pl.Series([12, 17]), "A-1", [12, 17]),
    ],
)
def test_a_known_fault_is_read_as_the_key_that_it_names(stored, where, left):
    fault = {"where": {"id": where}, "reason": "Wrong."}
    table = Contract.model_validate(TABLE.model_dump() | {"known_faults": [fault]})
    kept, (told,) = validation.without_known_faults(pl.DataFrame({"id": stored}), table)
    assert kept["id"].to_list() == left
    assert told["rows"] == stored.len() - len(left)


def test_a_number_with_a_comma_is_one_where_the_dialect_says_so():
    """A point is a thousand's there: it is refused, and not read as a thousandth."""
    rows = pl.DataFrame({"number": ["1,5", "2", "1.500", "1.500,5"]})
    typed, (failure,) = values.converted(rows, TABLE, decimal_comma=True)
    assert typed["number"].to_list() == [1.5, 2.0, None, None]
    assert failure.rows == 2
