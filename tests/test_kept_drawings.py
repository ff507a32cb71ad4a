"""Figures that a page draws once, and again when what they show is other."""

from loopbook.pages import kept_drawings
from loopbook.project.paths import Project


def test_a_figure_is_drawn_once_for_what_it_shows(tmp_path):
    project, times = Project(tmp_path), []

    def draw() -> bytes:
        times.append(1)
        return b"<svg/>"

    for facts in ({"error": 1}, {"error": 1}, {"error": 2}):
        assert kept_drawings.drawn(project, "turns", facts, draw) == b"<svg/>"
    assert len(times) == 2


def test_other_code_that_draws_draws_anew(tmp_path, monkeypatch):
    project = Project(tmp_path)
    assert kept_drawings.drawn(project, "turns", 1, lambda: b"old") == b"old"
    monkeypatch.setattr(kept_drawings, "_code", lambda: ["newer"])
    assert kept_drawings.drawn(project, "turns", 1, lambda: b"new") == b"new"


def test_a_figure_whose_sentence_has_new_words_is_drawn_anew(tmp_path, monkeypatch):
    """A figure's file holds its sentence, which another module words."""
    monkeypatch.setattr(kept_drawings, "__file__", str(tmp_path / "kept_drawings.py"))
    words = tmp_path / "error_words.py"
    words.write_text("one")
    before = kept_drawings._code()
    words.write_text("two")
    assert kept_drawings._code() != before


def test_that_there_is_nothing_to_draw_is_looked_up_once(tmp_path):
    asked = []

    def draw():
        asked.append(1)

    shown = [kept_drawings.drawn(Project(tmp_path), "versions", ["v1"], draw) for _ in range(3)]
    assert (shown, len(asked)) == ([None] * 3, 1)


def test_a_figure_that_cannot_be_kept_is_shown(tmp_path):
    (tmp_path / "var").write_text("a file where the folder would be")
    assert kept_drawings.drawn(Project(tmp_path), "turns", 1, lambda: b"x") == b"x"


def test_no_more_than_some_figures_of_a_name_are_kept(tmp_path):
    for facts in range(kept_drawings.MOST + 3):
        kept_drawings.drawn(Project(tmp_path), "turns", facts, lambda: b"x")
    assert len(list((tmp_path / "var/pages").iterdir())) == kept_drawings.MOST
