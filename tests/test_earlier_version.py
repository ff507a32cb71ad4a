"""A `var/` and a project's files from before the library had packages."""

import pytest
from small_house import ROOT, make_project

from loopbook.loop import replay
from loopbook.loop.replay_results import LOOP
from loopbook.pipeline import graph, graph_files
from loopbook.project.errors import BuildFailed, ReplayError
from loopbook.project.files import write_json
from loopbook.project.paths import Project

OLD = {
    "loopbook.pipeline.graph.NotebookExecutor": "loopbook.pipeline.NotebookExecutor",
    "loopbook.models.grid::candidates": "loopbook.grid::candidates",
}


def aged(text: str) -> str:
    """A graph's file with names as they were."""
    for name, old in OLD.items():
        assert name in text
        text = text.replace(name, old)
    return text


def test_a_graph_that_names_old_modules_is_refused_with_all_of_them(tmp_path):
    folder = make_project(tmp_path / "house")
    path = folder / "pipeline.yaml"
    path.write_text(aged(path.read_text()))
    with pytest.raises(BuildFailed) as refused:
        graph.load_graph(Project(folder))
    told = str(refused.value)
    assert told.startswith("pipeline.yaml: names loopbook.pipeline.NotebookExecutor, loopbook.grid")
    assert "Take these names from the file of the same name that comes with this version" in told


def test_every_name_in_the_graphs_of_this_version_exists():
    graphs = sorted(ROOT.glob("pipeline*.yaml"))
    assert len(graphs) == 3
    assert [graph_files.absent_names(path) for path in graphs] == [[], [], []]


def test_a_replay_that_an_earlier_version_began_is_refused_and_kept(tmp_path):
    folder = make_project(tmp_path / "house")
    lane = folder / "var" / "replay" / "concept-month" / LOOP
    write_json(lane / "var" / "replay.json", {"done": 1, "told": "a month"})
    (lane / "pipeline.yaml").write_text(aged((ROOT / "pipeline.yaml").read_text()))
    files = sorted(path for path in lane.rglob("*") if path.is_file())
    with pytest.raises(ReplayError, match=r"made by an earlier loopbook .*replay --afresh"):
        replay.run(Project(folder), replay.Options(scenario="concept", step="month"))
    assert sorted(path for path in lane.rglob("*") if path.is_file()) == files
