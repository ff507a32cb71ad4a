"""Executed notebooks as people read them, and lines of theirs that do by hand what the library does."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from executed import of_frames, unexplained
from small_house import ROOT
from test_judging import TASKS
from test_task import table

from loopbook.data import splits
from loopbook.models import evaluation, measures, promotion
from loopbook.models.evaluation import ALL, Confidence, Interval
from loopbook.models.margins import Scale
from loopbook.monitoring import drift, findings, verdict
from loopbook.pages import formats, plain, plots, reading
from loopbook.pipeline import documents
from loopbook.provenance import code_changes
from loopbook.records import verdicts

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def notebook(path) -> dict:
    return json.loads(path.read_text())


def cell(name: str, cell_id: str) -> str:
    """The code of a cell of a notebook of the project."""
    (path,) = (ROOT / "notebooks").glob(f"{name}_*.ipynb")
    return next("".join(c["source"]) for c in notebook(path)["cells"] if c["id"] == cell_id)


def run(name: str, cell_id: str, **values) -> dict:
    """The names that a cell leaves behind, given those that it needs."""
    values |= {"display": lambda *shown: None, "reading": reading, "plots": plots, "np": np}
    exec(compile(cell(name, cell_id), cell_id, "exec"), values)
    return values


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_reads_and_writes_is_folded_in_a_document_and_what_finds_is_not(path):
    told = notebook(path)
    documents.as_document(told)
    hidden = {
        c["id"] for c in told["cells"] if c["metadata"].get("jupyter", {}).get("source_hidden")
    }
    code = [c for c in told["cells"] if c["cell_type"] == "code"]
    plumbing = {
        c["id"]
        for c in code
        if {"parameters", "inputs", "outputs"} & set(c["metadata"].get("tags", []))
    }
    imports = {c["id"] for c in code if "".join(c["source"]).startswith(("import ", "from "))}
    assert plumbing | imports == hidden
    assert all("hide-input" in c["metadata"]["tags"] for c in code if c["id"] in hidden)
    assert len(hidden) < len(code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_title_of_a_document_leads_to_each_of_its_sections(path):
    told = notebook(path)
    cells = copy.deepcopy(told["cells"])
    documents.as_document(told)
    documents.as_document(told)
    title = told["cells"][0]["source"]
    sections = [
        line[3:]
        for c in cells
        if c["cell_type"] == "markdown"
        for line in "".join(c["source"]).splitlines()
        if line.startswith("## ")
    ]
    assert title.count("](#") == (len(sections) if len(sections) >= 3 else 0)
    assert all(
        f"(#{documents.anchor(heading)})" in title for heading in sections[:1] if "](#" in title
    )
    assert code_changes.cells(told) == code_changes.cells({"cells": cells})


@pytest.mark.medium
def test_a_page_of_nbconvert_has_no_imports_and_keeps_what_finds():
    from nbconvert.exporters import HTMLExporter
    from nbformat import read

    told = read(NOTEBOOKS[0], as_version=4)
    documents.as_document(told)
    page, _ = HTMLExporter().from_notebook_node(told)
    assert "known_rows" in page
    assert "IPython.display" not in page
    assert page.count("jp-CodeCell") > 3


def test_a_link_is_what_nbconvert_calls_the_heading():
    from nbconvert.filters.strings import _convert_header_id

    for heading in ("Who serves now?", "Evidently's report", "What is missing, and where?"):
        assert documents.anchor(heading) == _convert_header_id(heading)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_figure_of_a_notebook_is_drawn_beside_a_sentence_and_no_frame_is_shown(path):
    for one in notebook(path)["cells"]:
        code = "".join(one["source"])
        if one["cell_type"] == "code" and "plots." in code.replace("import error_plots", ""):
            told = ("sentences.", "reading.Sentence(", "reading.explained(")
            assert any(words in code for words in told), one["id"]
        assert "display(pl." not in code, one["id"]
        assert not code.splitlines()[-1].startswith("pl."), one["id"]
        assert one["cell_type"] == "markdown" or len(code.splitlines()) <= 25, one["id"]


def test_a_notebook_says_what_can_go_wrong_and_that_is_never_nothing():
    for path in NOTEBOOKS:
        title = "".join(notebook(path)["cells"][0]["source"])
        wrong = title.split("What can go wrong: ")[1].split("\n")[0]
        assert len(wrong.split()) > 12, path.name
        assert not wrong.lower().startswith(("nothing", "none")), path.name


def test_the_bootstrap_of_the_notebook_has_the_ends_of_the_librarys():
    task, draw = TASKS["regression"], np.random.default_rng(1)
    observed = draw.normal(size=400)
    predicted = {
        "challenger": observed + draw.normal(size=400),
        "champion": observed + 1.1 * draw.normal(size=400),
    }
    values = {"task": task, "observed": observed, "predicted": predicted, "same": False}
    knobs = {"bootstrap_resamples": 500, "gate_confidence": 0.9, "random_seed": 7}
    by_hand = run("06", "evaluate-bootstrap", **values, **knobs)
    library = Confidence(0.9, 500, 7).mean(by_hand["difference"])
    assert (by_hand["low"], by_hand["high"]) == pytest.approx(
        (library.low, library.high), rel=1e-12
    )


@pytest.mark.parametrize("rows_of_window", [300, 9_000])
def test_the_draws_of_the_notebook_are_those_of_the_librarys_threshold(rows_of_window):
    draw = np.random.default_rng(2)
    parts = pl.Series(["train"] * 5_000 + ["test"] * 50)
    reference = pl.DataFrame({"a": draw.normal(size=5_050), splits.PART: parts})
    now = pl.DataFrame({"a": draw.normal(0.5, 1, rows_of_window), findings.IS_CURRENT: True})
    taught = reference.filter(pl.col(splits.PART) != "test")
    columns = drift.compare(taught, now, ["a"], false_alarms=0.05, floor=0.0, seed=7)
    by_hand = run(
        "10",
        "drift-threshold-1",
        judged_columns=columns,
        monitored=lambda table: ["a"],
        random_seed=7,
        table=table(),
        plain=plain,
        **{"drift": drift, "findings": findings, "formats": formats, "pl": pl, "splits": splits},
        **{"reference": reference, "rows": now},
    )
    ends = np.quantile(by_hand["by_chance"] ** 2, 0.95) ** 0.5
    assert ends == pytest.approx(columns[0].threshold, rel=1e-9)


def interval(draw: np.random.Generator, size: float = 1.0) -> Interval:
    mean, reach = draw.normal(0, size), abs(draw.normal(0, 0.3))
    return Interval(mean, mean - reach, mean + reach, 300)


def evidence(draw: np.random.Generator) -> promotion.Evidence:
    """What a gate may be told, drawn so that each of its checks is passed and failed."""
    champion = {ALL: interval(draw, 0.1), "a": interval(draw, 0.1), "b": interval(draw, 0.1)}
    kind = draw.integers(6)
    return promotion.Evidence(
        rows=int(draw.choice([100, 300, 300, 300])),
        parity=float(draw.choice([1e-7, 1e-7, 1e-7, 1e-2])),
        latency_ms=float(draw.choice([1.0, 1.0, 1.0, 20.0])),
        scale=Scale(2.0, 1.0),
        against_baseline={ALL: Interval(-1.0, -1.5, draw.choice([-0.5, -0.5, -0.5, 0.1]), 300)},
        against_champion=None if kind == 0 else champion,
        bias={"champion": interval(draw), "challenger": interval(draw, 0.2)},
        champion_obstacle="it needs a column" if kind == 1 else None,
        same_as_champion=kind == 2,
        barred="it was rolled back" if kind == 3 else None,
    )


@pytest.mark.medium
def test_the_rule_in_a_few_lines_is_the_gate():
    draw, seen = np.random.default_rng(3), set()
    for _ in range(600):
        told, instead = evidence(draw), str(draw.choice(["keep", "replace"]))
        gate = promotion.Gate(0.05, 0.06, 200, 10.0, 0.1, instead)
        by_hand = run(
            "07",
            "promote-rule",
            evidence=SimpleNamespace(read_record=lambda record: record),
            evaluation=evaluation,
            measures=measures,
            task_of=lambda table: TASKS["regression"],
            record=told,
            table=None,
            gate_margin=0.05,
            gate_slice_margin=0.06,
            gate_min_rows=200,
            gate_latency_ms=10.0,
            gate_bias_margin=0.1,
            gate_incomparable_champion=instead,
        )
        expected = promotion.decide(told, gate, TASKS["regression"]).promoted
        assert all(by_hand["rules"].values()) == expected, told
        seen.add((expected, told.against_champion is None, told.champion_obstacle is None))
    assert len(seen) >= 5


def window(draw: np.random.Generator) -> tuple[verdict.Window, SimpleNamespace, list]:
    """A window, what was found in it and its faults, drawn so that each verdict occurs."""
    worse, bias = (interval(draw, 0.4) if draw.random() < 0.9 else None for _ in range(2))
    apart = {"a": interval(draw, 0.5)} if draw.random() < 0.5 else {}
    held = Interval(0.9, 0.88, float(draw.choice([0.7, 0.92])), 300)
    found = SimpleNamespace(
        worse=worse, bias=bias, apart=apart, due=400, labels=int(draw.choice([50, 250, 390]))
    )
    faults = [SimpleNamespace(is_broken=True)] if draw.random() < 0.1 else []
    told = verdict.Window(
        rows=int(draw.choice([20, 500, 500, 500])),
        due=found.due,
        labels=found.labels,
        wanting=["there is no champion"] if draw.random() < 0.05 else [],
        broken=["a is empty" for _ in faults],
        odd=["b is odd"] if draw.random() < 0.1 else [],
        drifted=["c moved"] if draw.random() < 0.3 else [],
        worse=worse,
        bias=bias,
        champion_age_days=float(draw.choice([2.0, 60.0])),
        inside=held,
        was_uncovered=bool(draw.random() < 0.2),
        at_bound="it is at its bound" if draw.random() < 0.1 else None,
        apart=apart,
        was_apart=["a"] if draw.random() < 0.3 else [],
    )
    return told, found, faults


@pytest.mark.medium
def test_the_order_of_the_notebook_ends_where_the_librarys_verdict_does():
    draw, seen, task = np.random.default_rng(5), set(), TASKS["regression"]
    rules = verdict.Rules(
        50, 200, 0.5, 0.3, 0.3, 14, task.measure, task.bias_measure, slice_margin=0.4,
        coverage_margin=0.04,
    )  # fmt: skip
    for _ in range(600):
        told, found, faults = window(draw)
        names = {"window": told, "found": found, "faults": faults, "rules": rules, "task": task}
        names |= {"rows": told.rows, "age": told.champion_age_days, "verdict": verdict}
        names |= {"verdicts": verdicts, "facts": {"wanting": told.wanting}}
        after = run("12", "decide-ladder", **run("12", "decide-signs", **names))
        assert after["by_hand"] == verdict.judge(told, rules).level, told
        seen.add(after["by_hand"])
    assert seen == set(verdicts.LEVELS)


def test_a_frame_and_a_figure_without_a_sentence_are_found_in_a_document():
    frame = {"data": {"text/plain": "shape: (2, 1)", "text/html": "<td>f64</td>"}}
    picture, told = {"data": {"image/png": "aGk="}}, {"data": {"text/markdown": r"Two of 3\."}}
    assert len(of_frames([{"id": "a", "outputs": [frame]}])) == 2
    assert unexplained([{"id": "a", "outputs": [picture]}]) == ["a"]
    assert unexplained([{"id": "a", "outputs": [picture, picture, told]}]) == ["a"]
    assert unexplained([{"id": "a", "outputs": [picture, told]}, {"id": "b", "outputs": []}]) == []
