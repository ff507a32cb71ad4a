"""docs/your-table.md, followed from its first block to its last: each command ends well, each quote is true."""

import re
import sys
from pathlib import Path

import pytest
from made_once import made_once
from small_house import ROOT, set_knobs
from told import Reader, environment_of, is_there, of_a_person

from loopbook.project.contract import read_contract
from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project
from loopbook.records import windows as window_records

PAGE = (ROOT / "docs/your-table.md").read_text()


def prepared(reader: Reader, text: str) -> None:
    """Before `make build`, save the minutes that an environment and nine candidates take."""
    if text != "make build\n":
        return
    environment_of(reader.folder)
    graph = reader.folder / "pipeline.yaml"
    graph.write_text(
        re.sub(r"names: \[[^]]*\]", "names: [baseline, with_history]", graph.read_text())
    )
    set_knobs(reader.folder, bootstrap_resamples="300", monitor_report="false")


def follow(folder: Path) -> None:
    """The page, in a copy of what the repository has for it."""
    here = folder / "loopbook"
    here.mkdir(parents=True)
    (here / "examples").symlink_to(ROOT / "examples")
    (here / ".venv").symlink_to(sys.prefix)
    reader = Reader(here, of_a_person(), prepared)
    try:
        reader.follow(PAGE)
    finally:
        reader.stop()
    write_json(folder / "quoted.json", reader.quoted)


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "your table", follow)


@pytest.mark.slow
def test_each_command_ends_well_and_prints_what_the_page_quotes(followed):
    quoted = read_json(followed / "quoted.json")
    assert len(quoted) > 10
    assert [line for line, shown in quoted if not is_there(line, shown)] == []


@pytest.mark.slow
def test_the_champion_of_the_page_is_monitored_on_all_that_was_asked(followed):
    record = window_records.newest(Project(followed / "bikes"))
    assert record["champion"]["version"] == "1"
    # all but the single question, whose truth the page does not tell
    assert record["numbers"]["labels"] == record["numbers"]["due"] - 1 > 200
    assert not [fault for fault in record["faults"] if fault["is_broken"]]


@pytest.mark.slow
def test_a_database_gives_the_same_columns_as_the_file(followed):
    file, database = (
        read_contract(followed / name / "contract.yaml") for name in ("bikes", "bikes-db")
    )
    assert list(database.features) == list(file.features)
    assert database.ignored == file.ignored
    (part,) = database.source.parts.values()
    assert part.database == "${RENTALS}"
