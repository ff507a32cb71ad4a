"""The page of the graph of notebooks: states, reasons, the picture, and documents that run nothing."""

import json
import os
import re
from pathlib import Path

import pytest
from reading import Reads

from loopbook.pages import executed, links
from loopbook.pages import tasks as task_pages
from loopbook.pages.tasks import Graph
from loopbook.pipeline import task_states
from loopbook.pipeline.task_states import DONE, FAILED, NEVER, UNFINISHED, TaskState

MARKUP = "<img src=x onerror=alert(1)>"
AT = "2026-11-26T21:22:05+00:00"


def written(path: Path, papermill: dict | None, *cells: dict) -> Path:
    metadata = {} if papermill is None else {"papermill": papermill}
    document = {"cells": [*cells], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(document))
    return path


def code(source: str, *outputs: dict, folded: bool = False) -> dict:
    metadata = {"jupyter": {"source_hidden": True}} if folded else {}
    told = {"cell_type": "code", "metadata": metadata, "execution_count": 1}
    return told | {"id": f"c{len(source)}", "source": source, "outputs": [*outputs]}


@pytest.mark.parametrize(
    ("papermill", "state"),
    [
        ({"start_time": AT, "end_time": AT, "duration": 1.5, "exception": None}, DONE),
        ({"start_time": AT, "end_time": AT, "duration": 1.5, "exception": True}, FAILED),
        ({"start_time": AT, "end_time": None, "duration": None, "exception": None}, UNFINISHED),
        (None, UNFINISHED),
    ],
)
def test_an_executed_notebook_says_how_its_run_ended(papermill, state, tmp_path):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no rows\nat all"}
    path = written(tmp_path / "split.ipynb", papermill, code("x", error | {"traceback": []}))
    found = task_states._last_run(path)
    assert found["state"] == state
    assert found.get("error", "") == ("ValueError: no rows" if state == FAILED else "")


def test_a_document_that_was_cut_off_is_not_finished_and_an_absent_one_never_ran(tmp_path):
    cut = written(tmp_path / "a.ipynb", {})
    cut.write_text(cut.read_text()[:20])
    assert task_states._last_run(cut) == {"state": UNFINISHED}
    assert task_states._last_run(tmp_path / "none.ipynb") == {}


def task(name: str, state: str, *upstream: str, **more) -> TaskState:
    return TaskState(name, f"notebooks/{name}.ipynb", upstream, Path(name), state, AT, 75.2, **more)


def page(*tasks: TaskState, stale: dict | None = None) -> str:
    return task_pages.page([Graph("Training", "make build", tasks, stale)])


def text(shown: str) -> str:
    return re.sub(r"\s+", " ", Reads(shown.rsplit("</style>", maxsplit=1)[-1]).text)


def test_a_stale_task_has_its_reason_and_the_page_says_what_to_type():
    shown = text(
        page(task("split", DONE), task("train", DONE, "split"), stale={"train": ["x is 2"]})
    )
    assert "1 of 2 tasks would run again: make build" in shown
    every = page(task("split", DONE), task("train", DONE), stale={"split": ["x"], "train": ["x"]})
    assert "All 2 tasks would run again: make build" in text(every)
    assert "train ↻ stale 26 November 2026, 21:22 UTC 1 min 15 s x is 2" in shown
    assert "split ✔ done" in shown
    assert "took why" in shown
    assert "took why" not in text(page(task("split", DONE), stale={}))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, ""),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (179.9, "3 min 00 s"),
        (75.2, "1 min 15 s"),
    ],
)
def test_a_time_has_no_sixty_seconds(seconds, told):
    assert task_pages.took(seconds) == told


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ((DONE, FAILED), "train failed. Correct the notebook, then: make build"),
        ((NEVER, NEVER), "No notebook has run yet. Run them: make build"),
        ((DONE, NEVER), "train never ran. Run what is left: make build"),
        ((DONE, UNFINISHED), "train did not come to the end, or still runs."),
        ((DONE, DONE), "All 2 tasks are up to date: nothing to do."),
    ],
)
def test_the_first_sentence_says_what_is_to_be_done(states, told):
    tasks = [task(name, state) for name, state in zip(("split", "train"), states, strict=True)]
    assert told in text(page(*tasks, stale={}))


def test_before_it_is_known_what_is_stale_nothing_is_called_up_to_date():
    shown = text(page(task("split", DONE)))
    assert "The one task has run." in shown
    assert "up to date" not in shown


def test_each_box_of_the_picture_is_a_link_to_its_document_with_a_name():
    shown = page(task("split", DONE), task("train-a&b", FAILED, "split"), stale={})
    assert 'href="8_pipeline.ipynb?task=train-a%26b"' in shown
    assert 'aria-label="train-a&amp;b: failed"' in shown
    assert shown.count('class="arrow"') == 1


def test_no_word_of_a_task_becomes_markup():
    shown = page(task(MARKUP, FAILED, error=MARKUP), stale={MARKUP: [MARKUP]})
    assert "<img" not in shown
    assert "<img" not in task_pages.document(MARKUP, f"<p>{MARKUP}</p>")


def test_a_document_fetches_nothing_and_its_frame_lets_no_script_run(tmp_path):
    html = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<b>5 %</b>"}}
    cells = code("import polars", folded=True), code("shown()", html)
    content = executed.page(written(tmp_path / "split.ipynb", {}, *cells))
    assert "default-src 'none'" in content
    assert not re.search(r"<script|src=.?http|<link", content)
    assert "<b>5 %</b>" in content
    assert "<summary>Code: imports</summary>" in content
    assert content.index("<details>") < content.index("polars") < content.index("</details>")
    ended = {"output_type": "display_data", "metadata": {}}
    ended |= {"data": {"text/html": "<pre></pre>", "text/plain": ""}}  # as Rich leaves it
    assert "<pre></pre>" not in executed.page(
        written(tmp_path / "train.ipynb", {}, code("fit()", ended))
    )
    frame = task_pages.document("split", content)
    assert '<iframe sandbox title="The executed notebook of split"' in frame


def test_a_link_is_read_as_it_was_written(monkeypatch):
    choice = {"task": "train-ü&x", "size (m²)": "12.5"}
    monkeypatch.setenv(links.QUERY, links.of("8_pipeline", choice).partition("?")[2])
    assert links.asked() == choice
    monkeypatch.delenv(links.QUERY)
    assert links.asked() == {}
    assert links.QUERY not in os.environ
