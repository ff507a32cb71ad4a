"""Known engines: which ones the graph can be written for, and what to do with the file.

It decides names, the folder that a file goes to unless somebody says another,
and the command that runs it. How a file looks is the engine's own module's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loopbook.engines import airflow, argo, dvc, kubeflow
from loopbook.engines.plans import Plan
from loopbook.project.errors import EngineError


@dataclass(frozen=True)
class Engine:
    """`write` takes the plan and a folder, and gives the files that it wrote."""

    write: Callable[[Plan, Path], list[Path]]
    folder: str  # from the project's folder
    following: str  # what to type next


ENGINES = {
    "airflow": Engine(
        airflow.write,
        "deploy/airflow",
        "give deploy/airflow to Airflow as a folder of DAGs: AIRFLOW__CORE__DAGS_FOLDER",
    ),
    "argo": Engine(argo.write, "deploy/argo", "argo submit --watch deploy/argo/workflow.yaml"),
    "dvc": Engine(dvc.write, ".", "dvc init (once; without git: --no-scm), then dvc repro"),
    "kubeflow": Engine(
        kubeflow.write, "deploy/kubeflow", "python deploy/kubeflow/pipeline.py (where kfp is)"
    ),
}


def engine_of(name: str) -> Engine:
    """An engine by its name.

    Raises
    ------
    EngineError
        If there is none of that name.
    """
    if name not in ENGINES:
        raise EngineError(
            f"no engine {name!r}; the graph can be written for {', '.join(ENGINES)}. For "
            "others: loopbook plan, and docs/engines.md."
        )
    return ENGINES[name]
