"""The loop's pages and figures: what stands on them, and that data stays text."""

import re
from datetime import timedelta
from itertools import pairwise

import pytest
import small_classes
import turned
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from reading import Reads

from loopbook.loop import replay_results
from loopbook.pages import colours, loop_dashboard, loop_plots
from loopbook.pages import replays as replay_pages
from loopbook.pages import turns as turn_pages
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.records import verdicts

MARKUP = "<img src=x onerror=\"document.title='broken out'\">"


def shown(widget) -> str:
    """All HTML of a dashboard."""
    if hasattr(widget, "children"):
        return "".join(shown(child) for child in widget.children)
    return widget.value if isinstance(widget.value, str) else ""


def spoilt(value):
    """A record whose every text is markup, but for what is a time or a known word."""
    if isinstance(value, dict):
        kept = ("as_of", "began_at", "ended_at", "verdict", "outcome", "month", "policy")
        kept += ("start", "end", "at")
        return {k: v if k in kept else spoilt(v) for k, v in value.items()}
    if isinstance(value, list):
        return [spoilt(v) for v in value]
    return MARKUP if isinstance(value, str) else value


def test_every_verdict_outcome_and_policy_has_its_look_and_its_name():
    assert tuple(colours.LEVELS) == verdicts.LEVELS
    assert set(colours.OUTCOMES) == set(turn_records.EXIT_CODES)
    controls = [replay_results.NEVER, "scheduled", replay_results.LEVEL, replay_results.LOOP_RAW]
    assert list(turn_records.POLICIES) == [*controls, "loop"]
    for looks in (colours.LEVELS, colours.OUTCOMES):
        assert len({sign for _, sign in looks.values()}) == len(looks)


def test_the_first_sentence_says_what_the_loop_did_last_with_its_time():
    page = turn_pages.top(turned.turns(), ["ana asked for a retraining: a new source"])
    text = Reads(page).text
    first = text.index("nothing")
    assert "the reason of turn 35" in text[first:]
    assert "house-prices v4 serves" in text
    assert "turn 35, as of 2015-06-03 00:00 UTC, done at 2015-06-03 00:02 UTC" in text
    assert "ana asked for a retraining" in text


def test_a_turns_record_is_told_whole():
    """Numbers, verdict with all reasons, action and ids; a key of tomorrow under its own name."""
    asked = {"at": "2014-11-26T01:02:03", "by": "ana", "reason": "a new export"}
    record = turned.turn(
        *(8, "retrain", "promoted", "house-prices v8"),
        asked=asked,
        mlflow_run_id="c" * 32,
        confirmed="the service answers with v8, 1.2 s after promotion",
        probation="v7 has shown itself",
        resumed=2,
        growth={"known": 13700, "learned": 9100},
        weather={"rain": True},
    )
    text = Reads(turn_pages.turn(record, "var/replay/year-week/loop/")).text
    for told in (
        *("it is retrain", "a second reason", "the reason of turn 8", "412", "13.1 %"),
        *("house-prices v8 (ensemble)", "a" * 32, "b" * 64, "c" * 32, "12.1 %", "9,876"),
        "var/replay/year-week/loop/var/monitor/windows/20141126T000000Z",
        "var/replay/year-week/loop/var/loop/turns/000008.json",
        "ana, 2014-11-26T01:02 UTC: a new export",
        *("the service answers with v8", "v7 has shown itself", "2 times, after a kill"),
        "13,700; the last build began with 9,100",
        *("weather", '{"rain": true}', "realized error", "executed notebooks"),
    ):
        assert told in text, told


@pytest.mark.parametrize("record", turned.turns(), ids=lambda record: str(record["turn"]))
def test_nothing_of_a_record_is_left_untold(record):
    text = Reads(turn_pages.whole_record(record)).text.split("as JSON")[0]
    for name, value in record.items():
        if isinstance(value, str) and name not in ("stage",):
            told = value[:16].replace("T", " ") if name == "as_of" else value
            assert told in text, name


def test_a_turn_that_did_nothing_for_its_verdict_says_what_that_rests_on():
    record = turned.turn(8, "watch", "nothing", "m v8", reason="the verdict is watch")
    record["verdict_reasons"] = ["x_mm moved: distance 0.2"]
    told = "the verdict is watch: LENGTH moved: distance 0.2"
    named = {"x_mm moved: distance 0.2": "LENGTH moved: distance 0.2"}.get
    assert told in Reads(turn_pages.turns([record], None, "One.", named)).text
    assert told in Reads(turn_pages.top([record], [], named)).text


def test_a_turn_that_stopped_early_is_told_too():
    record = {"turn": 1, "as_of": "2015-01-01T00:00:00+00:00", "outcome": "error"}
    record |= {"reason": "the registry is away", "stage": "monitor", "numbers": None}
    text = Reads(turn_pages.turn(record)).text
    assert "It did not come to a verdict." in text
    assert re.search(r"stopped at\s+monitor", text)
    assert "There is no champion" not in turn_pages.last_turn(record)


def test_a_replay_shows_errors_retrainings_and_failed_requests():
    page = Reads(replay_pages.replay(turned.result(), b"<svg/>"))
    for told in ("the year, a turn a week", "14,321", "2015-05", "72"):
        assert told in page.text, told
    assert [a["src"][:19] for tag, a in page.elements if tag == "img"] == ["data:image/svg+xml;"]
    policies = [a["colspan"] for tag, a in page.elements if tag == "th" and "colspan" in a]
    assert policies == ["2", "2", "2"]
    numbers = [a for tag, a in page.elements if tag == "td" and a.get("class") == "n"]
    assert len(numbers) == 8 * 7  # a click on a heading sorts them as numbers
    assert re.search(
        r"never retrain\s+every four weeks\s+the loop\s+month\s+answers\s+error, %", page.text
    )
    assert "-0.00" not in page.text
    assert re.search(r"2014-10\s+900\s+13\.1\s+0\s+12\.7\s+0\s+12\.2\s+0", page.text)


@pytest.mark.parametrize(("is_right", "told"), [(True, "That is what"), (False, "NOT what")])
def test_a_scenario_says_what_was_expected_and_whether_it_came(is_right, told):
    page = Reads(replay_pages.replay(turned.result("concept", right=is_right), None))
    assert "it retrains and a new version is promoted" in page.text
    assert told in page.text
    assert "never retrain" not in page.text


def test_what_is_missing_is_said_with_the_command_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_dashboard, "current", lambda: Project(tmp_path))
    text = Reads(shown(loop_dashboard.show())).text
    for told in ("has not turned yet", "make loop", "No replay has finished yet", "make replay"):
        assert told in text


def test_a_table_without_a_time_is_told_that_it_cannot_be_replayed(tmp_path, monkeypatch):
    contract = {"event_time": None, "label_delay_days": 0}
    timeless = small_classes.table(small_classes.SEVERAL).model_copy(update=contract)
    (tmp_path / "contract.yaml").write_text(small_classes.as_yaml(timeless), encoding="utf-8")
    monkeypatch.setattr(loop_dashboard, "current", lambda: Project(tmp_path))
    text = Reads(shown(loop_dashboard.show())).text
    assert "there is no past to replay" in text
    assert "make replay" not in text
    assert text.count("The loop has not turned yet") == 1


def test_of_one_turn_it_is_not_said_that_it_is_one_of_one(tmp_path, monkeypatch):
    turned.keep_turns(tmp_path, turned.turns(1))
    monkeypatch.setattr(loop_dashboard, "current", lambda: Project(tmp_path))
    text = Reads(shown(loop_dashboard.show())).text
    assert "1 turn. A click on it shows its record." in re.sub(r"\s+", " ", text)
    assert "Verdicts:" not in text  # a time line of one moment


@pytest.mark.medium
def test_no_value_of_a_record_becomes_markup(tmp_path, monkeypatch):
    """Every text of every record is an element; on the page none is."""
    strange = [spoilt(turn) | {"verdict": MARKUP} for turn in turned.turns(1)]
    strange += [spoilt(turn) | {MARKUP: MARKUP} for turn in turned.turns(14)[1:]]
    strange[-1]["numbers"][MARKUP] = MARKUP
    turned.keep_turns(tmp_path, strange)
    told = spoilt(turned.result("concept", turns=turned.turns(9))) | {"scenario": "concept"}
    turned.keep_result(tmp_path, told | {"step": "week", "expected": MARKUP})
    monkeypatch.setattr(loop_dashboard, "current", lambda: Project(tmp_path))
    turn_records.ask(Project(tmp_path), MARKUP, MARKUP)
    page = Reads(shown(loop_dashboard.show()))
    assert page.text.count(MARKUP) > 50
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 2
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in images)
    assert not [tag for tag, attributes in page.elements if "onerror" in attributes]


def test_the_year_comes_first_and_what_cannot_be_read_is_left_out(tmp_path):
    for scenario in ("concept", None, "storm"):
        turned.keep_result(tmp_path, turned.result(scenario))
    (tmp_path / "var/replay/broken-week").mkdir()
    (tmp_path / "var/replay/broken-week/result.json").write_text("{")
    (tmp_path / "var/replay/other-week").mkdir()
    (tmp_path / "var/replay/other-week/result.json").write_text("[1]")
    found = [told["scenario"] for _, told in loop_dashboard.results(Project(tmp_path))]
    assert found == [None, "concept", "storm"]


@pytest.mark.medium
def test_of_many_turns_some_are_shown_and_all_can_be_reached(tmp_path, monkeypatch):
    turned.keep_turns(tmp_path, turned.turns(230))
    (tmp_path / "var/loop/turns/000231.json").write_text("[]")
    monkeypatch.setattr(loop_dashboard, "current", lambda: Project(tmp_path))
    monkeypatch.setattr(loop_dashboard, "figure", lambda *_: None)
    dashboard = loop_dashboard.show()
    reached = set()
    (chooser,) = dashboard.children[-2].children
    for _, place in chooser.options:
        chooser.value = place
        page = dashboard.children[-1].value
        reached |= set(map(int, re.findall(r'class="why">the reason of turn (\d+)<', page)))
    assert len(chooser.options) == 3
    assert reached == set(range(1, 231))


def test_a_record_of_another_release_is_told_of_and_is_no_traceback(tmp_path, monkeypatch):
    turned.keep_turns(tmp_path, [turned.turn(1, "healthy", "nothing", "m v1") | {"reason": 5}])
    monkeypatch.setattr(loop_dashboard, "current", lambda: Project(tmp_path))
    text = Reads(shown(loop_dashboard.show())).text
    assert "of another release" in text
    assert "make loop" in text


# -- figures -------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), max_size=52).map(sorted))
def test_places_are_moved_apart_in_their_order_and_stay_inside(places):
    moved = loop_plots.apart(places, 1 / 52)
    assert all(b - a >= 1 / 52 - 1e-9 for a, b in pairwise(moved))
    assert all(-1e-9 <= place <= 1 for place in moved)
    far = all(b - a >= 1 / 52 for a, b in pairwise(places))
    assert not far or moved == places


@pytest.mark.medium
@pytest.mark.parametrize("step", [timedelta(weeks=1), timedelta(days=1), timedelta(hours=2)])
def test_the_names_of_35_promotions_never_overlap(step):
    marks = {turned.START + k * step: ("promoted", f"promoted v{k}") for k in range(35)}
    series = {"the loop": [(turned.START + timedelta(days=30 * k), 0.1) for k in range(8)]}
    figure = loop_plots.policies(series, marks, "error", [(at, "retrain") for at in marks])
    figure.draw_without_rendering()
    # of the words alone, without the line that leads to their place
    boxes = sorted((Text.get_window_extent(t) for t in figure.axes[0].texts), key=lambda b: b.x0)
    assert len(boxes) == 35
    assert all(a.x1 <= b.x0 + 0.5 for a, b in pairwise(boxes))
    assert all(box.y0 > figure.axes[0].get_window_extent().y1 for box in boxes)
    inside = figure.get_tightbbox().bounds
    assert all(box.y1 / figure.dpi <= inside[1] + inside[3] + 0.01 for box in boxes)


def test_a_figure_shows_each_verdict_on_its_line_and_each_outcome_on_its():
    records = turned.turns()
    figure = loop_plots.turns(
        turn_records.verdicts(records),
        turn_records.outcomes(records),
        turn_records.changes(records),
    )
    counts = []
    for axis, looks in zip(figure.axes, (colours.LEVELS, colours.OUTCOMES), strict=True):
        names = [label.get_text() for label in axis.get_yticklabels()]
        assert names == list(looks)
        counts += [len(line.get_xdata()) for line in axis.lines[: len(names)]]
    assert counts == [25, 3, 1, 5, 27, 4, 1, 1, 1, 1]
    named = [text.get_text() for text in figure.axes[0].texts]
    assert named == ["promoted v2", "promoted v3", "promoted v4", "back to v3", "promoted v4"]


def test_one_turn_and_none_have_a_figure_too():
    assert loop_plots.turns([], [], {}).axes
    at = turned.START
    axis = loop_plots.turns([(at, "watch")], [(at, "nothing")], {}).axes[1]
    low, high = axis.get_xlim()
    assert high - low == pytest.approx(2)


def test_a_turn_that_is_open_is_told_at_its_instant_as_everywhere(tmp_path):
    journal = tmp_path / "var/loop/open.json"
    journal.parent.mkdir(parents=True)
    journal.write_text('{"as_of": "2025-02-01T00:00:00+00:00", "stage": "build"}')
    told = loop_dashboard.waiting(Project(tmp_path))
    assert told == ["A turn as of 2025-02-01 00:00 UTC is open, at build."]
