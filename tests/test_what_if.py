"""What if: a link that holds the inputs, and the real rows that are most like them."""

from datetime import UTC, datetime

import ipywidgets as widgets
import polars as pl
import pytest
import small_classes
from reading import Reads
from small_classes import NUMBER, SEVERAL, as_yaml
from small_house import ROOT

from loopbook.pages import answers, formats, late, links, nearest, what_if, windows
from loopbook.pages import inputs as inputs_of
from loopbook.pages.plain import labelled
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project
from loopbook.records.roles import CHAMPION
from loopbook.registry.reference import monitored

ABOUT = small_classes.table(NUMBER)


def inputs() -> dict[str, widgets.Widget]:
    return {
        "size": widgets.FloatSlider(value=2.0, min=0.0, max=10.0),
        "rooms": widgets.IntSlider(value=2, min=0, max=9),
        "zone": widgets.Dropdown(options=["a", "b"], value="a"),
        "new": widgets.Checkbox(value=False),
    }


def test_a_link_moves_every_input_and_comes_back_the_same():
    moved = inputs()
    given = {"size": "7.5", "rooms": "4", "zone": "b", "new": "true"}
    assert inputs_of.take(moved, given) == []
    assert [widget.value for widget in moved.values()] == [7.5, 4, "b", True]
    assert {name: inputs_of.as_text(w.value) for name, w in moved.items()} == given


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("size", "99", "size lies between 0 and 10; the link says '99'."),
        ("size", "nan", "size lies between 0 and 10; the link says 'nan'."),
        ("rooms", "many", "rooms lies between 0 and 9; the link says 'many'."),
        ("zone", "<b>", "zone cannot be '<b>': the model has not learned it."),
        ("new", "yes", "new is true or false, not 'yes'."),
        ("colour", "red", "There is no input 'colour' to move."),
    ],
)
def test_a_value_that_a_link_asks_for_in_vain_is_told_and_moves_nothing(name, text, told):
    unmoved = inputs()
    assert inputs_of.take(unmoved, {name: text}) == [told]
    assert [w.value for w in unmoved.values()] == [w.value for w in inputs().values()]
    assert "<b>" not in windows.what_if([told]).rsplit("</style>", maxsplit=1)[-1]


def test_what_comes_late_is_said_again_to_a_page_that_did_not_listen(monkeypatch):
    """And what is said again is what is shown by then."""
    shown, said = widgets.HTML("it follows"), []
    monkeypatch.setattr(shown, "send_state", lambda key=None: said.append((key, shown.value)))
    late.tell(shown, "the answer", again_s=(0.0, 0.0)).join(5)
    assert said[-2:] == [("value", "the answer")] * 2
    assert shown.value == "the answer"


def test_an_input_that_is_chosen_from_a_list_is_printed_and_a_chooser_of_pages_is_not():
    """Whoever reads the print needs every input of the answer."""
    assert ".widget-dropdown:not(.asked) {display: none}" in windows.what_if()


def test_the_link_of_a_page_is_escaped():
    page = windows.what_if_link(links.of("6_what_if", {"size": '1"><img src=x>'}))
    assert "<img" not in page
    assert 'href="6_what_if.ipynb?size=1%22' in page


def test_the_nearest_real_row_is_the_one_that_was_asked_about():
    names = monitored(ABOUT)
    rows = small_classes.rows(NUMBER, 200)
    frozen = rows.select(*names, pl.col(ABOUT.target.name).alias("observed"))
    record = {name: frozen[name][17] for name in reversed(names)}
    card = small_classes.version(NUMBER)[2]
    found = nearest.nearest(frozen, record, card, ABOUT)
    assert found.height == nearest.MOST
    assert found["far"].is_sorted()
    assert [name for name in found.columns if name in record] == list(record)
    assert found["far"][0] == 0
    assert found["observed"][0] == frozen["observed"][17]


def test_no_row_is_shown_where_the_contract_marks_a_sensitive_input():
    features = dict(ABOUT.features)
    name = next(iter(features))
    features[name] = features[name].model_copy(update={"sensitive": "personal"})
    about = ABOUT.model_copy(update={"features": features})
    assert nearest.refusal(ABOUT) == ""
    assert "none is shown" in nearest.page(pl.DataFrame(), about, refused=nearest.refusal(about))


def test_the_inputs_stand_before_the_model_that_answers_is_loaded(tmp_path, monkeypatch):
    """In a kernel the page waits for no graph: what answers comes after it."""
    (tmp_path / "contract.yaml").write_text(as_yaml(ABOUT), encoding="utf-8")
    waiting = []
    monkeypatch.setattr(what_if, "_beside_the_page", lambda: waiting.append)
    monkeypatch.setattr(answers, "load", lambda *_: pytest.fail("loaded before it was asked"))
    shelf = small_classes.Shelf(NUMBER)
    page = what_if.sliders(Project(tmp_path), shelf, shelf.held("", CHAMPION))
    _, sliders, shown = page.children
    assert len(sliders.children) == len(ABOUT.features)
    assert all("asked" in child._dom_classes for child in sliders.children)
    assert "its answer follows" in shown.value
    assert len(waiting) == 1
    monkeypatch.undo()
    waiting.pop()()
    assert "add up to the difference" in shown.value


def test_inputs_are_told_in_the_words_of_the_contract():
    assert labelled("size", ABOUT) == ABOUT.label("size")
    for name, about in {**ABOUT.trailing, **ABOUT.computed}.items():
        assert labelled(name, ABOUT) == about.meaning.rstrip(".")


def test_a_share_of_earlier_rows_is_told_as_per_cent_and_no_other_value_is():
    about = read_contract(ROOT / "examples/flights/contract.yaml")
    values = {"late_14d": 0.2014, "carrier_flights_14d": 0.2014, "distance": 0.2014}
    parts = [{"feature": name, "value": value} for name, value in values.items()]
    told = [
        part["value"] for part in answers.in_words({"contributions": parts}, about)["contributions"]
    ]
    assert told == ["20.1 %", 0.2014, 0.2014]
    assert formats.asked(told[0]) is told[0]  # and stands at the right, as an amount does


def test_the_nearest_rows_say_what_was_observed():
    rows = pl.DataFrame({"far": [0.1], "observed": [1.0]})
    assert "observed weight (kg)" in nearest.page(rows, ABOUT)


def test_each_of_the_nearest_rows_is_a_column_beside_what_was_asked():
    """A row each was wider than a desk where a table has twenty columns."""
    rows = pl.DataFrame({"far": [0.1, 0.2], "observed": [1.0, 2.0], "size": [11.5, 12.0]})
    page = nearest.page(rows, ABOUT, {"size": 11.0})
    told = " ".join(Reads(page.rsplit("</style>", maxsplit=1)[-1]).text.split())
    assert "asked nearest second observed weight (kg) 1 2 how far 10.0 % 20.0 % " in told
    assert f"{ABOUT.label('size')} 11 11.5 12" in told


@pytest.mark.parametrize(
    ("low", "high", "digits"),
    [(1.0, 3.5, 3), (47.1, 47.8, 5), (-0.2, 0.3, 4), (500.0, 200_000.0, 6), (0.0, 1e-4, 8)],
)
def test_a_slider_reads_a_whole_number_without_noughts_and_tells_each_step(low, high, digits):
    """Without a letter, d3 leaves out the noughts; a comma would be read back as an end."""
    step = (high - low) / inputs_of.STEPS
    assert inputs_of._readout(low, high, step) == f".{digits}"
    slider = widgets.FloatSlider(readout_format=f".{digits}")  # ipywidgets takes it
    assert float(f"{low + step:.{digits}g}") != float(f"{low:.{digits}g}")
    assert slider.readout_format == f".{digits}"


def test_an_answer_of_a_table_without_a_time_has_no_day():
    timeless = small_classes.table(SEVERAL).model_copy(update={"event_time": None})
    at = datetime(2025, 3, 1, tzinfo=UTC)
    assert answers._about(timeless, at) == "kind"
    assert answers._about(ABOUT, at) == "weight, kg, as of 2025-03-01"
