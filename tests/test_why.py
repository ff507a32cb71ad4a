"""Why an answer is what it is: computed again, to the bit, and whatever was changed is named."""

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from small_classes import EARLIER, NUMBER, ROW, TASKS, YES_OR_NO, Shelf, rows, serving, table
from test_moved_answers import state, store_of

from loopbook.cli import why as why_command
from loopbook.data import prediction_log, snapshots
from loopbook.features import history
from loopbook.features import store as feature_store
from loopbook.features.materialize import known_facts
from loopbook.pages import why as why_page
from loopbook.project.contract import Contract
from loopbook.project.errors import ProvenanceError
from loopbook.project.paths import Project
from loopbook.provenance import explained_answers, lineage, told
from loopbook.provenance import known_facts as known_facts_module
from loopbook.provenance.explained_answers import DIFFERENT, IDENTICAL, NOT_AGAIN, Place
from loopbook.registry.reader import CARD, ONNX
from loopbook.serving import api_keys

MORNING = datetime(2025, 1, 20, tzinfo=UTC)
AT = "2025-01-20T09:00:00+00:00"


@pytest.fixture(autouse=True)
def own_stores(monkeypatch):
    """Whatever a test before this one left in the environment, the stores are the folder's own."""
    for variable in (prediction_log.ADDRESS, feature_store.ADDRESS):
        monkeypatch.delenv(variable, raising=False)


def answered(folder, task: str, shelf: Shelf, **row) -> str:
    """A row sent through the service, on a table with its rows; the id of the answer."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if not (folder / "data" / "rows.parquet").exists():
        rows(task).write_parquet(folder / "data" / "rows.parquet")
    with serving(folder, shelf, table(task)) as http:
        done = http.post("/predict", json=ROW | {"as_of": AT} | row)
    assert done.status_code == 200, done.text
    return done.json()["prediction_id"]


@contextmanager
def looked_up(folder, task: str, shelf: Shelf):
    log = prediction_log.connect(Project(folder), table(task))
    yield Place(Project(folder), table(task), shelf, log)
    log.close()


def explained(folder, task: str, shelf: Shelf, name: str, **given):
    with looked_up(folder, task, shelf) as place:
        return explained_answers.explain(place, name, given)


def change(folder, statement: str, *values) -> None:
    with closing(sqlite3.connect(folder / "var" / "predictions.db")) as database, database:
        assert database.execute(statement, values).rowcount == 1


def filled(folder, until: datetime) -> None:
    """The feature store, up to an instant."""
    (folder / "var").mkdir(exist_ok=True)
    store = feature_store.connect(Project(folder), table(EARLIER))
    facts, moment = known_facts(Project(folder), table(EARLIER), until)
    store.materialize(facts, moment)
    store.close()


def with_rows(folder, task: str = EARLIER):
    """A project's folder with its table, its contract and its knobs."""
    (folder / "data").mkdir(parents=True)
    rows(task).write_parquet(folder / "data" / "rows.parquet")
    store_of(folder, task).close()
    return folder


def wheres(found) -> str:
    """Where the findings of an answer are, without those of its version's origin."""
    return "; ".join(f.where for f in found.findings if not f.where.startswith("small-"))


@pytest.mark.medium
@pytest.mark.parametrize("task", TASKS)
def test_an_answer_comes_out_again_to_the_bit_with_its_state(task, tmp_path):
    shelf = Shelf(task)
    store = store_of(tmp_path, task)
    store.add(table(task).name, "1", state(task, MORNING, 0.3))
    store.close()
    found = explained(tmp_path, task, shelf, answered(tmp_path, task, shelf))
    assert found.verdict == IDENTICAL
    assert found.state.shift[0] == 0.3
    compared = {part.name for part in found.parts}
    assert compared >= {"answer", "raw", "shift"} | ({"low", "high"} if task == NUMBER else set())
    assert all(part.agrees for part in found.parts)
    assert {f.name: f.said for f in found.features} == {
        n: ROW[n] for n in ("size", "width", "zone")
    }
    json.dumps(found.as_json())


def test_a_state_that_has_aged_moves_the_answer_by_what_was_left_of_it(tmp_path):
    shelf = Shelf(NUMBER)
    store = store_of(tmp_path, NUMBER)
    store.add(table(NUMBER).name, "1", state(NUMBER, MORNING - timedelta(days=400), 0.3))
    store.close()
    found = explained(tmp_path, NUMBER, shelf, answered(tmp_path, NUMBER, shelf))
    assert found.verdict == IDENTICAL
    assert 0 < found.state.shift[0] < 0.3


TAMPERED = {
    "the answer": ("UPDATE predictions SET answer = answer + 1e-9", ": answer"),
    "the raw answer": ("UPDATE predictions SET raw = raw * 1.000001", ": raw"),
    "an end of the interval": ("UPDATE predictions SET high = high + 1", ": high"),
    "the request": (
        "UPDATE predictions SET request = replace(CAST(request AS TEXT), '11.0', '11.5')",
        "the request, behind size",
    ),
    "a byte of the request": (
        "UPDATE predictions SET request = replace(CAST(request AS TEXT), '{', '[')",
        "request",
    ),
    "the length of the features": (
        "UPDATE predictions SET features = substr(features, 1, 8)",
        "features",
    ),
    "its instant": ("UPDATE predictions SET as_of_us = as_of_us - 1000000", "as_of"),
    "its notes": ("""UPDATE predictions SET notes = '{"imputed":["width"]}'""", "imputed"),
    "its key": ("UPDATE predictions SET key = 'thing-8'", "key"),
    "the version": ("UPDATE predictions SET version = '2'", "version"),
    "the state": (
        "UPDATE calibration_states SET state = replace(state, '[0.3]', '[0.4]')",
        "calibration state of v1",
    ),
    "no state": ("DELETE FROM calibration_states", "calibration state of v1"),
}


@pytest.mark.medium
@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_in_the_log_is_found_and_named(what, tmp_path):
    shelf = Shelf(NUMBER)
    shelf.alias["challenger"] = "2"
    store = store_of(tmp_path, NUMBER)
    store.add(table(NUMBER).name, "1", state(NUMBER, MORNING, 0.3))
    store.close()
    name = answered(tmp_path, NUMBER, shelf, id="thing-7")
    assert explained(tmp_path, NUMBER, shelf, name).verdict == IDENTICAL
    statement, where = TAMPERED[what]
    change(tmp_path, statement)
    found = explained(tmp_path, NUMBER, shelf, name)
    assert found.verdict != IDENTICAL
    assert where.removeprefix(": ") in wheres(found)


def test_a_logged_feature_that_was_changed_is_told_from_a_changed_request(tmp_path):
    """The answer is a witness: it came of what the request still says."""
    shelf = Shelf(NUMBER)
    name = answered(tmp_path, NUMBER, shelf)
    vector = np.array([12.0, 2.5, 0.0], np.float32)
    change(tmp_path, "UPDATE predictions SET features = ?", vector.tobytes())
    found = explained(tmp_path, NUMBER, shelf, name)
    (finding,) = [f for f in found.findings if "feature" in f.where]
    assert (finding.where, finding.found) == (f"answer {name}, feature size", "12.0")
    assert finding.expected == "11.0"


@pytest.mark.parametrize("file", [ONNX, CARD])
def test_a_graph_or_a_card_that_was_changed_answers_nothing_and_is_named(file, tmp_path):
    shelf = Shelf(NUMBER)
    name = answered(tmp_path, NUMBER, shelf)
    kept, held = shelf.files["1"], shelf.held("", "champion")
    shelf.held = lambda *_: held
    shelf.files["1"] = kept | {file: kept[file][:-1] + b" "}
    found = explained(tmp_path, NUMBER, shelf, name)
    assert found.verdict == NOT_AGAIN
    assert any(f.what == "changed" and file in f.where for f in found.findings)
    assert told.of_answer(found).sentence.startswith(
        "It cannot be computed again: small-regression"
    )


# -- facts ----------------------------------------------------------------------


@pytest.mark.medium
def test_features_of_earlier_rows_come_out_of_the_facts_that_the_store_knew(tmp_path):
    """The store was filled two days before the row: what became known since is no part of it."""
    folder = with_rows(tmp_path / "house")
    filled(folder, MORNING - timedelta(days=2))
    name = answered(folder, EARLIER, Shelf(EARLIER))
    found = explained(folder, EARLIER, Shelf(EARLIER), name)
    assert (found.verdict, wheres(found)) == (IDENTICAL, "")
    assert found.facts.until == MORNING - timedelta(days=2)
    used = {f.name: f.value for f in found.features}
    latest, _ = known_facts(Project(folder), table(EARLIER), MORNING)
    asked = pl.DataFrame({"event_ts": [datetime.fromisoformat(AT)], "zone": ["north"]})
    asked = asked.with_columns(pl.col("event_ts").cast(history.INSTANT))
    known_since = history.with_history(asked, latest, table(EARLIER)).row(0, named=True)
    assert used["count_5d"] != known_since["count_5d"]
    fact = found.facts.newest["entity"][0]
    assert fact["entity"] == "north"
    assert fact["known_ts"] == fact["event_ts"] + timedelta(days=1)


@pytest.mark.medium
def test_a_fact_that_was_changed_in_the_source_is_named_with_both_values(tmp_path):
    folder = with_rows(tmp_path / "house")
    filled(folder, MORNING)
    name = answered(folder, EARLIER, Shelf(EARLIER))
    source = folder / "data" / "rows.parquet"
    fact = explained(folder, EARLIER, Shelf(EARLIER), name).facts.newest["entity"][0]
    is_it = pl.col("at") == fact["event_ts"]
    changed = pl.when(is_it).then(pl.col("weight") + 20).otherwise(pl.col("weight"))
    pl.read_parquet(source).with_columns(changed.alias("weight")).write_parquet(source)
    found = explained(folder, EARLIER, Shelf(EARLIER), name)
    assert found.verdict == DIFFERENT
    (finding,) = [f for f in found.findings if "mean_5d" in f.where]
    assert finding.where == f"answer {name}, earlier facts, behind mean_5d"
    assert float(finding.found) > float(finding.expected)


@pytest.mark.medium
def test_ground_truth_that_came_back_is_a_fact_too(tmp_path):
    """A served row whose truth became known moves the features of later rows, and is found again."""
    folder = with_rows(tmp_path / "house")
    shelf = Shelf(EARLIER)
    filled(folder, MORNING - timedelta(days=1))
    early = {"id": "new-1", "as_of": "2025-01-19T00:30:00Z"}
    first = answered(folder, EARLIER, shelf, **early)
    with serving(folder, shelf, table(EARLIER)) as http:
        truth = {"prediction_id": first, "observed": 90.0, "known_at": "2025-01-19T20:00:00Z"}
        assert http.post("/feedback", json={"truths": [truth]}).json()["accepted"] == 1
    filled(folder, MORNING)
    found = explained(folder, EARLIER, shelf, answered(folder, EARLIER, shelf))
    assert (found.verdict, wheres(found)) == (IDENTICAL, "")
    assert 90.0 in [fact["value"] for fact in found.facts.newest["all"]]
    change(folder, "UPDATE ground_truth SET observed = 10.0")
    found = explained(folder, EARLIER, shelf, found.logged["id"])
    assert f"answer {found.logged['id']}, earlier facts, behind mean_5d" in wheres(found)


def test_an_answer_without_a_store_says_so_and_comes_out_again(tmp_path):
    folder = with_rows(tmp_path / "house")
    found = explained(folder, EARLIER, Shelf(EARLIER), answered(folder, EARLIER, Shelf(EARLIER)))
    assert (found.verdict, found.facts) == (IDENTICAL, None)
    assert "mean_5d" in found.logged.notes["imputed"]


def test_facts_that_cannot_be_read_are_said_to_be_missing_and_not_guessed(tmp_path):
    folder = with_rows(tmp_path / "house")
    filled(folder, MORNING)
    name = answered(folder, EARLIER, Shelf(EARLIER))
    (folder / "data" / "rows.parquet").unlink()
    found = explained(folder, EARLIER, Shelf(EARLIER), name)
    assert found.verdict == NOT_AGAIN
    assert [f.what for f in found.findings if f.where == "earlier facts"] == ["unreproducible"]
    assert {f.agrees for f in found.features if f.source == "earlier facts"} == {None}


# -- what is not there ----------------------------------------------------------


def test_an_unknown_id_and_a_pruned_one_are_told_apart(tmp_path):
    shelf = Shelf(NUMBER)
    name = answered(tmp_path, NUMBER, shelf)
    with looked_up(tmp_path, NUMBER, shelf) as place:
        for wrong, why in (("abc", "32 hexadecimal"), ("0" * 32, "no prune is recorded")):
            with pytest.raises(ProvenanceError, match=why):
                explained_answers.explain(place, wrong)
        place.log.prune(datetime.now(UTC))
        with pytest.raises(ProvenanceError, match=r"pruned of 1 answer received before"):
            explained_answers.explain(place, name)


def test_a_version_that_the_registry_lost_is_missing(tmp_path):
    shelf = Shelf(NUMBER)
    name = answered(tmp_path, NUMBER, shelf)
    shelf.alias = {"challenger": "2"}
    found = explained(tmp_path, NUMBER, shelf, name)
    assert (found.verdict, found.lineage) == (NOT_AGAIN, None)
    assert [(f.what, f.where) for f in found.findings] == [("missing", "small-regression v1")]
    assert "there are v2" in found.findings[0].found


def sensitive() -> tuple[Shelf, Contract]:
    """A version whose contract has a sensitive column, and that contract."""
    shelf, about = Shelf(YES_OR_NO), table(YES_OR_NO)
    zone = about.features["zone"].model_copy(update={"sensitive": "hash"})
    about = about.model_copy(update={"features": {**about.features, "zone": zone}})
    card = json.loads(shelf.files["1"][CARD]) | {"contract": about.model_dump(mode="json")}
    shelf.files["1"] = shelf.files["1"] | {CARD: json.dumps(card).encode()}
    return shelf, about


def test_a_sensitive_value_is_asked_for_and_held_against_its_hash(tmp_path):
    """Nothing is turned back; who has the value gets the answer computed again."""
    shelf, about = sensitive()
    with serving(tmp_path, shelf, about) as http:
        name = http.post("/predict", json=ROW).json()["prediction_id"]
    log = prediction_log.connect(Project(tmp_path), about)
    place = Place(Project(tmp_path), about, shelf, log)
    found = explained_answers.explain(place, name)
    assert (found.verdict, found.parts) == (NOT_AGAIN, [])
    assert "--value zone=" in found.why_not
    with pytest.raises(ProvenanceError, match="its hash is another one"):
        explained_answers.explain(place, name, {"zone": "south"})
    assert explained_answers.explain(place, name, {"zone": "north"}).verdict == IDENTICAL
    log.close()


# -- a version ------------------------------------------------------------------


def traced(folder, shelf: Shelf) -> lineage.Lineage:
    version = lineage.find(shelf, table(NUMBER).name, "v1")
    return lineage.of_version(Project(folder), table(NUMBER), shelf, version)


def test_a_version_is_traced_to_its_snapshot_and_says_what_is_missing(tmp_path):
    found = traced(tmp_path, Shelf(NUMBER))
    assert (found.params, found.data.path) == ({"alpha": "1.0"}, None)
    missing = [f.where.removeprefix("small-regression v1, ") for f in found.findings]
    expected = ["decision/decision.json", "executed notebooks", "snapshot 000000000000", "code"]
    assert missing == expected
    assert not told.of_version(found).is_well


def test_a_snapshot_with_a_changed_byte_is_found(tmp_path):
    shelf, folder = Shelf(NUMBER), Project(tmp_path).snapshots
    kept = snapshots.write_snapshot(rows(NUMBER), folder, None, now=MORNING)
    card = json.loads(shelf.files["1"][CARD]) | {"snapshot_sha256": kept.sha256}
    shelf.files["1"] = shelf.files["1"] | {CARD: json.dumps(card).encode()}
    assert not [f for f in traced(tmp_path, shelf).findings if "snapshot" in f.where]
    path = folder / f"{kept.sha256}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    (finding,) = [f for f in traced(tmp_path, shelf).findings if "parquet" in f.where]
    assert (finding.what, finding.expected) == ("changed", f"SHA-256 {kept.sha256[:12]}")


def test_a_commit_that_a_shallow_clone_lacks_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lineage, "_has_commit", lambda *_: False)
    monkeypatch.setattr(lineage, "git", lambda *_: b"true\n")
    shelf = Shelf(NUMBER)
    run = replace(shelf.run("run-1"), tags={"git_commit": "a" * 40, "git_dirty": "true"})
    shelf.run = lambda _: run
    found = {f.where.partition(", ")[2]: f for f in traced(tmp_path, shelf).findings}
    assert "git fetch --unshallow" in found["commit aaaaaaaaaaaa"].remedy
    assert found["code beside commit aaaaaaaaaaaa"].what == "unreproducible"


# -- for people -----------------------------------------------------------------


def test_the_service_takes_a_sensitive_value_in_a_body_and_never_in_an_address(tmp_path):
    """An address is written into the logs of proxies."""
    shelf, about = sensitive()
    admin, _ = api_keys.connect(Project(tmp_path)).create("somebody", frozenset({"admin"}))
    with serving(tmp_path, shelf, about) as http:
        name = http.post("/predict", json=ROW).json()["prediction_id"]
        ask = {"url": f"/metadata/why/{name}", "headers": {"X-API-Key": admin}}
        told = {
            zone: http.post(**ask, json={"values": {"zone": zone}}) for zone in ("north", "south")
        }
        odd = [
            http.post(**ask, json=body) for body in ({}, [], {"values": 1}, {"values": {"a": 1}})
        ]
        assert http.get(**ask, params={"value": "zone=north"}).json()["verdict"] == NOT_AGAIN
    assert told["north"].json()["verdict"] == IDENTICAL
    assert [answer.status_code for answer in (told["south"], *odd)] == [422] * 5
    assert "its hash is another one" in told["south"].json()["error"]["message"]
    assert "is no sensitive column" in odd[-1].json()["error"]["message"]


def test_what_the_gate_decided_is_said_once(tmp_path):
    gate = {"outcome": "promoted", "sentence": "Promoted: better than the baseline"}
    shown = told._gate(replace(traced(tmp_path, Shelf(NUMBER)), gate=gate))
    assert ("decided", "Promoted: better than the baseline") in shown.rows


def test_text_and_page_show_the_same_and_nothing_of_a_request_is_markup(tmp_path):
    shelf = Shelf(NUMBER)
    name = answered(tmp_path, NUMBER, shelf, zone="<script>alert(1)</script>\x1b[2J")
    shown = told.of_answer(explained(tmp_path, NUMBER, shelf, name))
    text, page = "\n".join(why_command.lines(shown)), why_page.page(shown)
    assert "identical, to the last bit" in text
    assert "\x1b" not in text
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    for section in shown.sections:
        assert section.title in text
        assert section.title in page


def test_it_is_computed_by_the_version_of_then_and_not_by_the_champion_of_now(tmp_path):
    shelf = Shelf(NUMBER)
    name = answered(tmp_path, NUMBER, shelf)
    shelf.alias = {"champion": "2", "previous-champion": "1"}
    found = explained(tmp_path, NUMBER, shelf, name)
    assert (found.verdict, found.lineage.version) == (IDENTICAL, "1")


@pytest.mark.medium
def test_where_the_facts_are_too_many_the_store_stands_for_them_until_it_is_filled_again(
    tmp_path, monkeypatch
):
    folder, shelf = with_rows(tmp_path / "house"), Shelf(EARLIER)
    filled(folder, MORNING)
    name = answered(folder, EARLIER, shelf)
    monkeypatch.setattr(known_facts_module, "MOST_TRUTHS", -1)
    found = explained(folder, EARLIER, shelf, name)
    assert (found.verdict, wheres(found)) == (IDENTICAL, "")
    assert found.facts.is_of_store
    filled(folder, MORNING + timedelta(days=1))
    found = explained(folder, EARLIER, shelf, name)
    assert (found.verdict, found.facts) == (NOT_AGAIN, None)
    with looked_up(folder, EARLIER, shelf) as place:
        whole = explained_answers.explain(replace(place, walks_all=True), name)
    assert (whole.verdict, whole.facts.is_of_store) == (IDENTICAL, False)


def test_the_service_says_why_to_an_admin_key_alone(tmp_path):
    shelf, project = Shelf(NUMBER), Project(tmp_path)
    keys = api_keys.connect(project)
    admin, _ = keys.create("somebody", frozenset({"admin"}))
    other, _ = keys.create("somebody else", frozenset({"predict"}))
    with serving(tmp_path, shelf, table(NUMBER)) as http:
        name = http.post("/predict", json=ROW).json()["prediction_id"]
        said = {
            key: http.get(f"/metadata/why/{name}", headers={"X-API-Key": key} if key else {})
            for key in ("", other, admin)
        }
        unknown = http.get("/metadata/why/<b>", headers={"X-API-Key": admin})
    assert [answer.status_code for answer in said.values()] == [401, 403, 200]
    record = said[admin].json()
    assert (record["verdict"], record["prediction_id"]) == (IDENTICAL, name)
    assert record["lineage"]["params"] == {"alpha": "1.0"}
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "no_such_answer")


@pytest.mark.parametrize("name", ["v2", "2"])
def test_a_version_in_the_place_of_an_answer_is_told_how_to_ask_for_it(name):
    with pytest.raises(ProvenanceError, match=r"is a version .* loopbook why --version 2$"):
        why_command.why(name)
