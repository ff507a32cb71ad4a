"""Where rows come from: every kind of source gives the same rows, or says what is wrong."""

import http.server
import json
import os
import threading
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from loopbook.data import headers, landing, rules, source_files, sources
from loopbook.project.contract import Contract, Source
from loopbook.project.errors import SourceError

CONTRACT = Contract.model_validate(
    {
        "name": "sales",
        "meaning": "One row is a sale.",
        "task": "regression",
        "source": {"path": "sales.parquet"},
        "key": ["id"],
        "event_time": "day",
        "target": {"name": "price", "meaning": "Price."},
        "features": {
            "rooms": {"type": "integer", "example": 3, "meaning": "Rooms."},
            "size": {"type": "number", "example": 1.5, "meaning": "Size."},
            "sea": {"type": "boolean", "example": True, "meaning": "At the sea."},
            "zone": {"type": "category", "example": "01", "meaning": "Zone."},
        },
    }
)
ROWS = pl.DataFrame(
    {
        "id": ["001", "002", "3"],
        "day": [date(2025, 1, 1), date(2025, 1, 2), date(2025, 1, 3)],
        "rooms": [3, None, 5],
        "size": [1.5, 2.25, None],
        "sea": [True, False, None],
        "zone": ["01", 'ü; "b"', None],
        "price": [10.0, 20.5, 30.0],
    }
)


def of(**source) -> Contract:
    return CONTRACT.model_copy(update={"source": Source(**source)})


def read(root, **source) -> pl.DataFrame:
    return sources.read_source(of(**source), root)


def same(found: pl.DataFrame) -> bool:
    return found.select(ROWS.columns).equals(ROWS)


def test_parquet_csv_and_json_lines_give_the_same_rows(tmp_path):
    ROWS.write_parquet(tmp_path / "a.parquet")
    ROWS.write_csv(tmp_path / "a.csv")
    ROWS.write_csv(tmp_path / "tabs.tsv", separator="\t")
    ROWS.write_csv(tmp_path / "half.csv", separator=";")
    lines = [json.dumps(row, default=str) for row in ROWS.to_dicts()]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for name in ("a.parquet", "a.csv", "tabs.tsv", "half.csv", "a.jsonl"):
        assert same(read(tmp_path, path=name)), name


def test_a_stated_dialect_and_a_comma_in_numbers(tmp_path):
    text = "id|day|rooms|size|sea|zone|price\n1|2025-01-01|3|1,5|yes|'01'|10,0\n"
    (tmp_path / "a.txt").write_text(text)
    dialect = {"separator": "|", "quote": "'", "decimal_comma": True}
    found = read(tmp_path, path="a.txt", dialect=dialect)
    assert found.row(0) == ("1", date(2025, 1, 1), 3, 1.5, True, "01", 10.0)


def test_a_folder_is_its_files_and_another_file_changes_its_digest(tmp_path):
    folder = tmp_path / "sales"
    folder.mkdir()
    ROWS[:1].write_csv(folder / "2025-01.csv")
    ROWS[1:2].write_csv(folder / "2025-02.csv")
    before = source_files.source_digest(of(path="sales"), tmp_path)
    assert read(tmp_path, path="sales")["id"].to_list() == ["001", "002"]
    ROWS[2:].write_csv(folder / "2025-03.csv")
    assert same(read(tmp_path, path="sales"))
    assert source_files.source_digest(of(path="sales"), tmp_path) != before
    (folder / "notes.md").write_text("hello")
    with pytest.raises(SourceError, match="expected files of one format"):
        read(tmp_path, path="sales")


def test_instants_keep_their_zone_and_naive_ones_need_a_contract_that_names_it(tmp_path):
    rows = ROWS.with_columns(day=pl.Series(["2025-07-01T02:00:00+02:00"] * 3))
    rows.write_csv(tmp_path / "a.csv")
    clocked = sources.with_clock(read(tmp_path, path="a.csv"), CONTRACT)
    assert clocked["event_ts"][0] == datetime(2025, 7, 1, tzinfo=UTC)
    naive = ROWS.with_columns(day=pl.Series(["2025-07-01 02:00:00"] * 3))
    naive.write_csv(tmp_path / "a.csv")
    with pytest.raises(SourceError, match=r"timestamps without a zone.*Set time_zone"):
        read(tmp_path, path="a.csv")
    paris = of(path="a.csv").model_copy(update={"time_zone": "Europe/Paris"})
    clocked = sources.with_clock(sources.read_source(paris, tmp_path), paris)
    assert clocked["event_ts"][0] == datetime(2025, 7, 1, tzinfo=UTC)


def test_a_time_that_came_twice_is_the_earlier_one_and_told(tmp_path):
    """Of three rows, one says no offset at half past two of the night with two of them."""
    days = ["2024-10-27 02:30", "2024-10-27 02:30+01", "2024-10-27 03:30"]
    ROWS.with_columns(day=pl.Series(days)).write_csv(tmp_path / "a.csv")
    berlin = of(path="a.csv").model_copy(update={"time_zone": "Europe/Berlin"})
    found = sources.read(berlin, tmp_path)
    hours = sources.with_clock(found.rows, berlin)["event_ts"].dt.hour()
    assert hours.to_list() == [0, 1, 2]
    (doubt,) = sources.times_in_doubt(found)
    assert str(doubt) == (
        "1 of 3 rows: day is a time that the clocks of Europe/Berlin showed twice; "
        "the earlier instant is meant; first: id 001 (2024-10-27 02:30)"
    )


def test_a_folder_may_hold_files_with_their_columns_in_another_order(tmp_path):
    """With a byte order mark, another line end, another separator, and a column that is ignored."""
    folder = tmp_path / "sales"
    folder.mkdir()
    ROWS[:1].write_csv(folder / "a.csv")
    other = ROWS[1:].with_columns(note=pl.lit("x")).select("note", *reversed(ROWS.columns))
    text = other.write_csv(separator=";").replace("\n", "\r\n")
    (folder / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    asked = of(path="sales").model_copy(update={"ignored": ["note"]})
    assert same(sources.read_source(asked, tmp_path))


def test_an_empty_line_is_no_row(tmp_path):
    """At the end, as editors leave one, and of separators only, as spreadsheets do."""
    text = ROWS.write_csv()
    (tmp_path / "a.csv").write_text(f"{text}\n{',' * (ROWS.width - 1)}\n\n")
    assert same(read(tmp_path, path="a.csv"))


def test_a_row_known_before_it_happened_is_refused():
    both = CONTRACT.model_copy(update={"known_time": "known"})
    rows = ROWS.with_columns(known=pl.col("day") - timedelta(days=1))
    with pytest.raises(SourceError, match=r"3 of 3 rows were known \(known\) before they happened"):
        sources.with_clock(rows, both)


def test_of_a_corrected_row_the_newest_known_version_counts():
    both = CONTRACT.model_copy(update={"known_time": "known"})
    rows = pl.concat([ROWS, ROWS[:1].with_columns(price=pl.lit(99.0))])
    rows = rows.with_columns(known=pl.Series([date(2025, 1, d) for d in (4, 5, 6, 9)]))
    for day, price in ((8, 10.0), (9, 99.0)):
        as_of = datetime(2025, 1, day, tzinfo=UTC)
        known, _ = sources.known_by(rows, as_of, both, now=as_of)
        newest = sources.newest_versions(known, both)
        assert newest["id"].to_list() == ROWS["id"].to_list()
        assert newest.filter(id="001")["price"].item() == price


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "a.csv",
            "id,day,rooms,size,sea,zone,price\n1,2025-01-01,three,1,true,a,1\n",
            "rooms is no integer, or beyond 9,007,199,254,740,991; first: id 1 (three)",
        ),
        (
            "a.csv",
            "id,day,rooms,size,sea,zone,price\n1,2025-01-01,3,1,perhaps,a,1\n",
            "1 of 1 rows: sea is no truth value (true or false, yes or no, 1 or 0); first: id 1 (perhaps)",
        ),
        (
            "a.csv",
            "id,day,rooms,size,sea,zone,price\n1,first of May,3,1,true,a,1\n",
            "day is not a day such as 2014-05-02 or an instant such as 2014-05-02T13:00:00Z; first: id 1 (first of May)",
        ),
        ("a.csv", "id,day,rooms\n1,2025-01-01,3\n", "missing: size, sea, zone, price"),
        ("a.csv", "", "found 0 columns"),
        ("a.jsonl", '{"id": 1, "day"', "is no readable JSON lines file"),
        ("a.xlsx", "PK", "its name ends in no known format"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as caught:
        read(tmp_path, path=name)
    assert told in str(caught.value)
    assert name in str(caught.value)


@pytest.fixture
def web(tmp_path):
    """A web server over a folder; it answers 304 to whoever has the newest, and counts."""
    folder, sent = tmp_path / "web", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words, **named):
            super().__init__(*words, directory=folder, **named)

        def log_request(self, code="-", size="-"):
            sent.append(int(code))

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


@pytest.mark.medium
def test_a_url_is_sent_again_only_when_it_changed_and_a_failure_keeps_what_was_landed(
    tmp_path, web
):
    folder, address, sent = web
    ROWS[:2].write_csv(folder / "sales.csv")
    os.utime(folder / "sales.csv", (1e9, 1e9))
    where = {"url": f"{address}/sales.csv?token=secret"}
    first = source_files.source_digest(of(**where), tmp_path)
    assert read(tmp_path, **where).height == 2
    assert source_files.source_digest(of(**where), tmp_path) == first
    assert sent == [200, 304]
    ROWS.write_csv(folder / "sales.csv")
    assert source_files.source_digest(of(**where), tmp_path) != first
    assert same(read(tmp_path, **where))
    (folder / "sales.csv").unlink()
    with pytest.raises(SourceError, match=r"answered 404.*Nothing was changed") as caught:
        source_files.source_digest(of(**where), tmp_path)
    assert "secret" not in str(caught.value)
    assert same(read(tmp_path, **where))


@pytest.mark.medium
def test_a_query_over_a_url_reads_what_was_landed_and_follows_its_changes(tmp_path, web):
    """Another query brings nothing again; a part that is a URL lies beside the others."""
    folder, address, sent = web
    ROWS[:2].write_csv(folder / "sales.csv")
    os.utime(folder / "sales.csv", (1e9, 1e9))
    where = {"url": f"{address}/sales.csv", "query": "SELECT * FROM source WHERE rooms = '3'"}
    first = source_files.source_digest(of(**where), tmp_path)
    assert read(tmp_path, **where)["id"].to_list() == ["001"]
    assert read(tmp_path, **where | {"query": "FROM source"})["id"].to_list() == ["001", "002"]
    assert sent == [200]
    ROWS[1:].write_csv(folder / "sales.csv")
    assert source_files.source_digest(of(**where), tmp_path) != first
    with pytest.raises(SourceError, match="found 0 rows"):
        read(tmp_path, **where)
    ROWS[:1].write_parquet(tmp_path / "more.parquet")
    parts = {"web": {"url": where["url"]}, "more": {"path": "more.parquet"}}
    query = "SELECT * FROM web UNION ALL SELECT CAST(COLUMNS(*) AS TEXT) FROM more"
    assert same(read(tmp_path, parts=parts, query=query))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("\n<!DOCTYPE html><title>Log in</title>", "answered a web page, expected the table"),
        ("<HTML lang=en>", "answered a web page"),
        ("", "answered nothing (0 bytes), expected the table"),
    ],
)
def test_a_page_that_asks_for_a_login_is_no_table(tmp_path, web, page, told):
    """With the status 200, as portals send it; what was landed before stays."""
    folder, address, _ = web
    where = {"url": f"{address}/sales.csv"}
    ROWS.write_csv(folder / "sales.csv")
    os.utime(folder / "sales.csv", (1e9, 1e9))
    assert same(read(tmp_path, **where))
    (folder / "sales.csv").write_text(page)
    with pytest.raises(SourceError) as caught:
        source_files.source_digest(of(**where), tmp_path)
    assert told in str(caught.value)
    assert same(read(tmp_path, **where))


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    where = {"database": f"sqlite:///{tmp_path / 'sales.db'}", "query": "SELECT 1 AS id"}
    with pytest.raises(
        SourceError, match=r"there is no file /.*/sales\.db\. Correct source\.datab"
    ):
        read(tmp_path, **where)
    assert not (tmp_path / "sales.db").exists()


def test_an_address_that_nobody_answers_and_a_variable_that_is_not_set(tmp_path):
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:9/x\.csv: cannot be reached"):
        read(tmp_path, url="http://me:secret@127.0.0.1:9/x.csv")
    with pytest.raises(SourceError, match="needs NO_SUCH_NAME in the environment"):
        read(tmp_path, url="${NO_SUCH_NAME}/x.csv")
    assert not list((tmp_path / "var/landing").iterdir())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_query_to_a_real_database_lands_in_batches(tmp_path, monkeypatch, request, kind):
    """More rows than a batch, in any order; the address comes from the environment."""
    address = f"sqlite:///{tmp_path / 'sales.db'}"
    if kind == "postgresql":
        address = request.getfixturevalue("postgresql").replace("://", "+psycopg://")
    monkeypatch.setenv("SALES_DATABASE", address)
    monkeypatch.setattr(landing, "BATCH_ROWS", 2)
    engine = sa.create_engine(address)
    table = sa.Table(
        "sales",
        sa.MetaData(),
        sa.Column("id", sa.String),
        sa.Column("day", sa.Date),
        sa.Column("rooms", sa.Integer),
        sa.Column("size", sa.Float),
        sa.Column("sea", sa.Boolean),
        sa.Column("zone", sa.String),
        sa.Column("price", sa.Float),
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), ROWS.to_dicts())
    where = {"database": "${SALES_DATABASE}", "query": "SELECT * FROM sales ORDER BY id DESC"}
    asked = CONTRACT.model_copy(update={"source": Source(**where)})
    first = source_files.source_digest(asked, tmp_path)
    assert same(sources.read_source(asked, tmp_path).sort("id"))
    (landed,) = (tmp_path / "var/landing").glob("landed-*")
    assert pq.ParquetFile(landed).num_row_groups == -(-ROWS.height // 2)
    with engine.begin() as connection:
        connection.execute(table.update().where(table.c.id == "001").values(price=11.0))
    assert source_files.source_digest(asked, tmp_path) != first
    engine.dispose()
    wrong = asked.model_copy(update={"source": Source(**where | {"query": "SELECT * FROM gone"})})
    with pytest.raises(SourceError, match=r"the query failed .*gone"):
        source_files.source_digest(wrong, tmp_path)
    empty = where | {"query": "SELECT * FROM sales WHERE id > '99'"}
    with pytest.raises(SourceError, match="the query found 0 rows"):
        source_files.source_digest(asked.model_copy(update={"source": Source(**empty)}), tmp_path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({}, "expected one of path, url and database"),
        ({"path": "a", "url": "http://b"}, "expected one of path, url and database"),
        ({"database": "sqlite:///a"}, "database and query belong together"),
        ({"url": "ftp://b/c"}, "expected http:// or https://"),
        ({"database": "sqlite:///a", "query": "x", "format": "csv"}, "format and dialect are"),
    ],
)
def test_a_source_that_is_no_one_place_is_refused(source, told):
    with pytest.raises(ValueError, match=told):
        Source(**source)


def called(**headers) -> dict:
    """The contract with other headers: of features and target by `column`, of others by `headers`."""
    content = CONTRACT.model_dump()
    for name, header in headers.items():
        if name in content["features"]:
            content["features"][name]["column"] = header
        elif name == "price":
            content["target"]["column"] = header
        else:
            content["headers"][name] = header
    return content


HEADERS = [
    "Preis (€)",
    "größe",
    "2nd",
    "_x",
    'a "b"',
    "*",
    "^s.*$",
    "a.b",
    "🏠",
    "a\tb",
    "sea level",
]


@pytest.mark.medium
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", ["size", "price", "id", "day", "sea"])
def test_any_header_can_be_a_column(tmp_path, name, header):
    contract = Contract.model_validate(called(**{name: header}) | {"ignored": ["", "junk"]})
    table = ROWS.rename({name: header}).with_columns(pl.lit(0).alias(""), junk=1)
    table.write_parquet(tmp_path / "a.parquet")
    table.write_csv(tmp_path / "a.csv")
    lines = [json.dumps(row, default=str) for row in table.to_dicts()]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for file in ("a.parquet", "a.csv", "a.jsonl"):
        found = sources.read_source(
            contract.model_copy(update={"source": Source(path=file)}), tmp_path
        )
        assert same(found), file
        assert found.columns == contract.columns


def test_a_header_is_what_is_seen_of_it(tmp_path):
    """A space before it and another form of its accent are not seen."""
    ROWS.rename({"size": " gro\u0308ße"}).write_csv(tmp_path / "a.csv")
    contract = Contract.model_validate(called(size="größe") | {"source": {"path": "a.csv"}})
    assert same(sources.read_source(contract, tmp_path))


def test_a_header_that_stands_twice_is_refused_by_its_name(tmp_path):
    (tmp_path / "a.csv").write_text("id;day;size;size\n1;2025-01-01;1;2\n")
    with pytest.raises(SourceError, match=r"a\.csv: has size more than once among its 4 columns"):
        read(tmp_path, path="a.csv")


@pytest.mark.parametrize("twin", ["size ", "\ufeffsize", "Size m²", "area"])
def test_a_column_under_two_of_its_names_is_refused_in_a_file_to_score(twin):
    content = called(size="Size m²")
    content["features"]["size"]["alias"] = "area"
    contract = Contract.model_validate(content)
    assert headers.given_names([twin, "other"], contract, "a.csv") == {twin: "size"}
    with pytest.raises(SourceError, match=r"a\.csv: has size, .*, which are the one column 'size'"):
        headers.given_names(["size", twin], contract, "a.csv")


def test_a_query_that_gives_a_column_twice_is_refused_by_its_name(tmp_path):
    (tmp_path / "a.db").touch()
    query = {"database": f"sqlite:///{tmp_path}/a.db", "query": "select 1 as id, 2 as id"}
    with pytest.raises(SourceError, match="the query gives 'id' more than once"):
        read(tmp_path, **query)


def test_a_column_that_nobody_named_is_shown_and_can_be_ignored(tmp_path):
    """It is what pandas writes for an index."""
    ROWS.with_columns(pl.lit(0).alias("")).write_csv(tmp_path / "a.csv")
    with pytest.raises(SourceError, match=r"not in the contract: ''\)"):
        read(tmp_path, path="a.csv")
    ignoring = CONTRACT.model_copy(update={"source": Source(path="a.csv"), "ignored": [""]})
    assert same(sources.read_source(ignoring, tmp_path))


def test_a_row_whose_key_is_the_value_itself_is_told_once_and_without_empty_parts():
    rows = pl.DataFrame({"hour": [datetime(2012, 11, 4, 1), datetime(2012, 11, 4, 2)]})
    found = rules._shown(rows, pl.Series([True, False]), rows["hour"], ["hour"])
    assert found == ["hour 2012-11-04 01:00:00"]
