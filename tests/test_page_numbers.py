"""Every number on the pages of windows and of the loop is one of the record behind it.

A page computes none: what stands there is a number of the record in one of the forms of
a page, or part of a text or of an instant of it.
"""

import re
from collections.abc import Iterator

import paged
import pytest
import turned
from reading import Reads
from small_classes import TASKS, table

from loopbook.models.measures import amount, of_record
from loopbook.pages import formats, plain
from loopbook.pages import replays as replay_pages
from loopbook.pages import turns as turn_pages
from loopbook.pages import windows as window_pages

DIGITS = re.compile(r"\d(?:[\d.,]*\d)?")


def stands(page: str) -> set[str]:
    """The numbers that a reader sees on a page."""
    return set(DIGITS.findall(Reads(page.rsplit("</style>", maxsplit=1)[-1]).text))


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
