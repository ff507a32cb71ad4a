"""The examples: tables of other kinds, as a person begins with one."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml
from small_house import ROOT

from loopbook.data import rehearsal, sources
from loopbook.features.calendar import calendar_columns
from loopbook.project import clock
from loopbook.project.contract import read_contract
from loopbook.project.knobs import check_knobs, read_knobs
from loopbook.project.paths import Project
from loopbook.project.template import with_knobs

EXAMPLES = ("bikes", "flights", "penguins")
# what is in the repository beside code: each table of an example, and no other
TABLES = {
    "data/house_sales.parquet",
    "examples/bikes/data/bike_rentals.csv",
    "examples/flights/data/flights.parquet",
    "examples/flights/data/flights_weather.parquet",
    "examples/penguins/data/penguins.csv",
}


@pytest.fixture(params=EXAMPLES)
def project(request, tmp_path) -> Project:
    """An example's files where a project has them, with all knobs."""
    folder = ROOT / "examples" / request.param
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (folder / "env.yaml").read_text())
    (tmp_path / "env.yaml").write_text(knobs)
    return Project(tmp_path)


def test_a_build_would_take_nearly_every_row_and_judge_on_enough(project):
    table, knobs = read_contract(project.contract), read_knobs(project.knobs)
    found = rehearsal.rehearse(project, table, knobs, now=clock.utc_now())
    labelled = 0.95 if table.unlabelled == "drop" else 0.998
    assert found.usable >= labelled * found.read
    assert found.parts["test"] >= knobs.gate_min_rows
    assert not [sentence for sentence in found.left_out if "set aside" in sentence], found.left_out
    assert not found.hints


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_the_knobs_that_differ_and_each_gets_its_value(name):
    own = yaml.safe_load((ROOT / "examples" / name / "env.yaml").read_text())
    usual = (ROOT / "env.yaml").read_text()
    changed = with_knobs(usual, (ROOT / "examples" / name / "env.yaml").read_text())
    before, after = yaml.safe_load(usual), yaml.safe_load(changed)
    assert {knob for knob in after if after[knob] != before[knob]} == set(own)
    assert after == before | own
    assert re.findall("#.*", changed) == re.findall("#.*", usual)
    check_knobs(after, name)


@pytest.mark.parametrize(
    ("name", "leaks"),
    [
        ("bikes", {"casual", "registered"}),
        ("flights", {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}),
    ],
)
def test_what_is_known_afterwards_is_ignored_by_name(name, leaks):
    table = read_contract(ROOT / "examples" / name / "contract.yaml")
    assert leaks <= set(table.ignored)
    assert not leaks & {*table.header_of.values(), *table.columns}


def test_the_repository_holds_the_tables_of_the_examples_and_no_other():
    words = ["git", "ls-files", "*.parquet", "*.csv", "*.jsonl", "*.arrow", "*.feather", "*.zip"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) == TABLES
    origins = {path.parent / "README.md" for path in map(Path, TABLES)}
    for origin in origins:
        told = (ROOT / origin).read_text()
        assert re.search(r"CC0|CC BY 4\.0", told), origin
        assert all(Path(t).name in told for t in TABLES if Path(t).parent == origin.parent), origin


def test_bikes_are_the_bytes_of_their_authors_and_of_flights_every_eighth_is_here():
    bikes = ROOT / "examples/bikes/data/bike_rentals.csv"
    assert hashlib.sha256(bikes.read_bytes()).hexdigest().startswith("37243617704e1f08")
    place = ROOT / "examples/flights/one_in_eight.py"
    spec = importlib.util.spec_from_file_location("one_in_eight", place)
    chooser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chooser)
    chosen = chooser.one_in_eight(pl.DataFrame({"row": range(17)}))
    assert chosen["row"].to_list() == [0, 8, 16]
    flights = pl.read_parquet(ROOT / "examples/flights/data/flights.parquet")
    assert flights.height == -(-336_776 // 8)
    assert round(100 * (flights["arr_delay"] > 15).mean(), 1) == pytest.approx(23.7, abs=0.3)


def test_the_calendar_of_flights_is_that_of_the_airports_clocks(tmp_path):
    """The file says the local hour; the contract reads it off an instant in UTC."""
    shutil.copytree(ROOT / "examples/flights", tmp_path, dirs_exist_ok=True)
    table = read_contract(tmp_path / "contract.yaml")
    rows = sources.with_clock(sources.read_source(table, tmp_path), table)
    raw = pl.read_parquet(tmp_path / "data/flights.parquet")
    told = rows.select(table.key).join(raw, on=table.key, how="left", maintain_order="left")
    read = calendar_columns(rows[clock.EVENT_TS], table)["departs_at"]
    assert read.tolist() == told["hour"].to_list()
