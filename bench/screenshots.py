"""Screenshots: pages of real projects, as README and docs show them.

`make screenshots` makes the example's project in a folder of its own, builds
it, replays its year by month and takes the pictures of docs/: half an hour.
`python -m bench.screenshots PROJECT 1_overview=docs/your-table.png` takes
pages of a project that is there. Needs chromium and chromedriver.
"""

import argparse
import io
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver

from bench import sequence

ROOT = Path(__file__).parents[1]
WIDTH, MOST_HEIGHT = 1400, 1500
COLOURS = 128  # of a picture: a page has few, and its file is a third as large
WAIT_S = 120
PARTS = (
    *("notebooks", "reports", "serving", "data", "contract.yaml", "env.yaml", "candidates.py"),
    *("pipeline.yaml", "pipeline.monitor.yaml", "pipeline.score.yaml", "requirements.lock"),
)
OF_A_BUILD = {
    "4_candidates": "candidates.png",
    "5_model_card": "model-card.png",
    "6_what_if": "what-if.png",
    "7_loop": "loop.png",
    "8_pipeline": "pipeline.png",
}
OF_THE_LOOP = {
    "0_start": "start.png",
    "1_overview": "overview.png",
    "2_drift": "drift.png",
    "3_performance": "performance.png",
}
NOTEBOOK = "notebooks/01_ingest.ipynb"
IS_COMPLETE = "return !document.body.innerText.includes('being looked up')"
IS_DRAWN = """
const images = [...document.images];
return images.every(i => i.complete) && document.querySelectorAll('.lb h1').length > 0
    && !document.querySelector('.lb .follows');
"""
# the whole page, and not what a window shows of it
HEIGHT = "return Math.max(...[...document.querySelectorAll('.lb')].map(e => e.getBoundingClientRect().bottom))"
LAB = "const lab = window.jupyterapp, page = lab && lab.shell.currentWidget;"
IS_IDLE = f"""{LAB}
const kernel = page && page.sessionContext && page.sessionContext.session?.kernel;
return document.querySelectorAll('.jp-Notebook .jp-Cell').length > 8 && kernel?.status === 'idle';
"""
HAS_RUN = f"""{LAB}
const cells = page.content.model.cells;
return cells.get(cells.length - 1).executionCount !== null;
"""
# the first figure, with what leads to it above
SHOW_FIGURE = f"""{LAB}
const book = page.content;
const at = book.widgets.findIndex(w => w.model.type === 'code'
    && w.model.outputs.toJSON().some(o => o.data && 'image/png' in o.data));
if (at < 0) return false;
book.activeCellIndex = at;
book.scrollToItem(at, 'center');
const image = book.node.querySelector('.jp-OutputArea-output img');
return image !== null && image.naturalWidth > 100;
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(is_there: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_there():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not there after {WAIT_S} s. Look into its var/*.out files.")
        time.sleep(0.2)


@contextmanager
def answering(folder: Path, *words: str) -> Iterator[str]:
    """A server of a project while it is needed; its address."""
    output = folder / "var" / f"{words[0]}.out"
    command = [sys.executable, "-m", *words]
    with (
        output.open("w") as file,
        subprocess.Popen(command, cwd=folder, stdout=file, stderr=file) as server,
    ):
        found: list[str] = []

        def is_up() -> bool:
            found[:] = re.findall(r"http://(?:127\.0\.0\.1|localhost):\d+", output.read_text())
            return bool(found) or server.poll() is not None

        try:
            wait_for(is_up, words[0])
            if not found:
                sys.exit(f"{words[0]} ended: {output.read_text()[-500:]}")
            yield found[-1]
        finally:
            server.terminate()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(word)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    chrome = webdriver.Chrome(options=options, service=service)
    try:
        yield chrome
    finally:
        chrome.quit()


def resize(chrome: webdriver.Chrome, height: int) -> None:
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def save(chrome: webdriver.Chrome, path: Path) -> None:
    picture = Image.open(io.BytesIO(chrome.get_screenshot_as_png())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {picture.width} x {picture.height}, {path.stat().st_size:,} bytes", flush=True)


def take(folder: Path, pages: Mapping[str, Path]) -> None:
    """Pictures of a project's dashboards, each as high as its page."""
    if folder.resolve() != ROOT:
        shutil.copytree(ROOT / "reports", folder / "reports", dirs_exist_ok=True)
    words = ("voila", "reports", "--no-browser", f"--port={free_port()}")
    with answering(folder, *words) as address, browser() as chrome:
        for page, path in pages.items():
            resize(chrome, MOST_HEIGHT)
            chrome.get(f"{address}/voila/render/{page}.ipynb")
            wait_for(lambda: chrome.execute_script(IS_DRAWN), page)
            wait_for(lambda: chrome.execute_script(IS_COMPLETE), f"the rest of {page}")
            time.sleep(2)  # widgets that a page adds after its first HTML
            resize(chrome, min(MOST_HEIGHT, int(chrome.execute_script(HEIGHT)) + 24))
            time.sleep(1)
            save(chrome, path)


def lab_of(folder: Path) -> AbstractContextManager[str]:
    """JupyterLab in a project; its address."""
    port, token = f"--port={free_port()}", "--IdentityProvider.token=t"
    words = ("jupyterlab", "--no-browser", port, "--allow-root", "--expose-app-in-browser")
    return answering(folder, *words, token)


def take_lab(folder: Path, path: Path) -> None:
    """A picture of JupyterLab, with a notebook that was run there."""
    with lab_of(folder) as address, browser() as chrome:
        resize(chrome, MOST_HEIGHT)
        chrome.get(f"{address}/lab/tree/{NOTEBOOK}?token=t")
        wait_for(lambda: chrome.execute_script(IS_IDLE), NOTEBOOK)
        chrome.execute_script(f"{LAB} lab.commands.execute('notebook:run-all-cells')")
        wait_for(lambda: chrome.execute_script(HAS_RUN), NOTEBOOK)
        wait_for(lambda: chrome.execute_script(SHOW_FIGURE), "its figure")
        time.sleep(2)
        save(chrome, path)


def take_sequence(folder: Path, path: Path) -> None:
    """A cell is added to a notebook, built, read in the executed notebook and on a page."""
    sequence.edit(folder)
    frames = []
    with lab_of(folder) as lab, browser() as chrome:
        sequence.resize(chrome)

        def take_notebook(notebook: str, caption: str) -> None:
            chrome.get(f"{lab}/lab/tree/{notebook}?token=t")
            wait_for(lambda: chrome.execute_script(sequence.SHOW_CELL), notebook)
            time.sleep(3)
            chrome.execute_script(sequence.SHOW_CELL)
            time.sleep(1)
            frames.append(sequence.frame(chrome, caption))

        take_notebook(sequence.NOTEBOOK, "1  Edit: a cell is added in JupyterLab")
        said = sequence.build(folder)
        sequence.show_terminal(chrome, said, folder / "terminal.html")
        frames.append(sequence.frame(chrome, "2  Build: only what depends on the edit runs"))
        take_notebook(
            sequence.EXECUTED, "3  Read: the executed notebook is the document of the run"
        )
    words = ("voila", "reports", "--no-browser", f"--port={free_port()}")
    with answering(folder, *words) as address, browser() as chrome:
        sequence.resize(chrome)
        chrome.get(f"{address}/voila/render/8_pipeline.ipynb")
        wait_for(lambda: chrome.execute_script(IS_DRAWN), "the page")
        wait_for(lambda: chrome.execute_script(IS_COMPLETE), "what is stale")
        time.sleep(2)
        frames.append(
            sequence.frame(chrome, "4  Look: the page says what ran, when, and what is stale")
        )
    sequence.save(frames, path)


def make(folder: Path) -> None:
    """The example's project: built, and its year replayed by month."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    for words in (("build",), ("features", "materialize"), ("replay", "--step", "month")):
        subprocess.run([sys.executable, "-m", "loopbook", *words], cwd=folder, check=True)


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    asked.add_argument("project", nargs="?", type=Path, help="else the example's, made for it")
    asked.add_argument("pages", nargs="*", metavar="PAGE=FILE", help="such as 1_overview=a.png")
    words = asked.parse_args()
    if words.pages:
        named = (page.partition("=") for page in words.pages)
        take(words.project, {page: Path(file) for page, _, file in named})
        return
    with tempfile.TemporaryDirectory() as made:
        folder = words.project or Path(made) / "example"
        if not words.project:
            folder.mkdir()
            make(folder)
        docs = ROOT / "docs"
        take(folder, {page: docs / file for page, file in OF_A_BUILD.items()})
        loop = folder / "var/replay/year-month/loop"
        take(loop, {page: docs / file for page, file in OF_THE_LOOP.items()})
        take_lab(folder, docs / "lab.png")
        take_sequence(folder, docs / "edit-build-page.gif")


if __name__ == "__main__":
    main()
