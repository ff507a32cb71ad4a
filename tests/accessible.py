"""What is wrong with a page for who cannot see it, or has no mouse: axe-core asks it."""

from importlib.util import find_spec
from pathlib import Path

from selenium import webdriver

RUN = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"], iframes: false}).then(found => done(
  found.violations.filter(v => ["serious", "critical"].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.length} times, first ${v.nodes[0].html.slice(0, 150)}`)));
"""


def faults(chrome: webdriver.Chrome) -> list[str]:
    """The serious faults of the page that is shown; the frame of Evidently's is not ours."""
    # the package would import Playwright, of which nothing is wanted but this file
    folder = find_spec("axe_playwright_python").submodule_search_locations[0]
    chrome.execute_script((Path(folder) / "axe.min.js").read_text(encoding="utf-8"))
    return chrome.execute_async_script(RUN)


def themed(chrome: webdriver.Chrome, theme: str) -> None:
    """Let the pages be light or dark, as the system of a reader is."""
    scheme = {"name": "prefers-color-scheme", "value": theme}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
