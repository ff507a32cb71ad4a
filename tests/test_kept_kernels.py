"""A build that stops at a failing cell, and goes on from there once it is corrected."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_for
from failing_graph import (
    RECORD,
    built,
    correct,
    end_kernel,
    failed,
    failing_project,
    kernel,
    runs_of_the_second_cell,
)
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client import BlockingKernelClient
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from small_house import environment

from loopbook.backups.taking import PASSING
from loopbook.pipeline import checkpoints, kept_kernels
from loopbook.pipeline.tasks import Task
from loopbook.project.paths import Project


def listed_by_jupyterlab(here: Project) -> int:
    """How many kernels a server has that looks where JupyterLab's setting says."""
    server = AsyncMultiKernelManager(external_connection_dir=str(here.var / "kept"))
    return len(server.list_kernel_ids())


def typed(here: Project, code: str) -> str:
    """What a person who connects to the kept kernel is shown."""
    client = BlockingKernelClient()
    client.load_connection_file(str(here.var / RECORD))
    client.start_channels()
    printed = []

    def hear(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    try:
        client.execute_interactive(code, output_hook=hear, timeout=60)
    finally:
        client.stop_channels()
    return "".join(printed).strip()


def outcome(here: Project) -> tuple[str, list]:
    """The product, and of the document all that is no time and no path."""
    content = json.loads((here.var / "build/first.ipynb").read_text())
    cells = [
        c for c in content["cells"] if "injected-parameters" not in c["metadata"].get("tags", [])
    ]
    keys = ("source", "outputs", "execution_count")
    return (here.var / "build/first.txt").read_text(), [[c[key] for key in keys] for c in cells]


@pytest.fixture
def failing(tmp_path) -> Project:
    here = failing_project(tmp_path / "p")
    yield here
    end_kernel(here)


@pytest.mark.slow
def test_a_corrected_cell_goes_on_where_it_failed_and_leaves_what_a_clean_run_does(failing):
    told = failed(failing, "--debug")
    assert "code cell 5 (before the first heading), line 3:\n\n    share = rows[0] / 0" in told
    assert "loopbook build goes on from code cell 5" in told
    assert stat.S_IMODE((failing.var / RECORD).stat().st_mode) == 0o600
    held = kernel(failing)
    assert listed_by_jupyterlab(failing) == 1
    assert typed(failing, "print(rows)") == "[1, 2, 3]"
    correct(failing)
    assert "goes on from code cell 5" in built(failing)
    gone_on = outcome(failing)
    assert runs_of_the_second_cell(failing) == 1
    wait_for(lambda: not held.is_running(), "the end of the kernel")
    assert not (failing.var / RECORD).exists()
    assert "goes on" not in built(failing, "--force")
    assert outcome(failing) == gone_on
    assert runs_of_the_second_cell(failing) == 2


STALE = {
    "a killed kernel": (lambda here: kernel(here).kill(), [], "its kernel has ended"),
    "a knob": (lambda here: None, ["--set", "random_seed=8"], "its parameters or a cell"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", STALE)
def test_what_a_kept_kernel_cannot_know_makes_its_task_run_from_the_beginning(failing, change):
    edit_project, words, reason = STALE[change]
    failed(failing, "--debug")
    held = kernel(failing)
    edit_project(failing)
    correct(failing)
    told = built(failing, *words)
    assert "runs from its beginning, since" in told
    assert reason in re.sub(r"\s+", " ", told)
    assert runs_of_the_second_cell(failing) == 2
    wait_for(lambda: not held.is_running(), "the end of the kernel")


@pytest.mark.slow
def test_a_kernel_is_kept_once_and_without_debug_not_at_all(failing):
    assert "is kept" not in failed(failing)
    assert not (failing.var / "kept").exists()
    failed(failing, "--debug")
    first = kernel(failing)
    assert "is kept" in failed(failing, "--debug")
    assert kernel(failing).pid == first.pid  # it went on, and failed at the same cell
    assert "is kept" not in failed(failing)
    wait_for(lambda: not first.is_running(), "the end of the kernel")
    assert runs_of_the_second_cell(failing) == 2


KEEPS_FOR = """
from loopbook.cli.main import main
from loopbook.pipeline import failed_cells, kept_kernels
failed_cells.KEPT_S = kept_kernels.KEPT_S = {seconds}
main()
"""


@pytest.mark.slow
def test_a_kept_kernel_ends_by_itself_when_its_time_is_over(failing):
    """Nobody comes back to it: neither it nor the process that watches over it stays."""
    words = [sys.executable, "-c", KEEPS_FOR.format(seconds=10), "build", "--debug"]
    done = subprocess.run(
        words, cwd=failing.root, env=environment(failing.root), text=True, capture_output=True
    )
    assert "Its kernel is kept for" in done.stderr
    held = kernel(failing)
    nursery = held.parent()
    assert typed(failing, "print(rows)") == "[1, 2, 3]"
    wait_for(lambda: not held.is_running(), "the end of the kernel")
    wait_for(lambda: not nursery.is_running(), "the end of its nursery")
    correct(failing)
    assert "runs from its beginning, since its kernel has ended" in built(failing)


@pytest.fixture
def kept(tmp_path) -> kept_kernels.Kept:
    """The record of a kernel of which one cell is done, read back."""
    (tmp_path / "rows.txt").write_text("1")
    products = {"nb": str(tmp_path / "e.ipynb"), "rows": str(tmp_path / "out.txt")}
    needs = {"split": {"rows": str(tmp_path / "rows.txt")}}
    task = Task("evaluate", "notebooks/e.ipynb", {}, needs, products)
    place = kept_kernels.Place(Project(tmp_path), "build", task)
    cells = [{"source": "a = 1", "outputs": [], "execution_count": 1}]
    connection = {"kernel_name": "python3", "key": "x"}
    kernel = {"pid": os.getpid(), "connection": connection}
    kept_kernels.keep(place, kernel, cells, [str(tmp_path / "mine.py")])
    return kept_kernels.take(place)


def test_no_backup_takes_the_key_of_a_kernel_along(tmp_path):
    task = Task("train-ridge", "notebooks/e.ipynb", {}, {}, {})
    file = kept_kernels.Place(Project(tmp_path), "build", task).file
    assert file.parent == tmp_path / "var/kept"
    assert PASSING.fullmatch(file.name)


CHANGED = {
    "a file that it read": ("rows.txt", "rows.txt has changed"),
    "a file that it wrote": ("out.txt", "out.txt has changed"),
    "a module that it imported": ("mine.py", "mine.py has changed"),
    "a project's own candidates": ("candidates.py", "candidates.py has changed"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_file_that_has_changed_since_the_failure_stands_against_going_on(kept, change, tmp_path):
    file, reason = CHANGED[change]
    assert kept.is_alive()
    assert kept.obstacle(["a = 1", "b = 2"]) == ""
    (tmp_path / file).write_text("another")
    assert kept.obstacle(["a = 1", "b = 2"]) == reason


def test_another_cell_before_or_another_environment_stands_against_going_on(kept, monkeypatch):
    before = "its parameters or a cell before the one that failed have changed"
    assert kept.obstacle(["a = 2", "b = 2"]) == before
    assert kept.obstacle(["a = 1"]) == before
    monkeypatch.setenv("POLARS_MAX_THREADS", "17")
    assert kept.obstacle(["a = 1", "b = 2"]) == "the environment has changed"


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = InteractiveShell.instance()
    made.history_manager.enabled = False
    monkeypatch.setattr(made, "showtraceback", lambda *_, **__: None)
    checkpoints.begin(made)
    yield made
    InteractiveShell.clear_instance()


def after(shell, *cells: str) -> str:
    """What is said of going on after some cells, of which the last fails."""
    for cell in cells:
        shell.run_cell(cell, store_history=True)
    return shell.loopbook_checkpoints.restore()


BEFORE = """
import threading, random
import polars as pl
rows, frame, lock = [1, 2], pl.DataFrame({"a": [1, 2]}), threading.Lock()
kinds = {"a": rows}
"""
IN_PLACE = {
    "rows.append(3)": "rows was changed in place",
    "kinds['a'][0] = 5": "rows was changed in place",
    "frame[0, 'a'] = 7": "frame was changed in place",
    "frame.insert_column(0, pl.Series('b', [1, 2]))": "frame was changed in place",
    "lock.acquire()": "lock was used, and nobody can compare it with what it was",
    "pl.loaded = 1": "something of pl was replaced",
    "setattr(pl, 'loaded', 1)": "it set a part of something that only a run can name",
    "import os; os.environ['LOOPBOOK_TEST'] = '1'": "the environment was changed",
    "import os; os.chdir('/')": "the working directory was changed",
}


@pytest.mark.medium
@pytest.mark.parametrize("change", IN_PLACE)
def test_a_failed_cell_that_changed_something_in_place_is_found_out(shell, change, monkeypatch):
    monkeypatch.setenv("LOOPBOOK_TEST", "0")
    monkeypatch.chdir(Path.cwd())
    said = after(shell, BEFORE, f"{change}\nraise ValueError")
    assert said.replace("kinds was", "rows was") == IN_PLACE[change]


def test_names_that_were_bound_anew_and_random_draws_are_put_back_with_the_number_of_the_cell(
    shell,
):
    cell = (
        "rows, draw, late = rows + [3], random.random(), 1\nframe = frame.filter(pl.col('a') > 1)\n"
    )
    assert after(shell, BEFORE, "random.seed(1)", cell + "raise ValueError") == ""
    assert shell.user_ns["rows"] == [1, 2]
    assert shell.user_ns["frame"].height == 2
    assert "late" not in shell.user_ns
    done = shell.run_cell(cell + "draw", store_history=True)
    assert done.execution_count == 3
    assert done.result == 0.13436424411240122
    assert shell.user_ns["rows"] == [1, 2, 3]


def test_what_a_person_typed_after_the_failure_counts_too(shell):
    assert after(shell, BEFORE, "raise ValueError", "rows = 1", "rows") == ""
    assert shell.user_ns["rows"] == [1, 2]
    assert after(shell, "raise ValueError", "rows.clear()") == "rows was changed in place"


def test_a_kernel_ends_with_the_build_that_it_goes_on_for():
    """Of a build that is killed, no kernel stays behind."""
    code = (
        "import time\nfrom types import SimpleNamespace as Some\n"
        "from loopbook.pipeline.checkpoints import Checkpoints\n"
        "one = Checkpoints(Some(events=Some(register=lambda *_: None)))\n"
        "one.end_with(2**22 - 1)\ntime.sleep(600)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 1
