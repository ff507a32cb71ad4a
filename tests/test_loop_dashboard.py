"""The loop's dashboard in a real browser, over records as the loop and a replay write them."""

import json
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import turned
from accessible import faults
from browsing import Voila, resized
from conftest import wait_for
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from small_house import make_project

from loopbook.loop import replay_results

pytestmark = pytest.mark.slow
MARKUP = "<img src=x onerror=\"document.title='broken out'\">"


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A project without a champion, whose loop turned and where two replays are finished."""
    folder = make_project(tmp_path_factory.mktemp("loop") / "house")
    records = turned.turns()
    records[-1]["reason"] = f"a reason with {MARKUP}"
    turned.keep_turns(folder, records)
    drawn = BytesIO()
    replay_results.figure(turned.result()).savefig(drawn, format="svg")
    turned.keep_result(folder, turned.result(), drawn.getvalue())
    turned.keep_result(folder, turned.result("concept"))
    return folder


@pytest.fixture(scope="module")
def pages(house):
    with Voila(house) as served:
        yield served


@pytest.mark.parametrize("width", [1200, 390])
def test_the_loops_dashboard_is_whole_on_a_desk_and_on_a_phone(pages, chrome, width):
    resized(chrome, width)
    text = pages.read(chrome, "7_loop")
    for told in (
        *("What does the loop do?", f"a reason with {MARKUP}", "house-prices v4 serves"),
        *("retrained: every four weeks", "13.1", "of 14,321 requests failed", "rolled back"),
    ):
        assert told in text, told
    assert "Traceback" not in text
    assert "loop_dashboard" not in text
    assert faults(chrome) == []
    right = "return Math.max(...[...document.querySelectorAll('.lb')].map("
    right += "e => e.getBoundingClientRect().right))"
    assert chrome.execute_script(right) <= width + 1
    broken = "return [...document.images].filter(i => !i.naturalWidth).length"
    wait_for(lambda: chrome.execute_script(broken) == 0, "pictures", 20)
    assert chrome.execute_script("return document.images.length") == 2
    assert chrome.title != "broken out"
    told = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    sent = [m["params"] for m in told if m["method"] == "Network.requestWillBeSent"]
    asked = {urlsplit(params["request"]["url"]) for params in sent}
    assert {url.hostname for url in asked if url.scheme.startswith("http")} == {"127.0.0.1"}


def test_a_click_on_a_turn_shows_its_record_and_another_replay_can_be_chosen(pages, chrome):
    resized(chrome, 1200)
    pages.read(chrome, "7_loop")
    every = chrome.find_elements(By.CSS_SELECTOR, "details.turn")
    assert len(every) == 70
    promoted = every[35 + 5]  # of this project's: week 30, the newest first
    assert "a second reason" not in promoted.text
    promoted.find_element(By.TAG_NAME, "summary").click()
    assert "a second reason" in promoted.text
    assert "b" * 64 in promoted.text
    assert "var/loop/turns/000030.json" in promoted.text
    assert promoted.get_attribute("open")
    Select(chrome.find_element(By.TAG_NAME, "select")).select_by_visible_text(
        "scenario concept, a turn a week"
    )
    page = chrome.find_element(By.ID, "rendered_cells")
    wait_for(lambda: "That is what it did." in page.text, "the scenario", 20)
    chrome.find_element(By.LINK_TEXT, "every turn").click()
    assert chrome.current_url.endswith("7_loop.ipynb#turns")
    top = 'return document.getElementById("turns").getBoundingClientRect().top'
    wait_for(lambda: -5 < chrome.execute_script(top) < 1400, "the way to the turns", 5)
