"""Airflow: the graph as a DAG of Airflow 3, and another DAG for the turns of the loop.

It decides that a task is a command of the project's own environment, so that
Airflow's processes import nothing of ours; that `as_of` is the end of a run's
data interval; and that one run goes at a time. It never imports Airflow: the
file is written for whichever Airflow 3 reads it.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from loopbook.engines.plans import WRITTEN_BY, Plan, identifiers
from loopbook.engines.plans import write as write_file
from loopbook.pipeline.tasks import Task
from loopbook.project.errors import BuildFailed
from loopbook.project.knobs import read_knobs
from loopbook.project.mappings import read_mapping
from loopbook.project.paths import Project
from loopbook.records.turns import ERROR, EXIT_CODES, INVESTIGATE

WORKERS = 2  # where pipeline.yaml has no executor of ours

HEAD = '''"""Two DAGs of a loopbook project for Airflow 3, {written}.

`{name}-train` runs the notebooks of pipeline.yaml, a task each, and ends with a
champion. `{name}-turn` takes the loop's turn, which retrains when that pays.
Both begin paused. Write the file anew when pipeline.yaml changes.

A task runs `loopbook` in the project's folder, with the project's `.venv` if
there is one. On a worker that has the project elsewhere set LOOPBOOK_PROJECT.
LOOPBOOK_TRAIN_CRON is the schedule of the training (UTC, by default @weekly).
"""
'''

CONSTANTS = """
NAME = {name}
EXPORTED_FROM = {project}
TURN_MINUTES = {minutes}  # loop_interval_minutes of env.yaml
SIDE_BY_SIDE = {workers}  # workers of pipeline.yaml
# each task of the graph: what it runs, its notebook, and the tasks before it
TASKS = {tasks}
"""

IMPORTS = """
import os
from datetime import datetime, timedelta, timezone

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG, Param
    from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable
except ImportError as reason:
    from airflow import __version__

    raise ImportError(
        f"{__file__}: written for Airflow 3, and this is Airflow {__version__} ({reason}). "
        "Install apache-airflow>=3 with its provider `standard`, and parse the file again."
    ) from None
"""

BODY = '''
BEGIN = """
cd "${LOOPBOOK_PROJECT:-$EXPORTED_FROM}" || {
  echo "The project is not on this worker. Set LOOPBOOK_PROJECT to its folder." >&2; exit 1; }
PATH="$PWD/.venv/bin:$PATH"
command -v loopbook >/dev/null || {
  echo "No loopbook in $PWD/.venv nor on PATH. Install it there: make env" >&2; exit 1; }
"""
TURN = """
loopbook loop --once --as-of "$AS_OF"
code=$?
case $code in
@CASES@
  *) exit $code ;;
esac
"""
LOOK = """
echo "The turn's outcome: $OUTCOME."
[ "$OUTCOME" != @INVESTIGATE@ ] || {
  echo "Inputs are broken, and nothing was trained. A person has to look: make reports" >&2; exit 1; }
"""

# Values reach the shell as variables, since a person who triggers a run chooses as_of.
ENVIRONMENT = {
    "EXPORTED_FROM": EXPORTED_FROM,
    "AS_OF": "{{ params.as_of or (dag_run.data_interval_end or dag_run.run_after).isoformat() }}",
}
COMMON = {
    "start_date": datetime(2024, 1, 1, tzinfo=timezone.utc),
    "catchup": False,
    "max_active_runs": 1,
    "max_active_tasks": SIDE_BY_SIDE,
    "tags": ["loopbook", NAME],
    "params": {
        "as_of": Param(
            "",
            type="string",
            title="as of",
            description="Only rows known by this day or instant (UTC) are used, or `newest`. "
            "Empty: the end of the run's data interval.",
        )
    },
}


def operator(task_id, command, **more):
    """A shell command in the project's folder, with the worker's variables and ours."""
    ours = ENVIRONMENT | more.pop("env", {})
    return BashOperator(
        task_id=task_id, bash_command=BEGIN + command, env=ours, append_env=True, **more
    )


with DAG(
    dag_id=f"{NAME}-train",
    description="Runs the notebooks of pipeline.yaml; ends with a champion.",
    doc_md=f"{__doc__}\\nThe notebooks with their results are in `var/build`: `loopbook status`.",
    schedule=CronDataIntervalTimetable(
        os.environ.get("LOOPBOOK_TRAIN_CRON", "@weekly"), timezone="UTC"
    ),
    # one that fails by itself (a worker lost, a disk full) is tried once more
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5), "do_xcom_push": False},
    **COMMON,
):
    made = {}
    for task_id, task in TASKS.items():
        made[task_id] = operator(
            task_id,
            f'exec {task["command"]} --set "as_of=$AS_OF"',
            doc_md=f"Runs `{task['notebook']}`; it writes {', '.join(task['writes'])}.",
        )
        for before in task["needs"]:
            made[before] >> made[task_id]

with DAG(
    dag_id=f"{NAME}-turn",
    description="Takes the loop's turn: monitor, retrain when it pays, gate, promote.",
    doc_md=f"{__doc__}\\nWhat each turn did and why: `loopbook history`.",
    schedule=DeltaDataIntervalTimetable(timedelta(minutes=TURN_MINUTES)),
    **COMMON,
):
    # a turn that stopped is continued as of the same instant, so it may be tried again
    turn = operator("turn", TURN, retries=1, retry_delay=timedelta(minutes=5))
    look = operator(
        "look",
        LOOK,
        env={"OUTCOME": "{{ ti.xcom_pull(task_ids='turn') }}"},
        doc_md="Fails when inputs are broken, so that whoever watches Airflow is told.",
    )
    turn >> look
'''


def write(plan: Plan, folder: Path) -> list[Path]:
    """Write the file with both DAGs to a folder, named after the model."""
    path = folder / f"loopbook_{plan.name.replace('-', '_')}.py"
    return [write_file(path, dags(plan), "airflow")]


def dags(plan: Plan) -> str:
    """The Python file, to be parsed by Airflow."""
    knobs, ids = read_knobs(plan.project.knobs), identifiers(plan.tasks, _taken)
    head = HEAD.format(written=WRITTEN_BY.format(engine="airflow"), name=plan.name)
    constants = CONSTANTS.format(
        name=_as_python(plan.name),
        project=_as_python(str(plan.project.root)),
        minutes=_as_python(knobs.loop_interval_minutes),
        workers=_as_python(_workers(plan.project)),
        tasks=_as_python({ids[task.name]: _task(plan, task, ids) for task in plan.tasks}),
    )
    done = {code: word for word, code in EXIT_CODES.items() if word != ERROR}
    cases = "\n".join(f"  {code}) echo {word} ;;" for code, word in done.items())
    body = BODY.replace("@CASES@", cases).replace("@INVESTIGATE@", INVESTIGATE)
    return head + IMPORTS + constants + body


def _workers(project: Project) -> int:
    """How many notebooks a build runs side by side: Airflow may run as many."""
    executor = read_mapping(project.graph, BuildFailed).get("executor")
    return executor.get("workers", WORKERS) if isinstance(executor, dict) else WORKERS


def _taken(name: str) -> str:
    """A name in the signs that Airflow takes: letters, digits, dots, hyphens, underscores."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def _task(plan: Plan, task: Task, ids: dict[str, str]) -> dict[str, Any]:
    return {
        "command": shlex.join(plan.command(task)),
        "notebook": task.notebook,
        "writes": [plan.path(path) for path in task.products.values()],
        "needs": [ids[name] for name in task.upstream],
    }


def _as_python(value: Any) -> str:
    """Texts, numbers, lists and dicts as Python writes them, with a formatter's commas."""
    text = json.dumps(value, ensure_ascii=False, indent=4)
    return re.sub(r"(?<=[^{\[,])\n", ",\n", text)  # no text in JSON holds a line's end
