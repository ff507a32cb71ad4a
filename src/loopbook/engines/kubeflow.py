"""Kubeflow: the graph as a pipeline of Kubeflow Pipelines, in a file that its SDK compiles.

It decides that a task is a container of the workbench's image on a cluster, and
a process of this machine under kfp's local runner, in one order. It never
imports kfp, which wants an environment of its own.
"""

from pathlib import Path
from pprint import pformat

from loopbook.engines.plans import WRITTEN_BY, Plan
from loopbook.engines.plans import write as written

FILE = "pipeline.py"
TEXT = '''"""The training graph for Kubeflow Pipelines, WRITTEN_BY.

Written anew when pipeline.yaml changes. In an environment with kfp and
kfp-kubernetes: `python pipeline.py` compiles it to pipeline.yaml beside this
file, for a cluster with the workbench's image and a claim for var/.
"""

import os
from pathlib import Path

from kfp import compiler, dsl, kubernetes

NAME = "@NAME"
IMAGE = os.environ.get("LOOPBOOK_IMAGE", "@NAME-workbench")
CLAIM = os.environ.get("LOOPBOOK_CLAIM", "@NAME-var")
SECRET = os.environ.get("LOOPBOOK_SECRET", "@NAME-settings")
SETTINGS = ("MLFLOW_TRACKING_URI", "LOOPBOOK_FEATURE_STORE", "LOOPBOOK_PREDICTION_LOG")
PROJECT = "/project"  # where the image has the project
# each task's signature, and the tasks before it
TASKS = @TASKS


@dsl.container_component
def in_a_container(name: str, signature: str, as_of: str):
    words = ["task", name, "--signature", signature, "--set", f"as_of={as_of}"]
    return dsl.ContainerSpec(image=IMAGE, command=["env", f"--chdir={PROJECT}", "loopbook"], args=words)


@dsl.component(base_image="python", install_kfp_package=False)
def on_this_machine(name: str, signature: str, as_of: str):
    """For kfp.local with its SubprocessRunner, in the project's folder."""
    import subprocess

    words = ["loopbook", "task", name, "--signature", signature, "--set", f"as_of={as_of}"]
    subprocess.run(words, check=True)


def pipeline(component):
    """The graph, each task of it run by a component."""

    @dsl.pipeline(name=f"{NAME}-train", description="Trains, judges and promotes a model.")
    def train(as_of: str = "@AS_OF"):
        steps = {}
        for name, (signature, before) in TASKS.items():
            step = component(name=name, signature=signature, as_of=as_of)
            step.after(*(steps[other] for other in before))
            step.set_display_name(name)
            step.set_caching_options(False)  # a build registers versions; a cache would not
            if component is in_a_container:
                step.set_retry(1)
                known = {setting: setting for setting in SETTINGS}
                kubernetes.use_secret_as_env(step, SECRET, known, optional=True)
                kubernetes.mount_pvc(step, pvc_name=CLAIM, mount_path=f"{PROJECT}/var")
            steps[name] = step

    return train


if __name__ == "__main__":
    target = Path(__file__).with_name("pipeline.yaml")
    compiler.Compiler().compile(pipeline(in_a_container), str(target))
    print(f"Wrote {target}.")
'''


def write(plan: Plan, folder: Path) -> list[Path]:
    """Write the file to a folder."""
    entries = {task.name: (task.signature(plan.project), task.upstream) for task in plan.tasks}
    text = TEXT.replace("WRITTEN_BY", WRITTEN_BY.format(engine="kubeflow"))
    for word, value in (("NAME", plan.name), ("AS_OF", plan.as_of)):
        text = text.replace(f"@{word}", value)
    text = text.replace("@TASKS", pformat(entries, sort_dicts=False, width=100))
    return [written(folder / FILE, text, "kubeflow")]
