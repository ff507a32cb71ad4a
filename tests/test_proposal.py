"""`loopbook init`: what is proposed for tables that nobody described, and what is refused."""

import io
import random
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from rich.console import Console

from loopbook.data import queries, sources
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError, SourceError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.proposal import (
    clocks,
    columns,
    forms,
    mixtures,
    opened,
    placing,
    proposals,
    shown,
    texts,
    twins,
    wording,
)
from loopbook.proposal import leaks as leak_questions
from loopbook.proposal.wishes import Wishes

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def project(folder: Path) -> Project:
    """A folder that `loopbook new` could have made, with the form that nobody filled in."""
    for name in ("env.yaml", "pipeline.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "contract.yaml").write_bytes((ROOT / "examples/empty/contract.yaml").read_bytes())
    return Project(folder)


def proposal_of(source: str | Path, root: Path, **wishes) -> proposals.Proposal:
    table = columns.read_table(opened.opened(str(source), root))
    return proposals.proposed(table, Wishes(**wishes), now=NOW)


def placed(rows: pl.DataFrame, folder: Path, name: str = "table.csv", **wishes):
    """A table in a project, its proposal and what became of it."""
    here = project(folder)
    path = folder / name
    rows.write_parquet(path) if name.endswith("parquet") else rows.write_csv(path)
    proposal = proposal_of(path, folder, **wishes)
    return proposal, placing.place(here, proposal, now=NOW)


def shop(rows: int = 600) -> dict[str, list]:
    """Sales of a shop, with the dirt that spreadsheets bring."""
    draw = random.Random(3)
    days = [date(2023, 1, 1) + timedelta(days=i // 2) for i in range(rows)]
    return {
        "Nr.": [f"{i:05d}" for i in range(rows)],
        "Verkauft am": [f"{d.day}.{d.month}.{d.year}" for d in days],
        "Preis (€)": [f"{draw.uniform(900, 5000):,.2f} €".replace(",", "_").replace(".", ",").replace("_", ".") for _ in days],
        "Rabatt": [draw.choice(["5 %", "10 %", "-"]) for _ in days],
        "Stück": [str(draw.randint(1, 900)) if i % 9 else "k.A." if i == 9 else "NA" for i in range(rows)],
        "Stammkunde": [draw.choice(["Ja", "Nein"]) for _ in days],
        "PLZ": [draw.choice(["01067", "10115", "80331", "50667"]) for _ in days],
        "leer": [None for _ in days],
        "Land": ["Deutschland" for _ in days],
        "Bemerkung": [" ".join(draw.choices(["sehr", "gute", "Ware", "schnell", "und", "billig", "im", "Laden"], k=9)) + str(i) for i in range(rows)],
    }  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize(
    ("written", "kind", "values"),
    [
        (["$1,234.50", "$12", "($1,000)"], "number", [1234.5, 12, -1000]),
        (["1.234,50 €", "12,00 €"], "number", [1234.5, 12]),
        (["1 234,5", "12"], "number", [1234.5, 12]),
        (["1\u202f234", "12"], "integer", [1234, 12]),
        (["1'234.50", "2"], "number", [1234.5, 2]),
        (["12 %", "13.5%"], "number", [12, 13.5]),
        (["€1.2M", "€300K"], "number", [1_200_000, 300_000]),
        (["EUR 5", "EUR 6,5"], "number", [5, 6.5]),
        (["1e5", "2.5"], "number", [100_000, 2.5]),
        (["-", "12", "#N/A"], "integer", [None, 12, None]),
        (["Ja", "nein"], "boolean", [True, False]),
        (["oui", "non"], "boolean", [True, False]),
        (["t", "f"], "boolean", [True, False]),
        (["12/31/2014", "1/2/2015"], "time", [datetime(2014, 12, 31), datetime(2015, 1, 2)]),
        (["1/2/2014 3:05 PM", "1/2/2014 11:05 AM"], "time", [datetime(2014, 1, 2, 15, 5), datetime(2014, 1, 2, 11, 5)]),
        (["5 Jan 2015", "2014-01-02", "03/15/2014"], "time", [datetime(2015, 1, 5), datetime(2014, 1, 2), datetime(2014, 3, 15)]),
        (["2014-01", "2014-02"], "time", [datetime(2014, 1, 1), datetime(2014, 2, 1)]),
        (["007", "123"], "text", ["007", "123"]),
        (["5a", "6b"], "text", ["5a", "6b"]),
        (["10.0.0.1", "10.0.0.2"], "text", ["10.0.0.1", "10.0.0.2"]),
    ],
)  # fmt: skip
def test_a_form_is_found_and_polars_and_sql_read_it_alike(written, kind, values):
    import duckdb

    column = pl.Series("x", written * 20)
    form = texts.form_of(column)
    assert form.kind == kind
    assert forms.read(column, form).to_list() == values * 20
    if not form.is_as_read:
        rows = column.to_frame().filter(pl.col("x") != "-")  # noqa: F841 - DuckDB reads it by name
        asked = duckdb.sql(f"SELECT {forms.sql('x', form)} FROM rows").fetchall()
        assert [value for (value,) in asked] == [v for v in values * 20 if v is not None]


def test_what_one_column_leaves_open_another_one_settles():
    """1.234 is a number of thousands in a file that writes a comma before decimals."""
    column = pl.Series(["1.234", "5.678"])
    assert forms.read(column, texts.form_of(column)).to_list() == [1.234, 5.678]
    assert forms.read(column, texts.form_of(column, is_comma=True)).to_list() == [1234, 5678]


def test_a_day_that_can_be_read_in_two_ways_is_a_guess():
    column = pl.Series([f"{d}/{m}/2014" for d in range(1, 13) for m in range(1, 13)])
    assert texts.form_of(column).doubtful
    assert not texts.form_of(pl.concat([column, pl.Series(["31/12/2014"])])).doubtful


@pytest.mark.medium
def test_a_table_with_the_dirt_of_a_spreadsheet_passes_check(tmp_path):
    proposal, became = placed(pl.DataFrame(shop()), tmp_path, target="Preis (€)")
    kinds = {header: c.kind for header, c in proposal.table.columns.items()}
    assert kinds == {
        "Nr.": "category", "Verkauft am": "time", "Preis (€)": "number", "Rabatt": "number",
        "Stück": "integer", "Stammkunde": "boolean", "PLZ": "category", "leer": "nothing",
        "Land": "constant", "Bemerkung": "text",
    }  # fmt: skip
    assert became.is_sound, became.check
    assert proposal.clock.headers == ("Verkauft am",)
    assert proposal.key.headers == ("Nr.",)
    assert set(proposal.roles.ignored) == {"leer", "Land", "Bemerkung"}
    assert any("Bemerkung: texts beyond categories, lists" in note for note in proposal.notes)
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    assert rows["preis"].is_between(900, 5000).all()
    assert rows["Stammkunde"].null_count() == 0


@pytest.mark.medium
@pytest.mark.parametrize(
    ("day", "hour", "first"),
    [
        ("2024-01-{:02d}", lambda h: f"{h % 12 or 12}{'am' if h < 12 else 'pm'}", 13),
        ("2024-01-{:02d}", lambda h: h, 13),
        ("2024-01-{:02d}", lambda h: f"{h:02d}:30", 13.5),
        ("{:02d}.01.2024", lambda h: h, 13),
    ],
)
def test_a_day_and_an_hour_in_two_columns_are_one_time(tmp_path, day, hour, first):
    hours = [(d, h) for d in range(1, 29) for h in range(24)]
    random.Random(1).shuffle(hours)
    hours.insert(0, (28, 13))
    hours.remove((28, 13))
    table = {
        "day": [day.format(d) for d, _ in hours], "hr": [hour(h) for _, h in hours],
        "wind": [random.Random(d * 24 + h).gauss(5, 1) for d, h in hours],
        "load": [100.0 + h + d for d, h in hours],
    }  # fmt: skip
    proposal, became = placed(pl.DataFrame(table), tmp_path, target="load")
    assert became.is_sound, became.check
    assert proposal.clock.headers == ("day", "hr")
    assert proposal.key.names == ("event_time",)
    assert proposal.roles.derived["hour_of_day"] == "hour"
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    assert rows["event_time"].n_unique() == len(hours)
    assert first % 1 == rows["event_time"].dt.minute().max() / 60


def test_year_month_day_and_hour_are_one_time(tmp_path):
    moments = [datetime(2023, 11, 1) + timedelta(hours=7 * i) for i in range(500)]
    table = pl.DataFrame({
        "year": [m.year for m in moments], "month": [m.month for m in moments],
        "day": [m.day for m in moments], "hour": [m.hour for m in moments],
        "wind": [random.Random(i).gauss(5, 1) for i in range(500)],
        "load": [float(m.hour) + i % 7 for i, m in enumerate(moments)],
    })  # fmt: skip
    proposal, became = placed(table, tmp_path, "t.parquet", target="load")
    assert became.is_sound, became.check
    assert proposal.clock.headers == ("year", "month", "day", "hour")
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    assert sorted(rows["event_time"].to_list())[0].replace(tzinfo=None) == moments[0]


def test_a_table_without_time_and_key_gets_a_key_made_of_the_row(tmp_path):
    draw = random.Random(5)
    table = pl.DataFrame({
        "width": [draw.gauss(5, 1) for _ in range(400)],
        "colour": [draw.choice(["red", "green"]) for _ in range(400)],
        "kind": [draw.choice("abc") for _ in range(400)],
    })  # fmt: skip
    table = pl.concat([table, table.head(1)])
    proposal, became = placed(table, tmp_path, target="kind")
    assert became.is_sound, became.check
    assert (proposal.aim.task, proposal.key.names) == ("multiclass", ("row_key",))
    assert "1 row is a copy of another; look whether that means something" in proposal.notes
    here = read_contract(tmp_path / "contract.yaml")
    first = pl.read_parquet(queries.queried(here, tmp_path))["row_key"]
    assert first.n_unique() == 401
    table.reverse().write_csv(tmp_path / "table.csv")
    assert set(pl.read_parquet(queries.queried(here, tmp_path))["row_key"]) == set(first)


def test_headers_that_are_no_names_get_one_and_keep_what_the_file_says(tmp_path):
    headers = ["1st", "a b", 'say "x"', "größe", "💡", "x.y", "class", "id", "as_of", "A-b", "ziel"]
    table = pl.DataFrame({
        header: [random.Random(f"{header}{i}").gauss(0, 1) for i in range(300)] for header in headers
    })  # fmt: skip
    proposal, became = placed(table, tmp_path, target="ziel")
    assert became.is_sound, became.check
    contract = read_contract(tmp_path / "contract.yaml")
    assert set(contract.header_of.values()) - {"row_key"} == set(headers)
    assert len({f.name for f in proposal.roles.features}) == 10


def test_a_number_that_stands_for_nothing_is_told_and_read_as_missing(tmp_path):
    draw = random.Random(2)
    table = pl.DataFrame({
        "depth": [-999.0 if i % 20 == 0 else draw.uniform(3, 40) for i in range(400)],
        "colour": [draw.choice(["red", "green"]) for _ in range(400)],
        "yield": [draw.uniform(10, 20) for _ in range(400)],
    })  # fmt: skip
    proposal, became = placed(table, tmp_path, target="yield")
    assert became.is_sound, became.check
    assert any("-999 is read as missing" in note for note in proposal.notes)
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    assert rows["depth"].null_count() == 20


@pytest.mark.medium
@pytest.mark.parametrize(
    ("values", "classes"),
    [(("0", "1"), ["0", "1"]), (("Ja", "Nein"), ["Ja", "Nein"]), ((False, True), ["false", "true"]), (("0.0", "1.0"), ["0", "1"])],
)  # fmt: skip
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_target_of_two_values_is_called_what_the_table_calls_it(tmp_path, values, classes, name):
    draw = random.Random(3)
    table = pl.DataFrame({
        "width": [draw.gauss(5, 1) for _ in range(400)],
        "colour": [draw.choice(["red", "green"]) for _ in range(400)],
        "churn": [values[draw.random() < 0.3] for _ in range(400)],
    })  # fmt: skip
    proposal, became = placed(table, tmp_path, name)
    assert (proposal.aim.task, proposal.aim.keys["classes"]) == ("binary", classes)
    assert became.is_sound, became.check


def test_two_sorts_of_rows_are_no_two_units():
    """Another number tells the same rows apart, and is in one unit."""
    draw = random.Random(4)
    sorts = [i % 2 for i in range(600)]
    length = [draw.lognormvariate(0.6, 0.12) * (3.28084 if s else 1) for s in sorts]
    found = [
        pl.Series("length", length),
        pl.Series("age", [draw.gauss(9 + 30 * s, 2) for s in sorts]),
    ]
    found = [columns._of_stored(series, series.name) for series in found]
    assert mixtures.mixture_of(found[0])
    assert not mixtures.mixtures_of(found)
    assert mixtures.mixtures_of(found[:1])


def test_a_column_in_two_units_is_told_and_one_in_one_is_not():
    draw = random.Random(4)
    metres = [draw.lognormvariate(0.6, 0.12) for _ in range(600)]
    mixed = [x if i % 2 else x * 3.28084 for i, x in enumerate(metres)]
    found = [columns._of_stored(pl.Series(n, v), n) for n, v in (("one", metres), ("two", mixed))]
    assert mixtures.mixture_of(found[0]) is None
    assert mixtures.mixture_of(found[1]).units == "metres and feet"


def test_a_range_is_wider_than_what_was_seen_and_not_widened_by_one_slip(tmp_path):
    rooms = [1 + i % 7 for i in range(2000)]
    table = {"rooms": rooms, "area": [20.0 + i % 90 for i in range(2000)]}
    draw = random.Random(1)
    table["rent"] = [
        r * 100 + a + draw.gauss(0, 80) for r, a in zip(rooms, table["area"], strict=True)
    ]
    table["rooms"][5] = 99
    proposal, became = placed(pl.DataFrame(table), tmp_path, target="rent")
    believable = proposal.ranges["rooms"]
    assert (believable.low, believable.outside) == (1, 1)
    assert 7 < believable.high < 20
    assert became.is_sound, became.check


def test_leaks_are_told_with_numbers_and_left_out(tmp_path):
    draw = random.Random(6)
    some, others = (
        [draw.randint(0, 50) for _ in range(600)],
        [draw.randint(0, 90) for _ in range(600)],
    )
    table = pl.DataFrame({
        "wind": [draw.gauss(5, 1) for _ in range(600)], "casual": some, "members": others,
        "trips": [a + b for a, b in zip(some, others, strict=True)],
    })  # fmt: skip
    proposal, _ = placed(table, tmp_path, target="trips")
    assert set(proposal.roles.ignored) == {"casual", "members"}
    assert any("casual + members is the target in 100.0 % of the rows" in n for n in proposal.notes)


def test_a_time_that_comes_after_the_events_is_told(tmp_path):
    draw = random.Random(8)
    opened = [datetime(2024, 1, 1) + timedelta(hours=7 * i) for i in range(600)]
    table = pl.DataFrame({
        "opened": opened, "closed": [at + timedelta(hours=draw.randint(1, 9)) for at in opened],
        "wind": [draw.gauss(5, 1) for _ in opened], "cost": [draw.gauss(9, 1) for _ in opened],
    })  # fmt: skip
    proposal, _ = placed(table, tmp_path, target="cost", time=["opened"])
    told = "closed is a time, and in 100.0 % of 600 rows it is later than the row's own"
    assert any(told in note for note in proposal.notes)


def test_a_column_that_is_missing_with_the_target_comes_with_it():
    draw = random.Random(6)
    over = [None if i % 8 == 0 else draw.gauss(9, 1) for i in range(800)]
    late = [None if o is None else draw.gauss(1, 1) for o in over]
    table = {"end": over, "late": late, "wind": [draw.gauss(5, 1) for _ in over]}
    found = {n: columns._of_stored(pl.Series(n, v, dtype=pl.Float64), n) for n, v in table.items()}
    aim = proposals.targets.aim_of(found["late"])
    asked = leak_questions.questions(list(found.values()), found["late"], aim, None)
    assert [question.headers for question in asked] == [("end",)]


@pytest.mark.medium
def test_a_contract_that_somebody_wrote_is_never_overwritten_and_the_difference_is_shown(tmp_path):
    proposal, became = placed(pl.DataFrame(shop()), tmp_path, target="Preis (€)")
    assert became.is_written
    path = tmp_path / "contract.yaml"
    path.write_text(path.read_text() + "# mine\n")
    mine, knobs = path.read_bytes(), (tmp_path / "env.yaml").read_bytes()
    again = placing.place(Project(tmp_path), proposal, now=NOW)
    assert not again.is_written
    assert "-# mine" in again.difference
    assert (path.read_bytes(), (tmp_path / "env.yaml").read_bytes()) == (mine, knobs)


@pytest.mark.medium
def test_the_knobs_suit_the_rows_and_keep_their_comments(tmp_path):
    _, became = placed(pl.DataFrame(shop()), tmp_path, target="Preis (€)")
    knobs = read_knobs(tmp_path / "env.yaml")
    assert 30 <= knobs.gate_min_rows < 200
    assert any(told.startswith("gate_min_rows: ") for told in became.knobs)
    before, after = ((ROOT / "env.yaml").read_text(), (tmp_path / "env.yaml").read_text())
    assert before.count("#") == after.count("#")


def test_the_gate_asks_for_no_more_rows_than_chance_has_kept_back(tmp_path):
    """How many rows a hash of the key keeps back is known when it is asked."""
    here, draw = project(tmp_path), random.Random(1)
    table = pl.DataFrame({n: [draw.gauss(0, 1) for _ in range(240)] for n in ("a", "b", "y")})
    table.write_csv(tmp_path / "t.csv")
    proposal = proposal_of(tmp_path / "t.csv", tmp_path, target="y")
    hopeful = replace(proposal, knobs=proposal.knobs | {"gate_min_rows": 150})
    became = placing.place(here, hopeful, now=NOW)
    assert became.is_sound, became.check
    assert not any("it will promote none" in line for line in became.check)
    assert read_knobs(here.knobs).gate_min_rows < 100


@pytest.mark.medium
def test_what_was_guessed_is_marked_and_what_was_named_is_not(tmp_path):
    guessed, _ = placed(pl.DataFrame(shop()), tmp_path)
    assert {"target", "event_time", "key"} <= guessed.guesses.keys()
    named = proposal_of(
        tmp_path / "table.csv", tmp_path, target="Preis (€)", time=("Verkauft am",), key=("Nr.",)
    )
    assert not {"target", "event_time", "key"} & named.guesses.keys()
    assert "GUESSED" in (tmp_path / "contract.yaml").read_text()


@pytest.mark.medium
def test_three_formats_in_one_column_of_times_are_read(tmp_path):
    table = shop()
    days = [date(2023, 1, 1) + timedelta(days=i // 2) for i in range(600)]
    ways = ("%Y-%m-%d", "%d.%m.%Y", "%B %d, %Y")
    table["Verkauft am"] = [d.strftime(ways[i % 3]) for i, d in enumerate(days)]
    _, became = placed(pl.DataFrame(table), tmp_path, target="Preis (€)")
    assert became.is_sound, became.check
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    assert rows["verkauft_am"].sort().to_list() == days


REFUSED = {
    "empty.csv": (b"", "is empty"),
    "headers.csv": (b"a,b\n", "has 2 columns and no rows"),
    "one.csv": (b"a\n1\n2\n", "has one column"),
    "twins.csv": (b"a,a,b\n1,2,3\n", "more than once"),
    "latin.csv": ("größe,b\n1,2\n".encode("cp1252"), "is not UTF-8: line 1"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
    "sheet.csv": (b"PK\x03\x04" + b"\0" * 50, "Excel"),
    "page.csv": (b"<!DOCTYPE html><html></html>", "is a web page"),
    "zipped.csv": (b"\x1f\x8b\x08\0\0", "gunzip"),
    "list.json": (b'[{"a": 1}, {"a": 2}]', "one JSON list"),
    "noheader.csv": (b"1.5,2.5,3\n2.5,3.5,4\n", "is a row and no line of headers"),
    "constant.csv": (b"a,b\n" + b"1,x\n" * 300, "no column can be a target"),
    "missing.csv": (b"a,b\n" + b"NA,\n" * 300, "no column can be a target"),
    "binary.bin": (b"\0\1\2\3" * 50, "is no text and no Parquet"),
    "spaces.csv": (b"a,a ,b\n" + b"1,2,3\n" * 200, "'a' and 'a ', which look alike"),
    "few.csv": (
        b"a,b\n" + b"".join(b"%d,%d\n" % (i % 7, i * 31 % 101) for i in range(119)),
        "119 of 119 rows have a value of b, and at least 120 are needed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_with_what_it_is(tmp_path, name):
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        proposal_of(tmp_path / name, tmp_path)
    assert said in str(caught.value)


@pytest.mark.medium
def test_a_file_that_is_not_what_its_name_says_is_read_as_what_it_is(tmp_path):
    project(tmp_path)
    pl.DataFrame(shop()).write_parquet(tmp_path / "really.csv")
    proposal = proposal_of(tmp_path / "really.csv", tmp_path, target="Preis (€)")
    assert proposal.source["format"] == "parquet"
    assert placing.place(Project(tmp_path), proposal, now=NOW).is_sound


def test_a_folder_of_files_that_disagree_is_refused(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all/one.csv").write_text("a,b\n1,2\n")
    (tmp_path / "all/two.csv").write_text("a,c\n1,2\n")
    with pytest.raises(SourceError, match="have not the same columns"):
        proposal_of(tmp_path / "all", tmp_path)


def test_a_column_that_is_a_text_in_one_file_and_a_number_in_another_is_refused(tmp_path):
    (tmp_path / "all").mkdir()
    pl.DataFrame({"a": [1.5, 2], "b": [1, 2]}).write_parquet(tmp_path / "all/one.parquet")
    pl.DataFrame({"a": ["3 m", "4"], "b": [None, 2]}).write_parquet(tmp_path / "all/two.parquet")
    with pytest.raises(SourceError, match=r"'a' is Float64 in one\.parquet and String in two"):
        proposal_of(tmp_path / "all", tmp_path)


def test_a_database_is_described_by_its_only_table_or_by_a_query(tmp_path):
    here = project(tmp_path)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        base.execute("CREATE TABLE sales (nr TEXT, pieces INTEGER, plz TEXT, regular TEXT)")
        rows = zip(*(shop()[n] for n in ("Nr.", "PLZ", "Stammkunde")), strict=True)
        base.executemany(
            "INSERT INTO sales VALUES (?, ?, ?, ?)",
            [(nr, 3 + i * 7 % 90, plz, regular) for i, (nr, plz, regular) in enumerate(rows)],
        )
    address = f"sqlite:///{tmp_path / 'shop.db'}"
    proposal = proposal_of(address, tmp_path, target="pieces")
    assert proposal.source["query"].endswith("FROM source")
    assert placing.place(here, proposal, now=NOW).is_sound
    with closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        base.execute("CREATE TABLE other (a TEXT)")
    with pytest.raises(SourceError, match="has tables other and sales"):
        opened.opened(address, tmp_path)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"target": "prise"}, "no such column"),
        ({"target": "Bemerkung"}, "is free text"),
        ({"target": "Land"}, "in every row"),
        ({"target": "Preis (€)", "time": ("PLZ",)}, "is no time that can be read"),
        ({"target": "Preis (€)", "entity": "Stück"}, "an entity is a category"),
    ],
)
def test_a_wish_that_the_table_cannot_fulfil_is_refused(tmp_path, wishes, said):
    pl.DataFrame(shop()).write_csv(tmp_path / "t.csv")
    with pytest.raises(LoopbookError) as caught:
        proposal_of(tmp_path / "t.csv", tmp_path, **wishes)
    assert said in str(caught.value)


def test_times_that_have_not_come_are_no_event_time():
    ahead = pl.Series("day", [date(2031, 1, 1) + timedelta(days=i) for i in range(99)])
    column = columns._of_stored(ahead, "day")
    found, why = clocks.clock_of([column], [], now=NOW)
    assert found is None
    assert "99 rows lie in the future" in why[0]


@pytest.mark.medium
def test_ten_thousand_categories_are_no_classes_and_no_feature(tmp_path):
    draw = random.Random(1)
    table = pl.DataFrame({
        "label": [f"t{i % 10_001}" for i in range(40_000)],
        "colour": [draw.choice(["red", "green"]) for _ in range(40_000)],
        "weight": [draw.gauss(50, 4) for _ in range(40_000)],
    })  # fmt: skip
    proposal, became = placed(table, tmp_path, "t.parquet")
    assert proposal.target.header == "weight"
    assert "too many to learn from" in proposal.roles.ignored["label"]
    assert became.is_sound, became.check


def stored(name: str, values: list) -> columns.Column:
    return columns.columns_of(opened.Opened({}, pl.DataFrame({name: values}), texts=True))[0]


def test_amounts_in_words_among_few_numbers_are_categories_and_slips_are_not():
    """`3 or more` after 0, 1 and 2 says something; a word that means nothing is no value."""
    kept = stored("children", ["0", "1", "2"] * 300 + ["3 or more"] * 9)
    assert (kept.kind, kept.missing) == ("category", 0)
    for slip in ("none of these", "12 apples"):
        read = stored("children", ["0", "1", "2"] * 300 + [slip])
        assert (read.kind, read.missing > 0) == ("integer", True)
    many = stored("age", [str(i % 90) for i in range(900)] + ["90 or more"] * 9)
    assert (many.kind, many.missing > 0) == ("integer", True)


def test_an_answer_that_was_refused_is_no_value():
    read = stored("steps", [str(i % 90) for i in range(900)] + ["Refused", "Don't know"] * 4)
    assert (read.kind, read.missing, read.odd) == ("integer", 8 / 908, ())


def test_whole_numbers_that_are_each_there_once_and_lie_close_number_the_rows():
    numbers = list(range(93_703, 94_203))
    del numbers[100:140]
    random.Random(3).shuffle(numbers)
    numbered = columns._of_stored(pl.Series("seqn", numbers), "seqn")
    assert columns.is_row_count(numbered)
    assert keys_of(numbered) == ("seqn",)
    sparse = pl.Series("wage", random.Random(3).sample(range(50_000), 400))
    assert not columns.is_row_count(columns._of_stored(sparse, "wage"))
    rank = columns._of_stored(pl.Series("place", numbers), "place")
    assert not columns.is_row_count(rank)


def keys_of(*given: columns.Column) -> tuple[str, ...]:
    wind = [random.Random(i).gauss(5, 1) for i in range(given[0].values.len())]
    more = columns._of_stored(pl.Series("wind", wind), "wind")
    return proposals.keys.key_of([*given, more], None, "wind", (), "source").names


def test_two_clusters_a_few_per_cent_apart_are_no_two_units():
    """Knots and miles an hour are 15 % apart, and 56 and 59 are not."""
    draw = random.Random(4)
    near = [draw.choice([56, 59]) + draw.gauss(0, 0.1) for _ in range(900)]
    assert mixtures.mixture_of(columns._of_stored(pl.Series("x", near), "x")) is None
    knots = [draw.choice([56, 56 * 1.151]) + draw.gauss(0, 0.1) for _ in range(900)]
    told = mixtures.mixture_of(columns._of_stored(pl.Series("x", knots), "x"))
    assert told.units == "knots and miles an hour"


def test_columns_that_never_meet_in_a_row_are_no_twins():
    """Questions to the old and to the young: where one has an answer, the other has mostly none."""
    old = [("a", "b", "c")[i % 3] if i < 400 else None for i in range(800)]
    young = [("x", "y", "z")[i % 3] if i > 340 else None for i in range(800)]
    found = [stored("old", old), stored("young", young)]
    assert twins.twins_of(found) == {}
    assert twins.twins_of([stored("old", old), stored("same", [o and o.upper() for o in old])])


def test_a_hundred_and_fifty_rows_get_parts_that_they_can_bear(tmp_path):
    draw = random.Random(8)
    table = pl.DataFrame({n: [draw.gauss(0, 1) for _ in range(150)] for n in ("a", "b", "y")})
    _, became = placed(table, tmp_path, target="y")
    assert became.is_sound, became.check
    assert 30 <= read_knobs(tmp_path / "env.yaml").gate_min_rows <= 60


def test_years_far_apart_are_windows_of_at_most_ten_years(tmp_path):
    draw = random.Random(8)
    years = [y for y in range(1900, 2026, 3) for _ in range(40)]
    table = pl.DataFrame({
        "year": years, "wind": [draw.gauss(0, 1) for _ in years], "y": [draw.gauss(0, 1) for _ in years],
    })  # fmt: skip
    proposal, became = placed(table, tmp_path, "t.parquet", target="y")
    assert became.is_sound, became.check
    assert proposal.clock.headers == ("year",)
    assert max(proposal.knobs["test_days"], proposal.knobs["validation_days"]) <= 3650


def test_most_rows_without_a_class_are_told_since_none_may_be_an_answer(tmp_path):
    draw = random.Random(8)
    medals = [draw.choice(["gold", "silver"]) if i % 5 == 0 else None for i in range(900)]
    table = pl.DataFrame({"wind": [draw.gauss(0, 1) for _ in medals], "medal": medals})
    proposal, _ = placed(table, tmp_path, target="medal")
    assert any(
        "medal has no value in 80 % of the rows" in n and "coalesce" in n for n in proposal.notes
    )


@pytest.mark.parametrize(
    ("header", "is_name"),
    [("flight", "code"), ("zip_code", "code"), ("customer", "code"), ("order_id", "id"), ("rideid", "id"),
     ("customer_count", ""), ("city_population", ""), ("bid", ""), ("amount_paid", ""), ("humid", "")],
)  # fmt: skip
def test_a_header_tells_numbers_of_things_from_amounts(header, is_name):
    assert wording.is_identifier(header) == (is_name == "id")
    assert wording.is_code(header) == bool(is_name) or header == "rideid"


def numbers(rows: int = 300, **more: list) -> dict[str, list]:
    draw = random.Random(9)
    return {"wind": [draw.gauss(5, 1) for _ in range(rows)]} | more | {
        "y": [draw.gauss(50, 9) for _ in range(rows)]
    }  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("price", ["{}", "€ {}"], ids=["as it is", "by a query"])
@pytest.mark.parametrize("is_unique", [True, False])
def test_a_column_without_a_header_is_left_out_since_no_contract_can_name_it(
    tmp_path, price, is_unique
):
    """As pandas writes its index."""
    index = list(range(300)) if is_unique else [i % 40 for i in range(300)]
    prices = [price.format(5 + i * 7 % 90) for i in range(300)]
    key = [f"k{i}" for i in range(300)]
    table = pl.DataFrame({"": index} | numbers(price=prices, name_id=key))
    proposal, became = placed(table, tmp_path, target="y")
    assert became.is_sound, became.check
    assert proposal.roles.ignored[""].startswith("has no header")
    assert proposal.key.headers == ("name_id",)


def test_columns_that_are_made_have_names_that_the_table_has_not(tmp_path):
    taken = [random.Random(i).gauss(0, 1) for i in range(300)]
    days = {
        "year": [2000 + i // 100 for i in range(300)],
        "month": [1 + i // 9 % 12 for i in range(300)],
    }
    table = pl.DataFrame(days | numbers(row_key=taken, Event_Time=taken[::-1]))
    proposal, became = placed(table, tmp_path, target="y")
    assert became.is_sound, became.check
    assert (proposal.key.names, proposal.clock.name) == (("made_row_key",), "made_event_time")


@pytest.mark.medium
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_infinite_numbers_that_are_many_are_read_as_missing(tmp_path, name):
    wet = [float("inf") if i % 50 == 0 else float(i % 37) for i in range(300)]
    _, became = placed(pl.DataFrame(numbers(wet=wet)), tmp_path, name, target="y")
    assert became.is_sound, became.check
    rows = sources.read(read_contract(tmp_path / "contract.yaml"), tmp_path).rows
    assert rows["wet"].null_count() == 6


def test_a_day_zero_is_no_day(tmp_path):
    days = ["0000-00-00" if i % 9 == 0 else f"2020-{1 + i % 12:02d}-05" for i in range(300)]
    proposal, _ = placed(pl.DataFrame(numbers(day=days)), tmp_path, target="y")
    assert proposal.table.columns["day"].kind == "time"
    assert any("11.3 % of the rows have none" in note for note in proposal.notes)


def test_a_text_that_hardly_comes_again_is_no_target(tmp_path):
    names = [f"p{i // 2}" for i in range(300)]
    with pytest.raises(SourceError, match="150 different texts in 300 rows, too few of each"):
        placed(pl.DataFrame(numbers(name=names)), tmp_path, target="name")


def test_init_can_change_no_database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        base.execute("CREATE TABLE sales (a INTEGER)")
    address = f"sqlite:///{tmp_path / 'shop.db'}"
    for query in ("DROP TABLE sales", "INSERT INTO sales VALUES (1) RETURNING a"):
        with pytest.raises(SourceError, match="readonly database"):
            opened.opened(address, tmp_path, query=query)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        assert base.execute("SELECT count(*) FROM sales").fetchone() == (0,)


@pytest.mark.parametrize("address", ["s3://bucket/t.csv", "ftp://host/t.csv", "foo://bar"])
def test_an_address_of_another_kind_is_refused_with_what_is_read(tmp_path, address):
    with pytest.raises(SourceError, match="no kind of address that is read here"):
        opened.opened(address, tmp_path)


def test_a_database_without_rights_says_so(tmp_path):
    (tmp_path / "other.db").write_bytes(b"no database at all, " * 90)
    with pytest.raises(SourceError, match="file is not a database"):
        opened.opened(f"sqlite:///{tmp_path / 'other.db'}", tmp_path)
    with pytest.raises(SourceError, match="port 9 failed"):
        opened.opened("postgresql+psycopg://nobody:secret@127.0.0.1:9/none", tmp_path)


@pytest.mark.medium
def test_an_address_that_answers_a_web_page_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("<!DOCTYPE html><html>Sign in</html>")
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/table.csv"
        with pytest.raises(SourceError, match="web page"):
            opened.opened(address, tmp_path)
        server.shutdown()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_is_proposed_breaks_no_word_however_narrow_the_terminal(width):
    """At 60 columns it read *catego ry* and *missin g*, and the year 2,007."""
    source = ROOT / "examples/penguins/data/penguins.csv"
    written = io.StringIO()
    shown.show(proposal_of(source, ROOT, target="species"), Console(file=written, width=width))
    told = written.getvalue().split(" columns", 1)[1]  # after the file's path
    assert max(map(len, told.splitlines())) <= width
    for word in ("flipper_length_mm", "category", "feature", "Chinstrap", "missing"):
        assert word in told
    assert re.search(r"\b20\d\d\b", told)
