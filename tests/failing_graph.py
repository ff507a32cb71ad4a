"""A project of one notebook whose third cell fails, and builds of it that keep its kernel."""

import json
from contextlib import suppress
from pathlib import Path

import psutil
from small_graph import CELL
from small_graph import project as small_project
from small_house import loopbook

from loopbook.project.paths import Project

RECORD = "kept/build.first.kernel.json"  # below var/
GRAPH = """
executor: {dotted_path: loopbook.pipeline.graph.NotebookExecutor, workers: 1}
tasks:
  - source: notebooks/first.ipynb
    name: first
    params: {random_seed: "{{random_seed}}"}
    product: {nb: var/build/first.ipynb, text: var/build/first.txt}
"""
CELLS = [
    "import random\nfrom pathlib import Path\nrandom.seed(random_seed)\nrows = [3, 1, 2]",
    "mark = Path(product['text']).with_name('runs.txt')\n"
    "mark.write_text(mark.read_text() + 'x' if mark.exists() else 'x')\nrows",
    "drawn = random.random()\nrows = sorted(rows)\nshare = rows[0] / 0\n(drawn, rows)",
    "Path(product['text']).write_text(f'{drawn} {rows} {share}')",
]


def edit(here: Project, at: int, old: str, new: str) -> None:
    """Change a cell, counted from that after the parameters."""
    path = here.root / "notebooks/first.ipynb"
    content = json.loads(path.read_text())
    cell = content["cells"][at + 1]
    assert old in cell["source"]
    cell["source"] = cell["source"].replace(old, new)
    path.write_text(json.dumps(content))


def correct(here: Project) -> None:
    edit(here, 2, "rows[0] / 0", "rows[0] / 2")


def runs_of_the_second_cell(here: Project) -> int:
    return len((here.var / "build/runs.txt").read_text())


def kernel(here: Project) -> psutil.Process:
    return psutil.Process(json.loads((here.var / RECORD).read_text())["loopbook"]["pid"])


def failing_project(folder: Path) -> Project:
    """The project, not built."""
    here = small_project(folder, GRAPH, first=(None, CELLS[0]))
    path = here.root / "notebooks/first.ipynb"
    content = json.loads(path.read_text())
    content["cells"] += [CELL | {"id": f"c{n}", "source": text} for n, text in enumerate(CELLS[1:])]
    path.write_text(json.dumps(content))
    return here


def end_kernel(here: Project) -> None:
    """End the kernel that is kept, if one is."""
    if (here.var / RECORD).exists():
        with suppress(psutil.NoSuchProcess):
            kernel(here).kill()


def built(here: Project, *words: str) -> str:
    done = loopbook(here.root, "build", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr  # where each notebook is at stands on stderr


def failed(here: Project, *words: str) -> str:
    done = loopbook(here.root, "build", *words)
    assert done.returncode == 1
    return done.stderr
