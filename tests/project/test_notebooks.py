"""The notebooks are committed clean, and the graphs name those that are there."""

import json
import re

from loopbook.pipeline import tasks


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_no_notebook_is_committed_with_outputs(project):
    for path in sorted(project.root.glob("notebooks/*.ipynb")):
        code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
        assert not any(c["outputs"] or c["execution_count"] for c in code), path.name


def test_every_notebook_has_one_cell_of_parameters(project):
    for path in sorted(project.root.glob("notebooks/*.ipynb")):
        tags = [tag for cell in cells(path) for tag in cell["metadata"].get("tags", [])]
        assert tags.count("parameters") == 1, path.name


def test_the_training_graph_can_be_loaded_and_ends_with_a_promotion(project):
    plan = tasks.plan(project)
    assert plan[-1]["name"] == "promote"
    assert all((project.root / task["notebook"]).exists() for task in plan)


def test_every_notebook_that_a_graph_names_is_there(project):
    for path in project.root.glob("pipeline*.yaml"):
        for notebook in re.findall(r"source: (\S+\.ipynb)", path.read_text(encoding="utf-8")):
            assert (project.root / notebook).exists(), (path.name, notebook)
