"""A project whose graph is a few notebooks of two cells, which run in a second."""

import json
import shutil
from pathlib import Path

from small_house import ROOT

from loopbook.project.paths import Project

CELL = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
PARAMETERS = {"metadata": {"tags": ["parameters"]}}
CONTRACT = """
name: little
meaning: One row is a thing.
task: regression
source: {path: data/things.csv}
key: [size]
target: {name: weight, unit: kg, range: [0, 100], meaning: Weight.}
features:
  size: {type: number, unit: m, range: [0, 100], required: true, example: 5.0, meaning: Size.}
"""


def notebook(parameters: str, code: str) -> str:
    cells = [CELL | PARAMETERS | {"id": "p", "source": parameters}]
    cells.append(CELL | {"id": "c", "source": code})
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    return json.dumps(content, indent=1)


def project(folder: Path, graph: str, **notebooks: tuple[str, str]) -> Project:
    """A project of this graph; each notebook is what is upstream and its code."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "pipeline.yaml").write_text(graph)
    for name in ("env.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    for name, (upstream, code) in notebooks.items():
        text = notebook(f"upstream = {upstream}\nproduct = None\nrandom_seed = None", code)
        (folder / "notebooks" / f"{name}.ipynb").write_text(text)
    return Project(folder)
