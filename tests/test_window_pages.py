"""Drift, Performance and The loop: what they say where much, little and nothing is known."""

import re
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial

import pytest
import turned
from reading import Reads
from small_house import ROOT
from test_error_plots import NUMBER
from test_templates import MARKUP, window

from loopbook.pages import error_plots, plain
from loopbook.pages import turns as turn_pages
from loopbook.pages import windows as window_pages
from loopbook.project.contract import read_contract


def text(page: str) -> str:
    return re.sub(r"\s+", " ", Reads(page.rsplit("</style>", maxsplit=1)[-1]).text)


def record(**numbers) -> dict:
    return window() | {"numbers": window()["numbers"] | numbers, "faults": []}


def test_without_ground_truth_a_sentence_stands_and_no_row_of_not_known():
    unknown = dict.fromkeys(("error", "error_low", "error_high", "error_growth"))
    page = text(window_pages.performance(record(**unknown, estimated_error=0.12), {}))
    assert "nothing is known of their error yet. For the newest answers 12.0 % is estimated" in page
    assert "not known" not in page
    assert "growth since promotion" not in page


@pytest.mark.parametrize(("count", "folded"), [(1, 0), (7, 0), (8, 2), (30, 24)])
def test_many_reasons_are_folded_and_none_is_left_out(count, folded):
    reasons = [f"reason {place}" for place in range(count)]
    page = window_pages.performance(
        record() | {"verdict": {"level": "watch", "reasons": reasons}}, {}
    )
    body = page.rsplit("</style>", maxsplit=1)[-1]
    told = [f"reason {place}" for place in map(int, re.findall(r"reason (\d+)", body))]
    assert told == reasons
    assert ('<details class="rest">' in body) == bool(folded)
    assert not folded or f"<summary>{folded} more reasons</summary>" in body


def test_what_is_known_of_an_error_stands_with_its_unit():
    page = text(window_pages.performance(record(inside=0.9, above=0.06, below=0.04), {}))
    assert "nothing is known" not in page
    assert "90.0 % of the observed targets lie in their interval" in page
    assert (
        "6.0 % of the observed targets lie above their interval "
        "4.0 % of the observed targets lie below their interval"
    ) in page


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ([], "Nothing was found."),
        ([False], "Nothing that asks for a person; this was only noticed:"),
        ([True, False], "1 fault asks for a person. Until it is mended, no model is trained."),
        ([True, True], "2 faults ask for a person."),
    ],
)
def test_the_drift_page_says_whether_a_fault_asks_for_a_person(broken, told):
    faults = [
        {"column": "zone", "kind": "missing", "is_broken": is_broken, "sentence": MARKUP}
        for is_broken in broken
    ]
    page = text(window_pages.drift(record() | {"faults": faults}, {}, None, str))
    assert told in page
    assert page.count("a person") == sum(broken) + (told.count("a person") if broken else 0)


def test_of_a_window_without_requests_the_drift_page_claims_nothing():
    empty = record(rows=0) | {"columns": []}
    page = text(window_pages.drift(empty, {}, "<p>a report</p>", str))
    assert "Nothing was asked in this window, so no value was looked at." in page
    assert "Nothing was found" not in page
    assert "Evidently" not in page
    assert "How do their values lie?" not in page


def test_of_a_window_without_requests_no_list_of_what_is_not_known_stands():
    counts = ("rows", "due", "labels", "reference_rows", "drifted_columns", "judged_columns")
    nothing = dict.fromkeys(window()["numbers"]) | dict.fromkeys(counts, 0)
    empty = record(**nothing) | {"metrics": {}, "columns": []}
    assert "not known" not in text(window_pages.overview(empty, [], {}))
    assert "0 answers in the window" in text(window_pages.overview(empty, [], {}))
    assert "When was it wrong?" not in text(window_pages.performance(empty, {}))


def test_what_happened_is_a_list_whose_reasons_wrap_on_a_phone():
    happened = [("2025-02-03 00:00", "2025-02-04 08:30", "v2 promoted", "better than v1")]
    happened.append(("2025-01-06 00:00", "", "v3 refused", "worse than v2"))
    page = window_pages.overview(record(), happened, {})
    assert "<table" not in page
    shown = text(page)
    assert "as of 2025-02-03 00:00 done at 2025-02-04 08:30 v2 promoted better than v1" in shown
    assert "as of 2025-01-06 00:00 v3 refused" in shown


def test_of_one_instant_the_verdict_stands_below_what_it_led_to():
    retrain = record() | {"as_of": "2025-02-01T00:00", "decided_at": "2025-02-01T08:00"}
    retrain |= {"verdict": {"level": "retrain", "reasons": ["the error has grown"]}}
    at = {"promoted_as_of": "2025-02-01T00:00", "promoted_at": "2025-02-01T08:05"}
    versions = [at | {"number": "3"}, at | {"number": "2"}]  # the newest first
    told = [what for _, _, what, _ in window_pages.happenings([retrain], versions)]
    assert told == ["v3 promoted", "v2 promoted", "verdict: retrain"]
    assert len(window_pages.happenings([retrain], versions, most=2)) == 2


def test_a_window_without_a_report_says_which_knob_makes_one():
    columns = [{"column": "size", "distance": 0.1, "threshold": 0.2, "is_judged": False}]
    page = window_pages.drift(record() | {"columns": columns}, {}, "<p>It is off.</p>", str)
    assert "It was not made for this window" in page
    assert "<iframe" not in page


def test_a_column_is_told_by_what_was_judged_of_it():
    columns = [
        {"column": name, "distance": 0.1234, "threshold": 0.1, "is_judged": judged}
        | {"has_drifted": drifted}
        for name, judged, drifted in
        (("zone", True, True), ("observed", True, False), ("level_30d", False, True))
    ]  # fmt: skip
    named = partial(plain.column_called, contract=read_contract(ROOT / "contract.yaml"))
    page = text(
        window_pages.drift(record() | {"columns": columns}, {}, "<script>report</script>", named)
    )
    assert "zone 0.123 0.100 moved" in page
    assert "the ground truth 0.123 0.100 may differ by chance" in page
    assert (
        "Price level of the neighbourhood in 30 days 0.123 0.100 moves with time by its nature, and is not judged"
        in page
    )
    assert "judges the same 7 columns" in page


def test_the_turns_that_changed_something_stand_beside_their_figure():
    acted = turn_pages.acted(turned.turns())
    assert [outcome for _, outcome, _, _ in acted].count("promoted") == 4
    assert "nothing" not in {outcome for _, outcome, _, _ in acted}
    assert acted[0][0] > acted[-1][0]
    failed = turned.turns(1)[0] | {"outcome": "error", "reason": "decide failed, line 10:\n\n  x()"}
    assert turn_pages.acted([failed])[0][3] == "decide failed, line 10"
    page = text(turn_pages.turns(turned.turns(1), None, "One turn."))
    assert "Which turns changed something" not in page


def test_of_classes_the_window_says_of_which_the_bias_is_and_counts_classes():
    told = record(raw_bias=0.01, bias=0.02, set_size=1.25, inside=0.997) | {"bias_of": "Gentoo"}
    told["numbers"] |= {"estimated_error": None}
    page = text(window_pages.overview(told, [], {}))
    assert "bias of Gentoo;" in page
    assert "estimated for the newest" not in page
    assert "99.7 % of the observed classes lie in their set" in text(
        window_pages.performance(told, {})
    )


@pytest.mark.parametrize(
    ("is_trailing", "rows", "told"),
    [
        (False, 0, "Yes: the model has no trailing features"),
        (True, 0, "Nothing was asked in this window."),
        (True, 9, "It is not known: what was known of the trailing features cannot be read"),
    ],
)
def test_whether_serving_sees_what_training_sees_has_one_answer(is_trailing, rows, told):
    window = record(rows=rows) | {"skew": {}}
    page = text(window_pages.drift(window, {}, None, str, is_trailing=is_trailing))
    assert told in page


def weeks(*errors: float | None) -> list[dict]:
    return [
        {"period": datetime(2025, 1, 6) + timedelta(weeks=k), "error": error, "estimated": 20.0}
        | ({"low": error - 1, "high": error + 1} if error is not None else {})
        for k, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([None], "No ground truth has come yet; the error of the last period is estimated at 20.0"),
        (
            [29.0],
            "29.0 minutes (28.0 minutes to 30.0 minutes), beyond doubt more than the 25.0 minutes",
        ),
        ([24.5, 24.5], "In 2 periods it was the same."),
        ([24.5], "at promotion it was 25.0 minutes, and the difference may be chance."),
        (
            [29.0, 20.0, None],
            "beyond doubt less than the 25.0 minutes at promotion. In 2 periods it lay",
        ),
    ],
)
def test_a_figure_of_no_one_and_many_weeks_ends_with_what_it_shows(errors, told):
    assert told in error_plots.over_time(weeks(*errors), 25.0, NUMBER.measure).finding


def test_an_error_in_the_unit_of_the_target_says_so():
    measures = {"measure": asdict(NUMBER.measure), "bias_measure": asdict(NUMBER.bias_measure)}
    told = record() | measures | {"metrics": {"rmse": 10.86}, "loss": "absolute_error"}
    assert "squared error 10.9 minutes" in text(window_pages.performance(told, {}))


@pytest.mark.slow
def test_on_paper_no_reason_is_folded(chrome, tmp_path):
    judged = {"level": "watch", "reasons": [f"reason {place}" for place in range(9)]}
    page = tmp_path / "page.html"
    page.write_text(window_pages.performance(record() | {"verdict": judged}, {}))
    is_shown = "return document.querySelector('.rest ul').checkVisibility()"
    chrome.get(page.as_uri())
    on_screen = chrome.execute_script(is_shown)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    on_paper = chrome.execute_script(is_shown)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (on_screen, on_paper) == (False, True)
