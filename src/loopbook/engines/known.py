"""Known engines: which ones the graph can be written for, and what to do with the file.

It decides names, the folder that a file goes to unless somebody says another,
and the command that runs it. How a file looks is the engine's own module's.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from loopbook.engines import airflow, argo, dvc, kubeflow
from loopbook.engines.plans import Plan
from loopbook.project.errors import EngineError


@dataclass(frozen=True)
class Engine:
    """`write` takes the plan and a folder, and gives the files that it wrote."""

    write: Callable[[Plan, Path], list[Path]]
    folder: str  # from the project's folder
    following: str  # what to type next; {folder} is where the file was written
    extra: str = ""  # of loopbook, that brings the engine into this environment

    def next_in(self, folder: str) -> str:
        """What to type next, where the file was written to this folder; empty: the engine's own."""
        return self.following.format(folder=shlex.quote(folder or self.folder))

    @property
    def lacks(self) -> str:
        """What to type where the engine's extra is not installed; empty where it is, or has none."""
        is_here = not self.extra or find_spec(self.extra) is not None
        return "" if is_here else f"It is not installed here: pip install 'loopbook[{self.extra}]'"


ENGINES = {
    "airflow": Engine(
        airflow.write,
        "deploy/airflow",
        "give {folder} to Airflow as a folder of DAGs: AIRFLOW__CORE__DAGS_FOLDER",
    ),
    "argo": Engine(argo.write, "deploy/argo", "argo submit --watch {folder}/workflow.yaml"),
    "dvc": Engine(
        dvc.write,
        ".",
        "dvc init (once; without git: --no-scm), then dvc repro {folder}/dvc.yaml",
        "dvc",
    ),
    "kubeflow": Engine(
        kubeflow.write, "deploy/kubeflow", "python {folder}/pipeline.py (where kfp is)"
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
