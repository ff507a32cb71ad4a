"""A `var/` and a project's files from before the library had packages."""

import io
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import Ridge
from small_house import ROOT, make_project

from loopbook.loop import replay
from loopbook.loop.replay_results import LOOP
from loopbook.models.levels import Recalibrated, Relative
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


@pytest.mark.parametrize("kind", [Relative, Recalibrated])
def test_a_stored_model_that_names_the_old_module_is_loaded_and_predicts_the_same(kind):
    X = np.random.default_rng(1).uniform(1, 2, (60, 2))
    model = kind(Ridge(), 0) if kind is Relative else kind(Ridge())
    more = [np.arange(60.0)] if kind is Recalibrated else []
    model.fit(X, np.log(X[:, 0]), *more)
    stored = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as now,
        zipfile.ZipFile(stored, "w") as before,
    ):
        for name in now.namelist():
            content = now.read(name)
            if name == "schema.json":
                assert b"loopbook.models.levels" in content
                content = content.replace(b"loopbook.models.levels", b"loopbook.levels")
            before.writestr(name, content)
    trusted = skops.io.get_untrusted_types(data=stored.getvalue())
    assert f"loopbook.levels.{kind.__name__}" in trusted
    loaded = skops.io.loads(stored.getvalue(), trusted=trusted)
    assert (loaded.predict(X) == model.predict(X)).all()


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
