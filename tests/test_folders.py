"""A project in a folder of any name: its files are in it, and nobody else's are touched."""

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_once import MANY_SIGNS
from mlflow.store.db.utils import _make_parent_dirs_if_sqlite
from sqlalchemy.engine import make_url

from loopbook.data.formats import scan
from loopbook.project import new, paths
from loopbook.project.addresses import sqlite_address, sqlite_file
from loopbook.project.contract import read_contract
from loopbook.project.errors import ProjectNotFound
from loopbook.project.paths import Project
from loopbook.registry import owners, tracking
from loopbook.registry.reader import connect

ROOT = Path(__file__).parents[1]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0{}"), min_size=1, max_size=20)
AS_IN_THE_CASE = ("a%20b", "a%41", "what?", "100%", " a ", "#1", "u\u0308", MANY_SIGNS)


def marked(folder: Path) -> Project:
    """A project of its marks alone."""
    folder.mkdir(parents=True)
    for name in paths.MARKS:
        (folder / name).touch()
    return Project(folder)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@given(NAMES.filter(lambda name: name not in (".", "..")))
@example(MANY_SIGNS)
@example("a%20b")
@example("what?")
@example("%2525 ?x=y#z")
def test_the_address_of_a_file_opens_that_file_whatever_its_folder_is_called(name):
    file = Path("/somewhere") / name / "var" / "mlflow.db"
    assert make_url(sqlite_address(file)).database == str(file)
    assert sqlite_file(sqlite_address(file)) == file


@pytest.mark.parametrize("name", AS_IN_THE_CASE)
def test_mlflow_makes_no_folder_beside_a_project(tmp_path, name):
    file = tmp_path / name / "var" / "mlflow" / "mlflow.db"
    file.parent.mkdir(parents=True)
    _make_parent_dirs_if_sqlite(sqlite_address(file))
    assert names_in(tmp_path) == {name}


def test_the_address_of_an_ordinary_path_is_the_path_as_it_always_was():
    file = Path("/home/müller's/a b/#1/mlflow.db")
    assert sqlite_address(file) == f"sqlite:///{file}"


@pytest.mark.medium
def test_a_project_does_not_see_the_champion_of_a_neighbour_whose_name_is_its_own_decoded(line):
    """The neighbour's registry is at `a b`, and `a%20b` has none."""
    table = read_contract(line / "contract.yaml")
    encoded = Project(Path(str(line).replace(" ", "%20")))
    there = {p: connect(p.environment()["MLFLOW_TRACKING_URI"]) for p in (Project(line), encoded)}
    champions = {p.root: r.held(table.name, "champion") for p, r in there.items()}
    assert champions[line].number == "1"
    assert champions[encoded.root] is None


@pytest.mark.medium
def test_a_registry_is_made_inside_its_project_and_nowhere_else(tmp_path, monkeypatch):
    project = marked(tmp_path / MANY_SIGNS)
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.environment()["MLFLOW_TRACKING_URI"])
    client = tracking.connect(project)
    experiment = client.get_experiment(tracking.experiment_id(client, "rents"))
    assert Path(sqlite_file(paths.tracking_address(project))).is_relative_to(project.root)
    assert (project.mlflow / "mlflow.db").is_file()
    assert names_in(tmp_path) == {MANY_SIGNS}
    assert names_in(project.root) == {*paths.MARKS, "var"}
    assert client.get_experiment("0").artifact_location.startswith(project.root.as_uri())
    assert experiment is not None
    assert not owners._is_shared(project, paths.tracking_address(project))


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_path_is_no_pattern_that_reads_a_neighbours_rows(tmp_path, form):
    contract = read_contract(ROOT / "contract.yaml")
    for name, value in (("a?", 1.0), ("ab", 2.0), ("[x]", 3.0), ("x", 4.0)):
        (tmp_path / name).mkdir()
        rows = pl.DataFrame({key: [None] for key in contract.columns} | {"price": [value]})
        file = tmp_path / name / f"rows.{form}"
        write = {"parquet": rows.write_parquet, "csv": rows.write_csv, "jsonl": rows.write_ndjson}
        write[form](file)
    for name, value in (("a?", 1.0), ("[x]", 3.0)):
        table = scan(tmp_path / name / f"rows.{form}", form, contract.source)
        assert table.collect()["price"].cast(float).to_list() == [value]


def test_no_file_is_read_as_a_pattern():
    """Polars takes `?`, `*` and `[x]` in a path for a pattern unless it is told not to."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("docs/*.md")]
    call = re.compile(r"pl\.(?:read|scan)_(?:parquet|csv)\((?!BytesIO)(?:[^()]|\([^()]*\))*\)")
    readings = [(f.name, found[0]) for f in files for found in call.finditer(f.read_text())]
    assert len(readings) > 10
    assert not [(file, text) for file, text in readings if "glob=False" not in text]


@pytest.mark.parametrize("name", ["a\nb", "{a}", "{{a}}", "a}", "a\x07"])
def test_a_name_that_no_graph_can_have_is_refused_with_the_sign_in_question(
    tmp_path, monkeypatch, name
):
    project = marked(tmp_path / name)
    monkeypatch.chdir(project.root)
    with pytest.raises(ProjectNotFound, match=r"cannot hold '(\\n|[{}]|\\x07)'"):
        paths.current()
    with pytest.raises(ProjectNotFound, match="Rename that folder"):
        new.make_project(tmp_path / "none" / name, name="a", example="empty")
    assert not (tmp_path / "none").exists()
