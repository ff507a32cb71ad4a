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


def test_a_figure_that_cannot_be_kept_is_shown_and_what_is_nothing_is_not_kept(tmp_path):
    (tmp_path / "var").write_text("a file where a folder should be")
    assert kept_drawings.drawn(Project(tmp_path), "turns", 1, lambda: b"x") == b"x"
    assert kept_drawings.drawn(Project(tmp_path / "none"), "turns", 1, lambda: None) is None
    assert not (tmp_path / "none").exists()


def test_no_more_than_some_figures_of_a_name_are_kept(tmp_path):
    for facts in range(kept_drawings.MOST + 3):
        kept_drawings.drawn(Project(tmp_path), "turns", facts, lambda: b"x")
    assert len(list((tmp_path / "var/pages").iterdir())) == kept_drawings.MOST
