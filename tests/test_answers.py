"""What is answered, logged and told back, for a number, yes or no, and one of several alike."""

import json
import re
from dataclasses import replace

import jsonschema
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import helper
from reading import with_spaces
from small_classes import (
    NUMBER,
    ROW,
    SEVERAL,
    TASKS,
    THRESHOLD,
    YES_OR_NO,
    Shelf,
    as_yaml,
    files,
    rows,
    serving,
    table,
    version,
)

from loopbook.data import aside_truths, prediction_log, quarantine, served_rows
from loopbook.data.truths import Truth
from loopbook.features import rows as row_features
from loopbook.models.inference import OUTPUT
from loopbook.models.task import task_of
from loopbook.pages import what_if
from loopbook.project import clock, contract, paths
from loopbook.project.contract import Contract
from loopbook.project.errors import QuarantineError, VersionRefused
from loopbook.records.roles import CHALLENGER, CHAMPION
from loopbook.registry.explanations import explain
from loopbook.registry.reader import CARD, ONNX
from loopbook.registry.servable import load

AT = clock.parse_instant(ROW["as_of"])


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """The project's own settings, and not those of the repository that the tests are in."""
    for name in ("LOOPBOOK_PROJECT", *paths.Project(paths.Path.cwd()).environment()):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture
def http(task, tmp_path):
    with serving(tmp_path, Shelf(task), table(task)) as client:
        yield client


def logged(folder, about: Contract) -> pl.DataFrame:
    log = prediction_log.connect(paths.Project(folder), about)
    found = pl.concat(log.rows(), how="diagonal")
    log.close()
    return found


def servable_of(task: str, change=lambda card: None):
    """The first version of a shelf, with another card."""
    shelf = Shelf(task)
    card = json.loads(shelf.files["1"][CARD])
    change(card)
    shelf.files["1"] = shelf.files["1"] | {CARD: json.dumps(card).encode()}
    return load(shelf, shelf.held("", CHAMPION))


@pytest.mark.medium
def test_what_is_answered_is_what_the_fitted_model_says_and_is_in_the_log(http, task, tmp_path):
    """One row, a batch and the log are alike; a class has the probability of each.

    A linear graph computes many rows by other instructions than one: the last bit may differ.
    """
    about, name = table(task), f"predicted_{table(task).target.name}"
    asked = [ROW | {"size": size} for size in (4.0, 9.0, 13.0)]
    single = [http.post("/predict", json=row).json() for row in asked]
    many = http.post("/predict/batch", json={"rows": asked}).json()["predictions"]
    by_query = http.get("/predict", params=asked[0]).json()
    for one, other in ((many[0], single[0]), (many[2], single[2]), (by_query, single[0])):
        likely = pytest.approx(other.get("probabilities", {}), rel=1e-5)
        assert one.get("probabilities", {}) == likely
        assert one[name] == (
            pytest.approx(other[name], rel=1e-5) if task == NUMBER else other[name]
        )
    model, _, card = version(task)
    matrix = row_features.records_matrix(asked, [AT] * 3, about, card["inputs"], card["categories"])
    expected = task_of(about).answers(model, matrix)
    entries = logged(tmp_path, about).head(3)
    answers = task_of(about).of_column(entries["answer"])
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    if about.target.classes:
        said = [[row["probabilities"][c] for c in about.target.classes] for row in single]
        assert entries["answered"].to_list() == [row[name] for row in single]
    else:
        said = [row[name] for row in single]
        assert all("probabilities" not in row for row in single)
    assert answers.tolist() == said


@pytest.mark.medium
@pytest.mark.parametrize("task", [NUMBER, SEVERAL], indirect=True)
def test_a_row_whose_answer_is_no_number_is_refused_and_fails_no_other(http, task, tmp_path):
    """A linear graph overflows; NaN cannot be logged, and the log was said to be away."""
    for address in ("/predict", "/predict?explain=true"):
        refused = http.post(address, json={"size": 1e300})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_answer")
    rows = {"rows": [ROW, ROW | {"size": 1e300}]}
    assert http.post("/predict/batch", json=rows).status_code == 422
    assert http.post("/predict", json=ROW).status_code == 200
    assert logged(tmp_path, table(task)).height == 1


@pytest.mark.medium
def test_yes_is_answered_from_the_threshold_of_the_card_on(tmp_path):
    with serving(tmp_path, Shelf(YES_OR_NO), table(YES_OR_NO)) as http:
        rows = [ROW | {"size": size} for size in np.linspace(2, 18, 60)]
        answers = http.post("/predict/batch", json={"rows": rows}).json()["predictions"]
    said = {a["predicted_late"] == "yes" for a in answers if a["probabilities"]["yes"] < 0.5}
    assert said == {True, False}
    for answer in answers:
        is_yes = answer["probabilities"]["yes"] >= THRESHOLD
        assert answer["predicted_late"] == ("yes" if is_yes else "no")


@pytest.mark.medium
def test_contributions_and_base_add_up_to_the_answer_or_its_log_odds(http, task):
    answer = http.post("/predict?explain=true", json=ROW).json()
    told, said = answer["explanation"], answer[f"predicted_{table(task).target.name}"]
    total = told["base"] + sum(part["contribution"] for part in told["contributions"])
    if "probabilities" in answer:
        p = answer["probabilities"][said]
        assert told["unit"] == f"log odds of {said}"
        assert total == pytest.approx(np.log(p / (1 - p)), rel=1e-5)
    else:
        assert (told["unit"], total) == ("kg", pytest.approx(said, rel=1e-5))


@pytest.mark.medium
def test_the_open_inference_protocol_has_a_class_as_bytes_and_its_probabilities(http, task):
    address = f"/v2/models/{table(task).name}"
    described = {t["name"]: t for t in http.get(address).json()["outputs"]}
    column = {"name": "size", "shape": [2], "datatype": "FP64", "data": [4.0, 13.0]}
    found = http.post(f"{address}/infer", json={"inputs": [column]}).json()["outputs"]
    tensors = {t["name"]: t for t in found}
    direct = [http.get("/predict", params={"size": size}).json() for size in (4.0, 13.0)]
    said = [row[f"predicted_{table(task).target.name}"] for row in direct]
    assert tensors["prediction"]["data"] == (pytest.approx(said) if task == NUMBER else said)
    assert tensors["prediction"]["shape"] == [2]
    if task == NUMBER:
        assert set(described) == {"prediction"}
        assert tensors["prediction"]["datatype"] == "FP64"
        return
    likely, classes = tensors["probabilities"], table(task).target.classes
    assert tensors["prediction"]["datatype"] == "BYTES"
    assert described["probabilities"]["shape"] == [-1, len(classes)]
    assert described["probabilities"]["parameters"]["classes"] == classes
    assert (likely["datatype"], likely["shape"]) == ("FP64", [2, len(classes)])
    expected = [row["probabilities"][name] for row in direct for name in classes]
    assert likely["data"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.medium
def test_the_document_says_what_the_answers_of_this_target_are(http, task):
    defined = http.get("/openapi.json").json()["components"]["schemas"]
    answer, observed = defined["Answer"], defined["Truth"]["properties"]["observed"]
    said = answer["properties"][f"predicted_{table(task).target.name}"]
    if task == NUMBER:
        assert (said["type"], observed["type"]) == ("number", "number")
        assert "probabilities" not in answer["properties"]
        return
    assert said["enum"] == table(task).target.classes
    assert "probabilities" in answer["required"]
    assert {kind["type"] for kind in observed["anyOf"]} == {
        *("boolean", "integer", "number", "string"),
    }
    assert table(task).target.classes[0] in observed["description"]


@pytest.mark.medium
def test_answers_are_what_the_document_says_they_are(http, task):
    """Of every route that tells an answer, by the JSON schema of each."""
    defined = http.get("/openapi.json").json()["components"]
    text = json.dumps(defined).replace("#/components/", "#/")
    name, row = table(task).name, {"name": "size", "shape": [1], "datatype": "FP64", "data": [9]}
    truth = {"prediction_id": "none", "observed": (table(task).target.classes or [1])[0]}
    found = {
        "Answer": http.post("/predict?explain=true", json=ROW),
        "Answers": http.post("/predict/batch", json={"rows": [ROW, {"size": 1}]}),
        "InferenceResponse": http.post(f"/v2/models/{name}/infer", json={"inputs": [row]}),
        "ModelMetadata": http.get(f"/v2/models/{name}"),
        "ErrorAnswer": http.post("/feedback", json=truth),
    }
    for form, answer in found.items():
        schema = json.loads(text) | {"$ref": f"#/schemas/{form}"}
        jsonschema.validate(answer.json(), schema, jsonschema.Draft202012Validator)
    jsonschema.validate(truth, json.loads(text) | {"$ref": "#/schemas/Truth"})
    wrong = found["Answer"].json() | {f"predicted_{table(task).target.name}": "purple"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json.loads(text) | {"$ref": "#/schemas/Answer"})


def test_feedback_takes_the_class_or_the_number_again_and_corrected(http, task, tmp_path):
    name = http.get("/predict", params={"size": 9.0}).json()["prediction_id"]
    first, second = {NUMBER: (5.5, -3)}.get(task) or table(task).target.classes[:2]

    def tell(observed):
        body = {"prediction_id": name, "observed": observed}
        return http.post("/feedback", json=body).json()["outcomes"]

    assert [tell(first), tell(first), tell(second)] == [["accepted"], ["unchanged"], ["corrected"]]
    (row,) = logged(tmp_path, table(task)).iter_rows(named=True)
    assert (row["observed"], row["corrections"]) == (second, 1)


@pytest.mark.medium
@pytest.mark.parametrize("observed", ["purple", "Red", 0.73, 17, True, "no\n such"])
def test_feedback_of_an_unknown_class_or_a_probability_is_set_aside(observed, tmp_path):
    with serving(tmp_path, Shelf(SEVERAL), table(SEVERAL)) as http:
        name = http.get("/predict", params={"size": 9.0}).json()["prediction_id"]
        told = http.post("/feedback", json={"prediction_id": name, "observed": observed}).json()
        assert told["outcomes"] == ["set_aside"]
        refused = http.post("/feedback", json={"prediction_id": name, "observed": None})
        assert "expected one of red, blue, dark, grün" in refused.json()["error"]["message"]
    (entry,) = quarantine.connect(paths.Project(tmp_path)).waiting()
    assert "kind not one of red, blue, dark, grün" in entry.row.reasons[0]
    assert ("a probability is no class" in entry.row.reasons[0]) == (observed == 0.73)
    assert "add it to target.classes" in entry.row.fixed
    assert logged(tmp_path, table(SEVERAL))["observed"].to_list() == [None]


def test_a_class_is_told_as_a_category_is_written(tmp_path):
    """True, 1 and 1.0 are the classes of a table that holds such values."""
    numbered = table(YES_OR_NO).model_dump(mode="json", exclude_defaults=True)
    numbered["target"] = {"name": "late", "classes": ["true", "1"], "meaning": "Which."}
    about = Contract.model_validate(numbered)
    with serving(tmp_path, Shelf(YES_OR_NO), about) as http:
        for given in (True, "true", 1, 1.0, "1.0", " 1 "):
            name = http.get("/predict", params={"size": 9.0}).json()["prediction_id"]
            told = http.post("/feedback", json={"prediction_id": name, "observed": given}).json()
            assert told["outcomes"] == ["accepted"], given
    assert logged(tmp_path, about)["observed"].to_list() == ["true"] * 2 + ["1"] * 4


def test_answers_by_class_are_counted(tmp_path):
    with serving(tmp_path, Shelf(SEVERAL), table(SEVERAL)) as http:
        said = http.get("/predict", params={"size": 2.0}).json()["predicted_kind"]
        page = http.get("/metrics").text
    assert f'loopbook_answered_class_total{{answered="{said}"}} 1.0' in page


def test_a_challenger_answers_beside_the_champion_and_each_keeps_its_probabilities(task, tmp_path):
    shelf = Shelf(task)
    shelf.alias[CHALLENGER] = "2"
    with serving(
        tmp_path, shelf, table(task), serve_challenger="canary", serve_canary_share="0.5"
    ) as http:
        batch = {"rows": [ROW | {"size": float(size)} for size in range(20)]}
        answers = http.post("/predict/batch", json=batch).json()["predictions"]
    assert {answer["version"] for answer in answers} == {"1", "2"}
    found = {row["id"]: row for row in logged(tmp_path, table(task)).iter_rows(named=True)}
    for answer in answers:
        said = answer.get("probabilities", {}).values() or answer["predicted_weight"]
        kept = found[answer["prediction_id"]]["answer"]
        assert kept == (list(said) if task != NUMBER else said)


def test_what_came_back_is_rows_with_the_class_and_an_unknown_one_is_set_aside(task, tmp_path):
    """A class that the contract no longer has: told, and in no window and no model."""
    about, project = table(task), paths.Project(tmp_path)
    known = {NUMBER: [1.5, 2.5]}.get(task) or about.target.classes[:2]
    strange = {NUMBER: 5_000.0}.get(task, "purple")
    with serving(tmp_path, Shelf(task), about) as http:
        for place in range(3):
            http.get("/predict", params=ROW | {"id": f"row-{place}"})
    log = prediction_log.connect(project, about)
    now = clock.to_micros(clock.utc_now())
    for place, observed in enumerate([*known, strange]):
        key = log.keys.text({"id": f"row-{place}"})
        assert log.tell([Truth(None, key, observed, now, now)]) == ["accepted"]
    log.close()
    served = served_rows.collect(project, about, None, now=clock.utc_now())
    assert served.rows[about.target.name].sort().to_list() == sorted(known)
    (aside,) = served.aside
    assert bool(aside.fixed) == (task != NUMBER)
    answers = aside_truths.without(logged(tmp_path, about), about, frozenset())
    assert sorted(answers["observed"].drop_nulls()) == sorted(known)


def test_a_version_of_other_classes_than_the_contract_has_now_serves_and_says_so(tmp_path, capsys):
    fewer = table(SEVERAL).model_dump(mode="json", exclude_defaults=True)
    fewer["target"] |= {"classes": ["red", "grün", "black"]}
    with serving(tmp_path, Shelf(SEVERAL), Contract.model_validate(fewer)) as http:
        answer = http.get("/predict", params={"size": 9.0}).json()
        assert set(answer["probabilities"]) == {"red", "blue, dark", "grün"}
    assert "it answers red, blue, dark, grün, which is not what target.classes" in "".join(
        capsys.readouterr()
    )
    (row,) = logged(tmp_path, Contract.model_validate(fewer)).iter_rows(named=True)
    said = answer["probabilities"]
    assert row["answer"] == [said["red"], said["grün"], 0.0]


def reordered(card):
    """The classes of a card and its known answers, and not what the graph answers."""
    card["contract"]["target"]["classes"].reverse()
    for row in card["examples"]["known"]:
        row.reverse()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update(decision={"threshold": 2}), "threshold"),
        (reordered, "rows whose answers are known otherwise"),
        (lambda c: c["contract"]["target"].update(classes=[*"abcd"]), "not 4 probabilities"),
        (lambda c: c["examples"].update(known=[0.5] * len(c["examples"]["known"])), "not 3 prob"),
        (lambda c: c["examples"]["prediction"][0].reverse(), "its own examples otherwise"),
        (lambda c: c["examples"].update(prediction=[[0.5] * 3] * len(c["examples"]["known"])), "otherwise"),
    ],
)  # fmt: skip
def test_a_version_whose_card_and_graph_disagree_about_classes_is_refused(change, told):
    with pytest.raises(VersionRefused, match=told):
        servable_of(SEVERAL, change)


def test_a_graph_that_answers_scores_where_probabilities_are_due_is_refused():
    shelf = Shelf(SEVERAL)
    graph = onnx.load_from_string(shelf.files["1"][ONNX])
    doubled = helper.make_node("Add", [graph.graph.node[-1].input[0]] * 2, [OUTPUT])
    del graph.graph.node[-1]
    graph.graph.node.append(doubled)
    shelf.files["1"] = shelf.files["1"] | {ONNX: graph.SerializeToString()}
    with pytest.raises(VersionRefused, match="no probabilities that add up to 1"):
        load(shelf, shelf.held("", CHAMPION))


def test_a_number_near_zero_is_held_against_the_spread_and_an_older_card_relatively():
    answer = json.loads(files(NUMBER)[CARD])["examples"]["prediction"][0]

    def moved(card):
        card["examples"]["prediction"][0] = answer + 1e-4

    servable_of(NUMBER, moved)  # 1e-4 kg of a spread of 60 kg
    with pytest.raises(VersionRefused, match="otherwise than its card says"):
        servable_of(
            NUMBER, lambda card: card["examples"]["prediction"].__setitem__(0, answer + 0.1)
        )

    def older(card):
        moved(card)
        del card["parity"]["spread"]
        card["examples"]["prediction"][0] = answer * (1 + 1e-4)

    with pytest.raises(VersionRefused, match="otherwise than its card says"):
        servable_of(NUMBER, older)


def test_a_threshold_above_all_probabilities_never_answers_yes():
    servable = servable_of(YES_OR_NO, lambda card: card["decision"].update(threshold=1.0000001))
    assert servable.decided(np.array([[1.0, 0.0], [0.0, 1.0]])) == ["no", "no"]


def test_a_row_is_explained_by_the_class_that_the_threshold_answers():
    servable = servable_of(YES_OR_NO)
    row = {"size": 10.0, "width": 2.0, "zone": "north"}
    matrix = servable.matrix([row], [AT])
    (said,) = servable.decided(servable.predict(matrix))
    without = servable_of(YES_OR_NO, lambda card: card.pop("decision"))
    (most,) = without.decided(without.predict(matrix))
    assert (said, most) == ("yes", "no")
    assert explain(servable, row, AT)["unit"] == "log odds of yes"
    assert explain(without, row, AT)["unit"] == "log odds of no"


def test_the_page_that_asks_a_version_shows_its_answer_and_every_probability(task, tmp_path):
    (tmp_path / "contract.yaml").write_text(as_yaml(table(task)), encoding="utf-8")
    shelf = Shelf(task)
    page = what_if.sliders(paths.Project(tmp_path), shelf, shelf.held("", CHAMPION))
    _, inputs, shown = page.children
    before = shown.value
    size = next(w for w in inputs.children if w.description.startswith("size"))
    size.value = size.max
    assert shown.value != before
    said = re.search(r"<b>([^<]+)</b>([\w, ]+), as of 2025-02-01", shown.value)
    target = table(task).target
    assert said[2] == (f"{target.name}, kg" if task == NUMBER else target.name)
    assert shown.value.count('<div style="width:') == len(target.classes or [])
    assert target.classes is None or said[1] in target.classes
    assert "add up to the difference" in shown.value
    assert f">{size.description}</td>" in shown.value  # as its slider is called
    rule = "yes is answered where its probability is 20.0 % or more" in with_spaces(shown.value)
    assert rule == (task == YES_OR_NO)


def test_truth_that_waits_is_let_in_only_as_what_the_target_is_now(tmp_path):
    """It was told for a number, and the target has classes by now, or the other way."""
    project = paths.Project(tmp_path)
    told = Truth("p1", None, 5_000.0, None, 10**15)
    number, classes = table(NUMBER), table(YES_OR_NO)
    row = aside_truths.as_row(told, "outside", number)
    renamed = replace(row, content=row.content | {"late": row.content["weight"]})
    log = prediction_log.connect(project, classes)
    with pytest.raises(QuarantineError, match="told for another target"):
        aside_truths.let_in([renamed], log, classes)
    other = replace(row, content=row.content | {"weight": "yes"})
    with pytest.raises(QuarantineError, match="told for another target"):
        aside_truths.let_in([other], log, number)
    assert log.truth_count()[0] == 0
    log.close()


def test_the_rows_of_each_table_are_what_the_contract_says():
    """The tests above stand on them."""
    for task in TASKS:
        about = contract.Contract.model_validate(table(task).model_dump(mode="json"))
        values = rows(task)[about.target.name]
        assert not about.target.classes or set(values) == set(about.target.classes)
