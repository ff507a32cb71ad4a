"""JupyterLab on a notebook of the pipeline: real parameters in, the edit alone out."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from loopbook.pipeline import contents

ROOT = Path(__file__).parents[1]
NOTEBOOK = "notebooks/01_ingest.ipynb"
TASK = {
    "name": "ingest",
    "notebook": NOTEBOOK,
    "parameters": {"as_of": "newest", "product": {"nb": "/somewhere/x.ipynb"}, "upstream": None},
}


@pytest.fixture
def project(tmp_path):
    for name in ("contract.yaml", "env.yaml", "pipeline.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("notebooks", "src", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def manager(project, monkeypatch):
    async def plan(_project):
        return [TASK]

    monkeypatch.setattr(contents, "_plan", plan)
    opened = contents.PipelineContentsManager(root_dir=str(project))
    yield opened
    opened.notary.store.close()  # Jupyter's own database of signatures


def opened(manager, path=NOTEBOOK):
    return asyncio.run(manager.get(path))


def saved(manager, model, path=NOTEBOOK):
    keys = ("type", "format", "content")
    asyncio.run(manager.save({key: model[key] for key in keys}, path))


def test_an_opened_notebook_has_its_real_parameters(manager):
    """They stand in a cell of their own, right after the notebook's."""
    cells = opened(manager)["content"]["cells"]
    tags = [cell["metadata"].get("tags", []) for cell in cells]
    place = tags.index(["injected-parameters"])
    assert tags[place - 1] == ["parameters"]
    assert "as_of = 'newest'" in cells[place]["source"]


def test_opening_and_saving_leaves_every_byte_as_it_was(manager, project):
    before = (project / NOTEBOOK).read_bytes()
    saved(manager, opened(manager))
    assert (project / NOTEBOOK).read_bytes() == before


def test_a_save_leaves_the_edit_and_nothing_that_a_run_made(manager, project):
    """Outputs, counts, editor's metadata and the injected paths stay out of the file."""
    before = (project / NOTEBOOK).read_text()
    model = opened(manager)
    last = model["content"]["cells"][-1]
    last["source"] += "\n# an edit"
    last["outputs"] = [nbformat.v4.new_output("stream", text="/somewhere/x.ipynb")]
    last["execution_count"] = 12
    last["metadata"]["editable"] = True
    saved(manager, model)
    after = (project / NOTEBOOK).read_text().splitlines()
    added = [line for line in after if line not in before.splitlines()]
    assert [line for line in added if "edit" in line] == ['    "# an edit"']
    assert len(added) <= 2  # the edited line, and the one before that now ends in a line break
    assert "/somewhere" not in "\n".join(after)


def test_a_notebook_saved_by_another_editor_opens_with_the_kernel_of_this_environment(
    manager, project
):
    """So that JupyterLab does not ask which one to take."""
    path = project / NOTEBOOK
    saved = json.loads(path.read_text())
    gone = {"name": "python3112jvsc74a57bd0", "language": "python", "display_name": "venv"}
    path.write_text(json.dumps(saved | {"metadata": {"kernelspec": gone}}))
    assert opened(manager)["content"]["metadata"]["kernelspec"]["name"] == "python3"


def test_other_notebooks_keep_their_outputs(manager, project):
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="one")])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(notebook, project / "scratch.ipynb")
    saved(manager, opened(manager, "scratch.ipynb"), "scratch.ipynb")
    assert nbformat.read(project / "scratch.ipynb", 4).cells[0].outputs[0].text == "one"


def test_a_broken_graph_opens_the_notebook_plain_and_says_why(manager, monkeypatch, caplog):
    async def broken(_project):
        raise RuntimeError("contract.yaml: 1 fault")

    monkeypatch.setattr(contents, "_plan", broken)
    with caplog.at_level("WARNING"):
        manager.log.propagate = True
        cells = opened(manager)["content"]["cells"]
    assert not any("injected-parameters" in c["metadata"].get("tags", []) for c in cells)


def browser():
    """A headless Chromium, or a skip that says what to install."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("install chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for word in [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-quic",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1400,1600",
    ]:
        options.add_argument(f"--{word}")
    options.binary_location = shutil.which("chromium")
    return webdriver.Chrome(options, Service(shutil.which("chromedriver")))


@pytest.mark.slow
def test_in_a_real_browser_a_notebook_runs_to_a_figure_and_saves_without_a_trace(project):
    """Open, run all cells, see the figure, save: the file is byte for byte what it was."""
    before = (project / NOTEBOOK).read_bytes()
    foreign = ("LOOPBOOK_PROJECT", "JUPYTER_CONFIG_PATH")
    clean = {k: v for k, v in os.environ.items() if k not in foreign and "MLFLOW" not in k}
    root = ["--allow-root"] if os.geteuid() == 0 else []
    log = project / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", *root),
                *("--expose-app-in-browser", "--IdentityProvider.token=t"),
            ],
            cwd=project,
            env=clean | {"PYTHONPATH": str(project / "src")},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        driver = browser()
        try:
            _run_and_save(driver, _address(log))
        finally:
            driver.save_screenshot(os.environ.get("LOOPBOOK_SCREENSHOT", str(project / "lab.png")))
            driver.quit()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert (project / NOTEBOOK).read_bytes() == before


def _address(log: Path) -> str:
    for _ in range(300):
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text())
        if found:
            return found.group(0)
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def _run_and_save(driver, address: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(driver, 60)
    driver.get(f"{address}lab/tree/{NOTEBOOK}?token=t")
    ready = "return document.querySelectorAll('.jp-Notebook .jp-Cell').length > 8"
    wait.until(lambda d: d.execute_script(ready))
    kernel = (
        "const w = window.jupyterapp.shell.currentWidget;"
        "return w && w.sessionContext && w.sessionContext.session"
        " && w.sessionContext.session.kernel && w.sessionContext.session.kernel.status === 'idle'"
    )
    wait.until(lambda d: d.execute_script(kernel))
    driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    last = (
        "const m = window.jupyterapp.shell.currentWidget.content.model.cells;"
        "return m.get(m.length - 1).executionCount !== null"
    )
    wait.until(lambda d: d.execute_script(last))
    figure = (  # cells out of sight are not in the page, so we bring the one with the figure there
        "const n = window.jupyterapp.shell.currentWidget.content;"
        "const at = n.widgets.findIndex(w => w.model.type === 'code' && w.model.outputs.toJSON()"
        ".some(o => o.data && 'image/png' in o.data));"
        "if (at < 0) return false; n.activeCellIndex = at; n.scrollToItem(at);"
        "const image = n.node.querySelector('.jp-OutputArea-output img');"
        "return image !== null && image.naturalWidth > 100"
    )
    wait.until(lambda d: d.execute_script(figure))
    save = (
        "const done = arguments[arguments.length - 1];"
        "window.jupyterapp.shell.currentWidget.context.save().then(() => done(true), e => done(String(e)))"
    )
    assert driver.execute_async_script(save) is True
