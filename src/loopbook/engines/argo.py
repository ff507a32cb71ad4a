"""Argo: the graph as a Workflow of Argo, a container a task.

It decides that all tasks share one volume at `var/`, where notebooks pass files
to each other, and that a failed task is tried once more. The image is the
workbench's, with the project in it; a secret may hold a team's addresses.
"""

from pathlib import Path
from typing import Any

import yaml

from loopbook.engines.plans import WRITTEN_BY, Plan, identifiers
from loopbook.engines.plans import write as written
from loopbook.pipeline.tasks import Task

FILE = "workflow.yaml"
HEAD = f"""# The training graph for Argo Workflows, {WRITTEN_BY.format(engine="argo")}; written anew
# when pipeline.yaml changes. It needs a claim for a volume that every node can write
# (`claim`) and the workbench's image: argo submit workflow.yaml -p image=REGISTRY/IMAGE
"""
RETRIES = 1
PROJECT = "/project"  # where the workbench's image has the project
USER = 10001  # of that image


def write(plan: Plan, folder: Path) -> list[Path]:
    """Write the Workflow to a folder."""
    text = HEAD + yaml.safe_dump(workflow(plan), sort_keys=False, width=100)
    return [written(folder / FILE, text, "argo")]


def workflow(plan: Plan) -> dict[str, Any]:
    """The manifest: a DAG whose tasks all run `loopbook task`."""
    arguments = {"image": f"{plan.name}-workbench", "claim": f"{plan.name}-var"}
    arguments |= {"settings": f"{plan.name}-settings", "as_of": plan.as_of}
    claim = {"claimName": "{{workflow.parameters.claim}}"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{plan.name}-train-"},
        "spec": {
            "entrypoint": "graph",
            "arguments": {"parameters": _parameters(arguments)},
            # two graphs at once would write the same files
            "synchronization": {"mutexes": [{"name": f"{plan.name}-train"}]},
            "securityContext": {
                "runAsNonRoot": True,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "automountServiceAccountToken": False,
            "volumes": [{"name": "var", "persistentVolumeClaim": claim}],
            "templates": [_graph(plan), _template()],
        },
    }


def _parameters(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _graph(plan: Plan) -> dict[str, Any]:
    names = identifiers(plan.tasks)
    return {"name": "graph", "dag": {"tasks": [_entry(plan, task, names) for task in plan.tasks]}}


def _entry(plan: Plan, task: Task, names: dict[str, str]) -> dict[str, Any]:
    told = {"name": task.name, "signature": task.signature(plan.project)}
    entry = {
        "name": names[task.name],
        "template": "task",
        "arguments": {"parameters": _parameters(told)},
    }
    before = [names[name] for name in task.upstream]
    return entry | ({"dependencies": before} if before else {})


def _template() -> dict[str, Any]:
    # addresses of a team's back ends; without the secret all is below var/
    settings = {"name": "{{workflow.parameters.settings}}", "optional": True}
    words = ["task", "{{inputs.parameters.name}}"]
    words += ["--signature", "{{inputs.parameters.signature}}"]
    words += ["--set", "as_of={{workflow.parameters.as_of}}"]
    return {
        "name": "task",
        "inputs": {"parameters": [{"name": "name"}, {"name": "signature"}]},
        "retryStrategy": {"limit": RETRIES},
        "container": {
            "image": "{{workflow.parameters.image}}",
            "workingDir": PROJECT,
            "command": ["loopbook"],
            "args": words,
            "envFrom": [{"secretRef": settings}],
            "volumeMounts": [{"name": "var", "mountPath": f"{PROJECT}/var"}],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        },
    }
