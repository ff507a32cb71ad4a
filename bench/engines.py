"""What another engine costs a task: the penguins with two candidates, from an empty `var/`.

The same 8 notebooks by `ploomber build`, `loopbook build`, `dvc repro` and
`airflow dags test`, in turns; a figure is the median. DVC and Airflow are there
after `make dvc airflow`; an engine that is not is left out.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from loopbook.project.paths import Project
from loopbook.project.template import with_knobs

RUNS, TASKS = 3, 8
ROOT = Path(__file__).parents[1]
BIN, AIRFLOW = Path(sys.executable).parent, ROOT / ".venv-airflow/bin/airflow"
DAY = "2026-11-01T00:00:00+00:00"
COMMANDS = {
    "ploomber build": [BIN / "ploomber", "build"],
    "loopbook build": [BIN / "loopbook", "build"],
    "dvc repro": [BIN / "dvc", "repro"],
    "airflow dags test": [AIRFLOW, "dags", "test", "penguins-train", DAY],
}
BEFORE = {
    "dvc repro": [
        [BIN / "dvc", "init", "--no-scm", "--quiet"],
        [BIN / "loopbook", "export", "dvc"],
    ],
    "airflow dags test": [[BIN / "loopbook", "export", "airflow"], [AIRFLOW, "db", "migrate"]],
}


def run() -> list[str]:
    there = [name for name, words in COMMANDS.items() if words[0].exists()]
    if find_spec("dvc") is None and "dvc repro" in there:
        there.remove("dvc repro")
    measured: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(RUNS):
        for name in there:
            with tempfile.TemporaryDirectory() as folder:
                measured[name].append(_one(name, _project(Path(folder) / "penguins")))
    medians = {name: statistics.median(runs) for name, runs in measured.items()}
    base = medians["ploomber build"]
    lines = [f"| {TASKS} tasks, median of {RUNS} | seconds | more a task, s |", "|---|---|---|"]
    for name, seconds in medians.items():
        lines.append(f"| `{name}` | {seconds:.1f} | {(seconds - base) / TASKS:+.1f} |")
    return lines


def _project(folder: Path) -> Path:
    """The smallest example as a project with two candidates."""
    shutil.copytree(ROOT / "examples/penguins", folder)
    for name in ("notebooks", "reports", "serving"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pipeline.monitor.yaml", "requirements.lock", "candidates.py"):
        shutil.copy(ROOT / name, folder)
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (folder / "env.yaml").read_text())
    (folder / "env.yaml").write_text(knobs)
    graph = (ROOT / "pipeline.yaml").read_text()
    (folder / "pipeline.yaml").write_text(
        re.sub(r"names: \[[^]]*\]", "names: [baseline, ridge]", graph)
    )
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def _one(name: str, project: Path) -> float:
    """Seconds of one run; what comes before is not timed."""
    for words in BEFORE.get(name, []):
        _typed(words, project)
    start = time.perf_counter()
    _typed(COMMANDS[name], project)
    seconds = time.perf_counter() - start
    assert (project / "var/build/decision.json").exists(), name
    return seconds


def _typed(words: list, project: Path) -> None:
    airflows = {
        "AIRFLOW_HOME": str(project / "var/airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "deploy/airflow"),
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOOPBOOK_", "MLFLOW_"))}
    path = f"{BIN}{os.pathsep}{clean['PATH']}"
    variables = clean | Project(project).environment() | airflows | {"PATH": path}
    variables |= {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        list(map(str, words)),
        check=False,
        cwd=project,
        env=variables,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{words} failed:\n{(done.stdout + done.stderr)[-3000:]}")
