"""Engine: Papermill's, saying which cell each notebook is at.

It decides how a notebook's kernel is started and ended. What runs when is
`graph`'s.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
        started, completed = nb_man.cell_start, nb_man.cell_complete
        task = threading.current_thread().name

        def cell_start(cell, cell_index=None, **rest):
            if cls.progress and cell_index is not None:
                cls.progress.cell(task, cell_index + 1, len(nb_man.nb.cells))
            with nullcontext() if cell.cell_type == "code" else _unsaved(nb_man):
                return started(cell, cell_index, **rest)

        def cell_complete(cell, cell_index=None, **rest):
            with _unsaved(nb_man):
                return completed(cell, cell_index, **rest)

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
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


@contextmanager
def _unsaved(nb_man: Any) -> Iterator[None]:
    """Without a copy on the disk, of which Papermill writes two a cell.

    The one at the start of a code cell has all that was done before it, and the last
    one the rest: three of four less, a second of a notebook with figures.
    """
    nb_man.save = lambda **_: None
    try:
        yield
    finally:
        del nb_man.save
