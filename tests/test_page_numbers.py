"""Every number on a page is one of the record behind it.

A page computes none: what stands there is a number of the record in one of the forms of
a page, or part of a text or of an instant of it.
"""

import re
from collections.abc import Iterator

import paged
import polars as pl
import pytest
import small_classes
import turned
from reading import Reads
from small_classes import ROW, START, TASKS, Shelf, as_yaml, serving, table
from test_candidates_page import decision as of_three
from test_pipeline_page import page as of_graph
from test_pipeline_page import task

from loopbook.models.measures import amount, of_record
from loopbook.pages import answers, formats, nearest, plain
from loopbook.pages import candidates as candidate_pages
from loopbook.pages import replays as replay_pages
from loopbook.pages import turns as turn_pages
from loopbook.pages import versions as version_pages
from loopbook.pages import windows as window_pages
from loopbook.pipeline.task_states import DONE, FAILED
from loopbook.project.paths import Project
from loopbook.records.roles import CHAMPION
from loopbook.registry.reference import monitored

STYLE = re.compile("<style>.*?</style>", re.DOTALL)
DIGITS = re.compile(r"\d(?:[\d.,]*\d)?")


def stands(page: str) -> set[str]:
    """The numbers that a reader sees on a page."""
    return set(DIGITS.findall(Reads(STYLE.sub("", page)).text))


def leaves(value) -> Iterator:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield name  # a slice or a class has its numbers in its name
            yield from leaves(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from leaves(inside)
    else:
        yield value


def forms(value: float, measures) -> list[str]:
    """A number in each form that a page has for it."""
    measure, bias = measures
    return [
        *(formats.share(value, digits) for digits in (0, 1, 2)),
        *(formats.distance(value), formats.count(value), formats.number(value), f"{value:.2f}"),
        *(m.said(value) for m in measures),
        *(m.said_change(value) for m in measures),
        *(amount(m.shown(value), signed=True) for m in (measure, bias)),
    ]


def known(record) -> set[str]:
    """All that a page of a record may say in digits."""
    measures, told = of_record(record), set()
    for value in leaves(record):
        if isinstance(value, str):
            told |= set(DIGITS.findall(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            told |= {number for form in forms(value, measures) for number in DIGITS.findall(form)}
    return told


@pytest.fixture(scope="module", params=TASKS)
def window(request, tmp_path_factory):
    """The record of a real window, as the pages get it, and its table."""
    about = table(request.param)
    record = paged.keep_window(tmp_path_factory.mktemp("window"), request.param)
    return plain.readable(record, about), about


def pages_of(record, about) -> dict[str, str]:
    promoted = {"number": "1", "promoted_at": record["decided_at"], "promoted_reason": "better"}
    return {
        "overview": window_pages.overview(
            record, window_pages.happenings([record], [promoted]), {}
        ),
        "drift": window_pages.drift(
            record, {}, None, lambda name: plain.column_called(name, about)
        ),
        "performance": window_pages.performance(record, {}),
    }


@pytest.mark.medium
@pytest.mark.parametrize(("page", "least"), [("overview", 12), ("drift", 12), ("performance", 12)])
def test_every_number_of_a_page_about_a_window_is_one_of_its_record(window, page, least):
    record, about = window
    shown = stands(pages_of(record, about)[page])
    assert len(shown) >= least
    assert shown - known(record) - known(about.model_dump(mode="json")) == set()


def files_of(turns) -> set[str]:
    """The numbers in the names of turns' files."""
    return {f"{turn['turn']:06d}" for turn in turns}


@pytest.mark.parametrize("outcome", ["nothing", "promoted", "refused", "rolled back", "error"])
def test_every_number_of_a_turn_is_one_of_its_record(outcome):
    (record, *_) = [turn for turn in turned.turns() if turn["outcome"] == outcome]
    shown = stands(turn_pages.turns([record], None, "").split("as JSON")[0])
    assert len(shown) >= 5
    assert shown - known(record) - files_of([record]) == set()


@pytest.mark.parametrize("scenario", [None, "concept"])
def test_every_number_of_a_replay_is_one_of_its_result(scenario):
    """Or the minutes that it took, or how many turns are listed."""
    result = turned.result(scenario, right=True, expected="it retrains")
    some = result["turns"][:2]
    page = replay_pages.replay(result, None, records=some)
    told = {"2", f"{result['seconds'] / 60:.0f}"} | files_of(some)
    shown = stands("".join(part.split("</pre>")[-1] for part in page.split("<pre>")))
    assert len(shown) > 20
    assert shown - known(result) - told == set()


def built(kind: str) -> dict:
    """The record of a build with a challenger, and what its runs were told."""
    challenger = {"candidate": "linear", "label": "small v1", "version": "1", "run_id": "r"}
    return paged.decision(kind) | {"challenger": challenger}


@pytest.mark.parametrize("kind", TASKS)
def test_every_number_of_the_candidates_page_is_one_of_the_builds_record(kind):
    """Or the place of a candidate, or how many settings there are."""
    record, settings = built(kind), {"linear": {"alpha": "7.25"}, "baseline": {"seed": "11"}}
    shown = stands(candidate_pages.candidates({"number": "1"}, record, settings=settings))
    assert {"7.25", "11"} < shown
    assert len(shown) >= 20
    assert shown - known(record | {"settings": settings, "places": [1, 2]}) == set()


def test_every_number_about_versions_is_one_of_their_records():
    tags = {"number": "2", "candidate": "ridge", "promoted_at": "2025-02-02"}
    earlier = of_three(as_of="2025-01-01T00:00:00+00:00", errors={"challenger": 1.75})
    served = [("2025-02-03", "2025-03-04")]
    past = [
        candidate_pages.Past(tags, of_three(), served),
        candidate_pages.Past({"number": "1"}, earlier),
    ]
    shown = stands(candidate_pages.versions(past))
    told = known(of_three() | {"tags": [tags, "1"], "earlier": earlier, "served": served})
    assert len(shown) >= 7
    assert {number for number in shown if number.zfill(2) not in told} - told == set()


@pytest.mark.parametrize("kind", TASKS)
def test_every_number_of_a_model_card_is_one_of_the_card_and_of_the_builds_record(kind):
    card, record = small_classes.version(kind)[2], built(kind)
    tags = {"number": "1", "run_id": "run-1", "promoted_at": START.isoformat()}
    shown = stands(version_pages.model_card(tags, card, record))
    assert len(shown) >= 30
    assert shown - known(record | {"card": card, "tags": tags}) == set()


@pytest.mark.medium
@pytest.mark.parametrize("kind", TASKS)
def test_every_number_of_an_answer_is_what_the_service_says(kind, tmp_path):
    """Or where an input lies among the rows of the card."""
    (tmp_path / "contract.yaml").write_text(as_yaml(table(kind)), encoding="utf-8")
    shelf, inputs = Shelf(kind), {name: ROW[name] for name in ("size", "width", "zone")}
    ask = answers.answering(Project(tmp_path), shelf, shelf.held(shelf.name, CHAMPION))
    shown = stands(ask(inputs))
    with serving(tmp_path, shelf, table(kind)) as http:
        said = http.post("/predict?explain=true", json=ROW).json()
    card = small_classes.version(kind)[2]
    quantiles = {
        float(q) for about in card["reference"].values() for q in about.get("quantiles", ())
    }
    parts = [part["contribution"] for part in said["explanation"]["contributions"]]
    total = said["explanation"]["base"] + sum(parts)
    cells = [*_numbers(said), total, *inputs.values()]
    told = {number for value in cells for number in DIGITS.findall(str(formats.cell(value)))}
    told |= known({"inputs": inputs, "card": card, "quantiles": list(quantiles), "said": said})
    assert len(shown) >= 10
    assert shown - told == set()


def _numbers(record) -> list[float]:
    return [v for v in leaves(record) if isinstance(v, float)]


def test_every_number_of_the_nearest_rows_is_one_of_them():
    about, card = table("regression"), small_classes.version("regression")[2]
    frozen = small_classes.rows("regression", 200)
    frozen = frozen.select(*monitored(about), pl.col(about.target.name).alias("observed"))
    rows = nearest.nearest(frozen, {"size": 11.0, "width": 2.5, "zone": "north"}, card, about)
    shown = stands(nearest.page(rows, about))
    cells = [formats.asked(value) for row in rows.rows() for value in row if value is not None]
    told = {number for cell in cells for number in DIGITS.findall(cell)}
    assert len(shown) >= 10
    assert shown - told - known({"far": rows["far"].to_list(), "itself": 0}) == set()


def test_every_number_about_notebooks_is_one_of_their_runs():
    """Its instant, how long it took, why it is stale, and how many there are."""
    tasks = task("split", DONE), task("train", FAILED, "split", error="row 17 is empty")
    shown = stands(of_graph(*tasks, stale={"split": ["rows is 2,345"]}))
    took = {"1", "15"}  # minutes and seconds of 75.2 s
    at = {"26", "2026", "21", "22"}
    assert shown == took | at | {"17", "2,345"}
