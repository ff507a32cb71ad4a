"""DVC: the graph as the stages of a dvc.yaml, for `dvc repro`.

It decides that the same things make a task run again as in a build: its cells,
its parameters and digests, in a file that the first stage writes anew each
time, and everything that the tasks before it wrote. Products stay out of DVC's
cache: a build registers versions, and one that came out of a cache would not
have. It never imports DVC.
"""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from loopbook.engines.plans import WRITTEN_BY, Plan, identifiers
from loopbook.engines.plans import write as written
from loopbook.pipeline.tasks import Task

FILE = "dvc.yaml"
INPUTS = "var/plan"
HEAD = f"""# The training graph for DVC, {WRITTEN_BY.format(engine="dvc")}; written anew when
# pipeline.yaml changes. Once: dvc init. Then: dvc repro
"""


def write(plan: Plan, folder: Path) -> list[Path]:
    """Write the dvc.yaml to a folder."""
    above = os.path.relpath(plan.project.root, folder)
    text = HEAD + yaml.safe_dump(stages(plan, above), sort_keys=False, width=100)
    return [written(folder / FILE, text, "dvc")]


def stages(plan: Plan, wdir: str = ".") -> dict[str, Any]:
    """The content of the dvc.yaml; stages run in `wdir`, the project's folder from that of the file."""
    names = identifiers(plan.tasks, lambda name: re.sub(r"[^\w-]+", "_", name, flags=re.ASCII))
    where = {} if wdir == "." else {"wdir": Path(wdir).as_posix()}
    first = where | {
        "desc": "What each task depends on beside files; written anew each time.",
        "cmd": f"loopbook plan --into {INPUTS}",
        "always_changed": True,
        "outs": [_out(_inputs(task)) for task in plan.tasks],
    }
    return {
        "stages": {"plan": first} | {names[t.name]: where | _stage(plan, t) for t in plan.tasks}
    }


def _inputs(task: Task) -> str:
    return f"{INPUTS}/{task.name}.json"


def _stage(plan: Plan, task: Task) -> dict[str, Any]:
    needed = [path for products in task.needs.values() for path in products.values()]
    stage: dict[str, Any] = {
        "desc": f"The notebook {task.notebook}.",
        "cmd": shlex.join(plan.command(task)),
        "deps": [_inputs(task), *(_plain(plan.path(path)) for path in needed)],
        "outs": [_out(plan.path(path)) for path in task.products.values()],
    }
    return stage | ({"params": [{"env.yaml": list(task.knobs)}]} if task.knobs else {})


def _out(path: str) -> dict[str, Any]:
    return {_plain(path): {"cache": False}}


def _plain(path: str) -> str:
    return path.replace("${", "\\${")  # DVC would fill it in
