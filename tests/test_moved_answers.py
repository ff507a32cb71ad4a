"""Answers that a calibration state moves: in the graph, the service, the log, the store and pages."""

import dataclasses
import json
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import helper
from reading import with_spaces
from small_classes import (
    NUMBER,
    ROW,
    TASKS,
    Shelf,
    as_yaml,
    earlier_graph,
    rows,
    serving,
    table,
)
from small_house import ROOT

from loopbook.data import prediction_log
from loopbook.models import calibration_states
from loopbook.models.calibration_states import State
from loopbook.pages import what_if
from loopbook.project.clock import to_micros
from loopbook.project.errors import PredictionLogError, ScoringError, VersionRefused
from loopbook.project.paths import Project
from loopbook.records.roles import CHAMPION
from loopbook.registry import calibrated_answers, state_store
from loopbook.registry.reader import ONNX
from loopbook.registry.servable import Servable, load
from loopbook.registry.state_store import StateStore
from loopbook.serving import scoring

DAY = timedelta(days=1)
FIRST = datetime(2025, 1, 20, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Whatever a test before this one left in the environment, the log is the folder's own."""
    monkeypatch.delenv(prediction_log.ADDRESS, raising=False)


@pytest.fixture(params=TASKS)
def task(request) -> str:
    return request.param


def state(task: str, as_of: datetime = FIRST, by: float = 1.0, **changes) -> State:
    """A state that adds `by` to the number or to the log probability of the first class."""
    width = len(table(task).target.classes or [0])
    usual = {
        "as_of": as_of,
        "shift": (by, *[0.0] * (width - 1)),
        "truths": 80,
        "cuts": () if task != NUMBER else (0.0,),
        "low": () if task != NUMBER else (-4.0, -2.0),
        "high": () if task != NUMBER else (3.0, 6.0),
        "least": None if task == NUMBER else 0.15,
        "reason": f"the level of 80 truths, {by}.",
        "at_bound": False,
        "stands_still": False,
        "digest": f"{as_of.isoformat()} {by} {sorted(changes.items())}",
    }
    return State(**usual | changes)


def servable_of(shelf: Shelf, number: str = "1") -> Servable:
    return load(shelf, dataclasses.replace(shelf.held("", CHAMPION), number=number))


def matrix_of(servable: Servable, task: str) -> np.ndarray:
    some = rows(task, 40)
    return servable.matrix(some.to_dicts(), some["at"].to_list())


def store_of(folder, task: str) -> StateStore:
    """The store that a service below `folder` reads."""
    (folder / "var").mkdir(parents=True, exist_ok=True)
    if not (folder / "env.yaml").exists():
        shutil.copy(ROOT / "env.yaml", folder)
    return state_store.connect(Project(folder), table(task))


def logged(folder, task: str) -> pl.DataFrame:
    log = prediction_log.connect(Project(folder), table(task))
    found = pl.concat(log.rows(), how="diagonal").sort("id")
    log.close()
    return found


def said(task: str, answer: dict) -> list[float]:
    """The numbers of an answer: the number, or all probabilities."""
    target = table(task).target
    return [*answer["probabilities"].values()] if target.classes else [answer[target.answer_column]]


# -- the graph ------------------------------------------------------------------


def test_a_graph_of_an_earlier_loopbook_answers_the_same_and_is_not_moved(task):
    shelf = Shelf(task)
    now = servable_of(shelf)
    shelf.files["1"] = shelf.files["1"] | {ONNX: earlier_graph(task)}
    before = servable_of(shelf)
    assert (now.can_move, before.can_move) == (True, False)
    matrix = matrix_of(now, task)
    assert np.array_equal(now.predict(matrix), before.predict(matrix))
    answers, raw = before.predict_both(matrix, np.ones(before.task.width))
    assert np.array_equal(answers, raw)
    calibrated = calibrated_answers.answer(before, matrix, [state(task)] * len(matrix))
    assert calibrated.states == [None] * len(matrix)
    assert np.array_equal(calibrated.answers, before.predict(matrix))
    assert np.isnan(calibrated.low).all()


def without_the_shift(graph: onnx.GraphProto) -> None:
    """It takes a shift and does nothing with it."""
    (zero,) = (node for node in graph.node if node.output[0] in ("shifted", "weighed"))
    zero.CopyFrom(helper.make_node("Identity", [zero.input[0]], [zero.output[0]]))
    del graph.initializer[-1]
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 1), np.float32), "shift"))


def of_another_width(graph: onnx.GraphProto) -> None:
    graph.input[-1].type.tensor_type.shape.dim[1].dim_value = 7
    del graph.initializer[-1]
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 7), np.float32), "shift"))


def without_raw(graph: onnx.GraphProto) -> None:
    del graph.output[-1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_the_shift, "its own examples, shifted, otherwise"),
        (of_another_width, "expected 1 numbers as 'shift', and 'raw'"),
        (without_raw, "expected 1 numbers as 'shift', and 'raw'"),
    ],
)
def test_a_version_whose_graph_does_not_shift_as_it_should_is_refused(change, told):
    shelf = Shelf(NUMBER)
    graph = onnx.load_from_string(shelf.files["1"][ONNX])
    change(graph.graph)
    shelf.files["1"] = shelf.files["1"] | {ONNX: graph.SerializeToString()}
    with pytest.raises(VersionRefused, match=told):
        servable_of(shelf)


def test_rows_of_several_states_are_each_moved_by_their_own(task):
    """As if each had been asked for alone, with what arithmetic makes of the raw answer."""
    servable = servable_of(Shelf(task))
    matrix = matrix_of(servable, task)
    one, other = state(task, by=0.5), state(task, by=-1.5, cuts=(), low=(), high=(), least=None)
    states = [(one, other, None)[place % 3] for place in range(len(matrix))]
    together = calibrated_answers.answer(servable, matrix, states)
    assert np.array_equal(together.raw, servable.predict(matrix))
    assert together.states == states
    for some in (one, other):
        mine = [place for place, its in enumerate(states) if its is some]
        expected = calibration_states.moved(servable.task, together.raw[mine], some.shift)
        assert servable.apart(together.answers[mine], expected).max() < 1e-5
        low, high = calibration_states.interval(servable.task, together.answers[mine], some)
        assert np.array_equal(together.low[mine], low, equal_nan=True)
        assert np.array_equal(together.high[mine], high, equal_nan=True)
        alone = [
            calibration_states.interval(servable.task, together.answers[[place]], some)
            for place in mine
        ]
        assert np.array_equal(np.hstack(alone), np.array([low, high]), equal_nan=True)
    assert np.array_equal(together.answers[2::3], together.raw[2::3])


# -- the store ------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path, monkeypatch) -> Iterator[StateStore]:
    if request.param == "postgresql":
        monkeypatch.setenv(prediction_log.ADDRESS, request.getfixturevalue("postgresql"))
    found = store_of(tmp_path, NUMBER)
    yield found
    found.close()


@pytest.mark.medium
def test_the_newest_state_that_was_there_stands_and_of_one_instant_the_last_written(store):
    first, second = state(NUMBER), state(NUMBER, FIRST + DAY, by=1 / 3)
    again = state(NUMBER, FIRST, by=2.0)  # of an instant that has one, from more truths
    assert [store.add("m", "1", s) for s in (second, first, again, again)] == [True] * 3 + [False]
    assert store.add("m", "2", state(NUMBER, FIRST - DAY))
    assert store.at("m", "1", FIRST - timedelta(microseconds=1)) is None
    assert store.at("m", "1", FIRST) == again
    assert store.at("m", "1", FIRST + 9 * DAY) == second
    assert store.listed("m", "1") == [first, again, second]
    every = store.states("m", "1")
    for instant in (FIRST - DAY, FIRST, FIRST + DAY / 2, FIRST + DAY, FIRST + 9 * DAY):
        micros = round(instant.timestamp() * 1e6)
        assert every.at(micros) == store.at("m", "1", instant)


def test_a_state_that_stood_too_long_answers_less_and_less(store):
    store.add("m", "1", written := state(NUMBER, FIRST))
    states, (whole,) = store.states("m", "1"), written.shift
    shifts = [states.at(to_micros(FIRST + n * DAY)).shift[0] for n in (1, 28, 42, 56)]
    assert shifts == pytest.approx([whole, whole, whole / 2, whole / 4])
    assert store.at("m", "1", FIRST + 99 * DAY) == written


def test_what_is_known_is_not_read_again_and_a_store_that_was_lost_is(store):
    store.add("m", "1", state(NUMBER, FIRST + DAY))
    known = store.states("m", "1")
    assert store.states("m", "1", known) is known
    store.add("m", "1", state(NUMBER, FIRST, by=3.0))
    more = store.states("m", "1", known)
    assert more.every[1] is known.every[0]
    assert more.every == tuple(store.listed("m", "1"))
    with store.database.transaction() as cursor:
        cursor.execute("DELETE FROM calibration_states")
    assert store.states("m", "1", more).every == ()
    store.add("m", "1", state(NUMBER, FIRST, by=4.0))
    assert store.states("m", "1", more).newest == state(NUMBER, FIRST, by=4.0)


# -- the service ----------------------------------------------------------------


@pytest.mark.medium
def test_answers_follow_the_state_of_their_instant_and_the_log_has_all_of_it(task, tmp_path):
    """Before the first state an answer is raw, and says that it has no interval."""
    store, name = store_of(tmp_path, task), table(task).name
    one, two = state(task, by=0.5), state(task, FIRST + DAY, by=-2.0)
    for some in (one, two):
        store.add(name, "1", some)
    asked = [ROW | {"as_of": (FIRST + n * DAY).isoformat()} for n in (-1, 0, 1, 5)]
    with serving(tmp_path, Shelf(task), table(task)) as http:
        answers = [http.post("/predict", json=row).json() for row in asked]
        batch = http.post("/predict/batch", json={"rows": asked}).json()["predictions"]
    servable = servable_of(Shelf(task))
    together = [pytest.approx(said(task, a), rel=1e-5) for a in batch]
    assert [said(task, a) for a in answers] == together
    entries = logged(tmp_path, task).head(4).iter_rows(named=True)
    for row, answer in zip(entries, answers, strict=True):
        used = {-1: None, 0: one}.get((row["as_of_ts"] - FIRST).days, two)
        assert row["state_ts"] == (used and used.as_of)
        assert row["shift"] == (used and [*used.shift])
        raw = np.array([row["raw"]])
        expected = calibration_states.moved(servable.task, raw, used.shift) if used else raw
        assert servable.apart(np.array([row["answer"]]), expected).max() < 1e-5
        assert np.ravel(row["answer"]).tolist() == said(task, answer)
        if task == NUMBER:
            assert answer["interval"] == (used and [row["low"], row["high"]])
            ends = calibration_states.interval(servable.task, np.array([row["answer"]]), used)
            assert used is None or answer["interval"] == [float(end[0]) for end in ends]


@pytest.mark.medium
def test_classes_have_the_set_that_holds_the_truth_where_it_is_asked_for(task, tmp_path):
    store_of(tmp_path, task).add(table(task).name, "1", state(task))
    with serving(tmp_path, Shelf(task), table(task)) as http:
        plain = http.post("/predict", json=ROW)
        asked = http.post("/predict?prediction_set=true", json=ROW)
        got = http.get("/predict", params=ROW | {"prediction_set": "true"})
        batch = http.post("/predict/batch?prediction_set=1", json={"rows": [ROW, ROW]})
        early = http.post("/predict?prediction_set=true", json=ROW | {"as_of": "2025-01-01"})
    assert "prediction_set" not in plain.json()
    if task == NUMBER:
        refused = [asked, got, batch]
        assert [r.status_code for r in refused] == [422] * 3
        assert "whose answers have an interval" in asked.json()["error"]["message"]
        return
    likely = asked.json()["probabilities"]
    expected = sorted((n for n, p in likely.items() if p >= 0.15), key=lambda n: -likely[n])
    assert asked.json()["prediction_set"] == got.json()["prediction_set"] == expected
    assert [row["prediction_set"] for row in batch.json()["predictions"]] == [expected] * 2
    assert early.json()["prediction_set"] is None


def test_an_explained_answer_says_its_state_and_its_contributions_add_up_to_it(task, tmp_path):
    store_of(tmp_path, task).add(table(task).name, "1", state(task))
    with serving(tmp_path, Shelf(task), table(task)) as http:
        answer = http.post("/predict?explain=true", json=ROW).json()
        before = http.post("/predict?explain=1", json=ROW | {"as_of": "2025-01-02"}).json()
    assert before["calibration"] is None
    about, told = answer["calibration"], answer["explanation"]
    assert about["as_of"] == "2025-01-20T00:00:00+00:00"
    assert about["reason"] == "the level of 80 truths, 1.0."
    total = told["base"] + sum(part["contribution"] for part in told["contributions"])
    if task == NUMBER:
        assert about["shift"] == 1.0
        assert answer["predicted_weight"] == pytest.approx(about["raw"] + 1.0, abs=1e-4)
        assert total == pytest.approx(answer["predicted_weight"], abs=1e-4)
        return
    assert next(iter(about["shift"].values())) == 1.0
    assert [*about["raw"]] == [*answer["probabilities"]]
    chance = answer["probabilities"][answer[table(task).target.answer_column]]
    assert total == pytest.approx(np.log(chance / (1 - chance)), abs=1e-4)


def look_until(http, last: str) -> str:
    """Let a service look for new states until it has the last one."""
    versions = http.app.app.state.service.versions
    while versions.current.calibration.about()["as_of"] != last:
        versions.refresh()
    return last


@pytest.mark.medium
def test_two_services_on_one_store_answer_each_by_a_state_that_was_there_while_it_changes(
    tmp_path,
):
    """Each answer, its shift, its raw answer and its interval are of one state, whenever it came."""
    store, name = store_of(tmp_path, NUMBER), table(NUMBER).name
    every = {s.as_of: s for s in (state(NUMBER, FIRST + n * DAY, by=float(n)) for n in range(20))}
    last, asked = max(every).isoformat(), ROW | {"as_of": "2025-12-01T00:00:00Z"}
    may_write, codes = threading.Semaphore(0), set()

    def write() -> None:
        for some in every.values():
            may_write.acquire()
            store.add(name, "1", some)

    with (
        serving(tmp_path, Shelf(NUMBER), table(NUMBER)) as one,
        serving(tmp_path, Shelf(NUMBER), table(NUMBER)) as other,
        ThreadPoolExecutor(3) as threads,
    ):
        one.post("/predict", json=asked)
        working = [threads.submit(write)]
        working += [threads.submit(look_until, http, last) for http in (one, other)]
        while not all(done.done() for done in working):
            may_write.release()
            codes |= {h.post("/predict", json=asked).status_code for h in (one, other)}
        one.post("/predict", json=asked)
        assert [done.result() for done in working] == [None, last, last]
    assert codes == {200}
    found, when = logged(tmp_path, NUMBER), datetime.fromisoformat(asked["as_of"])
    assert found["state_ts"].n_unique() > 1
    for row in found.iter_rows(named=True):
        used = every.get(row["state_ts"])
        used = used and used.aged((when - used.as_of).days)
        shift = used.shift[0] if used else 0.0
        assert row["answer"] == pytest.approx(row["raw"] + shift, abs=1e-4)
        if used:
            group = int(row["answer"] > 0)
            assert row["low"] == row["answer"] + used.low[group]
            assert row["high"] == row["answer"] + used.high[group]


def test_a_store_that_lost_its_states_answers_raw_and_says_so(tmp_path, capsys):
    store, shelf = store_of(tmp_path, NUMBER), Shelf(NUMBER)
    store.add(table(NUMBER).name, "1", state(NUMBER))
    with serving(tmp_path, shelf, table(NUMBER), serve_watch_s="1000") as http:
        moved = http.post("/predict", json=ROW).json()
        with store.database.transaction() as cursor:
            cursor.execute("DELETE FROM calibration_states")
        http.app.app.state.service.versions.refresh()
        raw = http.post("/predict", json=ROW).json()
        about = http.get("/metadata").json()["calibration"]
        page = http.get("/metrics").text
    assert moved["interval"] is not None
    assert raw["interval"] is None
    assert raw["predicted_weight"] == pytest.approx(moved["predicted_weight"] - 1.0, abs=1e-4)
    assert (about["as_of"], about["states"]) == (None, 0)
    assert "its answers are raw, without an interval" in about["reason"]
    assert "loopbook_calibration_shift{" not in page
    assert "calibration states lost" in capsys.readouterr().err


# -- score, the Open Inference Protocol, the page -------------------------------


@pytest.mark.medium
@pytest.mark.parametrize("at", [None, FIRST + DAY / 2])
def test_a_scored_row_is_what_the_service_answers_at_its_instant(task, at, tmp_path):
    """By the states of each row's instant, or all by that of the day that is asked for."""
    store, shelf = store_of(tmp_path, task), Shelf(task)
    for some in (state(task, by=0.5), state(task, FIRST + DAY, by=-2.0)):
        store.add(table(task).name, "1", some)
    given = rows(task, count=600, seed=5).select("size", "width", "zone", "at")
    given.write_parquet(tmp_path / "in.parquet")
    with serving(tmp_path, shelf, table(task), serve_batch_rows="1000") as http:
        sent = [r | {"as_of": (at or r.pop("at")).isoformat()} for r in given.to_dicts()]
        sent = [{n: v for n, v in row.items() if n != "at"} for row in sent]
        wish = "" if task == NUMBER else "?prediction_set=true"
        answers = http.post(f"/predict/batch{wish}", json={"rows": sent}).json()["predictions"]
    project = Project(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "connect", lambda address: shelf)
        source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
        how = scoring.How(prediction_set=task != NUMBER)
        done = scoring.score(project, table(task), source, target, as_of=at, how=how)
    scored = pl.read_parquet(done.path)
    servable, matrix = servable_of(shelf), matrix_of_sent(servable_of(shelf), sent)
    moved = calibration_states.moved
    if task == NUMBER:
        said_it = [a["predicted_weight"] for a in answers]
        assert scored["predicted_weight"].to_list() == said_it
        ends = zip(scored["predicted_weight_low"], scored["predicted_weight_high"], strict=True)
        ends = [None if low is None else [low, high] for low, high in ends]
        assert ends == [a["interval"] for a in answers]
        assert (None in ends) == (at is None)
    else:
        for name, column in table(task).target.probability_columns.items():
            assert scored[column].to_list() == [a["probabilities"][name] for a in answers]
        (column,) = table(task).target.set_columns
        assert scored[column].to_list() == [a["prediction_set"] for a in answers]
        assert (scored[column].null_count() > 0) == (at is None)
    unmoved = servable.predict(matrix)
    last = moved(servable.task, unmoved, (0.5 if at else -2.0, *[0.0] * (servable.task.width - 1)))
    assert np.allclose([said(task, a) for a in answers[-5:]], last[-5:].reshape(5, -1), atol=1e-4)


@pytest.mark.medium
def test_sets_of_classes_are_scored_on_request_only_as_json_in_text(task, tmp_path, monkeypatch):
    """A scoring without them is other work, so its parts are not taken for these."""
    monkeypatch.setattr(scoring, "connect", lambda address: Shelf(task))
    store_of(tmp_path, task).add(table(task).name, "1", state(task))
    (tmp_path / "contract.yaml").write_text(as_yaml(table(task)), encoding="utf-8")
    source, target = tmp_path / "in.parquet", tmp_path / "out.csv"
    rows(task, count=50).select("size", "width", "zone").write_parquet(source)
    wished = [Project(tmp_path), table(task), source, target]
    if task == NUMBER:
        with pytest.raises(
            ScoringError, match="weight is a number, whose answers have an interval"
        ):
            scoring.score(*wished, how=scoring.How(prediction_set=True))
        return
    scoring.score(*wished, as_of=FIRST + DAY)
    assert not [n for n in pl.read_csv(target).columns if n.endswith("_set")]
    scoring.score(*wished, as_of=FIRST + DAY, how=scoring.How(prediction_set=True))
    scored, (column,) = pl.read_csv(target), table(task).target.set_columns
    for row in scored.iter_rows(named=True):
        likely = {n: row[c] for n, c in table(task).target.probability_columns.items()}
        expected = sorted((n for n, p in likely.items() if p >= 0.15), key=lambda n: -likely[n])
        assert json.loads(row[column]) == expected


def matrix_of_sent(servable: Servable, sent: list[dict]) -> np.ndarray:
    """Requests as the graph takes them."""
    instants = [datetime.fromisoformat(row["as_of"]) for row in sent]
    return servable.matrix([{n: v for n, v in r.items() if n != "as_of"} for r in sent], instants)


def test_a_scoring_goes_on_with_the_states_that_it_began_with(tmp_path, monkeypatch):
    """A state that is made while it is interrupted moves no row of the same file."""
    monkeypatch.setattr(scoring, "connect", lambda address: Shelf(NUMBER))
    monkeypatch.setattr(scoring, "PART_ROWS", 50)
    store, project = store_of(tmp_path, NUMBER), Project(tmp_path)
    store.add(table(NUMBER).name, "1", state(NUMBER, by=0.5))
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    rows(NUMBER, count=100).select("size", "width", "zone").write_parquet(source)
    (tmp_path / "contract.yaml").write_text(as_yaml(table(NUMBER)), encoding="utf-8")
    whole, how = scoring.score_part, {"as_of": FIRST + 9 * DAY}

    def stopped(work, place):
        if place:
            raise KeyboardInterrupt
        return whole(work, place)

    monkeypatch.setattr(scoring, "score_part", stopped)
    with pytest.raises(KeyboardInterrupt):
        scoring.score(project, table(NUMBER), source, target, **how)
    store.add(table(NUMBER).name, "1", state(NUMBER, FIRST + DAY, by=40.0))
    monkeypatch.setattr(scoring, "score_part", whole)
    done = scoring.score(project, table(NUMBER), source, target, **how)
    assert done.resumed_rows == 50
    servable, given = servable_of(Shelf(NUMBER)), pl.read_parquet(source).to_dicts()
    raw = servable.predict(servable.matrix(given, [FIRST] * 100))
    assert np.allclose(pl.read_parquet(target)["predicted_weight"], raw + 0.5, atol=1e-4)


def test_the_open_inference_protocol_has_an_interval_or_a_set_where_it_is_asked_for(task, tmp_path):
    """An old client gets what it always got; without a state the wish is refused."""
    store, name = store_of(tmp_path, task), table(task).name
    column = {"name": "size", "shape": [2], "datatype": "FP64", "data": [4.0, 13.0]}
    wish = {"inputs": [column], "outputs": [{"name": "interval"}, {"name": "prediction_set"}]}
    with serving(tmp_path, Shelf(task), table(task)) as http:
        refused = http.post(f"/v2/models/{name}/infer", json=wish)
        store.add(name, "1", state(task))
        http.app.app.state.service.versions.refresh()
        plain = http.post(f"/v2/models/{name}/infer", json={"inputs": [column]}).json()
        asked = http.post(f"/v2/models/{name}/infer", json=wish).json()
        batch = [{"size": size} for size in column["data"]]
        rows_asked = {"rows": batch}
        path = "/predict/batch" + ("" if task == NUMBER else "?prediction_set=true")
        answers = http.post(path, json=rows_asked).json()["predictions"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_calibration_state")
    usual = ["prediction", *(["probabilities"] if task != NUMBER else []), "prediction_id"]
    assert [tensor["name"] for tensor in plain["outputs"]] == usual
    tensors = {tensor["name"]: tensor for tensor in asked["outputs"]}
    if task == NUMBER:
        assert tensors["interval"]["shape"] == [2, 2]
        assert tensors["interval"]["data"] == [end for a in answers for end in a["interval"]]
        return
    classes = table(task).target.classes
    assert tensors["prediction_set"]["shape"] == [2, len(classes)]
    sets = [c in a["prediction_set"] for a in answers for c in classes]
    assert tensors["prediction_set"]["data"] == sets


def test_the_page_that_asks_a_version_shows_the_answer_in_its_interval_or_set(task, tmp_path):
    store, shelf = store_of(tmp_path, task), Shelf(task)
    store.add(table(task).name, "1", state(task, FIRST + 30 * DAY))
    (tmp_path / "contract.yaml").write_text(as_yaml(table(task)), encoding="utf-8")
    page = what_if.sliders(Project(tmp_path), shelf, shelf.held("", CHAMPION))
    shown = with_spaces(page.children[-1].value)
    assert "as of 2025-02-19" in shown
    assert "Calibration: the level of 80 truths, 1.0." in shown
    assert ("Such intervals hold the true value in 90 % of cases." in shown) == (task == NUMBER)
    assert ("Such sets hold the true class in 90 % of cases." in shown) == (task != NUMBER)


def test_metrics_and_metadata_say_how_the_state_is(task, tmp_path):
    store, name = store_of(tmp_path, task), table(task).name
    store.add(name, "1", state(task, at_bound=True, by=0.75))
    with serving(tmp_path, Shelf(task), table(task)) as http:
        page, about = http.get("/metrics").text, http.get("/metadata").json()["calibration"]
    to = "target" if task == NUMBER else table(task).target.classes[0]
    assert f'loopbook_calibration_shift{{to="{to}",version="1"}} 0.75' in page
    assert 'loopbook_calibration_at_bound{version="1"} 1.0' in page
    assert 'loopbook_calibration_stands_still{version="1"} 0.0' in page
    (age,) = re.findall(r'loopbook_calibration_age_seconds{version="1"} (.+)', page)
    assert float(age) == pytest.approx((datetime.now(UTC) - FIRST).total_seconds(), abs=600)
    assert (about["as_of"], about["at_bound"], about["truths"]) == (FIRST.isoformat(), True, 80)


def test_with_calibration_off_nothing_is_moved_at_any_door(tmp_path, monkeypatch):
    shelf = Shelf(NUMBER)
    store_of(tmp_path, NUMBER).add(table(NUMBER).name, "1", state(NUMBER))
    with serving(tmp_path, shelf, table(NUMBER), calibration="false") as http:
        answer = http.post("/predict", json=ROW).json()
        about = http.get("/metadata").json()["calibration"]
    given = rows(NUMBER, 5).select("size", "width", "zone")
    given.write_parquet(tmp_path / "in.parquet")
    monkeypatch.setattr(scoring, "connect", lambda address: shelf)
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    scoring.score(Project(tmp_path), table(NUMBER), source, target)
    assert answer["interval"] is None
    assert about["reason"].startswith("calibration is false in env.yaml")
    raw = servable_of(shelf).predict(servable_of(shelf).matrix(given.to_dicts(), [FIRST] * 5))
    assert pl.read_parquet(target)["predicted_weight"].to_list() == raw.tolist()


def test_a_service_whose_states_cannot_be_read_goes_on_with_those_that_it_has(tmp_path, capsys):
    store_of(tmp_path, NUMBER).add(table(NUMBER).name, "1", state(NUMBER))
    with serving(tmp_path, Shelf(NUMBER), table(NUMBER), serve_watch_s="1000") as http:
        before = http.post("/predict", json=ROW).json()
        versions = http.app.app.state.service.versions

        def away(*_):
            raise PredictionLogError("sqlite: it is away at /a/secret/path")

        versions.states.states = away
        versions.refresh()
        versions.refresh()
        after = http.post("/predict", json=ROW).json()
        ready = http.get("/health/ready").json()
    assert after["interval"] == before["interval"]
    (fault,) = ready["not_followed"]
    assert (fault["role"], fault["code"]) == ("calibration", "log")
    assert "secret" not in str(ready)
    assert capsys.readouterr().err.count("version not followed") == 1
