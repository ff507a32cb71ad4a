"""JupyterLab of a project in a real browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FOREIGN = ("LOOPBOOK_PROJECT", "JUPYTER_CONFIG_PATH")
IDLE = (
    "const w = window.jupyterapp.shell.currentWidget;"
    "return w && w.sessionContext && w.sessionContext.session"
    " && w.sessionContext.session.kernel && w.sessionContext.session.kernel.status === 'idle'"
)


class Lab:
    """JupyterLab as `make lab` starts it, without a browser of its own."""

    def __init__(self, folder: Path, settings: Mapping[str, str]):
        self.folder, self.log = folder, folder / "lab.log"
        every = {**os.environ, **settings}
        clean = {k: v for k, v in every.items() if k not in FOREIGN and "MLFLOW" not in k}
        root = ["--allow-root"] if os.geteuid() == 0 else []
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", *root),
                    *("--expose-app-in-browser", "--IdentityProvider.token=t"),
                ],
                cwd=folder,
                env=clean,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def address(self) -> str:
        """Where it listens, once it does."""
        for _ in range(300):
            if here := re.search(r"http://127\.0\.0\.1:(\d+)/", self.log.read_text()):
                return here.group(0)
            time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def open(self, driver: webdriver.Chrome, notebook: str, cells: int) -> WebDriverWait:
        """Show a notebook of at least so many cells; its kernel is idle then."""
        wait = WebDriverWait(driver, 120)
        driver.get(f"{self.address()}lab/tree/{notebook}?token=t")
        shown = f"return document.querySelectorAll('.jp-Notebook .jp-Cell').length >= {cells}"
        wait.until(lambda d: d.execute_script(shown))
        wait.until(lambda d: d.execute_script(IDLE))
        return wait

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def browser() -> webdriver.Chrome:
    """A headless Chromium, or a skip that says what to install."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("install chromium and chromium-driver")
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


def photographed(driver: webdriver.Chrome, name: str, folder: Path) -> None:
    """Keep a picture of the page, where `LOOPBOOK_SCREENSHOT` says or in a folder."""
    driver.save_screenshot(os.environ.get("LOOPBOOK_SCREENSHOT", str(folder / name)))
