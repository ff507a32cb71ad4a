"""Every number of a figure's caption is one of the record that the figure is drawn from.

What is drawn from rows is held against the rows, by other means than the figure's own.
"""

from collections import Counter

import numpy as np
import paged
import pytest
import turned
from small_classes import TASKS, table, version
from test_candidates_page import decision
from test_page_numbers import DIGITS, files_of, known

from loopbook.loop import replay_results
from loopbook.models.measures import amount, of_record
from loopbook.models.task import task_of
from loopbook.pages import build_plots, drawings, formats, loop_dashboard, plain
from loopbook.pages.candidates import Past
from loopbook.project.paths import Project
from loopbook.records import windows as window_records

pytestmark = pytest.mark.medium

OF_RECORDS = ("columns", "shares", "periods", "slices", "trend")


def said(content: bytes) -> set[str]:
    """The numbers of a figure's caption, with what its marks say where a pointer rests."""
    drawing = drawings.read(content)
    assert drawing.finding
    texts = [drawing.finding, *(spot.text for spot in drawing.wide.spots)]
    return {number for text in texts for number in DIGITS.findall(text)}


@pytest.fixture(scope="module", params=TASKS)
def drawn(request, tmp_path_factory):
    """The figures of a real window by name, its record and its table."""
    folder = tmp_path_factory.mktemp("window")
    record = paged.keep_window(folder, request.param)
    place = window_records.window_folder(Project(folder), record["as_of"])
    files = {path.stem: path.read_bytes() for path in place.glob("*.svg")}
    return request.param, files, record


@pytest.mark.parametrize("name", OF_RECORDS)
def test_every_number_of_a_caption_of_a_window_is_one_of_its_record(drawn, name):
    task, files, record = drawn
    about = table(task)
    near = {c["distance"] / c["threshold"] for c in record["columns"] if c["threshold"]}
    whole = known(plain.readable(record, about)) | known(about.model_dump(mode="json"))
    whole |= {DIGITS.findall(formats.share(one, 0))[0] for one in near}
    whole |= known({"counts": [len(record[what]) for what in ("columns", "periods")]})
    assert said(files[name]) - whole == set()


def judged(task: str) -> tuple:
    """The rows of the window with their answers, as the task has them."""
    of, rows = task_of(table(task)), paged.answered(task).tail(paged.COUNT - paged.LEARNED)
    return of, of.observed(rows["observed"]), of.of_column(rows["answer"])


def test_the_caption_of_mean_outcomes_is_that_of_the_rows(drawn):
    task, files, _ = drawn
    of, observed, answers = judged(task)
    if of.classes:
        places = range(len(of.classes)) if of.positive is None else [of.positive]
        was = np.concatenate([observed == place for place in places]).astype(float)
        answers = np.concatenate([answers[:, place] for place in places])
    else:
        was = observed
    groups = np.array_split(np.argsort(answers, kind="stable"), 10)
    means = [(answers[group].mean(), was[group].mean()) for group in groups]
    counts = {f"{len(group):,}" for group in groups}
    form = formats.share if of.classes else amount
    told = {number for pair in means for one in pair for number in DIGITS.findall(form(one))}
    assert said(files["calibration"]) - told - counts - {"10"} == set()


def test_the_caption_of_wrong_answers_is_that_of_the_rows(drawn):
    task, files, _ = drawn
    of, observed, answers = judged(task)
    if not of.classes:
        order = np.argsort(observed, kind="stable")
        high, tenth = answers > observed, len(order) // 10
        shares = (high.mean(), high[order[:tenth]].mean(), high[order[-tenth:]].mean())
        told = {f"{100 * one:.0f}" for one in shares} | {f"{len(order)}"}
        assert said(files["errors"]) == told
        return
    given = of.decided(answers, version(task)[2].get("decision"))
    pairs = Counter(zip((of.classes[int(k)] for k in observed), given, strict=True))
    sums = Counter(of.classes[int(k)] for k in observed)
    right = sum(n for (was, answer), n in pairs.items() if was == answer)
    told = {f"{len(observed)}", f"{100 * right / len(observed):.1f}", "0.0"}
    told |= {f"{n}" for n in (*pairs.values(), *sums.values())}
    told |= {f"{100 * n / sums[was]:.1f}" for (was, _), n in pairs.items()}
    assert said(files["errors"]) - told == set()


def test_the_caption_of_a_build_is_that_of_its_record():
    record = decision()
    assert said(build_plots.behind(record)) - known(record) == set()


def test_the_caption_of_versions_is_that_of_their_records():
    about = {"number": "2", "candidate": "ridge", "promoted_at": "2025-02-02"}
    earlier = decision(as_of="2025-01-01T00:00:00+00:00", errors={"challenger": 1.7})
    past = [Past(about, decision()), Past({"number": "1"}, earlier)]
    whole = known({"past": [one.decision for one in past], "tags": [one.about for one in past]})
    whole |= known({**decision(), "counts": [1, len(past)]})
    assert said(build_plots.over_versions(past)) - whole == set()


def test_the_caption_of_turns_is_that_of_their_records(tmp_path):
    records = turned.turns()
    content = loop_dashboard.figure(Project(tmp_path), records)
    counts = Counter(turn["outcome"] for turn in records) + Counter(
        turn.get("verdict") for turn in records
    )
    whole = known({"turns": records}) | {f"{n}" for n in (*counts.values(), len(records))}
    assert said(content) - whole - files_of(records) == set()


@pytest.mark.parametrize("scenario", [None, "concept"])
def test_the_caption_of_a_replay_is_that_of_its_result(tmp_path, scenario):
    result = turned.result(scenario)
    replay_results.figure(result).savefig(tmp_path / "replay.svg")
    measure = of_record(result)[0]
    by_policy = [
        [measure.shown(month["error"]) for month in result["months"] if month["policy"] == policy]
        for policy in turned.POLICIES
    ]
    means = {amount(sum(errors) / len(errors)) for errors in by_policy if errors}
    assert said((tmp_path / "replay.svg").read_bytes()) - known(result) - means == set()
