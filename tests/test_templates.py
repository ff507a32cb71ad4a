"""The pages' templates: each is filled with markup, and none lets it out."""

import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest
import turned
from hatchling.builders.wheel import WheelBuilder
from jinja2 import StrictUndefined
from reading import Reads, with_spaces
from test_task import BARE

from loopbook.pages import candidates as candidate_pages
from loopbook.pages import differences, dossier, drawings, formats, rendering, start, why
from loopbook.pages import replays as replay_pages
from loopbook.pages import tasks as task_pages
from loopbook.pages import turns as turn_pages
from loopbook.pages import versions as version_pages
from loopbook.pages import windows as window_pages
from loopbook.pages.news import Loop
from loopbook.pipeline import task_states
from loopbook.project.contract import Contract
from loopbook.provenance import told
from loopbook.provenance.told import Told
from loopbook.registry.reigns import Reign

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted(path.name for path in files("loopbook.pages").joinpath("templates").iterdir())
MARKUP = "\"'><img src=x onerror=alert(1)></style></pre>"
OURS = {
    *("style", "div", "nav", "a", "h1", "h2", "h3", "p", "b", "br", "ul", "li", "img", "iframe"),
    *("figure", "picture", "source", "figcaption", "i", "section"),
    *("g", "path", "rect", "text"),
    *("html", "head", "meta", "title", "body", "section", "thead", "data"),
    *("svg", "line", "polyline", "circle", "ol"),
    *("table", "tr", "th", "td", "details", "summary", "span", "pre", "code", "tbody"),
}
ATTRIBUTES = {"class", "style", "id", "href", "src", "alt", "title", "srcdoc", "sandbox"}
ATTRIBUTES |= {"lang", "charset", "name", "content", "value", "data-from", "download", "open"}
ATTRIBUTES |= {"role", "tabindex", "aria-label", "aria-current", "scope", "colspan"}
ATTRIBUTES |= {"media", "srcset", "loading"}
ATTRIBUTES |= {"points", "x1", "x2", "y1", "y2", "cx", "cy", "r"}
ATTRIBUTES |= {"textlength", "lengthadjust", "viewbox", "d", "x", "y", "width", "height", "rx"}
FIGURES = {
    "errors.svg",
    "trend.svg",
    "columns.svg",
    "shares.svg",
    "periods.svg",
    "slices.svg",
    "calibration.svg",
}
SPOTS = [drawings.Spot(1.0, 2.0, 3.0, 4.0, MARKUP)]
FORM = drawings.Form(b"<svg></svg>", SPOTS)
FIGURE = drawings.written(drawings.Drawing(FORM, FORM, MARKUP))
INTERVAL = {"mean": 0.1, "low": 0.0, "high": 0.2, "n": 5}


def window() -> dict:
    """The record of a window whose every text is markup."""
    numbers = dict.fromkeys(
        ("error", "error_low", "error_high", "reference_error", "estimated_error", "error_growth"),
        0.1,
    )
    numbers |= dict.fromkeys(("estimated_error_of_judged", "bias", "bias_moved", "coverage"), None)
    numbers |= dict.fromkeys(
        ("reference_rows", "rows", "labels", "due", "drifted_columns", "judged_columns"), 7
    )
    column = {"column": MARKUP, "distance": 0.2, "threshold": 0.1}
    column |= {"is_judged": True, "has_drifted": True}
    shares = {"labels": [MARKUP], "reference": [0.5], "current": [0.5]}
    classes = [column | shares | {"column": name} for name in ("answer", "observed")]
    fault = {"column": MARKUP, "kind": MARKUP, "is_broken": True, "sentence": MARKUP}
    champion = dict.fromkeys(("name", "version", "candidate", "promoted_at"), MARKUP)
    return {
        "as_of": MARKUP,
        "decided_at": MARKUP,
        "current": [MARKUP, MARKUP],
        "verdict": {"level": MARKUP, "reasons": [MARKUP, MARKUP]},
        "numbers": numbers,
        "metrics": {MARKUP: 0.1, f"recall_{MARKUP}": 0.5},
        "bias_of": MARKUP,
        "champion": champion | {"fitted": {"until": MARKUP, "rows": 9}},
        "columns": [column, *classes],
        "faults": [fault],
        "skew": {"share": 0.1, "rows": 7},
    }


def test_the_overview_counts_what_is_in_no_window_and_in_no_model():
    """A record of before has no such counts, and the page has no such line."""
    page = Reads(window_pages.overview(window() | {"otherwise": 3, "set_aside": 41}, [], {})).text
    assert re.search(r"3\s*requests dated after the loop's clock, in no window", page)
    assert re.search(r"41\s*rows set aside; see loopbook quarantine", page)
    assert "set aside" not in Reads(window_pages.overview(window(), [], {})).text


def test_pages_say_how_many_classes_a_set_has_where_a_number_has_its_misses():
    numbers = window()["numbers"] | {"inside": 0.913, "above": None, "below": None}
    record = window() | {"numbers": numbers | {"set_size": 1.25}}
    page = Reads(window_pages.overview(record, [], {})).text
    assert re.search(r"91\.3 %\s*observed classes in their set, which has 1\.25 classes", page)
    assert "above it" not in page
    page = Reads(window_pages.performance(record, {})).text
    assert re.search(r"1\.25\s*classes that a set has on average", page)
    assert "lie above their" not in page


def decision() -> dict:
    candidate = {"candidate": MARKUP, "loss": 0.1, "bias": 0.1}
    return {
        "sentence": MARKUP,
        "decided_at": MARKUP,
        "as_of": MARKUP,
        "rows": 9,
        "ranked": [candidate | {"exportable": True, "latency_ms": 0.1}],
        "against": {"baseline": {MARKUP: INTERVAL}, MARKUP: {MARKUP: INTERVAL}},
        "checks": [{"name": MARKUP, "passed": False, "reason": MARKUP}],
        "importance": [{"feature": MARKUP, "rise": 0.1}],
        "ways_on": [MARKUP],
        "challenger": dict.fromkeys(("label", "version", "candidate", "run_id"), MARKUP),
    }


def card() -> dict:
    words = dict.fromkeys(("name", "candidate", "snapshot_sha256", "contract_sha256"), MARKUP)
    feature = {"type": MARKUP, "alias": MARKUP, "unit": MARKUP, "meaning": MARKUP}
    return words | {
        "contract": {"meaning": MARKUP, "features": {MARKUP: feature}},
        "target": {"name": MARKUP, "unit": MARKUP, "meaning": MARKUP, "classes": [MARKUP]},
        "fitted": {"rows": 9, "since": MARKUP, "until": MARKUP},
        "validation": {MARKUP: 0.1, f"precision_{MARKUP}": 0.5},
        "decision": {"threshold": 0.2},
        "as_of": MARKUP,
    }


def loop_turn(**more) -> dict:
    words = dict.fromkeys(("verdict", "outcome", "reason", "champion", "ended_at", "stage"), MARKUP)
    return {"turn": 1, "as_of": MARKUP, "verdict_reasons": [MARKUP], MARKUP: MARKUP} | words | more


def replay() -> dict:
    words = dict.fromkeys(("start", "end", "expected", "step"), MARKUP)
    months = [month | {"month": MARKUP} for month in turned.result()["months"]]
    return turned.result("concept", right=False, months=months) | words | {"scenario": MARKUP}


def dossier_record() -> dict:
    """The record of a dossier whose every text is markup."""
    leak = {"columns": [MARKUP], "evidence": MARKUP, "accepted": MARKUP}
    return {
        "version": dict.fromkeys(("name", "number", "run_id"), MARKUP),
        "registered": {f"{MARKUP}_sha256": MARKUP},
        "run": {"tags": {"python": MARKUP}, "params": {MARKUP: MARKUP}},
        "card": card() | {"reference": {MARKUP: {"n": 5, "missing_share": 0.1}}},
        "meaning": MARKUP,
        "decision": decision() | {"leaks": [leak]},
        "build": {"validation": {"left_out": [{"rows": 1, "reason": MARKUP}], "leaks": [leak]}},
        "calibration": {"reason": MARKUP, "shift": [0.1], "low": [0.1], "high": [0.2]},
        "knobs": {f"monitor_{MARKUP}": MARKUP},
    }


def known() -> start.Known:
    """All that the first page is made of, with markup wherever a text may stand."""
    day = "2025-01-08T00:00:00+00:00"
    told = window() | {"as_of": day, "decided_at": day, "current": [day, day], "faults": []}
    told["numbers"] |= {"inside": 0.9}
    told["champion"] |= {"promoted_as_of": MARKUP, "fitted": {"until": day, "rows": 9}}
    reign = Reign(MARKUP, day, day, "by hand", MARKUP, MARKUP)
    about = {"name": "y", "unit": MARKUP, "meaning": MARKUP}
    contract = Contract.model_validate(BARE | {"meaning": MARKUP, "target": about})
    last = loop_turn(outcome="error", as_of=day, ended_at=day)
    loop = Loop(1440, last, asked={"by": MARKUP, "reason": MARKUP})
    now = datetime(2025, 1, 8, tzinfo=UTC)
    return start.Known(contract, loop, [told, told], [reign], [last], now=now)


def graph_of(name: str) -> task_pages.Graph:
    task = task_states.TaskState(name, name, [], Path(name), "failed", name, 1.0, name)
    return task_pages.Graph(name, name, [task], {name: [name]})


def past() -> candidate_pages.Past:
    about = {"number": MARKUP, "candidate": MARKUP, "promoted_at": MARKUP}
    return candidate_pages.Past(about, decision(), [(MARKUP, MARKUP)])


def pages() -> dict[str, str]:
    """Every page, made of records whose texts are markup."""
    figures = dict.fromkeys(FIGURES, FIGURE)
    version = dict.fromkeys(("number", "run_id", "git_commit", "promoted_at"), MARKUP)
    version["gate_reason"] = MARKUP
    explanation = {"base": 1.0, "contributions": [{"feature": MARKUP, "value": MARKUP}]}
    explanation["contributions"][0]["contribution"] = 2.0
    other = loop_turn(verdict=None)
    return {
        "start": start.page(known()),
        "navigation": window_pages.navigation("drift", [MARKUP]),
        "nothing": window_pages.nothing(MARKUP, MARKUP, title=MARKUP),
        "no_champion": version_pages.no_champion(version, {}),
        "overview": window_pages.overview(window(), [(MARKUP,) * 4], figures),
        "drift": window_pages.drift(window(), figures, f"<p>{MARKUP}</p>", str),
        "performance": window_pages.performance(window(), figures),
        "candidates": candidate_pages.candidates({"number": MARKUP}, decision()),
        "decision": candidate_pages.decision_page(decision()),
        "pipeline": task_pages.page([graph_of(MARKUP)], MARKUP),
        "executed": task_pages.document(MARKUP, None)
        + task_pages.document(MARKUP, f"<p>{MARKUP}</p>"),
        "versions": candidate_pages.versions([past()], FIGURE),
        "model_card": version_pages.model_card(version, card(), decision(), (b"<p>", MARKUP)),
        "dossier": dossier.page(dossier_record()),
        "why": why.page(
            Told(
                *(
                    MARKUP,
                    MARKUP,
                    [told.Section(MARKUP, MARKUP, (MARKUP, MARKUP), [(MARKUP, MARKUP)])],
                ),
                record={MARKUP: MARKUP},
                is_well=False,
            )
        ),
        "differences": rendering.render(
            "differences",
            title=MARKUP,
            is_identical=False,
            sections=[
                differences.Section(
                    *(MARKUP, MARKUP, [differences.Table((MARKUP,), [(MARKUP,)], 3)]),
                    code=[differences.Lines(MARKUP, [MARKUP])],
                    notes=[MARKUP],
                )
            ],
        ),
        "what_if": window_pages.what_if([MARKUP]),
        "answer_follows": window_pages.answer_follows(),
        "what_if_link": window_pages.what_if_link(MARKUP),
        "nearest": rendering.render("nearest", names=[MARKUP], rows=[(MARKUP,)], refused="")
        + rendering.render("nearest", names=[], rows=[], refused=MARKUP),
        "answer": window_pages.answer(5.0, MARKUP, explanation, {MARKUP: MARKUP}, [MARKUP]),
        "a class": window_pages.answer(
            *(MARKUP, MARKUP, explanation | {"unit": MARKUP}, {}, []),
            window_pages.HowSure({MARKUP: 0.5, "b": 0.5}, classes=[MARKUP], why=MARKUP),
        ),
        "loop": turn_pages.top([loop_turn()], [MARKUP]),
        "heading": turn_pages.heading(MARKUP, MARKUP, MARKUP, MARKUP),
        "turns": turn_pages.turns([loop_turn(), other], FIGURE, MARKUP),
        "replay": replay_pages.replay(
            replay(), FIGURE, b"<svg/>", records=[loop_turn()], root=MARKUP
        ),
    }


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, str], set[str]]:
    """The pages, and the templates that were read for them."""
    rendering.environment.cache_clear()
    jinja, names = rendering.environment(), set()
    source = jinja.loader.get_source

    def noted(environment, name):
        names.add(name)
        return source(environment, name)

    jinja.loader.get_source = noted
    yield pages(), names
    rendering.environment.cache_clear()


def test_every_template_is_filled_with_markup_by_these_tests(made):
    _, names = made
    assert sorted(names) == TEMPLATES


@pytest.mark.parametrize("page", pages())
def test_no_text_that_a_template_gets_becomes_an_element_or_an_attribute(made, page):
    read = Reads(made[0][page])
    assert page in ("what_if_link", "answer_follows") or MARKUP in read.text
    for tag, attributes in read.elements:
        assert tag in OURS
        assert attributes.keys() <= ATTRIBUTES
        assert tag != "img" or attributes["src"].startswith("data:image/svg+xml;base64,")
        assert tag != "source" or attributes["srcset"].startswith("data:image/svg+xml;base64,")
        assert tag != "iframe" or attributes["sandbox"] in ("allow-scripts", "", None)
    assert "<img src=x" not in re.sub(r'srcdoc="[^"]*"', "", made[0][page])


def test_a_page_is_escaped_always_and_misses_nothing_in_silence():
    jinja = rendering.environment()
    assert jinja.autoescape is True
    assert jinja.undefined is StrictUndefined
    with pytest.raises(LookupError, match="page overview: 'record' is undefined"):
        rendering.render("overview", figures={})


def test_no_line_breaks_between_a_number_and_its_unit():
    """On a phone `100` stood at the end of a line and `%` at the start of the next."""
    held = ["5~% of 1,046~USD", "after 2~min 03~s", "until 1~May 2015", "(n~=~9)"]
    apart = ["in 22 days", "with 3 mines"]
    notes = [some.replace("~", " ") for some in held] + apart
    nothing = {"base": 1.0, "contributions": []}
    sure = window_pages.HowSure(interval=(0.0, 9.0))
    page = window_pages.answer(1.0, "price", nothing, {}, notes, sure)
    for some in (*held, "in 90~% of cases", *apart):
        assert some.replace("~", "\N{NO-BREAK SPACE}") in page


def test_what_is_there_to_be_copied_keeps_its_spaces():
    page = rendering.environment().from_string('<a title="5 %">5 %</a><pre>5 %</pre>').render()
    assert rendering._unbroken(page) == '<a title="5 %">5\xa0%</a><pre>5 %</pre>'


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_no_way_around_the_escaping(name):
    text = (files("loopbook.pages") / "templates" / name).read_text()
    assert not re.search(r"\|\s*safe\b|autoescape|Markup|<script|\son[a-z]+=|xmlattr", text)
    assert not re.search(r"=\{\{", text), "an attribute without quotes"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1975, "1975"), (2008.0, "2008"), (63_400, "63,400"), (0.37991, "0.3799"), (True, "yes"),
     ("1,0", "1,0"), (None, ""), (9_999.7, "10,000"), (1234.5, "1234")],
)  # fmt: skip
def test_an_input_is_shown_as_people_write_it_and_a_year_has_no_comma(value, shown):
    assert formats.asked(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2e6, "2,000,000"), (1_651_359, "1,651,359"), (2015.0, "2015"), (-122.519, "-122.519"),
     (1_000_000.5, "1,000,000.5"), (0.00001, "1e-05"), (float("inf"), "inf")],
)  # fmt: skip
def test_an_end_of_a_range_has_all_its_digits_and_a_year_no_comma(value, shown):
    assert formats.range_end(value) == shown
    assert version_pages._range([0, value]) == f"0 to {shown}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.168961, "0.169"), (2e6, "2,000,000"), (0.0000123, "0.0000123"), (0, "0.000"),
     (12.34, "12.3"), (None, "not known")],
)  # fmt: skip
def test_a_distance_has_three_significant_digits_and_no_exponent(value, shown):
    assert formats.distance(value) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2014-05-02T13:00:00+00:00", "2 May 2014"), (None, "an unknown day"), ("soon", "soon")],
)
def test_a_day_is_written_as_people_write_it(text, shown):
    assert formats.date(text) == shown


def test_a_table_scrolls_by_itself_is_named_and_is_sortable_where_it_is_long():
    parts = rendering.environment().get_template("parts.html.j2").module
    rows = [(f"name {n}", n) for n in range(rendering.LONG)]
    table = parts.table(["column", "rows"], rows)
    assert 'class="wide" role="region" tabindex="0" aria-label="column, rows"' in table
    assert '<table class="sortable"><thead><tr><th scope="col">column</th>' in table
    assert "sortable" not in parts.table(["column", "rows"], rows[1:])
    pairs = parts.table(["", ""], rows, "What it saw")
    assert 'aria-label="What it saw"' in pairs
    assert '<th scope="row">name 0</th>' in pairs
    assert "<thead>" not in pairs


def test_a_text_keeps_some_width_in_a_table_that_scrolls():
    columns = [{"column": "size", "distance": 0.1, "threshold": 0.2, "is_judged": False}]
    page = window_pages.drift(window() | {"columns": columns}, {}, None, str)
    assert '<td class="longer">moves with time by its nature, and is not judged</td>' in page
    assert "<td>size</td>" in page
    answer = window_pages.answer(
        5.0,
        "y",
        {"base": 5.0, "contributions": [{"feature": "a", "value": 1.0, "contribution": 0.0}]},
        {"a": "above 25 to 50 % of them"},
        [],
    )
    assert '<td class="long">above 25 to 50 % of them</td>' in with_spaces(answer)


def test_an_instant_has_one_line_where_a_table_has_room():
    """A line broke behind a hyphen of it: 2015-01- and below it 01 00:00."""
    table = rendering.environment().get_template("parts.html.j2").module.table
    page = table(["as of (UTC)", "why"], [("2015-01-01 00:00", "2015-01-01 or later")])
    assert '<td class="when">2015-01-01 00:00</td><td>2015-01-01 or later</td>' in page


def test_the_navigation_marks_the_page_that_is_shown():
    page = window_pages.navigation("drift")
    assert '<a href="2_drift.ipynb" aria-current="page">Drift</a>' in page
    assert page.count('aria-current="page"') == 1
    assert 'href="#content"' in page
    added = window_pages.navigation("drift", ["9_by_region"])
    assert '<a href="9_by_region.ipynb">by region</a>' in added
    assert 'id="content"' in window_pages.nothing("s", "c")


@pytest.mark.parametrize(("value", "shown"), [(0.12344, "0.1234"), (634_000.4, "634,000")])
def test_an_answer_is_not_rounded_away_whatever_its_unit(value, shown):
    explanation = {"base": value, "contributions": []}
    page = window_pages.answer(value, "target, unit", explanation, {}, [])
    assert f"<b>{shown}</b>target, unit" in page
    assert f"A usual row is answered with {shown};" in page


def test_an_answer_is_a_mark_in_its_interval_which_is_told_with_its_level():
    explanation = {"base": 5.0, "contributions": []}
    sure = window_pages.HowSure(interval=(4.0, 8.0), level=0.8, why="the level of 90 truths.")
    page = window_pages.answer(5.0, "target, unit", explanation, {}, [], sure)
    assert '<div class="interval"><i style="left: 25.0%"></i></div>' in page
    told = "Its interval is 4 to 8. Such intervals hold the true value in 80 % of cases."
    assert told in with_spaces(page)
    assert "Calibration: the level of 90 truths." in page
    without = window_pages.answer(5.0, "target, unit", explanation, {}, [])
    assert "interval" not in without.split("</style>")[-1]
    narrow = window_pages.HowSure(interval=(5.0, 5.0))
    assert '<i style="left:' not in window_pages.answer(5.0, "t", explanation, {}, [], narrow)


def test_a_contribution_has_a_bar_on_the_side_of_its_sign_as_long_as_it_is_large():
    parts = [
        {"feature": name, "value": value, "contribution": contribution}
        for name, value, contribution in (
            ("size", 7.0, 4.0),
            ("zone", "east", -1.0),
            ("age", 3, 0.0),
        )
    ]
    explanation = {"base": 1.0, "contributions": parts}
    page = window_pages.answer(4.0, "target", explanation, {}, [])
    bars = re.findall(r'<i style="left: ([\d.]+)%; width: ([\d.]+)%">', page)
    assert [(float(left), float(width)) for left, width in bars] == [
        (50, 50),
        (37.5, 12.5),
        (50, 0),
    ]
    for value in (7, "east", 3):
        assert f"<td>{value}</td>" in page  # of different units, so they need no common right edge


def test_a_class_is_shown_with_bars_of_the_most_probable_and_what_adds_up():
    likely = {f"class {n}": n / 1000 for n in range(40)}
    part = {"feature": "size", "value": 1.0, "contribution": 2.25}
    explanation = {"base": 1.0, "contributions": [part], "unit": "log odds of class 39"}
    page = window_pages.answer(
        "class 39", "kind, class", explanation, {}, [], window_pages.HowSure(likely)
    )
    assert "<b>class 39</b>kind, class" in page
    assert "In log odds of class 39 a usual row has 1 and this one 3.25;" in page
    assert page.count('%"></div>') == with_spaces(page).count(" %</td>") == 12
    assert page.index("class 39</td>") < page.index("class 28</td>")
    assert "class 27" not in page
    assert '<td class="n">+2.25</td>' in page
    assert "The 28 other classes are less probable" in page


def test_only_one_module_knows_jinja2():
    users = [
        p
        for p in (ROOT / "src").rglob("*.py")
        if re.search(r"import.*jinja2|jinja2 import", p.read_text())
    ]
    assert [path.name for path in users] == ["rendering.py"]


def test_the_wheel_has_every_template():
    builder = WheelBuilder(str(ROOT))
    inside = {Path(f.distribution_path).name for f in builder.recurse_included_files()}
    assert set(TEMPLATES) <= inside
