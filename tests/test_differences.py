"""What two versions differ in is named, and nothing else; what is missing is said to be."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import made_versions
import numpy as np
import polars as pl
import pytest
import small_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from made_versions import FILES, NAME, make_project, notebook, register
from small_classes import NUMBER
from small_house import ROOT
from typer.testing import CliRunner

from loopbook.cli import main as cli
from loopbook.features.rows import model_matrix
from loopbook.models.inference import predict, session
from loopbook.models.task import task_of
from loopbook.pages import differences as page
from loopbook.pages import markdown
from loopbook.project.contract import read_contract
from loopbook.project.errors import RegistryError
from loopbook.project.paths import Project
from loopbook.provenance import (
    answer_changes,
    code_changes,
    field_changes,
    git_trees,
    reached_code,
    row_changes,
    version_pairs,
)
from loopbook.provenance.code_changes import Cell
from loopbook.provenance.differences import DIFFERS, SAME, Differences
from loopbook.registry import reader

pytestmark = pytest.mark.medium

KNOB = (ROOT / "env.yaml").read_text().replace("test_days: 10 ", "test_days: 11 ")
CONTRACT = json.loads(FILES["contract.yaml"])
CONTRACT["features"]["size"]["range"] = [0.0, 120.0]
CELL = notebook(("markdown", "# Train"), ("code", made_versions.TRAIN.replace("ridge", "trees")))


def corrected(some: pl.DataFrame) -> pl.DataFrame:
    """One row less, one more, and the width of a third corrected."""
    width = some["width"].to_list()
    width[5] = 9.0
    fresh = some.tail(1).with_columns(pl.lit("thing-new").alias("id"))
    return pl.concat([some.with_columns(pl.Series("width", width))[1:], fresh])


# each by one edit
EDITS = {
    "rows": {"rows": corrected},
    "cells": {"edits": {"notebooks/05_train.ipynb": json.dumps(CELL)}},
    "modules": {"edits": {"src/loopbook/models/steps.py": "def first():\n    return 2\n"}},
    "contract": {"edits": {"contract.yaml": json.dumps(CONTRACT)}},
    "knobs": {"edits": {"env.yaml": KNOB}},
    "lock": {"edits": {"requirements.lock": FILES["requirements.lock"].replace("2.1", "2.2")}},
    "pipeline": {
        "edits": {
            "pipeline.yaml": FILES["pipeline.yaml"].replace('"tasks"', '"executor": 1, "tasks"')
        }
    },
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> tuple[Project, dict[str, str]]:
    """A project, and for each edit the number of its version; `as it began` is without one."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("pairs") / "team")
        patch.setenv("MLFLOW_TRACKING_URI", project.environment()["MLFLOW_TRACKING_URI"])
        numbers = {"as it began": register(project)}
        numbers |= {name: register(project, **how) for name, how in EDITS.items()}
        numbers["again"] = register(project)
        numbers["another graph"] = register(project, seed=2)
        numbers["nothing kept"] = register(project, keeps=False)
        yield project, numbers


@cache
def compared(project: Project, one: str, other: str) -> Differences:
    return version_pairs.compare(project, one, other)


def differences(pairs, one: str, other: str) -> Differences:
    project, numbers = pairs
    return compared(project, numbers[one], numbers[other])


@pytest.mark.parametrize("what", EDITS)
def test_of_two_versions_that_differ_in_one_part_exactly_that_is_named(pairs, what):
    found = differences(pairs, "as it began", what)
    assert found.differing == [what]
    assert not found.unknown
    assert f"differ in: {what}; the graph is the same." in found.sentence
    assert not found.is_identical


@pytest.mark.parametrize("other", ["as it began", "again"])
def test_a_version_against_itself_or_made_the_same_way_again_is_identical(pairs, other):
    found = differences(pairs, "as it began", other)
    assert found.is_identical
    assert set(found.states.values()) == {SAME}
    assert found.sentence.endswith("are identical.")
    assert not found.findings


def test_rows_are_told_by_key_and_what_is_sensitive_is_not_shown(pairs):
    rows = differences(pairs, "as it began", "rows").rows
    assert (rows.added, rows.removed, rows.corrected) == (1, 1, 1)
    assert rows.added_keys == [{"id": "thing-new"}]
    assert rows.removed_keys == [{"id": "thing-0"}]
    (only,) = rows.corrections
    assert (only.key, only.column, only.after) == ({"id": "thing-5"}, "width", 9.0)


def test_a_version_answers_by_the_order_of_its_inputs_and_not_of_its_contracts_keys():
    """A card is written with its keys sorted."""
    _, graph, card = small_classes.version(NUMBER)
    about, some = small_classes.table(NUMBER), small_classes.rows(NUMBER)
    turned = about.model_copy(update={"features": dict(reversed(about.features.items()))})
    said = answer_changes.Answerer("v1", graph, card, turned).answers(some)
    expected = predict(session(graph), model_matrix(some, about, card["categories"]))
    assert np.array_equal(said, expected)


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [(8.574342793025345, 23.574342793025345, ("8.57434", "23.5743")), (None, 9.0, ("", "9")),
     (1.0000000001, 1.0000000002, ("1.0000000001", "1.0000000002")), ("a", "b", ("a", "b")),
     (2e6, 2015.0, ("2000000", "2015")), (1234567.25, 1234568.5, ("1234567", "1234568"))],
)  # fmt: skip
def test_a_corrected_value_has_as_many_digits_as_tell_it_from_the_one_before(before, after, shown):
    assert page._apart(before, after) == shown


def test_the_cell_the_module_the_field_the_knob_and_the_package_are_named(pairs):
    (cell,) = differences(pairs, "as it began", "cells").cells
    assert (cell.file, cell.part, cell.can_matter) == ("notebooks/05_train.ipynb", "cell 2", True)
    assert '+parts = candidates.build("trees")' in cell.lines
    (module,) = differences(pairs, "as it began", "modules").modules
    assert (module.file, module.part) == ("src/loopbook/models/steps.py", "first")
    for part, path, before, after in (
        ("contract", "features.size.range", [0.0, 100.0], [0.0, 120.0]),
        ("knobs", "test_days", 10, 11),
        ("lock", "polars", "2.1", "2.2"),
        ("pipeline", "executor", None, 1),
    ):
        (field,) = getattr(differences(pairs, "as it began", part), part)
        assert (field.path, field.before, field.after) == (path, before, after)


def test_metrics_and_answers_are_compared_on_the_same_rows_that_neither_had_seen(pairs):
    project, numbers = pairs
    found = differences(pairs, "as it began", "another graph")
    told = found.answers
    assert found.differing == []
    assert found.states["graph"] == DIFFERS
    assert (told.rows, told.changed, len(told.most)) == (150, 150, answer_changes.MOST)
    assert told.most[0].apart == told.largest == max(one.apart for one in told.most)
    rows = made_versions.table_rows()[450:]
    task = task_of(read_contract(project.contract))
    losses = [
        task.losses(rows["weight"].to_numpy(), said)
        for said in (
            answers_of(project, numbers[n], rows) for n in ("as it began", "another graph")
        )
    ]
    assert told.loss["all rows"].mean == pytest.approx((losses[1] - losses[0]).mean())
    assert told.errors[f"{NAME} v{numbers['another graph']}"]["mae"] == pytest.approx(
        losses[1].mean()
    )


def answers_of(project: Project, number: str, rows: pl.DataFrame) -> np.ndarray:
    registry = reader.connect(os.environ["MLFLOW_TRACKING_URI"])
    version = version_pairs.find(registry, NAME, number)
    card = json.loads(registry.content(version, "card.json"))
    contract = read_contract(project.contract)
    graph = registry.content(version, "model.onnx")
    return answer_changes.Answerer("", graph, card, contract).answers(rows)


def test_versions_of_another_target_are_not_compared_and_it_is_said_why(pairs):
    project, _ = pairs
    sides = [answer_changes.Answerer(n, b"", {}, read_contract(project.contract)) for n in "ab"]
    other = sides[1].contract.model_copy(
        update={"target": sides[1].contract.target.model_copy(update={"unit": "lb"})}
    )
    why = answer_changes.obstacle(sides[0], replace(sides[1], contract=other), pl.DataFrame())
    assert why.startswith("a and b have another target each: its unit is kg and lb")
    why = answer_changes.obstacle(*sides, pl.DataFrame({"size": [1.0]}))
    assert why == "a needs width, zone, which these rows do not have"


def test_a_version_with_which_nothing_was_kept_says_so_and_is_compared_by_commit_and_notebooks(
    pairs,
):
    found = differences(pairs, "as it began", "nothing kept")
    assert found.unknown == ["pipeline", "knobs"]
    assert (found.states["cells"], found.states["modules"]) == (SAME, SAME)
    assert found.findings[0].where == f"{found.after.label}, its origin"
    assert "loopbook build" in found.findings[0].remedy
    assert "It cannot be told of: pipeline, knobs" in found.sentence
    assert not found.is_identical


def test_a_snapshot_that_is_not_here_is_named_with_the_way_to_get_it(pairs, tmp_path):
    project, numbers = pairs
    copy = Project(shutil.copytree(project.root, tmp_path / "copy"))
    for path in copy.snapshots.glob("*.parquet"):
        path.unlink()
    found = version_pairs.compare(copy, numbers["as it began"], numbers["rows"])
    assert (found.differing, found.rows) == (["rows"], None)
    gone = [finding for finding in found.findings if "snapshot" in finding.where]
    assert len(gone) == 2
    assert all("from the machine that built it" in finding.remedy for finding in gone)
    itself = version_pairs.compare(copy, numbers["rows"], numbers["rows"])
    assert itself.is_identical, "what has one digest needs not be here"


def test_a_commit_that_is_not_here_is_named_and_the_notebooks_that_ran_are_compared(
    pairs, tmp_path
):
    project, numbers = pairs
    copy = Project(shutil.copytree(project.root, tmp_path / "copy", ignore=lambda *_: [".git"]))
    found = version_pairs.compare(copy, numbers["as it began"], numbers["cells"])
    assert [change.part for change in found.cells] == ["cell 2"]
    assert found.unknown == ["modules"]
    assert "git fetch --unshallow" in " ".join(finding.remedy for finding in found.findings)


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ("99", r"it has no version '99'; there are v11, v10, .* and 1 more\. Or name champion"),
        ("champion", r"nobody is its champion"),
        ("-1", r"it has no version '-1'"),
    ],
)
def test_an_unknown_version_is_refused_with_those_that_there_are(pairs, called, said):
    with pytest.raises(RegistryError, match=said):
        version_pairs.compare(pairs[0], called, "1")


def test_newest_and_a_number_with_a_v_are_versions_too(pairs):
    registry = reader.connect(os.environ["MLFLOW_TRACKING_URI"])
    assert version_pairs.find(registry, NAME, "newest").number == pairs[1]["nothing kept"]
    assert version_pairs.find(registry, NAME, "v3").number == "3"


def test_the_earlier_version_may_be_in_another_copy_of_the_project(pairs, tmp_path):
    project, numbers = pairs
    there = str(project.root)
    found = version_pairs.compare(project, numbers["knobs"], numbers["lock"], base=there)
    assert found.differing == ["knobs", "lock"]
    same = version_pairs.compare(project, numbers["knobs"], numbers["knobs"], base=there)
    labels = [f"{NAME} v{numbers['knobs']} ({place})" for place in ("team", "here")]
    assert (same.is_identical, list(same.answers.errors)) == (True, labels)
    for base, said in (
        (str(tmp_path), "that folder has no contract.yaml"),
        ("nowhere", "neither a folder nor a tracking address"),
        (f"sqlite:///{tmp_path}/none.db", "there is no registry"),
    ):
        with pytest.raises(RegistryError, match=said):
            version_pairs.compare(project, "1", "2", base=base)
    assert not (tmp_path / "none.db").exists()


RUDE = "<script>alert(1)</script>|`x` @maintainer #12 https://evil.example"


@pytest.fixture(scope="module")
def rude(pairs) -> Differences:
    """Two versions whose rows hold what would be markup."""
    found = differences(pairs, "as it began", "rows")
    rows = replace(found.rows, added_keys=[{"id": RUDE}])
    return replace(found, rows=rows)


def test_nothing_of_the_data_is_markup_a_link_or_a_call_in_a_pull_request(rude):
    said = markdown.comment(page.title(rude), page.sections(rude))
    assert said.splitlines()[0] == markdown.MARK
    for sign in ("<script", "@m", "#12", "https://", "|`x`"):
        assert sign not in said
    cells = [line for line in said.splitlines() if "alert" in line]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in cells] == [6], "a row of five cells"


def test_a_comment_that_would_be_too_long_says_what_it_leaves_out(rude):
    section = page.Section("Rows", "Many.", [page.Table(("a",), [("x" * 100,)] * 800)])
    said = markdown.comment("t", [section, page.Section("Next", "s")])
    assert len(said) < markdown.MOST_SIGNS
    assert markdown.LEFT_OUT in said


def test_lines_of_code_cannot_end_their_block():
    code = page.Section("Modules", "One.", code=[page.Lines("a.py", ["+x = '```'"])])
    said = markdown.comment("t", [page.Section("a", "b"), code])
    assert "````diff\n+x = '```'\n````" in said


def test_the_page_is_a_whole_one_and_escapes_what_is_in_it(rude):
    said = page.page(rude)
    assert said.startswith("<!doctype html>")
    assert "<script" not in said
    assert "&lt;script&gt;" in said
    assert all(f"<h2>{title}</h2>" in said for title in ("Rows", "Metrics", "Answers"))


@pytest.fixture
def typed(pairs, monkeypatch):
    monkeypatch.chdir(pairs[0].root)
    runner = CliRunner()
    return lambda *words: runner.invoke(cli.app, ["diff", *words])


def test_the_command_ends_with_3_only_where_it_is_asked_to_and_they_differ(typed, pairs):
    one, other = pairs[1]["as it began"], pairs[1]["knobs"]
    assert [typed(one, other).exit_code, typed(one, other, "--exit-code").exit_code] == [0, 3]
    assert typed(one, pairs[1]["again"], "--exit-code").exit_code == 0


def test_the_command_prints_text_json_and_a_page(typed, pairs, tmp_path):
    one, other = pairs[1]["as it began"], pairs[1]["modules"]
    text = typed(one, other).stdout
    assert re.search(r"src/loopbook/models/steps.py +first +changed +yes", text)
    told = json.loads(typed(one, other, "--json", "--html", str(tmp_path / "d.html")).stdout)
    assert (told["differs_in"], told["identical"]) == (["modules"], False)
    assert told["modules"][0]["lines"][1:] == ["-# where it begins", " def first():", *RETURNS]
    assert "steps.py" in (tmp_path / "d.html").read_text()


RETURNS = ["-    return 1", "+    return 2"]
CODE = Cell("code", "", "x = 1\ny = 2")


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([CODE], []),
        ([Cell("code", "", "x = 1  # one\n\ny = 2")], [("cell 1", "changed", False)]),
        ([Cell("code", "", "x = 1\ny = 3")], [("cell 1", "changed", True)]),
        ([Cell("markdown", "", "# Prose"), CODE], [("text cell 1", "added", False)]),
        ([CODE, Cell("code", "checks", "assert y")], [("cell 2 (checks)", "added", True)]),
        ([], [("cell 1", "removed", True)]),
        (
            [Cell("code", "", "%matplotlib inline")],
            [("cell 1", "added", True), ("cell 1", "removed", True)],
        ),
    ],
)
def test_a_cell_is_told_by_what_is_in_it_and_whether_that_can_change_a_result(after, said):
    found = code_changes.compare_notebooks({"n": [CODE]}, {"n": after})
    assert [(change.part, change.kind, change.can_matter) for change in found] == said


def test_a_module_differs_by_its_code_and_not_by_comments_or_layout():
    before = {"a.py": "def one():\n    return 1\n\n\nTWO = 2\n", "gone.py": ""}
    same = {"a.py": "# said\ndef one():\n\n    return 1\n\nTWO = 2", "gone.py": "# still"}
    assert code_changes.compare_modules(before, same) == []
    other = {"a.py": "def one():\n    return 1\n\nTWO = 3\ndef three(): ...\n", "new.py": ""}
    found = code_changes.compare_modules(before, other)
    told = [(change.file, change.part, change.kind) for change in found]
    assert told == [
        ("a.py", "TWO, three", "changed"),
        ("gone.py", "the module", "removed"),
        ("new.py", "the module", "added"),
    ]


def test_own_candidates_are_reached_though_the_library_is_installed_elsewhere():
    cells = [Cell("code", "", made_versions.TRAIN)]
    tree = git_trees.of_files(
        dict.fromkeys(("candidates.py", "beside.py", "x.py"), b"import beside")
    )
    assert set(reached_code.modules(tree, cells)) == {"candidates.py", "beside.py"}


def test_a_lock_differs_by_packages_and_hashes_and_not_by_comments():
    before = "# made by uv\na==1 \\\n    --hash=sha256:1\nB_b==2 ; python_version < '3.12'\nc==1\n"
    assert (
        field_changes.compare_packages(before, before.replace("uv", "pip").replace("B_b", "b-b"))
        == []
    )
    after = "a==1 --hash=sha256:2\nb-b==3\nd==1\n"
    found = [
        (c.path, c.kind, c.before, c.after) for c in field_changes.compare_packages(before, after)
    ]
    assert found == [
        ("a hashes", "changed", ["sha256:1"], ["sha256:2"]),
        ("b-b", "changed", "2", "3"),
        ("c", "removed", "1", None),
        ("d", "added", None, "1"),
    ]


ROWS_OF = st.dictionaries(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 2)), max_size=8)


@settings(max_examples=60)
@given(ROWS_OF, ROWS_OF)
def test_rows_are_counted_as_by_hand(before, after):
    frames = [
        pl.DataFrame({"id": list(d), "v": list(d.values())}, {"id": pl.Int64, "v": kind})
        for d, kind in ((before, pl.Int64), (after, pl.Float64))
    ]
    found = row_changes.compare(*frames, ["id"])
    both = before.keys() & after.keys()
    assert found.added == len(after.keys() - both)
    assert found.removed == len(before.keys() - both)
    assert found.corrected == sum(before[key] != after[key] for key in both)


def test_of_a_key_that_stands_twice_each_row_has_its_twin():
    before = pl.DataFrame({"id": [1, 1, None], "v": ["a", "b", "c"]})
    found = row_changes.compare(before, before.with_columns(v=pl.Series(["a", "x", "c"])), ["id"])
    assert (found.added, found.removed, found.corrected) == (0, 0, 1)
    assert row_changes.compare(before, before[:1], ["id"]).removed == 2
    as_text = before.with_columns(pl.col("id").cast(pl.String))
    assert row_changes.compare(before, as_text, ["id"]).are_none


def test_a_tree_is_a_commit_with_its_patch_and_leaves_the_repository_as_it_is(pairs, tmp_path):
    root = Path(shutil.copytree(pairs[0].root, tmp_path / "copy"))
    made_versions.write(root, {"candidates.py": "changed = 1\n", "fresh.py": "x = 1\n"})
    made_versions.git(root, "add", "--intent-to-add", ".")
    patch = made_versions.git(root, "diff", "--binary", "HEAD")
    made_versions.git(root, "reset", "-q", "--hard")
    before = {p: p.is_file() and p.read_bytes() for p in (root / ".git").rglob("*")}
    tree = git_trees.of_commit(root, "HEAD", {"": ""}, patch)
    assert {p: p.is_file() and p.read_bytes() for p in (root / ".git").rglob("*")} == before
    plain = git_trees.of_commit(root, "HEAD", {"": ""}, b"")
    assert git_trees.differing(plain, tree) == ["candidates.py", "fresh.py"]
    assert tree.text("candidates.py") == "changed = 1\n"
    as_files = git_trees.of_files({name: FILES[name].encode() for name in FILES})
    assert git_trees.differing(plain, as_files) == ["env.yaml", *made_versions.NOTEBOOKS]
    library = git_trees.of_commit(root, "HEAD", {"src/loopbook/models": "lib"}, b"")
    assert sorted(library.names) == [
        f"lib/{n}.py" for n in ("__init__", "candidates", "steps", "unread")
    ]


GH = """#!/usr/bin/env python3
import json, pathlib, sys
kept = pathlib.Path(__file__).with_name("comments.json")
comments = json.loads(kept.read_text()) if kept.exists() else {}
words, path = sys.argv[2:], next(word for word in sys.argv if word.startswith("repos/"))
if "--jq" in words:
    mark = words[words.index("--jq") + 1].split('"')[1]
    print("\\n".join(name for name, body in comments.items() if body.startswith(mark)))
else:
    name = path.rpartition("/")[2] if "PATCH" in words else str(len(comments))
    file = next(word for word in words if word.startswith("body=@")).removeprefix("body=@")
    comments[name] = pathlib.Path(file).read_text()
kept.write_text(json.dumps(comments))
"""


def test_each_push_updates_the_one_comment_of_a_pull_request(tmp_path):
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    kept = tmp_path / "comments.json"
    kept.write_text(json.dumps({"0": "somebody's own words"}))
    variables = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_REPOSITORY": "a/b",
    }
    for said in ("first", "second"):
        (tmp_path / "diff.md").write_text(f"{markdown.MARK}\n\n{said}\n")
        words = [ROOT / ".ci/diff", "comment", tmp_path / "diff.md", "7"]
        subprocess.run(words, env=variables, check=True)
    comments = json.loads(kept.read_text())
    assert comments == {"0": "somebody's own words", "1": f"{markdown.MARK}\n\nsecond\n"}


def test_each_push_updates_the_one_comment_of_a_merge_request_on_gitlab(tmp_path):
    """Over two pages of notes, by the routes of GitLab's API."""
    notes = {str(n): {"id": n, "body": "somebody's own words"} for n in range(150)}
    asked = []

    class Notes(BaseHTTPRequestHandler):
        def answer(self):
            assert self.headers["PRIVATE-TOKEN"] == "t"
            url = urlsplit(self.path)
            asked.append((self.command, url.path))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            if self.command == "GET":
                page, every = int(parse_qs(url.query)["page"][0]), list(notes.values())
                told, more = every[100 * page - 100 : 100 * page], len(every) > 100 * page
            else:
                name = url.path.rpartition("/")[2] if self.command == "PUT" else str(len(notes))
                told, more = notes.setdefault(name, {"id": int(name)}), False
                told["body"] = body["body"]
            self.send_response(200)
            self.send_header("X-Next-Page", str(page + 1) if more else "")
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Notes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        variables = {"GITLAB_CI": "true", "CI_PROJECT_ID": "3", "DIFF_TOKEN": "t"}
        variables["CI_API_V4_URL"] = f"http://127.0.0.1:{server.server_port}/api/v4"
        for said in ("first", "second"):
            (tmp_path / "diff.md").write_text(f"{markdown.MARK}\n\n{said}\n")
            words = [ROOT / ".ci/diff", "comment", tmp_path / "diff.md", "7"]
            subprocess.run(words, env=os.environ | variables, check=True)
        server.shutdown()
    route = "/api/v4/projects/3/merge_requests/7/notes"
    assert [a for a in asked if a[0] != "GET"] == [("POST", route), ("PUT", f"{route}/150")]
    assert notes["150"]["body"] == f"{markdown.MARK}\n\nsecond\n"
    assert sum(n["body"] == "somebody's own words" for n in notes.values()) == 150
