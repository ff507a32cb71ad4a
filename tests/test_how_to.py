"""What docs/how-to.md says of bringing a model along: its blocks, run."""

import pickle
import re
import textwrap
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI
from sklearn.base import clone
from small_house import ROOT

from loopbook.models import trial
from loopbook.project.addresses import sqlite_address
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project

with warnings.catch_warnings():  # it wants the next httpx
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

# the converter's own use of numpy and onnx, not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PAGE = ROOT / "docs/how-to.md"
FLAT = {"size": 50.0, "age": 10.0, "zone": "a"}
IMPORTS = """
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
"""
CONTRACT = """
name: flats
meaning: One row is a flat.
task: regression
source: {path: rents.csv}
key: [id]
target: {name: rent, range: [1, 10000], meaning: Rent.}
features:
  size: {type: number, required: true, example: 50, meaning: Area.}
  age: {type: number, example: 10, meaning: Age.}
  zone: {type: category, example: a, meaning: Part of the town.}
"""


def block(words: str) -> str:
    """The block of Python on the page that holds these words."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [text for text in map(textwrap.dedent, blocks) if words in text]
    return found


def flats(rows: int = 300) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "size": draw.uniform(20, 150, rows),
            "age": draw.uniform(0, 90, rows),
            "zone": draw.choice(["a", "b"], rows),
        }
    )
    return table.assign(rent=10 * table["size"] - table["age"])


@pytest.fixture(scope="module")
def fitted():
    """The model of the page's notebook, fitted by its own block."""
    names = {"rows": flats()}
    exec(IMPORTS + block("make_column_transformer("), names)
    return names["model"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.medium
def test_the_candidate_of_the_page_is_the_notebooks_model_and_can_be_trained_and_served(
    here, fitted
):
    (here / "contract.yaml").write_text(CONTRACT)
    (here / "pipeline.yaml").touch()
    code = block("def from_notebook")
    (here / "candidates.py").write_text(code)
    contract = read_contract(here / "contract.yaml")
    assert trial.faults_of("from_notebook", contract, Project(here)) == []
    names: dict = {}
    exec(code, names)
    estimator = names["from_notebook"](contract, 3).steps[-1][1]
    assert (
        estimator.get_params() == clone(fitted.steps[-1][1]).set_params(random_state=3).get_params()
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_the_best_run_of_ones_own_is_found_and_its_settings_are_shown(
    here, fitted, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_address(here / "mlflow.db"))
    mlflow.set_tracking_uri(None)
    mlflow.set_experiment("rents")
    for error in (20, 10):
        with mlflow.start_run():
            mlflow.log_metric("mae", error)
            model = clone(fitted).set_params(gradientboostingregressor__max_depth=error // 5)
            model.fit(flats(), flats()["rent"])
            mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle")
    exec(block("mlflow.search_runs"), {})
    shown = capsys.readouterr().out
    assert "GradientBoostingRegressor(max_depth=2, n_estimators=300)" in shown


def test_the_pickle_and_the_route_for_its_clients_answer_in_the_same_form(
    here, fitted, monkeypatch
):
    (here / "model.pkl").write_bytes(pickle.dumps(fitted))
    before: dict = {}
    exec(block("def predict(flat"), before)
    old = TestClient(before["app"]).post("/predict", json=FLAT).json()
    after: dict = {}
    code = block("def predict_as_before")
    exec(code, after)

    async def predict_rows(_request, rows):
        assert rows == [FLAT]
        return [{"predicted_rent": old["rent"], "prediction_id": "1"}]

    after["predict_rows"] = predict_rows
    app = FastAPI()
    after["extend"](app)
    assert TestClient(app).post("/before/predict", json=FLAT).json() == old
    without = {name: FLAT[name] for name in ("size", "age")}
    assert TestClient(app).post("/before/predict", json=without).status_code == 422


def test_old_and_new_are_compared_on_the_same_rows(here, fitted, capsys):
    rows = flats(20)
    rows.to_csv(here / "newer.csv", index=False)
    rows.assign(predicted_rent=rows["rent"] + 7).to_csv(here / "scored.csv", index=False)
    (here / "model.pkl").write_bytes(pickle.dumps(fitted))
    exec(block('"before": model.predict'), {})
    told = dict(re.findall(r"^(before|here) +([\d.]+)$", capsys.readouterr().out, re.MULTILINE))
    off = abs(fitted.predict(rows) - rows["rent"]).mean()
    assert float(told["here"]) == pytest.approx(7)
    assert float(told["before"]) == pytest.approx(off, rel=1e-5)
