"""Engine: Papermill's, saying which cell each notebook is at.

It decides how a notebook's kernel is started and ended. What runs when is
`graph`'s.
"""

import threading
from typing import Any, ClassVar

from papermill.engines import NBClientEngine
from papermill.log import logger

from loopbook.pipeline.documents import as_document
from loopbook.pipeline.failed_cells import KeepingClient
from loopbook.pipeline.kept_kernels import Place
from loopbook.pipeline.progress import Progress


class ReportingEngine(NBClientEngine):
    """Papermill's engine, telling `progress` which cell a notebook is at."""

    progress: Progress | None = None
    places: ClassVar[dict[str, Place]] = {}  # of the tasks whose kernel is kept or may be

    @classmethod
    def execute_notebook(cls, nb, kernel_name, progress_bar=True, **kwargs):
        return super().execute_notebook(nb, kernel_name, progress_bar=False, **kwargs)

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        started, task = nb_man.cell_start, threading.current_thread().name

        def cell_start(cell, cell_index=None, **rest):
            if cls.progress and cell_index is not None:
                cls.progress.cell(task, cell_index + 1, len(nb_man.nb.cells))
            return started(cell, cell_index, **rest)

        nb_man.cell_start = cell_start
        as_document(nb_man.nb)
        # a kernel's own log would stand between our lines; its errors are in the notebook
        quiet = ["--IPKernelApp.log_level=CRITICAL"]
        # all is written by then; MLflow's threads would take 2 s to say goodbye
        kwargs |= {"extra_arguments": quiet, "shutdown_kernel": "immediate"}
        if place := cls.places.get(task):
            return cls._execute(nb_man, place, kernel_name, **kwargs)
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    @classmethod
    def _execute(cls, nb_man, place: Place, kernel_name: str, **kwargs: Any):
        """What Papermill's engine does, with a kernel that may outlive the task."""
        options = {key: kwargs[key] for key in ("extra_arguments", "shutdown_kernel")}
        options |= {"kernel_name": kernel_name, "log": logger, "timeout": None}
        options["startup_timeout"] = kwargs.get("start_timeout", 60)
        say = cls.progress.say if cls.progress else print
        return KeepingClient(nb_man, place, say, **options).execute()
