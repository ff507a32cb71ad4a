"""Engine: Papermill's, saying which cell each notebook is at.

It decides how a notebook's kernel is started and ended. What runs when is
`graph`'s.
"""

import threading

from papermill.engines import NBClientEngine

from loopbook.pipeline.documents import as_document
from loopbook.pipeline.progress import Progress


class ReportingEngine(NBClientEngine):
    """Papermill's engine, telling `progress` which cell a notebook is at."""

    progress: Progress | None = None

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
        return super().execute_managed_notebook(
            nb_man, kernel_name, extra_arguments=quiet, shutdown_kernel="immediate", **kwargs
        )
