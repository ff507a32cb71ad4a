"""Kernels that are forked from a process which has imported what notebooks import."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from conftest import wait_for
from jupyter_client.manager import start_new_kernel
from jupyter_client.provisioning import KernelProvisionerFactory
from small_house import ROOT, make_project

from loopbook.pipeline import digests, graph, imports, kernels, planned
from loopbook.project.paths import Project


@pytest.fixture
def nursery(monkeypatch):
    """Kernels of this test come from a nursery of its own, which has imported polars."""
    fresh = kernels.Nursery()
    monkeypatch.setattr(kernels, "NURSERY", fresh)
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", factory.default_provisioner_name)
    kernels.start_from_nursery(["import polars"])
    yield fresh
    fresh.end()


def run(code: str, **options) -> str:
    """What some code prints in a new kernel."""
    manager, client = start_new_kernel(**options)
    printed = []

    def hear(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    try:
        reply = client.execute_interactive(textwrap.dedent(code), output_hook=hear, timeout=60)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(printed).strip()


@pytest.mark.medium
def test_a_kernel_is_a_fork_that_has_the_packages_and_computes(nursery):
    # the first may come before the nursery is through with its imports
    wait_for(lambda: run("import sys; print('polars' in sys.modules)") == "True", "polars")
    told = run(
        """
        import os
        import polars
        frame = polars.DataFrame({"a": range(100_000)})
        print(frame.lazy().group_by(polars.col("a") % 7).len().collect().height, os.getppid())
        """
    )
    assert told == f"7 {nursery.pid}"


@pytest.mark.medium
def test_two_kernels_share_nothing_that_was_done_in_one(nursery):
    assert run("import polars; polars.done = 1; print(polars.done)") == "1"
    assert run("import polars; print(hasattr(polars, 'done'))") == "False"


@pytest.mark.medium
def test_a_kernel_has_its_own_folder_environment_and_modules_as_they_are_on_the_disk(
    nursery, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOOPBOOK_TEST", "once")
    (tmp_path / "ours.py").write_text("said = 'before'")
    ask = "import os, ours; print(os.getcwd(), os.environ['LOOPBOOK_TEST'], ours.said)"
    assert run(ask, cwd=str(tmp_path)) == f"{tmp_path} once before"
    monkeypatch.setenv("LOOPBOOK_TEST", "twice")
    (tmp_path / "ours.py").write_text("said = 'after it'")
    assert run(ask, cwd=str(tmp_path)) == f"{tmp_path} twice after it"


@pytest.mark.medium
def test_a_nursery_that_died_is_replaced_and_one_that_cannot_start_is_done_without(
    nursery, monkeypatch
):
    os.kill(nursery.pid, signal.SIGKILL)
    assert run("print(1)") == "1"
    monkeypatch.setattr(nursery, "fork", lambda *_: None)
    assert run("import os; print(os.getppid())") == str(os.getpid())


def test_nothing_of_ours_and_nothing_with_threads_is_imported_before_a_fork():
    one = (
        "import os, polars.selectors as cs\nfrom loopbook.project import files\nimport onnxruntime"
    )
    other = "def late():\n    from mlflow.entities import Run"
    assert imports.packages([one, other]) == ["polars.selectors", "mlflow.entities"]
    assert imports.packages([one, other], but={"mlflow"}) == ["polars.selectors"]


@pytest.mark.medium
def test_a_module_of_ours_is_imported_before_a_fork_unless_it_needs_what_may_not_be_there(tmp_path):
    code = """
    import sys
    from loopbook.pipeline import imports
    for name in ("loopbook.project.contract", "loopbook.models.inference"):
        imports.import_quietly(name)
        print(name in sys.modules, end=" ")
    print(sys.modules.keys() & (imports.NOT_HERE - {"loopbook"}))
    import loopbook.models.inference  # as a kernel would
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "True False set()", done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.medium
@pytest.mark.parametrize(("is_on", "but"), [(True, set()), (False, {"evidently"})])
def test_what_a_knob_switches_off_is_not_imported_before_a_fork(is_on, but):
    here, monitoring = Project(ROOT), ROOT / "pipeline.monitor.yaml"
    dag = graph.load_graph(here, {"monitor_report": is_on}, monitoring)
    assert planned.not_needed(list(dag.values())) == but


@pytest.mark.slow
def test_kernels_end_when_the_process_that_started_them_is_killed(tmp_path):
    code = """
    import sys, time
    from jupyter_client.manager import start_new_kernel
    from loopbook.pipeline import kernels
    kernels.start_from_nursery([])
    time.sleep(3)  # by now the nursery has imported what a kernel is made of
    manager, client = start_new_kernel()
    print(kernels.NURSERY.pid, manager.provisioner.pid, flush=True)
    time.sleep(600)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as starter:
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        starter.kill()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the end of both")


def test_the_nursery_of_a_project_without_a_library_of_its_own_has_what_the_installed_one_imports(
    tmp_path,
):
    here = make_project(tmp_path / "house")
    reached = digests.modules_of(Project(here), here / "notebooks" / "05_train.ipynb")
    assert {"registry.tracking", "models.export", "models.out_of_fold"} <= reached.keys()
