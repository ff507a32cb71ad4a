"""What a scored file holds beside its rows, for a number, yes or no, and one of several."""

import json
import shutil

import polars as pl
import pytest
from pydantic import ValidationError
from small_classes import NUMBER, SEVERAL, TASKS, Shelf, as_yaml, rows, serving, table
from small_house import ROOT

from loopbook.project import paths
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import ScoringError
from loopbook.serving import scoring

ASKED = ["size", "width", "zone", "at"]


@pytest.fixture(params=TASKS)
def task(request) -> str:
    return request.param


def score(folder, task, source, target, about=None):
    """Score a file by the first version of the shelf of a task."""
    (folder / "contract.yaml").write_text(as_yaml(about or table(task)), encoding="utf-8")
    shutil.copy(ROOT / "env.yaml", folder)
    here = paths.Project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "connect", lambda address: Shelf(task))
        done = scoring.score(here, read_contract(here.contract), folder / source, folder / target)
    return pl.read_parquet(done.path) if target.endswith(".parquet") else pl.read_csv(done.path)


@pytest.mark.medium
def test_a_scored_file_has_the_answers_of_the_service_and_a_column_a_class(task, tmp_path):
    """As Parquet and as CSV, whatever signs are in a class's name; the rows stay as they were."""
    given = rows(task, count=50, seed=5).select(ASKED)
    given.write_parquet(tmp_path / "in.parquet")
    scored = score(tmp_path, task, "in.parquet", "out.parquet")
    assert scored.select(ASKED).equals(given)
    sent = given.rename({"at": "as_of"}).to_dicts()
    body = {"rows": [row | {"as_of": row["as_of"].isoformat()} for row in sent]}
    with serving(tmp_path, Shelf(task), table(task)) as http:
        answers = http.post("/predict/batch", json=body).json()["predictions"]
    name = f"predicted_{table(task).target.name}"
    assert scored[name].to_list() == [answer[name] for answer in answers]
    classes = table(task).target.classes or []
    for one in classes:
        said = [answer["probabilities"][one] for answer in answers]
        assert scored[f"probability_{one}"].to_list() == said
    more = [f"probability_{c}" for c in classes] or [f"{name}_low", f"{name}_high"]
    assert scored.columns == [*ASKED, name, *more, "model_version"]
    text = score(tmp_path, task, "in.parquet", "out.csv")
    assert text.columns == scored.columns
    assert text[name].to_list() == scored[name].to_list()


def test_a_file_that_was_scored_before_is_scored_anew(tmp_path):
    rows(SEVERAL, count=9).select(ASKED).write_parquet(tmp_path / "in.parquet")
    once = score(tmp_path, SEVERAL, "in.parquet", "once.parquet")
    once.with_columns(pl.lit(0.5).alias("probability_red")).write_parquet(
        tmp_path / "again.parquet"
    )
    assert score(tmp_path, SEVERAL, "again.parquet", "twice.parquet").equals(once)


@pytest.mark.parametrize("task", [NUMBER, SEVERAL], indirect=True)
def test_a_row_whose_answer_is_no_number_is_told_by_its_number(task, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "PART_ROWS", 4)
    given = rows(task, count=9).select(ASKED)
    sizes = given["size"].scatter(6, 1e300)
    given.with_columns(sizes).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(ScoringError, match="answer to 1 row is no number; first: row 7"):
        score(tmp_path, task, "in.parquet", "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_no_column_of_a_contract_is_called_as_what_is_added_to_a_scored_file():
    """Another model's probability may be a feature; the file may call it so nowhere."""
    about = json.loads(as_yaml(table(SEVERAL)))
    told = "'probability_blue, dark' is added to a file that is scored; choose another"
    about["features"]["width"] |= {"column": "probability_blue, dark"}
    with pytest.raises(ValidationError, match=told):
        Contract.model_validate(about)
    about["features"]["width"] |= {"column": "probability_black"}
    about["features"]["probability_red"] = about["features"].pop("size")
    with pytest.raises(ValidationError, match="'probability_red' is added to a file"):
        Contract.model_validate(about)
