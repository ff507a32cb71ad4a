"""The graph in other engines' words: each file says what the plan says, and its engine takes it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from small_graph import project as small_project
from small_house import ROOT, environment
from test_tasks import READS, TWO, WRITES
from typer.testing import CliRunner

from loopbook.cli import main
from loopbook.engines import argo, dvc, known, plans
from loopbook.engines.plans import plan_of
from loopbook.pipeline import task_inputs, tasks
from loopbook.project.errors import EngineError
from loopbook.project.paths import Project

ENGINES = ROOT / ".venv-engines/bin/python"
SIDE = """
tasks:
  - source: notebooks/first.ipynb
    name: of-[[kind]]
    grid: {kind: [a_b, a__b, "1.5"]}
    product: {nb: "var/build/[[kind]].ipynb", text: "var/build/[[kind]].txt"}
  - {source: notebooks/last.ipynb, name: last, product: {nb: var/build/last.ipynb}}
"""


@pytest.fixture
def two(tmp_path, monkeypatch) -> Project:
    """Two notebooks: the first writes its seed, the last reads it."""
    here = small_project(tmp_path / "p", TWO, first=(None, WRITES), last=(["first"], READS))
    monkeypatch.chdir(here.root)
    return here


@pytest.fixture
def side(tmp_path, monkeypatch) -> Project:
    """Three of a grid side by side, whose names differ only in signs that engines do not take."""
    here = small_project(tmp_path / "p", SIDE, first=(None, "1"), last=(["of-*"], "2"))
    monkeypatch.chdir(here.root)
    return here


def engines_python() -> str:
    if not ENGINES.exists():
        pytest.skip(f"{ENGINES.parent.parent.name} is not here; make it: make engines")
    return str(ENGINES)


def exported(*words: str):
    return CliRunner().invoke(main.app, ["export", *words])


@pytest.mark.medium
@pytest.mark.parametrize("engine", known.ENGINES)
def test_an_engines_file_is_the_same_again_and_never_takes_the_place_of_anothers(engine, two):
    first = exported(engine, "--to", "there")
    paths = sorted(path for path in (two.root / "there").rglob("*") if path.is_file())
    texts = [path.read_text() for path in paths]
    assert (first.exit_code, exported(engine, "--to", "there").exit_code) == (0, 0)
    assert [path.read_text() for path in paths] == texts
    assert "".join(texts).count(tasks.resolve(two)[0].signature(two)) == 1
    paths[0].write_text("by hand")
    refused = exported(engine, "--to", "there")
    assert isinstance(refused.exception, EngineError)
    assert "did not write it, so it stays" in str(refused.exception)
    assert paths[0].read_text() == "by hand"


def test_an_engine_that_nobody_knows_is_refused_with_those_that_are_known(two):
    refused = exported("oozie")
    assert str(refused.exception).startswith("no engine 'oozie'; the graph can be written for ")


def test_where_an_engines_extra_is_missing_the_export_says_what_to_type(two, monkeypatch):
    monkeypatch.setattr(known, "find_spec", lambda name: None)
    told = exported("dvc")
    assert (two.root / "dvc.yaml").exists()
    assert "It is not installed here: pip install 'loopbook[dvc]'" in told.output
    assert "pip install" not in exported("argo").output


def test_names_that_an_engine_takes_stay_apart(side):
    plan = plan_of(side)
    assert list(plans.identifiers(plan.tasks).values()) == ["of-a-b", "of-a-b-2", "of-1-5", "last"]
    graph = argo.workflow(plan)["spec"]["templates"][0]["dag"]["tasks"]
    assert set(graph[-1]["dependencies"]) == {"of-a-b", "of-a-b-2", "of-1-5"}
    stages = dvc.stages(plan)["stages"]
    assert {"of-a_b", "of-a__b", "of-1_5"} <= stages.keys()


def test_dvcs_stages_declare_what_a_task_reads_takes_and_writes(two):
    first, last = (dvc.stages(plan_of(two))["stages"][name] for name in ("first", "last"))
    written = ["var/build/first.ipynb", "var/build/first.txt"]
    assert first["deps"] == ["var/plan/first.json"]
    assert first["params"] == [{"env.yaml": ["random_seed"]}]
    assert [path for out in first["outs"] for path in out] == written
    assert last["deps"] == ["var/plan/last.json", *written]
    assert all(how == {"cache": False} for out in first["outs"] for how in out.values())
    assert dvc.stages(plan_of(two), "..")["stages"]["plan"]["wdir"] == ".."


def test_the_inputs_of_a_task_change_with_a_cell_a_knob_and_a_module_of_its_own(two):
    def told(**changes: str) -> dict[str, bytes]:
        paths = task_inputs.write(two, two.var / "plan", changes)
        return {path.stem: path.read_bytes() for path in paths}

    before = told()
    assert told() == before
    assert told(test_days="11") == before  # a knob that no task takes
    assert {name for name, now in told(random_seed="8").items() if now != before[name]} == {"first"}
    notebook = two.root / "notebooks" / "last.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][1]["outputs"], content["metadata"] = [{"output_type": "x"}], {"editor": "x"}
    notebook.write_text(json.dumps(content))
    assert told() == before
    content["cells"][1]["source"] += "\n# a word more"
    notebook.write_text(json.dumps(content))
    assert {name for name, now in told().items() if now != before[name]} == {"last"}


def _strict(schema):
    """A JSON schema that takes no key which it does not name."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {key: _strict(value) for key, value in schema.items()} | closed
    return [_strict(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.medium
def test_argos_workflow_is_what_its_schema_wants_and_nothing_else(side):
    code = "from hera.workflows.models import Workflow; import json; print(json.dumps(Workflow.model_json_schema()))"
    words = [engines_python(), "-W", "ignore", "-c", code]
    schema = _strict(json.loads(subprocess.run(words, capture_output=True, check=True).stdout))
    (path,) = argo.write(plan_of(side), side.root / "deploy")
    manifest = yaml.safe_load(path.read_text())
    jsonschema.validate(manifest, schema)
    with pytest.raises(jsonschema.ValidationError, match="entrypiont"):
        jsonschema.validate(manifest | {"spec": manifest["spec"] | {"entrypiont": "x"}}, schema)


RUN = """
import runpy, sys
from kfp import local
local.init(local.SubprocessRunner(use_venv=False), raise_on_error=True)
module = runpy.run_path(sys.argv[1])
module["pipeline"](module["on_this_machine"])()
"""


@pytest.mark.slow
def test_kubeflows_pipeline_compiles_and_its_local_runner_runs_the_graph(two, tmp_path):
    """The notebooks run in loopbook's own environment, where Ploomber cannot be imported."""
    python = engines_python()
    assert exported("kubeflow").exit_code == 0
    path = two.root / "deploy/kubeflow/pipeline.py"
    done = subprocess.run([python, path], capture_output=True, text=True, cwd=two.root)
    assert done.returncode == 0, done.stderr
    compiled = yaml.safe_load(path.with_name("pipeline.yaml").read_text().split("---")[0])
    steps = compiled["root"]["dag"]["tasks"]
    assert list(steps.values())[1]["dependentTasks"] == [next(iter(steps))]
    # kfp's runner writes its interpreter's path into a shell script as it is, a space and all
    environment = tmp_path / "environment"
    environment.symlink_to(Path(python).parents[1])
    done = subprocess.run(
        [environment / "bin" / "python", "-c", RUN, path],
        capture_output=True,
        text=True,
        cwd=two.root,
        env=without_ploomber(two.root, tmp_path),
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (two.var / "build/last.ipynb").exists()


ON_THE_PAGE = {
    "Dagster": "import dagster\nassert dagster.materialize(module['assets']).success",
    "Flyte": "flyte = module['flyte']\nflyte.init()\n"
    "flyte.with_runcontext(mode='local').run(module['train'])",
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ON_THE_PAGE)
def test_what_the_page_shows_for_an_engine_runs_the_graph_beside_current_fastapi(
    engine, two, tmp_path
):
    page = (ROOT / "docs/engines.md").read_text()
    (snippet,) = re.findall(rf"\*\*{engine}.*?```python\n(.*?)```", page, re.DOTALL)[:1]
    (two.root / "snippet.py").write_text(snippet)
    start = "import fastapi, runpy\nmodule = runpy.run_path('snippet.py')\n"
    done = subprocess.run(
        [engines_python(), "-c", start + ON_THE_PAGE[engine]],
        capture_output=True,
        text=True,
        cwd=two.root,
        env=without_ploomber(two.root, tmp_path),
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (two.var / "build/last.ipynb").exists()


def without_ploomber(folder: Path, scratch: Path) -> dict[str, str]:
    """An environment in which `loopbook` is ours and Ploomber raises when it is imported."""
    blocked = scratch / "blocked" / "ploomber"
    blocked.mkdir(parents=True, exist_ok=True)
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError('ploomber')")
    variables = environment(folder)
    path = f"{Path(sys.executable).parent}:{variables['PATH']}"
    return variables | {"PATH": path, "PYTHONPATH": f"{blocked.parent}:{ROOT / 'src'}"}


@pytest.mark.parametrize("name", known.ENGINES)
def test_what_to_type_next_names_the_folder_that_was_written_to(name):
    """After `export airflow --to ../dags` it said to give deploy/airflow to Airflow."""
    engine = known.ENGINES[name]
    assert "'../my dags'" in engine.next_in("../my dags")
    assert engine.folder in engine.next_in("")
    assert "{" not in engine.next_in("")
