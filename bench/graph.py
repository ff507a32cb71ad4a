"""The graph's cost: a fresh build against the same cells in one plain process, and an idle one.

The floor runs the code cells of every notebook, in the plan's order and with
the plan's parameters, in one Python process: the same calls without kernels,
Ploomber and repeated imports. Both start from an empty `var/` in a copy.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loopbook.project import paths

RUNS = 5
COPIED = ("contract.yaml", "env.yaml", "pipeline.yaml", "requirements.lock")
FLOOR = """
import json, os, pathlib
from loopbook.pipeline import tasks
from loopbook.project import paths
from IPython.display import display
for task in tasks.plan(paths.current()):
    for path in task["products"].values():
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    cells = json.loads(pathlib.Path(task["notebook"]).read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            names.update(task["parameters"])
    pathlib.Path(task["products"]["nb"]).write_text("{}")
"""


def run() -> list[str]:
    return [*_fresh(), "", *_idle()]


def _fresh() -> list[str]:
    seconds = {}
    build = "from loopbook.cli.main import main; main()"
    for name, words in (("floor", ["-c", FLOOR]), ("build", ["-c", build, "build"])):
        with tempfile.TemporaryDirectory() as folder:
            start_in = _copy(Path(folder) / "project")
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, *words],
                cwd=start_in,
                env=_environment(start_in),
                check=True,
                capture_output=True,
            )
            seconds[name] = time.perf_counter() - start
    return [
        "| from an empty var/, one run | seconds |",
        "|---|---|",
        f"| loopbook build | {seconds['build']:.1f} |",
        f"| the same cells in one plain process | {seconds['floor']:.1f} |",
        f"| ratio | {seconds['build'] / seconds['floor']:.2f} |",
    ]


def _copy(folder: Path) -> Path:
    root = paths.current().root
    folder.mkdir()
    for name in COPIED:
        shutil.copy(root / name, folder)
    for name in ("notebooks", "src", "data"):
        shutil.copytree(root / name, folder / name)
    return folder


def _environment(folder: Path) -> dict[str, str]:
    own = ("LOOPBOOK_PROJECT", "JUPYTER_CONFIG_PATH")
    clean = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}
    return clean | {"PYTHONPATH": str(folder / "src")}


def _idle() -> list[str]:
    root = paths.current().root
    ours = [sys.executable, "-m", "loopbook", "build"]
    bare = [sys.executable, "-c", "import ploomber.spec"]
    subprocess.run(ours, cwd=root, check=True, capture_output=True)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(RUNS):
        for name, command in (("ours", ours), ("bare", bare)):
            start = time.perf_counter()
            subprocess.run(command, cwd=root, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    idle, floor = (statistics.median(times[name]) for name in ("ours", "bare"))
    return [
        "| median of 5 | seconds |",
        "|---|---|",
        f"| build with nothing to do | {idle:.2f} |",
        f"| bare import of Ploomber | {floor:.2f} |",
        f"| ratio | {idle / floor:.2f} |",
    ]
