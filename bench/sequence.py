"""Sequence: one picture that moves, from an edited cell over the build to the page.

Real windows of a real project, taken one after the other: the notebook in
JupyterLab, what `loopbook build` prints, the executed notebook, a page.
"""

import html
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from selenium import webdriver

WIDTH, HEIGHT, BAR = 1100, 700, 44
SECONDS = 4.0
COLOURS = 96
NOTEBOOK = "notebooks/06_evaluate.ipynb"
EXECUTED = "var/build/evaluate.ipynb"
ADDED = """\
# how often is the challenger nearer to the truth, row by row?
nearer = float((loss["challenger"] < loss["baseline"]).mean())
Markdown(f"On **{100 * nearer:.0f} %** of the rows the challenger is nearer than the baseline.")
"""
MARK = "how often is the challenger nearer"
# the cell that was added, in the middle of the window
SHOW_CELL = f"""
const page = window.jupyterapp && window.jupyterapp.shell.currentWidget, book = page && page.content;
if (!book || !book.widgets || book.widgets.length < 9) return false;
const at = book.widgets.findIndex(w => w.model.sharedModel.getSource().includes('{MARK}'));
if (at < 0) return false;
book.activeCellIndex = at;
book.scrollToItem(at, 'center');
return book.widgets[at].node.getBoundingClientRect().height > 40;
"""
TERMINAL = """<title>terminal</title><body style="margin:0;background:#1e1e1e;color:#e4e4e4">
<pre style="font:15px/1.45 'DejaVu Sans Mono',monospace;padding:20px;white-space:pre-wrap">%s</pre>"""


def edit(folder: Path) -> None:
    """Add a cell to the notebook that compares, before its last heading."""
    path = folder / NOTEBOOK
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    headings = [at for at, cell in enumerate(cells) if cell["cell_type"] == "markdown"]
    cell = {"cell_type": "code", "execution_count": None, "id": "nearer", "metadata": {}}
    cells.insert(headings[-1], cell | {"outputs": [], "source": ADDED.splitlines(keepends=True)})
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def build(folder: Path) -> str:
    """What `loopbook build` prints in a terminal."""
    words = [sys.executable, "-m", "loopbook", "build"]
    environment = os.environ | {"COLUMNS": "100"}
    done = subprocess.run(
        words, cwd=folder, env=environment, check=True, text=True, capture_output=True
    )
    return f"$ loopbook build\n{done.stderr}{done.stdout}"


def resize(chrome: webdriver.Chrome) -> None:
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def show_terminal(chrome: webdriver.Chrome, text: str, file: Path) -> None:
    file.write_text(TERMINAL % html.escape(text), encoding="utf-8")
    chrome.get(file.as_uri())


def frame(chrome: webdriver.Chrome, caption: str) -> Image.Image:
    """What the window shows, below a bar that says what it is."""
    shown = Image.open(io.BytesIO(chrome.get_screenshot_as_png())).convert("RGB")
    whole = Image.new("RGB", (WIDTH, HEIGHT + BAR), "#0b4f6c")
    whole.paste(shown, (0, BAR))
    ImageDraw.Draw(whole).text((18, 10), caption, "white", ImageFont.load_default(20))
    return whole


def save(frames: Sequence[Image.Image], path: Path) -> None:
    """One GIF that goes round, a few seconds a frame."""
    few = [one.quantize(COLOURS, dither=Image.Dither.NONE) for one in frames]
    milliseconds = int(1000 * SECONDS)
    few[0].save(path, save_all=True, append_images=few[1:], duration=milliseconds, loop=0)
    print(f"{path}  {len(few)} frames, {path.stat().st_size:,} bytes", flush=True)
