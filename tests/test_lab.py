"""JupyterLab on a notebook of the pipeline: real parameters in, the edit alone out."""

import asyncio
import json
import shutil
from pathlib import Path

import nbformat
import pytest
from labs import Lab, browser, photographed

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


@pytest.mark.medium
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


@pytest.mark.slow
def test_in_a_real_browser_a_notebook_runs_to_a_figure_and_saves_without_a_trace(project):
    """Open, run all cells, see the figure, save: the file is byte for byte what it was."""
    before = (project / NOTEBOOK).read_bytes()
    with Lab(project, {"PYTHONPATH": str(project / "src")}) as lab:
        driver = browser()
        try:
            _run_and_save(driver, lab)
        finally:
            photographed(driver, "lab.png", project)
            driver.quit()
    assert (project / NOTEBOOK).read_bytes() == before


def _run_and_save(driver, lab: Lab) -> None:
    wait = lab.open(driver, NOTEBOOK, cells=9)
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
