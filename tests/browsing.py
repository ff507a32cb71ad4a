"""The dashboards of a project in a real browser."""

import subprocess
import sys
from pathlib import Path

from conftest import free_port, program, wait_for
from selenium import webdriver
from selenium.webdriver.common.by import By
from small_house import answers, environment


class Voila:
    """The dashboards of a project, as `voila reports` shows them."""

    def __init__(self, folder: Path):
        self.port = free_port()
        words = [Path(sys.executable).with_name("voila"), "reports", f"--port={self.port}"]
        clean = {k: v for k, v in environment(folder).items() if not k.startswith("JUPYTER")}
        with (folder / "voila.txt").open("w") as log:
            self.process = subprocess.Popen(words, cwd=folder, env=clean, stdout=log, stderr=log)
        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}/"), "voila")

    def read(self, chrome: webdriver.Chrome, page: str) -> str:
        """The text of a page, when it is all there."""
        chrome.get(f"http://127.0.0.1:{self.port}/voila/render/{page}.ipynb")
        wait_for(lambda: chrome.find_elements(By.CSS_SELECTOR, ".lb h1"), page, 90)
        wait_for(lambda: not chrome.find_elements(By.CSS_SELECTOR, ".lb .follows"), page, 90)
        return chrome.find_element(By.ID, "rendered_cells").text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)


def browser(width: int) -> webdriver.Chrome:
    binary, driver = program("chromium", "chromium"), program("chromedriver", "chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    return resized(chrome, width)


def resized(chrome: webdriver.Chrome, width: int) -> webdriver.Chrome:
    """The same browser as wide as a desk's or a phone's."""
    size = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return chrome
