"""The page of a build: why its best candidate was chosen, what each was told, and versions over time."""

import json
import re
from dataclasses import asdict

import paged
import pytest
import small_classes
from reading import Reads
from small_classes import NUMBER

from loopbook.models.evaluation import Interval
from loopbook.models.task import task_of
from loopbook.pages import build_plots, dashboards, drawings, links
from loopbook.pages import candidates as candidate_pages
from loopbook.pages.candidates import Past
from loopbook.project.paths import Project

TASK = task_of(small_classes.table(NUMBER))


def decision(**more) -> dict:
    told = {"bias": 0.0, "exportable": True, "latency_ms": 0.1}
    losses = {"ridge": 1.0, "forest": 1.25, "baseline": 3.0}
    return {
        "sentence": "Promoted: better than the champion",
        "as_of": "2025-02-01T00:00:00+00:00",
        "decided_at": "2025-02-02T00:00:00+00:00",
        "rows": 200,
        "measure": asdict(TASK.measure),
        "bias_measure": asdict(TASK.bias_measure),
        "ranked": [told | {"candidate": name, "loss": loss} for name, loss in losses.items()],
        "behind": {"forest": asdict(Interval(0.25, 0.05, 0.45, 100))},
        "challenger": {"candidate": "ridge", "label": "small v2", "version": "2", "run_id": "r"},
        "errors": {"challenger": 1.5, "baseline": 3.5},
    } | more


def text(page: str) -> str:
    return re.sub(r"\s+", " ", Reads(page.rsplit("</style>", maxsplit=1)[-1]).text)


@pytest.mark.parametrize(
    ("low", "told"), [(0.05, "beyond doubt."), (-0.1, "a difference that may be chance.")]
)
def test_a_sentence_says_why_a_candidate_was_chosen_and_how_sure_that_is(low, told):
    record = decision(behind={"forest": asdict(Interval(0.25, low, 0.45, 100))})
    said = candidate_pages.why(record)
    assert said.startswith("ridge was chosen from 3 candidates: its mean absolute error")
    assert "next was forest, " + TASK.measure.said_change(0.25) in said
    assert said.endswith(told)


def test_a_record_of_an_earlier_loopbook_has_its_sentence_without_an_interval():
    old = decision()
    del old["behind"]
    assert candidate_pages.why(old).endswith(f"next was forest with {TASK.measure.said(1.25)}.")
    assert build_plots.behind(old) is None
    assert candidate_pages.why({"ranked": []}) == ""


def test_the_figure_says_of_each_other_candidate_how_far_behind_it_was():
    drawing = drawings.read(build_plots.behind(decision()))
    assert any("forest: " in spot.text for spot in drawing.wide.spots)
    assert drawing.narrow


def test_the_candidates_of_the_figure_are_in_the_order_of_their_table():
    far, near = Interval(2.0, 1.5, 2.5, 100), Interval(0.25, 0.05, 0.45, 100)
    record = decision(behind={"baseline": asdict(far), "forest": asdict(near)})
    spots = drawings.read(build_plots.behind(record)).wide.spots
    by_height = [spot.text.split(":")[0] for spot in sorted(spots, key=lambda spot: spot.top)]
    assert by_height == ["forest", "baseline"]


def test_the_unit_of_many_differences_stands_above_their_table():
    """In every cell it made a table of slices wider than a phone."""
    against = {"champion": {"all rows": asdict(Interval(-0.25, -0.45, -0.05, 200))}}
    page = text(candidate_pages.candidates({"number": "2"}, decision(against=against)))
    assert "Change of the mean absolute error in kg, with its interval" in page
    assert "champion all rows -0.250 -0.450 -0.0500 200" in page


def test_settings_of_the_runs_stand_side_by_side():
    settings = {"ridge": {"alpha": "1.0", "candidate": "ridge"}, "forest": {"trees": "200"}}
    page = text(candidate_pages.candidates({"number": "2"}, decision(), settings=settings))
    assert "setting ridge forest alpha 1.0 – trees – 200" in page
    compared = candidate_pages.candidates({"number": "2"}, decision(), compared="http://x/#/c")
    assert 'href="http://x/#/c"' in compared
    assert "Compare the runs" not in page


def test_candidates_for_classes_have_no_column_of_biases():
    ranked = [row | {"bias": None} for row in decision()["ranked"]]
    told = text(candidate_pages.candidates({"number": "1"}, decision(ranked=ranked)))
    assert "candidate mean absolute error exports to ONNX ms a row" in told
    assert "bias exports to ONNX" in text(candidate_pages.candidates({"number": "1"}, decision()))


def test_versions_over_time_have_their_own_error_and_when_they_served():
    about = {"number": "2", "candidate": "ridge", "promoted_at": "2025-02-02"}
    old = Past(about | {"number": "1"}, decision(as_of="2025-01-01T00:00:00+00:00"))
    spans = [("2025-02-01", "2025-03-01"), ("2025-04-01", None)]
    past = [Past(about, decision(), spans), old]
    shown = text(candidate_pages.versions(past))
    assert f"v2 ridge 1 February 2025 {TASK.measure.said(1.5)} {TASK.measure.said(3.5)}" in shown
    assert "1 February 2025 to 1 March 2025; since 1 April 2025" in shown
    assert "never" in shown
    drawing = drawings.read(build_plots.over_versions(past))
    assert "2 of 2 were promoted" in drawing.finding
    assert build_plots.over_versions(past[:1]) is None


def test_where_the_baseline_erred_less_the_sentence_says_so():
    ranked = [
        {"candidate": name, "loss": loss, "bias": None, "exportable": True, "latency_ms": 0.02421}
        for name, loss in (("baseline", 1.5), ("linear", 2.5))
    ]
    told = decision(ranked=ranked, challenger={"candidate": "linear"})
    assert candidate_pages.why(told) == (
        "linear was chosen from 2 candidates: its mean absolute error on the validation window was "
        "2.50 kg (the baseline had less there, 1.50 kg, and is what the gate holds it against). "
        "No other candidate that could serve ran beside the baseline."
    )
    assert "yes 0.0242" in text(candidate_pages.candidates({"number": "1"}, told))


def test_a_link_chooses_the_build_and_one_that_is_not_there_is_told(tmp_path, monkeypatch):
    shelf = paged.Built(NUMBER)
    versions = [shelf.held(shelf.name, "champion")]
    monkeypatch.setenv(links.QUERY, "version=<b>9")
    page = dashboards._about_versions(Project(tmp_path), "candidates", shelf, versions)
    chooser, told, _ = page.children[0].children
    assert "there are v1. Another one is shown." in told.value
    assert "<b>9" not in told.value
    assert chooser.children[0].value == "1"
    assert json.loads(shelf.content(versions[0], "decision.json"))["sentence"] in text(
        page.children[0].children[2].children[0].value
    )
