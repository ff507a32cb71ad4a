"""Contents: how JupyterLab opens and saves a notebook of the pipeline.

It decides two things. Opened, such a notebook has the parameters that a build
would give it now, in a cell of their own. Saved, it leaves the edit and
nothing else in the work tree: no injected cell, no output, no path of this
machine, no editor's metadata. All other files are Jupyter's business.
"""

import asyncio
import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbformat import NotebookNode

from loopbook.pipeline.notebooks import kernel_of
from loopbook.project.paths import Project, find_root

PARAMETERS, INJECTED = "parameters", "injected-parameters"
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def inject(notebook: NotebookNode, task: dict[str, Any]) -> NotebookNode:
    """A copy of a notebook with a task's parameters in a cell after its own.

    A notebook without a cell tagged `parameters` comes back as it is.
    """
    opened = strip_injected(notebook)
    for place, cell in enumerate(opened.cells):
        if PARAMETERS in cell.metadata.get("tags", []):
            lines = [f"# {task['name']}, as a build would run it now. This cell is never saved."]
            lines += [f"{name} = {value!r}" for name, value in task["parameters"].items()]
            cell_id = "loopbook-parameters"
            injected = nbformat.v4.new_code_cell(
                "\n".join(lines), id=cell_id, metadata={"tags": [INJECTED]}
            )
            opened.cells.insert(place + 1, injected)
            break
    return opened


def strip_injected(notebook: NotebookNode) -> NotebookNode:
    """A copy of a notebook without injected cells."""
    kept = copy.deepcopy(notebook)
    kept.cells = [c for c in kept.cells if INJECTED not in c.metadata.get("tags", [])]
    return kept


def strip(notebook: NotebookNode) -> NotebookNode:
    """A copy with what a person wrote: sources, tags, and nothing that a run made."""
    kept = strip_injected(notebook)
    for cell in kept.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    kept.metadata = nbformat.from_dict(METADATA)
    kept.nbformat, kept.nbformat_minor = 4, 5
    return kept


class PipelineContentsManager(AsyncLargeFileManager):
    """Jupyter's own manager of files, with `inject` on opening and `strip` on saving."""

    async def get(self, path, content=True, type=None, format=None, require_hash=False):
        model = await super().get(path, content, type, format, require_hash)
        if content and model["type"] == "notebook" and self._is_pipeline_notebook(path):
            task = await self._task_of(path)
            opened = nbformat.from_dict(model["content"])
            if kernel_of(opened) == METADATA["kernelspec"]["name"]:  # whatever an editor saved
                opened.metadata.kernelspec = nbformat.from_dict(METADATA["kernelspec"])
            model["content"] = opened if task is None else inject(opened, task)
            self.mark_trusted_cells(model["content"], path)
        return model

    async def save(self, model, path=""):
        is_whole = model.get("type") == "notebook" and model.get("content")
        if is_whole and self._is_pipeline_notebook(path):
            model = {**model, "content": strip(nbformat.from_dict(model["content"]))}
        return await super().save(model, path)

    def _file(self, path: str) -> Path:
        return Path(self._get_os_path(path)).resolve()

    def _project(self) -> Project | None:
        root = find_root(Path(self.root_dir))
        return Project(root) if root else None

    def _is_pipeline_notebook(self, path: str) -> bool:
        project = self._project()
        return project is not None and self._file(path).parent == project.root / "notebooks"

    async def _task_of(self, path: str) -> dict[str, Any] | None:
        """The task whose notebook this is; of a grid the first, or LOOPBOOK_TASK."""
        project = self._project()
        notebook = str(self._file(path).relative_to(project.root))
        try:
            tasks = await _plan(project)
        except Exception as error:  # whatever is wrong with the graph, the notebook opens
            self.log.warning("%s opens without its parameters: %s", path, error)
            return None
        of_notebook = [task for task in tasks if task["notebook"] == notebook]
        chosen = [task for task in of_notebook if task["name"] == os.environ.get("LOOPBOOK_TASK")]
        return next(iter(chosen or of_notebook), None)


async def _plan(project: Project) -> list[dict[str, Any]]:
    """The plan, from a process of its own: loading the graph changes the working directory."""
    command = [sys.executable, "-m", "loopbook", "plan"]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=project.root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(err.decode().strip())
    return json.loads(out)
