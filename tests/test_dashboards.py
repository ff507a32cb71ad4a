"""The dashboards of a number, of yes or no and of one of several, in a real browser."""

import re
import shutil
from pathlib import Path

import paged
import pytest
import small_classes
from accessible import faults, themed
from browsing import resized
from conftest import wait_for
from small_classes import NUMBER, SEVERAL, YES_OR_NO
from small_house import ROOT

from loopbook.pages import dashboards
from loopbook.project.paths import Project
from loopbook.records import windows as window_records

pytestmark = pytest.mark.slow
PAGES = ("start", "overview", "drift", "performance", "candidates", "model_card")
TOLD = {
    NUMBER: {
        "start": ("It predicts weight, in kg.", "On average an answer is", "What is there to do?"),
        "overview": ("realized mean absolute error", " kg"),
        "performance": ("bias (below 0: too little)", "Where is it wrong?", " kg"),
        "candidates": ("Change of the mean absolute error", " kg"),
        "model_card": ("It predicts weight (kg)",),
    },
    YES_OR_NO: {
        "overview": ("realized log loss",),
        "performance": ("bias of the probability of yes", "recall", "area under the ROC curve"),
        "candidates": ("Change of the log loss",),
        "model_card": (
            "one of “yes”, “no”; “yes” is the positive class",
            "answered from a probability of 20.0 %",
        ),
    },
    SEVERAL: {
        "overview": ("realized log loss",),
        "performance": ("bias of the probability of", "blue, dark", "How frequent is each class?"),
        "candidates": ("Change of the log loss",),
        "model_card": ("one of “red”, “blue, dark”, “grün”",),
    },
}
HEAD = (
    '<!doctype html><html lang="en"><title>A page</title>'
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<body style="margin: 0">'
)
IMAGES = {"overview": 1, "drift": 2, "performance": 4}


def shown(widget) -> str:
    """All HTML of a dashboard."""
    if hasattr(widget, "children"):
        return "".join(shown(child) for child in widget.children)
    return widget.value if isinstance(widget.value, str) else ""


@pytest.fixture(scope="module", params=small_classes.TASKS)
def made(request, tmp_path_factory) -> tuple[str, Path]:
    """The pages of a table, each as a file."""
    folder = tmp_path_factory.mktemp("dashboards")
    about = small_classes.table(request.param)
    (folder / "contract.yaml").write_text(small_classes.as_yaml(about), encoding="utf-8")
    shutil.copy(ROOT / "env.yaml", folder)
    paged.keep_window(folder, request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashboards, "current", lambda: Project(folder))
        built = paged.Built(request.param)
        patch.setattr(dashboards.registry_reader, "connect", lambda _: built)
        for page in PAGES:
            html = shown(dashboards.show(page))
            (folder / f"{page}.html").write_text(HEAD + html, encoding="utf-8")
    return request.param, folder


@pytest.mark.parametrize(("width", "theme"), [(1400, "dark"), (390, "light")])
def test_pages_are_whole_and_in_the_words_of_their_target(made, chrome, width, theme):
    task, folder = made
    resized(chrome, width)
    themed(chrome, theme)
    for page in PAGES:
        chrome.get((folder / f"{page}.html").as_uri())
        text = chrome.find_element("tag name", "body").text
        for told in TOLD[task].get(page, ()):
            assert told in text, (page, told)
        assert not re.search(r"Traceback|Nothing to show|MAPE|\bnan\b|None(?! of \d)", text), page
        whole = "return [...document.images].filter(i => i.naturalWidth).length"
        wait_for(lambda: chrome.execute_script(whole) == IMAGES.get(page, 0), page, 20)  # noqa: B023
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, page
        assert faults(chrome) == [], page


def test_no_figure_of_a_window_is_empty(made):
    """What has nothing to show says so in a sentence, which the SVG then holds."""
    task, folder = made
    record = window_records.newest(Project(folder))
    drawn = sorted(window_records.window_folder(Project(folder), record["as_of"]).glob("*.svg"))
    assert len(drawn) == 7
    for path in drawn:
        text = path.read_text()
        assert "nothing to show" not in text, (task, path.name)
        assert len(re.findall("<path|<use|<image|<text", text)) > 20, (task, path.name)
