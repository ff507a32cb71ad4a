"""A search for settings: by the validation rows alone, and what it finds is one more candidate."""

import numpy as np
import polars as pl
import pytest
from small_house import ROOT

from loopbook.cli import tune as command
from loopbook.data import splits
from loopbook.models import candidates, search_spaces, trial, tuned_candidates, tuning
from loopbook.models.task import task_of
from loopbook.models.tuning import How, Search, Trial
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import TuningError
from loopbook.project.files import write_json
from loopbook.project.paths import Project

# the converter's own use of numpy and onnx, not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CONTRACT = """
name: falls
meaning: One row is a fall.
task: regression
source: {path: falls.csv}
key: [id]
target: {name: depth, meaning: Depth.}
features:
  seconds: {type: number, required: true, example: 2, meaning: Time.}
"""
OWN = """
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from loopbook.models import steps


def line(contract, random_seed):
    '''A line through powers.'''
    numbers = make_pipeline(steps.scaled(), PolynomialFeatures(1))
    return steps.pipeline(contract, Ridge(0.1), numbers, steps.known())


# a person's own words
AFTER = 1
"""
DEGREE = "columns__numbers__polynomialfeatures__degree"
SPACE = f"line:\n  {DEGREE}: [1, 2]\n"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A project in which what is predicted is the square of its one feature."""
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    (tmp_path / "pipeline.yaml").touch()
    (tmp_path / "candidates.py").write_text(OWN)
    (tmp_path / "tune.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    split_rows(Project(tmp_path))
    return Project(tmp_path)


def split_rows(project: Project, test_depth: float = 1.0) -> None:
    """What `split` leaves: 200 rows that teach, 60 that compare, 60 for the test."""
    seconds = np.random.default_rng(3).uniform(0, 10, 320)
    part = ["train"] * 200 + ["validation"] * 60 + ["test"] * 60
    rows = pl.DataFrame({"id": np.arange(320), "seconds": seconds, splits.PART: part})
    depth = pl.when(pl.col(splits.PART) == "test").then(test_depth).otherwise(5 * seconds**2)
    folder = project.var / "build"
    folder.mkdir(parents=True, exist_ok=True)
    rows.with_columns(depth=depth).write_parquet(folder / "split_rows.parquet")
    write_json(folder / "split.json", {"categories": {}})


def searched(project: Project, trials: int = 10, name: str = "line") -> Search:
    contract = read_contract(project.contract)
    rows = tuning.rows_of_build(project, contract)
    space = search_spaces.space_of(name, project)
    return tuning.search(name, contract, rows, space, How(trials, 7))


def test_the_setting_that_made_the_rows_is_found(project):
    found = searched(project)
    assert found.best.settings == {DEGREE: 2}
    assert found.best.loss < found.as_is / 100


def test_a_list_is_tried_whole_and_once(project):
    assert sorted(t.settings[DEGREE] for t in searched(project).trials) == [1, 2]


def test_a_row_of_the_test_changes_nothing(project):
    before = searched(project)
    split_rows(project, test_depth=1e9)
    assert searched(project) == before


def test_of_settings_that_are_not_better_none_is_taken(project):
    (project.root / "tune.yaml").write_text(f"line: {{{DEGREE}: [1]}}\n")
    found = searched(project)
    assert found.best is None
    assert found.trials[0].loss == found.as_is
    shown = command.lines(found, task_of(read_contract(project.contract)))
    assert shown[-1] == "No settings were better, so candidates.py stays as it is."


def test_the_same_seed_draws_the_same_settings_and_another_others(project):
    (project.root / "tune.yaml").write_text(
        "line:\n  model__alpha: {from: 0.001, to: 10.0, scale: log}\n"
    )
    first = searched(project, 5)
    assert searched(project, 5) == first
    values = [some.settings["model__alpha"] for some in first.trials]
    assert len(set(values)) == 5
    assert all(0.001 <= value <= 10 for value in values)


def test_a_trial_that_cannot_be_fitted_has_no_loss_and_the_others_go_on(project):
    (project.root / "tune.yaml").write_text("line: {model__alpha: [-1.0, 0.5]}\n")
    found = searched(project)
    assert {t.settings["model__alpha"]: t.loss is None for t in found.trials} == {
        -1.0: True,
        0.5: False,
    }
    shown = "\n".join(command.lines(found, task_of(read_contract(project.contract))))
    assert "1 trials could not be fitted" in shown


def test_where_no_trial_can_be_fitted_it_is_said(project):
    (project.root / "tune.yaml").write_text("line: {model__alpha: [-1.0]}\n")
    with pytest.raises(TuningError, match=r"no trial could be fitted .*tune\.yaml"):
        searched(project)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("line: {model__alhpa: [1.0]}", "model__alhpa: the candidate has no such setting; did you mean 'model__alpha'"),
        ("other: {model__alpha: [1.0]}", "has no space for line; it has other"),
        ("line: {model__alpha: {from: 3, to: 1}}", "from 3 to 1: write the smaller first"),
        ("line: {model__alpha: {from: 0.0, to: 1.0, scale: log}}", "expected above 0"),
        ("line: {model__alpha: {from: 1, to: 9, scale: log}}", "takes no whole numbers"),
        ("line: {model__alpha: {from: 1, until: 9}}", "until: unknown key"),
        ("line: {model__alpha: []}", "model__alpha"),
        ("line: {}", "line"),
        ("- line", "expected keys and values"),
    ],
)  # fmt: skip
def test_a_space_that_is_wrong_is_told_before_anything_is_tried(project, text, told):
    (project.root / "tune.yaml").write_text(text)
    with pytest.raises(TuningError) as refused:
        searched(project)
    assert told in str(refused.value)
    assert "tune.yaml" in str(refused.value)


def test_without_a_file_or_a_build_it_is_said_what_to_do(project):
    (project.root / "tune.yaml").unlink()
    with pytest.raises(TuningError, match="Write one:\nline:"):
        search_spaces.space_of("line", project)
    (project.var / "build/split_rows.parquet").unlink()
    with pytest.raises(TuningError, match="Make them: loopbook build"):
        tuning.rows_of_build(project, read_contract(project.contract))


def test_what_was_found_is_a_candidate_that_a_build_accepts(project):
    """It stands beside what a person wrote, has the settings, and passes the trial of a build."""
    found = searched(project)
    assert tuned_candidates.write(found, "2026-11-26", project) == "line_tuned"
    text = (project.root / "candidates.py").read_text()
    assert text.startswith(OWN)
    assert "# loopbook tune line: 2 trials of tune.yaml on 2026-11-26" in text
    contract = read_contract(project.contract)
    assert candidates.build("line_tuned", contract, 7).get_params()[DEGREE] == 2
    assert candidates.build("line", contract, 7).get_params()[DEGREE] == 1
    assert trial.faults_of("line_tuned", contract, project) == []


def test_a_later_search_replaces_its_own_function_and_no_other_line(project):
    found = searched(project)
    tuned_candidates.write(found, "2026-11-26", project)
    path = project.root / "candidates.py"
    path.write_text(path.read_text() + "\n\ndef last(contract, random_seed):\n    return None\n")
    before = path.read_text()
    tuned_candidates.write(found, "2026-11-27", project)
    assert path.read_text() == before.replace("2026-11-26", "2026-11-27")


def test_a_function_that_a_person_wrote_is_never_replaced(project):
    path = project.root / "candidates.py"
    path.write_text(OWN + "\n\ndef line_tuned(contract, random_seed):\n    return 1\n")
    before = path.read_text()
    with pytest.raises(TuningError, match=r"candidates\.py, line \d+: line_tuned was not written"):
        tuned_candidates.write(searched(project), "2026-11-26", project)
    assert path.read_text() == before


def test_a_tuned_candidate_of_the_library_has_the_size_that_it_was_tried_with(tmp_path):
    """Boosting has fewer trees beyond 50,000 rows; the function says for how many it is."""
    best = Trial({"model__max_leaf_nodes": 9}, 0.1)
    text = tuned_candidates.function_of(
        Search("hist_gradient_boosting", 0.2, [best], 60_000), "2026-11-26"
    )
    names: dict = {}
    exec(text, names)
    contract = read_contract(ROOT / "contract.yaml")
    made = names["hist_gradient_boosting_tuned"](contract, 3).get_params()
    searched_on = candidates.build("hist_gradient_boosting", contract, 3, 60_000).get_params()
    assert made["model__max_iter"] == searched_on["model__max_iter"] == 200
    assert made["model__max_leaf_nodes"] == 9


@pytest.mark.parametrize("name", ["houses", "penguins"])
def test_every_space_of_the_file_that_comes_along_suits_its_candidate(name):
    """For a number and for classes, so that a new project can search at once."""
    place = ROOT if name == "houses" else ROOT / "examples" / name
    contract: Contract = read_contract(place / "contract.yaml")
    for candidate in ("extra_trees", "hist_gradient_boosting"):
        space = search_spaces.space_of(candidate, Project(ROOT))
        settings = candidates.build(candidate, contract, 0).get_params()
        search_spaces.check_names(space, settings, candidate)
