"""A query over the places of a source: one table of them, the same every time, or what is wrong."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
import sqlalchemy as sa
import yaml

from loopbook.data import queries, source_files, sources
from loopbook.data.places import landing_folder
from loopbook.pipeline import digests
from loopbook.project.contract import Contract, Source
from loopbook.project.errors import SourceError
from loopbook.project.files import sha256_of
from loopbook.project.paths import Project
from loopbook.serving import scoring

ROOT = Path(__file__).parents[1]
CONTRACT = Contract.model_validate(
    {
        "name": "trips",
        "meaning": "One row is a trip.",
        "task": "regression",
        "source": {"path": "none.parquet"},
        "key": ["trip"],
        "event_time": "hour",
        "time_zone": "UTC",
        "target": {"name": "minutes", "meaning": "How long it took."},
        "features": {
            "town": {"type": "category", "example": "Ulm", "meaning": "Where it began."},
            "temp": {"type": "number", "example": 1.5, "meaning": "Degrees."},
        },
    }
)
TRIPS = pl.DataFrame(
    {
        "trip": [3, 1, 2],
        "town": ["Ulm", "Bonn", "Ulm"],
        "day": ["2024-05-01", "2024-05-01", "2024-05-02"],
        "hr": ["6am", "12pm", "12am"],
        "seconds": [600, 300, 90],
    }
)
WEATHER = pl.DataFrame(
    {
        "town": ["Ulm", "Ulm", "Bonn"],
        "day": ["2024-05-01", "2024-05-02", "2024-04-01"],
        "temp": [11.5, 12.5, 9.0],
        "wind": [1, 2, 3],
    }
)
QUERY = """
SELECT t.trip, t.town, w.temp, CAST(t.seconds AS DOUBLE) / 60 AS minutes,
       strptime(t.day || ' ' || t.hr, '%Y-%m-%d %I%p') AS hour
FROM trips t LEFT JOIN weather w ON t.town = w.town AND t.day = w.day
"""
PARTS = {"trips": {"path": "trips.csv"}, "weather": {"path": "weather.parquet"}}
HOURS = [datetime(2024, 5, 1, 12), datetime(2024, 5, 2), datetime(2024, 5, 1, 6)]
WANTED = pl.DataFrame(
    {
        "trip": ["1", "2", "3"],
        "hour": HOURS,
        "town": ["Bonn", "Ulm", "Ulm"],
        "temp": [None, 12.5, 11.5],
        "minutes": [5.0, 1.5, 10.0],
    }
)


def of(query: str = QUERY, parts: dict | None = PARTS, **more) -> Contract:
    source = {"query": query} | ({"parts": parts} if parts else {}) | more.pop("source", {})
    return CONTRACT.model_copy(update={"source": Source.model_validate(source), **more})


@pytest.fixture
def place(tmp_path):
    TRIPS.write_csv(tmp_path / "trips.csv")
    WEATHER.write_parquet(tmp_path / "weather.parquet")
    return tmp_path


def test_a_query_joins_casts_renames_and_makes_columns_of_several_files(place):
    found = sources.read_source(of(), place)
    assert found.with_columns(pl.col("hour").dt.replace_time_zone(None)).equals(WANTED)
    assert sources.with_clock(found, of())["event_ts"][2] == datetime(2024, 5, 1, 6, tzinfo=UTC)


def test_the_same_rows_in_another_order_are_the_same_file(place):
    first = queries.queried(of(), place).read_bytes()
    for folder, rows in (("again", TRIPS), ("turned", TRIPS.reverse())):
        (place / folder).mkdir()
        rows.write_csv(place / folder / "trips.csv")
        WEATHER.reverse().write_parquet(place / folder / "weather.parquet")
        assert queries.queried(of(), place / folder).read_bytes() == first, folder


@pytest.mark.medium
def test_another_part_another_query_and_other_null_values_are_another_source(place):
    """And the result of before goes, so that one file lies there."""
    digests, results = [source_files.source_digest(of(), place)], [queries.queried(of(), place)]
    changed = of(QUERY.replace("/ 60", "/ 1"))
    digests.append(source_files.source_digest(changed, place))
    results.append(queries.queried(changed, place))
    results.append(queries.queried(of(null_values=["6am"]), place))
    WEATHER[:1].write_parquet(place / "weather.parquet")
    digests.append(source_files.source_digest(of(), place))
    results.append(queries.queried(of(), place))
    assert len(set(digests)) == 3
    assert len(set(results)) == 4
    assert list(landing_folder(place).iterdir()) == results[-1:]


def test_a_result_that_is_there_is_not_asked_again(place, monkeypatch):
    first = queries.queried(of(), place)
    monkeypatch.setattr(queries, "_ask", None)
    assert queries.queried(of(), place) == first


def test_a_part_in_a_folder_of_signs_is_that_part_and_no_neighbours(tmp_path):
    for name, rows in (("a?", TRIPS[:1]), ("ab", TRIPS[:2]), ("[x] %41#", TRIPS), ("x", TRIPS[:2])):
        (tmp_path / name).mkdir()
        rows.write_parquet(tmp_path / name / "trips'*\".parquet")
    for name, height in (("a?", 1), ("[x] %41#", 3)):
        asked = of("FROM t", {"t": {"path": f"{name}/trips'*\".parquet"}})
        assert pl.read_parquet(queries.queried(asked, tmp_path), glob=False).height == height


def test_one_place_is_called_source(place):
    query = "SELECT trip, town, 1.5 AS temp, seconds AS minutes, day AS hour FROM source"
    found = sources.read_source(of(query, None, source={"path": "trips.csv"}), place)
    assert found["minutes"].to_list() == [300.0, 90.0, 600.0]


def test_what_stands_for_no_value_is_none_before_a_cast(place):
    trips = TRIPS.with_columns(seconds=pl.Series(["600", "NA", ""]))
    trips.write_csv(place / "trips.csv")
    with pytest.raises(SourceError, match=r"'NA' to DOUBLE.*seconds is a column of trips\. List"):
        sources.read_source(of(), place)
    found = sources.read_source(of(null_values=["NA"]), place)
    assert found["minutes"].to_list() == [None, None, 10.0]


def test_a_comma_in_numbers_is_read_in_what_passes_through(place):
    text = TRIPS.with_columns(seconds=pl.Series(["600,5", "300,5", "90"])).write_csv(separator=";")
    (place / "trips.csv").write_text(text)
    comma = {"separator": ";", "decimal_comma": True}
    parts = PARTS | {"trips": {"path": "trips.csv", "dialect": comma}}
    query = QUERY.replace("CAST(t.seconds AS DOUBLE) / 60", "t.seconds")
    assert sources.read_source(of(query, parts), place)["minutes"].to_list() == [300.5, 90.0, 600.5]


def test_a_folder_is_one_part_and_a_database_another(place):
    (place / "all").mkdir()
    TRIPS[:1].write_csv(place / "all" / "a.csv")
    TRIPS[1:].select(reversed(TRIPS.columns)).write_csv(place / "all" / "b.csv", separator=";")
    address = f"sqlite:///{place / 'weather.db'}"
    WEATHER.write_database("weather", address, engine="sqlalchemy")
    weather = {"database": address, "query": "SELECT town, day, temp FROM weather"}
    asked = of(parts={"trips": {"path": "all"}, "weather": weather})
    assert sources.read_source(asked, place)["temp"].to_list() == [None, 12.5, 11.5]
    TRIPS[:1].rename({"hr": "hour"}).write_csv(place / "all" / "c.csv")
    with pytest.raises(
        SourceError, match=r"a\.csv and c\.csv have not the same columns \(hour and"
    ):
        sources.read_source(asked, place)


ELSEWHERE = {
    "SELECT * FROM read_csv('{place}/secret.csv')": "read_csv() is no table of the source",
    "SELECT * FROM '{place}/secret.csv'": "there is no table '{place}/secret.csv'",
    "SELECT * FROM read_text('{place}/secret.csv')": "read_text() is no table of the source",
    "SELECT * FROM glob('{place}/*')": "glob() is no table of the source",
    "SELECT * FROM query('SELECT 1')": "query() is no table of the source",
    "SELECT (SELECT content FROM read_blob('{place}/secret.csv')) AS a FROM trips": "read_blob() is",
    "SELECT * FROM duckdb_settings()": "duckdb_settings() is no table",
    "SELECT * FROM information_schema.tables": "no table 'information_schema.tables'",
    "SELECT * FROM sqlite_master": "no table 'sqlite_master'; there are trips and weather",
    "COPY trips TO '{place}/out.csv'": "found a statement of another kind, expected one SELECT",
    "ATTACH '{place}/weather.db'": "found a statement of another kind",
    "INSTALL httpfs": "found a statement of another kind",
    "SET threads = 8": "found a statement of another kind",
    "SELECT 1; SELECT 2": "found several statements, expected one SELECT over trips and weather",
    "DROP VIEW trips": "found a statement of another kind",
    "SELECT * FROM (DESCRIBE trips)": "DESCRIBE, SHOW and SUMMARIZE",
}


@pytest.mark.medium
@pytest.mark.parametrize("query", ELSEWHERE)
def test_a_query_reads_nothing_but_its_parts(place, query):
    (place / "secret.csv").write_text("a\n1\n")
    before = sorted(p.name for p in place.iterdir())
    with pytest.raises(SourceError) as caught:
        sources.read_source(of(query.format(place=place)), place)
    assert ELSEWHERE[query].format(place=place) in str(caught.value)
    assert sorted({p.name for p in place.iterdir()} - {"var"}) == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_text('{file}')",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
    ],
)
def test_the_engine_itself_has_no_way_to_a_file(place, query):
    """Behind the refusal: what its list would forget is out of reach anyway."""
    (place / "secret.csv").write_text("a\n1\n")
    (place / "spare").mkdir()
    with (
        queries._engine(of(), {}, place / "spare") as engine,
        pytest.raises(duckdb.Error, match=r"disabled|locked"),
    ):
        engine.execute(query.format(file=place / "secret.csv"))


USABLE = [
    "WITH a AS (SELECT * FROM trips), b AS (SELECT * FROM a) SELECT * FROM b",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
    "SELECT *, row_number() OVER (PARTITION BY town ORDER BY trip) AS n FROM trips QUALIFY n < 3",
    "SELECT t.trip, w.temp FROM TRIPS t ASOF LEFT JOIN weather w ON t.town = w.town AND t.day >= w.day",
    "SELECT t.trip, x.m FROM trips t, (SELECT max(temp) AS m FROM weather w WHERE w.town = t.town) x",
    "SELECT town, day, max(temp) AS t, count(*) FILTER (wind > 1) AS n FROM weather GROUP BY ALL LIMIT 3",
    "SELECT n, list_transform([n], lambda x: x + 1)[1] AS m FROM generate_series(1, 3) g(n)",
    "SELECT trip, unnest(string_split('a b', ' ')) AS word FROM trips LIMIT 3",
    "SELECT trip, CAST(day AS TIMESTAMP) AT TIME ZONE 'America/New_York' AS ny FROM trips",
    "-- a comment\nFROM trips SELECT trip /* another */; -- a third",
    "SELECT trip FROM trips WHERE '; DROP VIEW trips' <> \"town\"",
]


@pytest.mark.medium
@pytest.mark.parametrize("query", USABLE)
def test_sql_of_every_kind_over_the_parts_is_usable(place, query):
    assert pl.read_parquet(queries.queried(of(query), place)).height == 3


def test_the_queries_of_the_docs_can_be_used(place):
    page = (ROOT / "docs/contract.md").read_text()
    section = page.split("## A query over one source, or several")[1].split("\n## ")[0]
    joined, one = (
        yaml.safe_load(b)["source"] for b in re.findall(r"```yaml\n(.*?)```", section, re.S)
    )
    flights = {"origin": ["a", "b"], "time_hour": ["2013-01-01T10:00:00Z"] * 2}
    flights |= {"arr_delay": [16, None], "dep_delay": [1, 2]}
    weather = {"origin": ["a"], "time_hour": ["2013-01-01T10:00:00Z"], "temp": [1.5], "visib": [9]}
    bikes = {"dteday": ["2012-11-05"], "hr": ["6am"], "casual": [1], "registered": [2], "cnt": [3]}
    (place / "data").mkdir()
    pl.DataFrame(flights).write_parquet(place / "data/flights.parquet")
    pl.DataFrame(weather).write_csv(place / "data/weather.csv")
    pl.DataFrame(bikes).write_csv(place / "data/bikes.csv")
    found = pl.read_parquet(queries.queried(of(joined.pop("query"), None, source=joined), place))
    assert found["arrival"].to_list() == ["late", None]
    assert found["temp"].to_list() == ["1.5", None]
    found = pl.read_parquet(queries.queried(of(one.pop("query"), None, source=one), place))
    assert found.row(0) == ("3", datetime(2012, 11, 5, 6))


CHANGING = [
    "now()",
    "current_date",
    "CURRENT_TIMESTAMP",
    "random()",
    "gen_random_uuid()",
    "today()",
    "age(TIMESTAMP '2024-01-01')",
    "ago(INTERVAL 1 DAY)",
    "current_setting('threads')",
    "(SELECT max(random()) FROM weather)",
]


@pytest.mark.medium
@pytest.mark.parametrize("what", CHANGING)
def test_what_differs_at_another_time_is_refused(place, what):
    with pytest.raises(SourceError, match=r"gives another answer each time, so the same rows"):
        queries.queried(of(f"SELECT trip, {what} AS x FROM trips"), place)


@pytest.mark.parametrize("sample", ["USING SAMPLE 2", "TABLESAMPLE 50%"])
def test_a_sample_is_refused(place, sample):
    with pytest.raises(SourceError, match="a sample is another one each time"):
        queries.queried(of(f"SELECT * FROM trips {sample}"), place)


def test_a_column_may_be_called_as_a_clock_is(place):
    TRIPS.rename({"hr": "current_date"}).write_csv(place / "trips.csv")
    found = pl.read_parquet(queries.queried(of("SELECT current_date FROM trips"), place))
    assert found["current_date"].to_list() == ["12am", "12pm", "6am"]


FAULTS = {
    "SELEC * FROM trips": 'is no SQL (syntax error at or near "SELEC", line 1 of the query',
    "SELECT *\nFROM trips\nWHER 1": "line 3 of the query",
    "": "found nothing, expected one SELECT",
    "SELECT * FROM tripps": "there is no table 'tripps'; there are trips and weather",
    "SELECT t.nope FROM trips t": "trips has trip, town, day, hr and seconds; weather has town,",
    "SELECT secs FROM trips": 'at: SELECT secs FROM trips; like it are "seconds". trips has',
    "SELECT town FROM trips, weather": 'Ambiguous reference to column name "town"',
    "SELECT town, day AS Town FROM trips": "has 'town' and 'Town' more than once among its 2 col",
    "SELECT * FROM trips, weather": "has 'town' and 'day' more than once among its 9 columns",
    "SELECT * FROM trips WHERE seconds > 5": "at: SELECT * FROM trips WHERE seconds > 5. A column",
    "SELECT t.trip FROM trips t JOIN weather w ON t.hr = w.wind": "hr is a column of trips. List",
    "SELECT * FROM trips WHERE trip = '9'": "found 0 rows, expected at least one",
    "SELECT wrong(trip) FROM trips": "Scalar Function with name wrong does not exist,",
    "SELECT strptime(day, '%d.%m.%Y') AS hour FROM trips": "say TRY_CAST or try_strptime",
}


@pytest.mark.medium
@pytest.mark.parametrize("query", FAULTS)
def test_a_query_that_is_wrong_says_what_is_there_and_what_to_do(place, query):
    with pytest.raises(SourceError) as caught:
        sources.read_source(of(query), place)
    assert FAULTS[query] in str(caught.value)
    assert str(caught.value).startswith("source.query: ")
    assert "LINE" not in str(caught.value)
    assert not [*landing_folder(place).iterdir()]


def test_a_join_that_repeats_rows_beyond_the_space_is_told(place, monkeypatch):
    monkeypatch.setitem(queries.SETTINGS, "memory_limit", "20MB")
    monkeypatch.setattr(queries, "SPILLED", "1MB")
    many = "SELECT made.x FROM (SELECT md5(CAST(a.range * 1000 + b.range AS TEXT)) AS x"
    many += " FROM range(1000) a, range(1000) b) made"
    with pytest.raises(SourceError, match="Look whether a join repeats rows"):
        queries.queried(of(many), place)


PLACES = {
    "is gone": ({"path": "gone.csv"}, "source trips (gone.csv): No such file or directory"),
    "has no format": ({"path": "trips.xlsx"}, "Say source.parts.trips.format in contract.yaml"),
    "is no Parquet": ({"path": "broken.parquet"}, "source trips (broken.parquet): is no readable"),
    "is no JSON": ({"path": "broken.jsonl"}, "is no readable JSON lines file"),
    "is empty": ({"path": "empty"}, "source trips (empty): found no file in the folder"),
    "has twins": ({"path": "twins.parquet"}, "source trips (twins.parquet): has 'a' and 'A' more"),
    "is away": ({"url": "http://127.0.0.1:9/x.csv"}, "source trips (http://127.0.0.1:9/x.csv): c"),
    "is unset": ({"url": "${NO_SUCH}/x.csv"}, "source trips: needs NO_SUCH in the environment"),
    "is no database": (
        {"database": "sqlite:////no/such.db", "query": "SELECT 1"},
        "there is no file /no/such.db. Correct source.parts.trips.database in contract.yaml",
    ),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_part_that_cannot_be_read_is_told_by_its_name(place, what):
    (place / "empty").mkdir()
    (place / "trips.xlsx").write_text("PK")
    (place / "broken.parquet").write_text("PAR1")
    (place / "broken.jsonl").write_text('{"a": ')
    pl.DataFrame({"a": [1], "A": [2]}).write_parquet(place / "twins.parquet")
    part, told = PLACES[what]
    with pytest.raises(SourceError) as caught:
        sources.read_source(of(parts=PARTS | {"trips": part}), place)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"parts": PARTS}, "need a query that makes one table of them"),
        ({"parts": {}, "query": QUERY}, "at least 1 item"),
        ({"parts": PARTS, "path": "a.csv", "query": QUERY}, "each says path itself"),
        ({"parts": PARTS, "format": "csv", "query": QUERY}, "each says format itself"),
        ({"parts": {"a": {"path": "b", "query": "c"}}, "query": QUERY}, "only a database has one"),
        ({"parts": {"a": {"database": "b"}}, "query": QUERY}, "database and query belong together"),
        ({"parts": {"a": {"path": "b"}, "A": {"path": "c"}}, "query": QUERY}, "one name in SQL"),
        ({"parts": {"a b": {"path": "b"}}, "query": QUERY}, "a b"),
    ],
)
def test_parts_that_do_not_fit_are_refused(source, told):
    with pytest.raises(ValueError, match=told):
        Source.model_validate(source)


def test_a_span_of_time_is_told_with_its_column(place):
    asked = of(QUERY.replace("AS DOUBLE) / 60", "AS INT) * INTERVAL 1 SECOND"))
    with pytest.raises(SourceError, match=r"'minutes' is a span of time \(INTERVAL\).*date_diff"):
        sources.read_source(asked, place)


def test_a_disk_that_is_full_is_told_and_nothing_half_written_stays(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", full)
    with pytest.raises(SourceError, match=r"cannot be written to .*landing \(No space left on dev"):
        queries.queried(of(), place)
    assert not [*landing_folder(place).iterdir()]


def test_what_a_killed_query_left_goes_after_a_day(place):
    old, new = landing_folder(place) / ".spare-a", landing_folder(place) / ".spare-b"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "spilled").write_text("x")
    os.utime(old, (1e9, 1e9))
    queries.queried(of(), place)
    assert not old.exists()
    assert new.exists()


def test_what_came_from_a_part_that_is_no_more_goes(place):
    """It may be large, or nobody's business any more."""
    address = f"sqlite:///{place / 'weather.db'}"
    WEATHER.write_database("weather", address, engine="sqlalchemy")
    parts = {"older": {"database": address, "query": "SELECT town FROM weather"}}
    queries.queried(of("SELECT * FROM older", parts), place)
    queries.queried(of("SELECT * FROM newer", {"newer": parts["older"]}), place)
    assert [path.name for path in landing_folder(place).glob("parts/*")] == ["newer"]


def test_a_file_is_read_for_its_digest_when_it_changed_and_no_part_is_forgotten(place, monkeypatch):
    """What a build depends on: the whole source, from the memory of its files."""
    project, read = Project(place), []
    monkeypatch.setattr(
        digests, "sha256_of", lambda file: read.append(file.name) or sha256_of(file)
    )
    first = digests._remembered_source_digest(of(), project)
    assert first == source_files.source_digest(of(), place)
    assert digests._remembered_source_digest(of(), project) == first
    assert read == ["trips.csv", "weather.parquet"]
    WEATHER[:1].write_parquet(place / "weather.parquet")
    changed = digests._remembered_source_digest(of(), project)
    assert read[2:] == ["weather.parquet"]
    assert len({first, changed, digests._remembered_source_digest(of("SELECT 1"), project)}) == 3


def test_the_source_that_is_scored_is_the_result_of_its_query(place):
    for asked in (of(), of("SELECT trip, town FROM source", None, source={"path": "trips.csv"})):
        scored = pl.read_parquet(scoring.file_of("source", Project(place), asked))
        assert sorted(scored["trip"].cast(pl.String)) == ["1", "2", "3"]
        assert "hr" not in scored.columns


def test_a_table_that_a_role_may_not_read_is_told_with_its_part(place, postgresql):
    address = postgresql.replace("://", "+psycopg://")
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        for line in (
            "CREATE TABLE hidden (town TEXT)",
            "DROP ROLE IF EXISTS guest",
            "CREATE ROLE guest LOGIN",
        ):
            connection.execute(sa.text(line))
    engine.dispose()
    as_guest = sa.make_url(address).set(username="guest").render_as_string(hide_password=False)
    hidden = {"database": as_guest, "query": "SELECT * FROM hidden"}
    with pytest.raises(SourceError) as caught:
        sources.read_source(of(parts=PARTS | {"weather": hidden}), place)
    assert "source weather (postgresql+psycopg://" in str(caught.value)
    assert "permission denied for table hidden" in str(caught.value)
    assert "correct source.parts.weather.database" in str(caught.value)
