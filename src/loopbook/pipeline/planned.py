"""Planned: what a task of Ploomber's is to the rest of loopbook.

It decides which notebook, parameters and products a task has, and what its kernel
will import. It takes Ploomber's tasks as they come and imports nothing of it.
"""

from collections.abc import Iterator
from pathlib import Path

from loopbook.pipeline import digests, notebooks
from loopbook.pipeline.tasks import Task, relative
from loopbook.project.paths import current

# Evidently takes seconds to import, and is imported only if this knob is on
SWITCHED = {"evidently": "monitor_report"}


def sources_of(todo: list) -> Iterator[str]:
    """The code of some notebooks and of every module of ours that they reach, read when it is asked for."""
    project = current()
    paths = {Path(task.source.loc) for task in todo}
    yield from (notebooks.code_of(notebook) for notebook in paths)
    files = {f for notebook in paths for f in digests.modules_of(project, notebook).values()}
    yield from (file.read_text(encoding="utf-8") for file in sorted(files))


def not_needed(todo: list) -> set[str]:
    """Packages that no task will import, since a knob of theirs is off."""
    parameters = [task.params.to_json_serializable() for task in todo]
    return {p for p, knob in SWITCHED.items() if not any(some.get(knob) for some in parameters)}


def task_of(task) -> Task:
    """The task as other engines know it."""
    needs = {name: one.product.to_json_serializable() for name, one in task.upstream.items()}
    notebook = relative(current(), str(Path(task.source.loc).resolve()))
    products = task.product.to_json_serializable()
    parameters = {"upstream": None} | task.params.to_json_serializable() | {"product": products}
    return Task(task.name, notebook, parameters, needs, products)


def products(task) -> list[Path]:
    """The files that a task has written."""
    return [Path(path).resolve() for path in task.product.to_json_serializable().values()]
