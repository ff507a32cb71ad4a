"""The file of a figure: what a page reads of it, and what it shows."""

import json
import re
from datetime import datetime
from io import BytesIO
from itertools import pairwise

import pytest
from matplotlib.colors import to_hex
from reading import Reads
from test_error_plots import NUMBER

from loopbook.models.evaluation import Interval
from loopbook.pages import drawings, error_plots, figures, plots, reading, rendering
from loopbook.pages.drawings import Drawing, Form, Spot

ROWS = {"all rows": Interval(29, 28, 31, 90), "zone: $a_$ <b>": Interval(35, 33, 37, 20)}


def style_of_a_dark_page() -> str:
    page = rendering.environment().get_template("style.css").render()
    return page.split("prefers-color-scheme: dark", 1)[1].split("@media", 1)[0]


def file_of(figure) -> bytes:
    written = BytesIO()
    figure.savefig(written, format="svg")
    return written.getvalue()


@pytest.mark.medium
def test_a_figure_that_a_notebook_has_shown_is_logged_as_it_stands_and_drawn_anew_once_it_changes(
    tmp_path, monkeypatch
):
    drawn = []
    draw = figures.Figure.draw
    monkeypatch.setattr(figures.Figure, "draw", lambda *some: drawn.append(1) or draw(*some))
    figure = error_plots.slices(ROWS, NUMBER.measure)
    shown_first = figure._repr_png_()
    times = len(drawn)
    figure.savefig(tmp_path / "logged.png")
    assert (tmp_path / "logged.png").read_bytes() == shown_first
    assert len(drawn) == times
    file_of(figure)  # an SVG has another resolution, and leaves the figure as it was
    assert figure._repr_png_() == shown_first
    figure.axes[0].set_ylabel("another label")
    assert figure._repr_png_() != shown_first
    figure.savefig(tmp_path / "large.png", dpi=180)
    assert len((tmp_path / "large.png").read_bytes()) > len(shown_first)


def shown(content: bytes) -> Reads:
    """What a page has of a figure."""
    page = "{% from 'parts.html.j2' import picture %}{{ picture(content, 'What it is') }}"
    return Reads(rendering.environment().from_string(page).render(content=content))


def widths(content: bytes) -> list[float]:
    read = drawings.read(content)
    return [float(re.search(rb'width="([0-9.]+)pt"', f.svg)[1]) for f in (read.wide, read.narrow)]


def test_a_figure_is_drawn_for_a_desk_and_for_a_phone_in_letters_of_eleven_pixels():
    content = file_of(error_plots.slices(ROWS, NUMBER.measure))
    assert widths(content) == [figures.WIDE, figures.NARROW]
    sizes = re.findall(rb"font-size: ([0-9.]+)px", content)
    assert len(sizes) > 10
    assert min(map(float, sizes)) >= 11


def test_a_page_says_what_a_figure_shows_and_each_value_where_a_pointer_rests():
    page = shown(file_of(error_plots.slices(ROWS, NUMBER.measure)))
    finding = "The error is largest on zone: $a_$ <b>: 35.0 minutes (n = 20)"
    assert finding in page.text
    (image,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert image["alt"].startswith(f"What it is. {finding}")
    told = [attributes["title"] for tag, attributes in page.elements if tag == "i"]
    value = "zone: $a_$ <b>: 35.0 minutes (33.0 minutes to 37.0 minutes, n = 20)"
    assert told.count(value) == 2  # in both widths


def test_where_there_is_nothing_to_show_that_is_said_once_and_no_figure_stands():
    empty = figures.nothing()
    page = shown(file_of(empty))
    assert page.text.count("othing to show in this window") == 1
    assert [tag for tag, _ in page.elements if tag in ("img", "figure")] == []
    assert reading.explained(empty) == ["Nothing to show in this window."]


def test_the_place_of_a_value_is_that_of_its_mark():
    figure = plots.ranking(["a", "b"], [2.0, 1.0], "x")
    first, second = drawings.read(file_of(figure)).wide.spots
    assert (first.text, second.text) == ("a: 2.00", "b: 1.00")
    assert first.left == second.left
    assert first.width == pytest.approx(2 * second.width, abs=0.05)
    assert first.top < second.top


def test_a_file_without_more_is_a_figure_alone():
    for content in (b"<svg/>", b"", drawings.FROM + b"no JSON" + drawings.TO):
        read = drawings.read(content)
        assert (read.wide.svg, read.narrow, read.finding) == (content, None, "")
    assert [tag for tag, _ in shown(b"<svg/>").elements] == ["figure", "div", "picture", "img"]


def test_what_is_held_beside_a_figure_comes_back_whole():
    spots = [Spot(1.0, 2.0, 3.0, 4.0, "a </metadata> & <b>")]
    read = drawings.read(
        drawings.written(Drawing(Form(b"<svg></svg>", spots), Form(b"<svg> </svg>"), "x < y & z"))
    )
    assert read.wide.spots == spots
    assert read.finding == "x < y & z"
    assert b"metadata" not in read.wide.svg
    assert read.narrow.svg.startswith(b"<svg>")


def test_a_place_that_is_no_number_is_not_shown():
    """A file that somebody else wrote says nothing of the style of a page."""
    spot = {"left": "0;background:url(//x)", "top": 1, "width": 1, "height": 1, "text": "x"}
    held = json.dumps({"finding": "", "spots": [spot]}).encode()
    content = b"<svg>" + drawings.FROM + held + drawings.TO + b"</svg>"
    assert not drawings.read(content).wide.spots


def test_a_dark_page_has_light_ink():
    content = file_of(error_plots.slices(ROWS, NUMBER.measure)).decode()
    dark = content.split("prefers-color-scheme: dark", 1)[1].split("</style>")[0]
    assert '[style*="stroke: #0072b2"] {stroke: #56b4e9 !important}' in dark
    assert 'text:not([style*="fill"]) {fill: #e6e6e6}' in dark
    assert "background" not in content


def test_no_line_is_seen_through_a_name_that_stands_above_its_interval():
    """On a phone the line at nought ran through the first letters of every name."""
    figure = error_plots.changes(ROWS, NUMBER.measure).phone()
    figure.draw_without_rendering()
    (axis,) = figure.axes
    assert len(axis.texts) == len(ROWS)
    for name in axis.texts:
        under = name.get_bbox_patch()
        assert to_hex(under.get_facecolor()) == figures.PAPER
        assert name.get_zorder() > max(line.get_zorder() for line in axis.lines)
        ends, letters = under.get_window_extent(), name.get_window_extent()
        assert ends.x0 <= letters.x0 < letters.x1 <= ends.x1
    assert drawings.DARK[figures.PAPER] in style_of_a_dark_page()


@pytest.mark.medium
@pytest.mark.parametrize("count", [1, 2, 5, 30, 200])
def test_dates_are_those_of_the_windows_and_never_touch(count):
    """Around one window Matplotlib would show four years."""
    first = datetime(2025, 1, 6).toordinal()
    periods = [
        {"period": datetime.fromordinal(first + 7 * k), "error": 29.0, "low": 28.0, "high": 30.0}
        for k in range(count)
    ]
    for draw in (lambda p: p, lambda p: p.phone()):
        figure = draw(error_plots.over_time(periods, 28.5, NUMBER.measure))
        figure.draw_without_rendering()
        (axis,) = figure.axes
        low, high = axis.get_xlim()
        assert high - low <= max(14, 7.7 * count)
        labels = [label for label in axis.get_xticklabels() if label.get_text()]
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
        if count == 1:
            assert [label.get_text() for label in labels] == ["2025-01-06"]


def test_a_legend_stands_outside_the_data():
    periods = [{"period": datetime(2025, 1, 6), "error": 29.0, "low": 28.0, "high": 30.0}]
    figure = error_plots.over_time(periods, 28.5, NUMBER.measure)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1 - 1
