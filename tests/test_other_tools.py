"""docs/other-tools.md: what the page says of other tools, run."""

import re
import warnings
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from small_house import FULL, ROOT, Running, give, make_project

from loopbook.project.contract import read_contract
from loopbook.registry import tracking
from loopbook.serving import Refusal

with warnings.catch_warnings():  # it wants the next httpx
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

PAGE = ROOT / "docs/other-tools.md"


def routes() -> str:
    """The file of routes that the page shows."""
    (code,) = re.findall(
        r"```python\n(\"\"\"Requests in the forms.*?)```", PAGE.read_text(), re.DOTALL
    )
    return code


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service of the real table that has the page's routes."""
    folder = make_project(tmp_path_factory.mktemp("other tools") / "house")
    give(folder, 1, tracking.CHAMPION)
    (folder / "serving/routes.py").write_text(routes())
    with Running(folder, "--quiet") as service:
        yield service


ROWS = [{k: v for k, v in FULL.items() if k != "as_of"} | {"size": size} for size in (900, 1800)]


@pytest.fixture(scope="module")
def columns() -> list[str]:
    return list(read_contract(ROOT / "contract.yaml").features)


def ordered(rows: list[dict], columns: list[str]) -> list[list]:
    """Rows as lists, in the contract's order, by the name that people type."""
    contract = read_contract(ROOT / "contract.yaml")
    typed = {column: alias for alias, column in contract.aliases.items()}
    return [[row.get(typed.get(name, name), row.get(name)) for name in columns] for row in rows]


@pytest.fixture(scope="module")
def ours(running) -> list[float]:
    said = running.http.post("/predict/batch", json={"rows": ROWS}).json()["predictions"]
    return [one["predicted_price"] for one in said]


@pytest.mark.slow
def test_clients_of_tensorflow_serving_get_the_numbers_of_predict(running, ours, columns):
    """By rows, as lists, by columns, of a named version; the state as a probe asks for it."""
    name = read_contract(ROOT / "contract.yaml").name
    by_rows = {"signature_name": "serving_default", "instances": ROWS}
    by_column = {"inputs": {key: [row[key] for row in ROWS] for key in ROWS[0]}}
    (status,) = running.http.get(f"/v1/models/{name}").json()["model_version_status"]
    assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    for path in (f"/v1/models/{name}:predict", f"/v1/models/{name}/versions/1:predict"):
        assert running.http.post(path, json=by_rows).json() == {"predictions": ours}
        listed = {"instances": ordered(ROWS, columns)}
        assert running.http.post(path, json=listed).json() == {"predictions": ours}
        assert running.http.post(path, json=by_column).json() == {"outputs": ours}
    for path in ("/v1/models/other:predict", f"/v1/models/{name}/versions/7:predict"):
        assert running.http.post(path, json=by_rows).status_code == 404


@pytest.mark.slow
def test_sagemaker_and_flask_clients_get_the_numbers_of_predict(running, ours, columns):
    data = ordered(ROWS, columns)
    assert running.http.get("/ping").status_code == 200
    for body in (
        {"dataframe_split": {"columns": columns, "data": data}},
        {"dataframe_records": ROWS},
        {"instances": ROWS},
    ):
        assert running.http.post("/invocations", json=body).json() == {"predictions": ours}
    flask = running.http.post("/flask/predict", json={"features": data})
    assert flask.json() == {"predictions": ours}


@pytest.fixture
def asked():
    """The page's routes alone; what they ask `predict_rows` is kept, and answered by its place."""
    names: dict = {}
    exec(routes(), names)
    rows_asked: list[dict] = []

    async def predict_rows(_request, rows):
        rows_asked.extend(rows)
        return [{"predicted_price": float(place)} for place in range(len(rows))]

    names["predict_rows"] = predict_rows
    contract = read_contract(ROOT / "contract.yaml")
    by_name = dict(sorted(contract.features.items()))  # as a version's card has them
    servable = SimpleNamespace(
        contract=contract.model_copy(update={"features": by_name}), number="3"
    )
    app = FastAPI()
    ready = SimpleNamespace(servable=servable)
    app.state.service = SimpleNamespace(ready=lambda: ready, contract=contract)
    app.add_exception_handler(
        Refusal, lambda _request, refusal: JSONResponse({}, status_code=refusal.status)
    )
    names["extend"](app)
    return TestClient(app), rows_asked, contract.name


BY_ROWS = [{"size": 900, "rooms": 2}, {"size": 1800, "rooms": 3}]


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/models/{}:predict", {"instances": BY_ROWS}, "predictions"),
        ("/v1/models/{}/versions/3:predict", {"instances": BY_ROWS}, "predictions"),
        ("/v1/models/{}:predict", {"inputs": {"size": [900, 1800], "rooms": [2, 3]}}, "outputs"),
        ("/invocations", {"dataframe_records": BY_ROWS}, "predictions"),
        (
            "/invocations",
            {"dataframe_split": {"columns": ["size", "rooms"], "data": [[900, 2], [1800, 3]]}},
            "predictions",
        ),
    ],
)
def test_every_form_of_a_request_is_the_same_rows(asked, path, body, key):
    client, rows, name = asked
    answer = client.post(path.format(name), json=body)
    assert answer.json() == {key: [0.0, 1.0]}
    assert rows == BY_ROWS


def test_a_list_has_the_columns_of_the_contract_in_their_order(asked, columns):
    client, rows, _ = asked
    values = list(range(len(columns)))
    client.post("/flask/predict", json={"features": [values]})
    assert rows == [dict(zip(columns, values, strict=True))]


def test_another_model_or_version_is_not_found(asked):
    client, rows, name = asked
    for path in ("/v1/models/other:predict", f"/v1/models/{name}/versions/7:predict"):
        assert client.post(path, json={"instances": BY_ROWS}).status_code == 404
    assert client.get("/v1/models/other").status_code == 404
    assert rows == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": 3},
        {"instances": [3]},
        {"instances": [[1, 2]]},
        {"inputs": {"size": [1], "rooms": [1, 2]}},
        {"inputs": {"size": 1}},
        {"dataframe_split": {"columns": ["size"], "data": [[1, 2]]}},
    ],
)
def test_a_request_of_another_form_is_refused(asked, body):
    client, rows, _ = asked
    assert client.post("/invocations", json=body).status_code == 422
    assert rows == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [{}, {"instances": 3}, {"instances": [[1, 2]]}, {"inputs": {"size": [1], "rooms": [1, 2]}},
             {"instances": [{"size": 900, "nothing": 1}]}, {"instances": []}]
)  # fmt: skip
def test_a_request_of_another_form_is_refused_in_the_one_shape(running, body):
    refused = running.http.post("/invocations", json=body)
    assert (refused.status_code, list(refused.json())) == (422, ["error"])
