"""Why a task would run again is said of each, by what has really changed."""

import pytest
from small_graph import project as small_project

from loopbook.pipeline import graph, staleness
from loopbook.project.paths import Project

TWO = """
tasks:
  - source: notebooks/first.ipynb
    name: first
    params: {random_seed: "{{random_seed}}"}
    product: {nb: var/build/first.ipynb, text: var/build/first.txt}
  - {source: notebooks/last.ipynb, name: last, product: {nb: var/build/last.ipynb}}
"""
AFTER = {"last": ["first would run before it"]}


@pytest.fixture
def two(tmp_path, monkeypatch) -> Project:
    """Two notebooks, stamped as after a build."""
    codes = {"first": (None, "random_seed"), "last": (["first"], "upstream")}
    here = small_project(tmp_path / "p", TWO, **codes)
    monkeypatch.chdir(here.root)
    (here.var / "build").mkdir(parents=True)
    for task in graph.load_graph(here).values():
        for path in task.product.to_json_serializable().values():
            (here.root / path).write_text("made")
        knobs = task.params.to_json_serializable(params_only=True)
        task.product.metadata.update(str(task.source), knobs)
    return here


def test_what_is_up_to_date_has_no_reason_and_a_knob_is_told_with_both_values(two):
    assert graph.stale_reasons(two) == {}
    changed = graph.stale_reasons(two, {"random_seed": 8})
    assert changed == {"first": ["random_seed is 8, and was 7"]} | AFTER


def test_a_knob_that_was_a_midnight_is_told_as_a_day():
    then = {"as_of": "2015-03-01T00:00:00+00:00", "until": "2015-03-01T06:30:00+00:00"}
    now = {"as_of": "newest", "until": "newest"}
    assert staleness._changed(then, now) == [
        "as_of is newest, and was 2015-03-01",
        "until is newest, and was 2015-03-01T06:30:00+00:00",
    ]


def test_an_edited_notebook_is_named(two):
    path = two.root / "notebooks" / "first.ipynb"
    path.write_text(path.read_text().replace('"random_seed"', '"random_seed + 1"'))
    assert graph.stale_reasons(two) == {"first": ["notebooks/first.ipynb has changed"]} | AFTER


def test_a_missing_product_a_missing_stamp_and_a_first_run_are_three_reasons(two):
    (two.var / "build" / "first.txt").unlink()
    assert graph.stale_reasons(two)["first"] == ["its product first.txt is missing"]
    (two.var / "build" / "first.ipynb").unlink()
    assert graph.stale_reasons(two)["first"] == ["it has not run yet"]
    for stamp in (two.var / "build").glob(".last*.metadata"):
        stamp.unlink()
    assert graph.stale_reasons(two)["last"] == ["its last run failed or was interrupted"]


def test_a_task_before_it_that_has_run_since_is_named(two):
    first = graph.load_graph(two)["first"]
    knobs = first.params.to_json_serializable(params_only=True)
    first.product.metadata.update(str(first.source), knobs)
    assert graph.stale_reasons(two) == {"last": ["first has run since"]}


@pytest.mark.parametrize("name", staleness.CHANGED)
def test_each_digest_that_differs_has_its_own_words(name, tmp_path):
    product = tmp_path / "made.txt"
    product.write_text("made")
    then, now = ({"depends_on": {"contract": "a", name: digest}} for digest in "bc")
    state = staleness.State("n.ipynb", {"text": str(product)}, "code", "code", then, now)
    assert staleness.reasons(Project(tmp_path), state) == [staleness.CHANGED[name]]


def test_of_many_tasks_before_it_the_first_is_named_and_the_others_counted(tmp_path):
    product = tmp_path / "made.txt"
    product.write_text("made")
    many = [f"train-{n}" for n in range(6)]
    state = staleness.State("n", {"text": str(product)}, "x", "x", {}, {}, stale=many)
    told = staleness.reasons(Project(tmp_path), state)
    assert told == ["train-0 and 5 others would run before it"]
