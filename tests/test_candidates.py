"""A project's own kinds of model: found, tried before anything runs, and refused with a sentence."""

import ast
import os
import re
import shutil
from pathlib import Path

import pytest
from small_house import ROOT

from loopbook.models import candidates, fitted_parts, grid, own_candidates, trial
from loopbook.pipeline import digests
from loopbook.project.contract import read_contract
from loopbook.project.errors import CandidateError
from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project

# the converter's own use of numpy and onnx, not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RIDGE = """
from sklearn.linear_model import Ridge
from loopbook.models import steps

def {name}(contract, random_seed):
    '''A line of my own.'''
    return steps.pipeline(contract, Ridge({alpha}), steps.scaled(), steps.one_hot())
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A project whose trials run in this process, which saves the start of another."""

    def tried_here(names, project):
        contract = read_contract(project.contract)
        return [fault for name in names for fault in trial.faults_of(name, contract, project)]

    monkeypatch.setattr(trial, "_tried_apart", tried_here)
    return make_project(tmp_path, monkeypatch)


@pytest.fixture
def apart(tmp_path, monkeypatch) -> Project:
    """A project whose trials run in a process of their own, as everywhere."""
    return make_project(tmp_path, monkeypatch)


def make_project(tmp_path, monkeypatch) -> Project:
    for name in ("contract.yaml", "env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def write(project: Project, text: str) -> None:
    """Write candidates.py; its time differs from the one before, whatever the clock's steps."""
    path = project.root / "candidates.py"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before + 1, before + 1))


def function(body: str, name: str = "mine", imports: str = "") -> str:
    return f"{imports}\ndef {name}(contract, random_seed):\n    {body}\n"


def refusal(*names: str) -> str:
    """What is said of a grid with these names."""
    with pytest.raises(CandidateError) as refused:
        grid.candidates(["baseline", "ridge", *names])
    return str(refused.value)


def test_a_project_without_a_file_of_candidates_has_those_of_the_library(project):
    assert grid.candidates(["baseline", "ridge"]) == ["baseline", "ridge"]


def test_the_grid_knows_every_candidate_of_the_library_without_importing_scikit_learn():
    """It is read whenever a graph is loaded."""
    assert tuple(candidates.RECIPES) == grid.LIBRARY
    for module in (grid, own_candidates, trial):
        tree = ast.parse(Path(module.__file__).read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "sklearn" not in ast.dump(ast.Module(top, []))
        assert "onnx" not in ast.dump(ast.Module(top, []))


def test_an_own_candidate_stands_in_the_grid_and_is_built_by_its_function(project):
    write(project, RIDGE.format(name="line", alpha=3.5))
    assert grid.candidates(["baseline", "line"]) == ["baseline", "line"]
    contract = read_contract(project.contract)
    model = candidates.build("line", contract, 7)
    assert candidates.settings(model)["model_alpha"] == 3.5
    assert candidates.meaning("line") == "A line of my own."


def test_an_estimator_that_is_no_pipeline_is_a_candidate_too(project):
    body = "return HistGradientBoostingRegressor(max_iter=5, random_state=random_seed)"
    write(project, function(body, imports="from sklearn.ensemble import *"))
    assert grid.candidates(["mine"]) == ["mine"]
    model = candidates.build("mine", read_contract(project.contract), 7)
    assert candidates.settings(model)["model_max_iter"] == 5


def test_rounding_finds_boosting_inside_an_estimator_that_the_library_does_not_know():
    """Each threshold is a float32, also two levels deep in a stack."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingRegressor, StackingRegressor
    from sklearn.linear_model import Ridge

    draw = np.random.default_rng(1)
    X = draw.normal(size=(300, 3))
    boosting = HistGradientBoostingRegressor(max_iter=5, early_stopping=False)
    stack = StackingRegressor([("trees", boosting)], Ridge()).fit(X, X[:, 0])

    def thresholds():
        predictors = [p for stage in stack.estimators_[0]._predictors for p in stage]
        values = np.concatenate([p.nodes["num_threshold"] for p in predictors])
        return values[np.isfinite(values)]

    assert (thresholds() != thresholds().astype(np.float32)).any()
    fitted_parts.in_float32(stack)
    assert (thresholds() == thresholds().astype(np.float32)).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def mine(contract:\n    pass\n", "candidates.py, line 1: '(' was never closed"),
        (RIDGE.format(name="mine", alpha=1) * 2, "mine is defined 2 times; rename or delete"),
        (function("return 1") + "mine = 3\n", "mine is defined 2 times; rename or delete"),
        (function("return 1", "ridge"), "ridge is also a candidate of the library; give yours"),
        (function("return 1", imports="import shop"), "imports shop, a file beside it"),
    ],
    ids=["syntax", "twice", "assigned-again", "of-the-library", "a-file-beside-it"],
)
def test_a_file_that_is_wrong_stops_every_build_whether_or_not_the_grid_uses_it(
    project, text, said
):
    (project.root / "shop.py").write_text("")
    write(project, text)
    assert said in refusal()


def test_a_name_that_is_nowhere_is_told_with_the_nearest_one(project):
    write(project, RIDGE.format(name="gradient_line", alpha=1))
    said = refusal("gradient_lines", "ensembel", "xyz", "ridge")
    assert "found no candidate 'gradient_lines'; did you mean 'gradient_line'?" in said
    assert "found no candidate 'ensembel'; did you mean 'ensemble'?" in said
    assert "found no candidate 'xyz'; define it in candidates.py." in said
    assert "the grid has ridge 2 times; keep one" in said


SPLINES = """
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer
from loopbook.models import steps

def mine(contract, random_seed):
    curves = make_pipeline(steps.median(), SplineTransformer())
    return steps.pipeline(contract, Ridge(), curves, steps.one_hot())
"""
SKLEARN = "from sklearn.linear_model import *\nfrom loopbook.models import steps"


@pytest.mark.medium
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import no_such_package\n" + function("return 1"),
            "line 1: importing it raised ModuleNotFoundError: No module named 'no_such_package'",
        ),
        (function("return 1 / 0"), "candidates.py, line 3: ZeroDivisionError: division by zero"),
        (function("exit(3)"), "mine stopped when its function ran"),
        (function("pass"), "mine returned nothing, expected an estimator"),
        (function("return 'ridge'"), "mine returned str 'ridge', expected an estimator"),
        (function("return Ridge", imports=SKLEARN), "mine returned the class Ridge, expected"),
        (function("return Ridge()", imports=SKLEARN), "Fill in missing values in a step before"),
        (SPLINES, "cannot be written as ONNX"),
    ],
    ids=[
        *("import", "raises", "exits", "nothing", "text", "class"),
        *("missing-values", "no-onnx"),
    ],
)
def test_a_candidate_that_cannot_be_trained_or_served_is_refused_before_anything_runs(
    project, text, said
):
    write(project, text)
    refused = refusal("mine")
    assert said in refused
    assert "nothing was run" in refused
    assert not (project.var / trial.MEMORY).exists()


@pytest.mark.medium
def test_the_faults_of_all_candidates_are_told_at_once(apart):
    write(apart, function("return 1 / 0", "one") + function("return 5", "two"))
    said = refusal("one", "two")
    assert "ZeroDivisionError" in said
    assert "two returned int 5" in said


@pytest.mark.medium
def test_a_candidate_that_ends_its_process_is_refused_with_the_exit_code(apart):
    write(apart, function("import os; os._exit(9)"))
    assert "the trial of mine ended with exit code 9" in refusal("mine")


def test_a_candidate_is_tried_once_and_again_when_it_changes(project):
    """Each trial leaves a line; the graph is loaded by every command and by JupyterLab."""
    trace = "\nwith open('trace.txt', 'a') as trace:\n    trace.write('x')\n"
    write(project, RIDGE.format(name="mine", alpha=1) + trace)
    for _ in range(3):
        grid.candidates(["mine"])
    assert (project.root / "trace.txt").read_text() == "x"
    write(project, RIDGE.format(name="mine", alpha=2) + trace)
    grid.candidates(["mine"])
    assert (project.root / "trace.txt").read_text() == "xx"


@pytest.mark.medium
def test_what_a_project_brings_is_not_run_by_the_process_that_loads_its_graph(apart):
    trace = "\nimport os\nopen('pid.txt', 'w').write(str(os.getpid()))\n"
    write(apart, RIDGE.format(name="mine", alpha=1) + trace)
    grid.candidates(["mine"])
    assert (apart.root / "pid.txt").read_text() != str(os.getpid())


TWO = RIDGE.format(name="one", alpha="ALPHA") + RIDGE.format(name="two", alpha=2) + "\nALPHA = 1\n"


@pytest.mark.parametrize(
    ("old", "changed", "differ"),
    [
        ("Ridge(2)", "Ridge(3)", {"two"}),
        ("def two", "# a comment\ndef  two", set()),
        ("ALPHA = 1", "ALPHA = 5", {"one", "two"}),
        ("def two", "def _private():\n    pass\n\ndef two", {"one", "two"}),
        ("def two", "def three(contract, random_seed):\n    pass\n\ndef two", set()),
        ("Ridge(2)", "one(contract, 0)", {"two"}),
    ],
)
def test_a_candidates_digest_changes_with_the_code_that_it_depends_on(
    project, old, changed, differ
):
    write(project, TWO)
    before = {name: own_candidates.digest(name, project) for name in ("one", "two")}
    assert before["one"] != before["two"]
    assert old in TWO
    write(project, TWO.replace(old, changed))
    after = {name: own_candidates.digest(name, project) for name in ("one", "two")}
    assert {name for name in before if before[name] != after[name]} == differ


def test_a_candidate_that_calls_another_depends_on_it(project):
    both = RIDGE.format(name="one", alpha=1) + function("return one(contract, 1)", "two")
    write(project, both)
    before = own_candidates.digest("two", project)
    write(project, both.replace("Ridge(1)", "Ridge(9)"))
    assert own_candidates.digest("two", project) != before


@pytest.mark.medium
def test_only_the_candidate_whose_code_changed_loses_its_stamps(project):
    write(project, TWO)
    folder = project.var / "build" / "train"
    for name, number in (("one", 1), ("two", 11)):
        product = {"candidate": name, "recipe_sha256": own_candidates.digest(name, project)}
        write_json(folder / f"{name}-{number}.json", product)
        for file in (
            f"{name}-{number}.json",
            f"{name}-{number}.onnx",
            f"{name}_card-{number}.json",
        ):
            stamp = {"timestamp": 1, "stored_source_code": ""}
            write_json(folder / f".{file}.metadata", stamp)
    (project.root / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "05_train.ipynb", project.root / "notebooks")
    stamps = lambda: sorted({p.name.split("-")[0] for p in folder.glob(".*.metadata")})  # noqa: E731
    digests.depends_on_in_grid("notebooks/05_train.ipynb")
    assert stamps() == [".one", ".one_card", ".two", ".two_card"]
    write(project, TWO.replace("Ridge(2)", "Ridge(3)"))
    digests.depends_on_in_grid("notebooks/05_train.ipynb")
    assert stamps() == [".one", ".one_card"]
    assert read_json(folder / "two-11.json")["candidate"] == "two"


@pytest.mark.medium
def test_a_library_module_that_only_candidates_py_imports_counts_for_training(project):
    notebook = ROOT / "notebooks" / "05_train.ipynb"
    alone = digests.modules_of(project, notebook)
    write(project, "from loopbook.loop import scenarios\n")
    assert digests.modules_of(project, notebook).keys() - alone.keys() >= {"loop.scenarios"}
    evaluate = digests.modules_of(project, ROOT / "notebooks" / "01_ingest.ipynb")
    assert "loop.scenarios" not in evaluate


@pytest.mark.medium
def test_the_repositorys_own_file_shows_a_recipe_that_works(project):
    text = (ROOT / "candidates.py").read_text()
    assert own_candidates.functions(Project(ROOT)) == {}
    shown = re.search(r"^    from sklearn.*?(?=\n\n[A-Z])", text, re.DOTALL | re.MULTILINE)
    recipe = "\n".join(line[4:] for line in shown[0].splitlines())
    write(project, recipe + "\n")
    assert grid.candidates(["gradient_boosting"]) == ["gradient_boosting"]
