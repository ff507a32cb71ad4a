"""JupyterLab on the kernel of a failed task: its variables, and then the build that goes on."""

import time

import pytest
from failing_graph import RECORD, built, correct, end_kernel, failed, failing_project
from labs import IDLE, Lab, browser, photographed
from small_house import environment

NOTEBOOK = "notebooks/first.ipynb"
GROUP = "Connect to Existing python Kernel"
OTHERS = f"""
const own = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id;
const group = 'optgroup[label="{GROUP}"] option';
const others = [...document.querySelectorAll('.jp-Dialog select ' + group)]
  .filter(option => JSON.parse(option.value).id !== own);
"""
ARE_LISTED = f"{OTHERS} return others.map(option => option.textContent)"
CHOOSE = f"""{OTHERS}
const select = others[0].closest('select');
select.value = others[0].value;
select.dispatchEvent(new Event('change'));
return JSON.parse(others[0].value).id
"""
ACCEPT = "document.querySelector('.jp-Dialog .jp-mod-accept').click()"
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id === arguments[0]"
TYPE = """
const done = arguments[arguments.length - 1], app = window.jupyterapp;
const notebook = app.shell.currentWidget.content;
notebook.activeCellIndex = notebook.widgets.length - 1;
app.commands.execute('notebook:insert-cell-below')
  .then(() => {
    notebook.activeCell.model.sharedModel.setSource(arguments[0]);
    return app.commands.execute('notebook:run-cell');
  })
  .then(() => done(notebook.activeCell.model.outputs.toJSON().map(o => o.text).join('')),
        reason => done(String(reason)));
"""


@pytest.fixture
def failing(tmp_path):
    here = failing_project(tmp_path / "p")
    yield here
    end_kernel(here)


def attach(driver, wait) -> float:
    """Connect the open notebook to the one kernel that runs beside; how many seconds it took."""
    driver.execute_script("window.jupyterapp.commands.execute('notebook:change-kernel')")
    listed = wait.until(lambda d: d.execute_script(ARE_LISTED))
    assert [label.split(" (")[0] for label in listed] == ["python3"]
    chosen = driver.execute_script(CHOOSE)
    began = time.monotonic()
    driver.execute_script(ACCEPT)
    wait.until(lambda d: d.execute_script(f"return {KERNEL}", chosen))
    wait.until(lambda d: d.execute_script(IDLE))
    return time.monotonic() - began


@pytest.mark.slow
def test_the_notebook_of_a_failed_task_sees_its_variables_and_the_build_goes_on(failing):
    """What the message of the build says to do, done in a browser."""
    told = failed(failing, "--debug")
    assert f"Kernel > Change Kernel... > {GROUP}," in told
    assert "the one that is called python3" in told
    with Lab(failing.root, environment(failing.root)) as lab:
        driver = browser()
        try:
            wait = lab.open(driver, NOTEBOOK, cells=5)
            print(f"attached in {attach(driver, wait):.2f} s")
            assert driver.execute_async_script(TYPE, "print(rows, drawn)").startswith(
                "[1, 2, 3] 0."
            )
        finally:
            photographed(driver, "kept.png", failing.root)
            driver.quit()
        correct(failing)
        assert "goes on from code cell 5" in built(failing)
    assert not (failing.var / RECORD).exists()
