"""Airflow: the exported DAGs, parsed and run by a real Airflow 3 in its own environment."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_once import copied, made_once
from small_house import ROOT, environment, loopbook, set_knobs
from watched import asked_for, watched_if_possible

from loopbook.engines import airflow as exported
from loopbook.engines.plans import plan_of
from loopbook.pipeline import tasks
from loopbook.project.files import read_json
from loopbook.project.paths import Project
from loopbook.project.template import with_knobs
from loopbook.records import turns

AIRFLOW = ROOT / ".venv-airflow" / "bin"
TRAIN, TURN = "penguins-train", "penguins-turn"
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
dags = {
    name: {
        "runs": dag.max_active_runs,
        "side by side": dag.max_active_tasks,
        "catchup": dag.catchup,
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "schedule": [type(dag.timetable).__name__, dag.timetable.summary],
        "needs": {one.task_id: sorted(one.upstream_task_ids) for one in dag.tasks},
        "retries": {one.task_id: one.retries for one in dag.tasks},
        "commands": {one.task_id: one.bash_command for one in dag.tasks},
    }
    for name, dag in bag.dags.items()
}
ours = [name for name in sys.modules if name.partition(".")[0] == "loopbook"]
told = [str(one) for warnings in bag.captured_warnings.values() for one in warnings]
print(json.dumps([dags, {**bag.import_errors}, told, ours]))
"""


@pytest.fixture(scope="module")
def penguins(tmp_path_factory) -> Path:
    """The smallest example with two kinds of model, and both DAGs as a person exports them."""

    def make(folder: Path) -> None:
        for part in ("notebooks", "reports", "serving"):
            shutil.copytree(ROOT / part, folder / part)
        for file in ("pipeline.yaml", "pipeline.monitor.yaml", "requirements.lock"):
            shutil.copy(ROOT / file, folder)
        example = ROOT / "examples" / "penguins"
        shutil.copytree(example, folder, dirs_exist_ok=True)
        knobs = with_knobs((ROOT / "env.yaml").read_text(), (example / "env.yaml").read_text())
        (folder / "env.yaml").write_text(knobs)
        set_knobs(folder, bootstrap_resamples="300", monitor_report="false")
        graph = folder / "pipeline.yaml"
        few = re.sub(r"names: \[baseline, .*\]", "names: [baseline, ridge]", graph.read_text())
        assert few != graph.read_text()
        graph.write_text(few)
        (folder / ".venv").symlink_to(sys.prefix)
        done = loopbook(folder, "export", "airflow")
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "penguins for Airflow", make)


def dag_file(folder: Path) -> Path:
    return folder / "deploy" / "airflow" / "loopbook_penguins.py"


def by_airflow(folder: Path, **more: str) -> dict[str, str]:
    """The environment of an Airflow whose home is in a project, and whose DAGs are its own."""
    home = folder / "var" / "airflow"
    settings = {"CORE__LOAD_EXAMPLES": "False", "CORE__DAGS_FOLDER": str(dag_file(folder).parent)}
    theirs = {f"AIRFLOW__{name}": value for name, value in settings.items()}
    return environment(folder, AIRFLOW_HOME=str(home)) | theirs | more


def airflow(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A command of Airflow's where it can reach nobody, if that is possible here."""
    done = watched_if_possible([str(AIRFLOW / "airflow"), *words], folder, by_airflow(folder))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def trained(penguins, tmp_path_factory) -> Path:
    """The project after a run of the whole graph by Airflow, as of the end of a week."""
    if not (AIRFLOW / "airflow").exists():
        pytest.skip("Airflow is not here; type: make airflow")

    def make(folder: Path) -> None:
        copied(penguins, folder)
        assert loopbook(folder, "export", "airflow").returncode == 0
        airflow(folder, "db", "migrate")
        done = airflow(folder, "dags", "test", TRAIN, "2026-11-01T00:00:00+00:00")
        (folder / "log.txt").write_text(done.stdout + done.stderr)

    return made_once(tmp_path_factory, "penguins by Airflow", make)


@pytest.fixture(scope="module")
def parsed(penguins):
    if not (AIRFLOW / "python").exists():
        pytest.skip("Airflow is not here; type: make airflow")
    words = [AIRFLOW / "python", "-c", PARSE, dag_file(penguins).parent]
    done = subprocess.run(words, env=by_airflow(penguins), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.medium
def test_the_file_imports_nothing_but_airflow_and_python(penguins):
    imports = list(ast.walk(ast.parse(dag_file(penguins).read_text())))
    names = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in imports if isinstance(node, ast.Import) for a in node.names}
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"airflow"}


@pytest.mark.medium
def test_the_file_is_as_a_linter_and_a_formatter_want_it(penguins):
    ruff = [Path(sys.executable).with_name("ruff")]
    how = ["--isolated", "--line-length=100", "--target-version=py310", dag_file(penguins)]
    for words in (["check", "--extend-select=I,B,UP"], ["format", "--check"]):
        done = subprocess.run([*ruff, *words, *how], text=True, capture_output=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.medium
def test_a_path_and_a_task_of_any_signs_stand_in_the_file_as_they_are(penguins, tmp_path):
    folder = copied(penguins, tmp_path / """a "project's" \\ 100% é""")
    graph = folder / "pipeline.yaml"
    graph.write_text(graph.read_text().replace("name: ingest", "name: take it's in"))
    first = folder / "notebooks/02_validate.ipynb"
    for notebook in (folder / "notebooks").glob("*.ipynb"):
        notebook.write_text(notebook.read_text().replace('\\"ingest\\"', '\\"take it\'s in\\"'))
    assert "take it's in" in first.read_text()
    text = exported.dags(plan_of(Project(folder)))
    values = {n.targets[0].id: n.value for n in ast.parse(text).body if isinstance(n, ast.Assign)}
    assert ast.literal_eval(values["EXPORTED_FROM"]) == str(folder)
    told = ast.literal_eval(values["TASKS"])
    assert told["validate"]["needs"] == ["take_it_s_in"]
    assert told["take_it_s_in"]["command"].startswith("""loopbook task 'take it'"'"'s in' """)


def test_an_older_airflow_is_refused_in_a_sentence(penguins, tmp_path):
    package = tmp_path / "airflow"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "2.11.0"\n')
    done = subprocess.run(
        [sys.executable, dag_file(penguins)],
        env={"PYTHONPATH": str(tmp_path)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "written for Airflow 3, and this is Airflow 2.11.0" in done.stderr.splitlines()[-1]
    assert "Install apache-airflow>=3" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_both_dags_parse_without_a_warning_and_load_nothing_of_ours(parsed):
    dags, errors, warnings, ours = parsed
    assert set(dags) == {TRAIN, TURN}
    assert (errors, warnings, ours) == ({}, [], [])


@pytest.mark.slow
def test_the_dag_has_a_task_a_notebook_in_the_order_of_the_plan(parsed, penguins):
    plan = tasks.resolve(Project(penguins), only="")
    assert parsed[0][TRAIN]["needs"] == {task.name: task.upstream for task in plan}


@pytest.mark.slow
def test_one_run_goes_at_a_time_and_none_is_made_up_for(parsed):
    for dag in parsed[0].values():
        assert (dag["runs"], dag["catchup"], dag["side by side"]) == (1, False, 2)
        assert dag["tags"] == ["loopbook", "penguins"]
        assert "LOOPBOOK_PROJECT" in dag["doc"]
    train, turn = (parsed[0][name] for name in (TRAIN, TURN))
    assert set(train["retries"].values()) == {1}
    assert turn["retries"] == {"turn": 1, "look": 0}
    assert train["schedule"] == ["CronDataIntervalTimetable", "0 0 * * 0"]
    assert turn["schedule"] == ["DeltaDataIntervalTimetable", "1 day, 0:00:00"]


def in_a_shell(parsed, dag: str, task: str, folder: Path, code: int, **more: str):
    """A task's command, with a `loopbook` that writes down its words and ends with a code."""
    program = folder / ".venv" / "bin" / "loopbook"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > words\nexit {code}\n')
    program.chmod(0o755)
    ours = {"PATH": os.environ["PATH"], "EXPORTED_FROM": str(folder), "AS_OF": "2026-11-01"} | more
    words = ["bash", "-c", parsed[0][dag]["commands"][task]]
    return subprocess.run(words, env=ours, text=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("outcome", turns.EXIT_CODES)
def test_a_turn_ends_well_with_each_outcome_but_an_error(outcome, parsed, tmp_path):
    done = in_a_shell(parsed, TURN, "turn", tmp_path, turns.EXIT_CODES[outcome])
    is_error = outcome == turns.ERROR
    assert done.returncode == (1 if is_error else 0)
    assert done.stdout == ("" if is_error else f"{outcome}\n")
    looked = in_a_shell(parsed, TURN, "look", tmp_path, 0, OUTCOME=outcome)
    assert looked.returncode == (1 if outcome == turns.INVESTIGATE else 0)


@pytest.mark.slow
def test_what_a_person_gives_as_as_of_is_one_word_to_the_shell(parsed, tmp_path):
    given = '2026"; touch x $(touch y) `touch z`'
    in_a_shell(parsed, TRAIN, "ingest", tmp_path, 0, AS_OF=given)
    assert (tmp_path / "words").read_text().splitlines()[-2:] == ["--set", f"as_of={given}"]
    in_a_shell(parsed, TURN, "turn", tmp_path, 0, AS_OF=given)
    assert (tmp_path / "words").read_text().splitlines()[-2:] == ["--as-of", given]
    assert {path.name for path in tmp_path.iterdir()} == {".venv", "words"}


@pytest.mark.slow
def test_a_worker_without_the_project_or_without_loopbook_says_what_to_set(parsed, tmp_path):
    done = in_a_shell(parsed, TRAIN, "ingest", tmp_path, 0, LOOPBOOK_PROJECT=str(tmp_path / "no"))
    assert done.returncode == 1
    assert "Set LOOPBOOK_PROJECT to its folder." in done.stderr
    bare = {"PATH": "/usr/bin:/bin", "LOOPBOOK_PROJECT": "/usr"}
    done = in_a_shell(parsed, TRAIN, "ingest", tmp_path, 0, **bare)
    assert done.returncode == 1
    assert "No loopbook in /usr/.venv nor on PATH. Install it there: make env" in done.stderr


@pytest.mark.slow
def test_a_run_of_the_dag_ends_with_a_champion(trained):
    here = Project(trained)
    decision = read_json(here.var / "build" / "decision.json")
    assert decision["promoted"] is True
    done = loopbook(trained, "champion")
    assert re.search(r"penguins v1\b", done.stdout), done.stdout
    assert read_json(here.var / "build" / "outcome.json")["failed"] is False


@pytest.mark.slow
def test_as_of_is_the_end_of_the_runs_data_interval(trained):
    document = read_json(trained / "var" / "build" / "ingest.ipynb")
    given = document["metadata"]["papermill"]["parameters"]["as_of"]
    assert given == "2026-11-01T00:00:00+00:00"


@pytest.mark.slow
def test_a_run_asks_for_no_name_beyond_this_machine(trained):
    assert asked_for(trained)[0] == []


@pytest.mark.slow
def test_the_second_dag_takes_a_turn_of_the_loop(trained, tmp_path):
    folder = copied(trained, tmp_path / "turn")
    assert loopbook(folder, "export", "airflow").returncode == 0
    airflow(folder, "dags", "test", TURN, "2026-11-08T12:00:00+00:00")
    taken = turns.listed(Project(folder))
    assert [turn["as_of"] for turn in taken] == ["2026-11-08T12:00:00+00:00"]
    assert taken[0]["outcome"] == turns.NOTHING
