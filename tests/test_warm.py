"""A build that is given to a process which has imported all, and is as if it ran here."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import wait_for
from small_graph import project as small_project
from small_house import environment, loopbook

from loopbook.cli import warm, warm_client
from loopbook.pipeline import settings
from loopbook.project.paths import Project

GRAPH = """
executor: {dotted_path: loopbook.pipeline.graph.NotebookExecutor, workers: 1}
tasks:
  - source: notebooks/first.ipynb
    name: first
    params: {random_seed: "{{random_seed}}"}
    product: {nb: var/build/first.ipynb, text: var/build/first.txt}
"""
# jemalloc starts its own again in a fork, and the other one cleans up files that nobody makes
OF_POLARS = {"jemalloc_bg_thd", "polars-ooc-clea"}
SAYS = (
    "import json, os, time\nfrom pathlib import Path\nimport psutil\n"
    "told = [random_seed, os.getcwd(), [one.pid for one in psutil.Process().parents()]]\n"
    "Path(product['text']).write_text(json.dumps(told))\n"
    "assert random_seed != 13\ntime.sleep(600 if random_seed == 14 else 0)"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return small_project(tmp_path_factory.mktemp("w") / "p", GRAPH, first=(None, SAYS))


@pytest.fixture(scope="module")
def server(project):
    """A warm process of the project, as JupyterLab starts it."""
    wanted = environment(project.root)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - wanted.keys():
            patch.delenv(name)
        for name, value in wanted.items():
            patch.setenv(name, value)
        running = warm.start(project)
    wait_for((project.var / "warm.sock").is_socket, "the warm process", 300)
    yield running
    running.stdin.close()
    running.wait(300)
    assert not (project.var / "warm.sock").exists()


def start(here: Project, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "loopbook", "build", *words],
        cwd=here.root,
        env=environment(here.root),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def builds(server: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(server.pid).children(recursive=True)


@pytest.mark.slow
def test_a_build_is_forked_from_the_warm_process_and_prints_and_ends_as_here(project, server):
    threads = Path(f"/proc/{server.pid}/task").glob("*/comm")
    names = {comm.read_text().strip() for comm in threads}
    assert names <= {"python", *OF_POLARS}  # no fork takes a thread along
    done = loopbook(project.root, "build")
    assert done.returncode == 0, done.stderr
    assert "1/1 first" in done.stdout + done.stderr
    seed, folder, parents = json.loads((project.var / "build/first.txt").read_text())
    assert (seed, folder) == (7, str(project.root))
    assert server.pid in parents
    failed = loopbook(project.root, "build", "--set", "random_seed=13")
    assert failed.returncode == 1
    assert "assert random_seed != 13" in failed.stderr
    assert loopbook(project.root, "build", "--nothing").returncode == 2
    wait_for(lambda: not builds(server), "the end of all that it forked")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_in_the_warm_process_ends_with_the_command_and_so_do_its_kernels(
    project, server, number
):
    running = start(project, "--set", "random_seed=14")
    wait_for(lambda: len(builds(server)) == 3, "build, nursery and kernel")
    running.send_signal(number)
    said = "".join(running.communicate(timeout=120))
    assert running.returncode == (130 if number == signal.SIGINT else -9)
    assert number == signal.SIGKILL or "finished tasks are reused" in said
    wait_for(lambda: not builds(server), "the end of all that it forked")


@pytest.mark.slow
def test_what_is_imported_for_a_build_is_of_others_first_and_then_what_its_notebooks_reach_of_ours(
    tmp_path,
):
    """The warm process imports the first; the second is new in each build, so none is older."""
    code = "from loopbook.project import contract"
    project = small_project(tmp_path / "p", GRAPH, first=(None, code))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        theirs, ours = warm._listed()
    assert {"polars", "pydantic"} <= set(theirs)
    assert not [name for name in theirs if name.partition(".")[0] == "loopbook"]
    assert "loopbook.project.contract" in ours
    assert "loopbook.models.evaluation" not in ours


@pytest.mark.slow
def test_a_warm_process_that_is_older_than_the_lock_runs_nothing_and_begins_anew(project, server):
    lock, address = project.root / "requirements.lock", project.var / "warm.sock"
    before = address.stat().st_mtime_ns
    lock.write_text(lock.read_text() + "\n# another\n")
    done = loopbook(project.root, "build")
    assert done.returncode == 0, done.stderr
    assert server.pid not in json.loads((project.var / "build/first.txt").read_text())[2]
    wait_for(lambda: address.is_socket() and address.stat().st_mtime_ns != before, "a new one", 300)
    assert server.poll() is None


def test_settings_differ_by_what_packages_read_and_not_by_the_terminal():
    one = {"LOOPBOOK_PROJECT": "/p", "TERM": "xterm", "PWD": "/p", "JPY_PARENT_PID": "1"}
    assert settings.digest(one) == settings.digest({"LOOPBOOK_PROJECT": "/p", "SHLVL": "2"})
    assert settings.digest(one) != settings.digest(one | {"POLARS_MAX_THREADS": "1"})


def test_where_there_is_no_warm_process_or_nobody_answers_a_build_runs_here(tmp_path, monkeypatch):
    project = small_project(tmp_path / "p", GRAPH, first=(None, SAYS))
    monkeypatch.chdir(project.root)
    assert warm_client.hand_over(["loopbook", "build"]) is None
    project.var.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind("var/warm.sock")
    assert warm_client.hand_over(["loopbook", "build"]) is None
    (project.var / "warm.sock").unlink()
