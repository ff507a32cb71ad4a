"""Failed cells: a notebook whose kernel is kept where it fails, or goes on from there.

It decides how a kernel is asked for what it held before the failed cell. Where
that cannot be vouched for, the notebook runs in a new kernel from its beginning.
"""

import ast
import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_core.utils import run_sync
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient

from loopbook.pipeline import checkpoints, kept_kernels
from loopbook.pipeline.kept_kernels import KEPT_S, Kept, Place
from loopbook.pipeline.kernels import NURSERY, Forked, NurseryProvisioner

ANSWERS_S = 10  # an idle kernel answers at once; one that a person uses may not


class KeepingClient(PapermillNotebookClient):
    """Papermill's client, for a task whose kernel may be kept or is."""

    def __init__(self, nb_man: Any, place: Place, say: Callable[[str], None], **options: Any):
        super().__init__(nb_man, **options)
        self.place, self.say = place, say
        self.first = 0  # the cells before this one are done
        self.until: float | None = None  # when a kernel that goes on ends in any case

    @contextmanager
    def setup_kernel(self, **options: Any) -> Iterator[None]:
        if not self._goes_on():
            self.km = self.create_kernel_manager()
            self.start_new_kernel(**options)
            self.start_new_kernel_client()
            if self.place.may_keep:
                self._ask(checkpoints.BEGIN)
        try:
            yield
        finally:
            if self.place.may_keep and self._keep():
                self.kc.stop_channels()
            else:
                self._cleanup_kernel()

    def execute_cell(self, cell: NotebookNode, cell_index: int, **options: Any) -> NotebookNode:
        """Run a cell, unless a kept kernel has done so."""
        return (
            cell if cell_index < self.first else super().execute_cell(cell, cell_index, **options)
        )

    def _goes_on(self) -> bool:
        """Whether the kernel that was kept takes over; otherwise it has ended."""
        name = self.place.task.name
        if not self.place.is_taken:
            return False
        kept = kept_kernels.take(self.place)
        if kept is None or not kept.is_alive():
            reason = "its kernel has ended"
        elif not self.place.may_go_on:
            reason = "everything runs"
        else:
            reason = kept.obstacle([cell.source for _, cell in self._code_cells()])
            reason = reason or self._attach(kept)
        if not reason:
            self._take_over(kept)
            self.say(
                f"  {name}: goes on from code cell {len(kept.cells) + 1}, in the kernel that was kept"
            )
            return True
        if kept:
            kept.end()
        self.say(f"  {name}: runs from its beginning, since {reason}")
        return False

    def _attach(self, kept: Kept) -> str:
        """Connect to a kept kernel and let it put its variables back; why not, in a clause."""
        self.km = self.create_kernel_manager()
        self.km.load_connection_info(dict(kept.connection))
        spec = self.km.kernel_spec
        provisioner = NurseryProvisioner(kernel_id=str(kept.pid), kernel_spec=spec, parent=self.km)
        provisioner.process = Forked(kept.pid)
        provisioner.pid = provisioner.pgid = kept.pid
        self.km.provisioner = provisioner
        patience, self.startup_timeout = self.startup_timeout, ANSWERS_S
        try:
            self.start_new_kernel_client()
            reason = self._ask(f"{checkpoints.HERE}.restore()")
            if not reason:
                self._ask(f"{checkpoints.HERE}.end_with({os.getpid()})")
        except (RuntimeError, TimeoutError):
            reason = "its kernel does not answer"
        self.startup_timeout = patience
        if reason and self.kc is not None:
            self._cleanup_kernel()
        return reason

    def _take_over(self, kept: Kept) -> None:
        """Give the cells that are done their outputs."""
        cells = self._code_cells()
        for (_, cell), done in zip(cells, kept.cells, strict=False):
            cell.outputs = [NotebookNode(output) for output in done["outputs"]]
            cell.execution_count = done["execution_count"]
        self.first = cells[len(kept.cells)][0]
        self.until = kept.until

    def _keep(self) -> bool:
        """Keep the kernel if a cell has failed and the nursery sees to it; whether it is kept."""
        failed = [
            place
            for place, (_, cell) in enumerate(self._code_cells())
            if cell.metadata.get("papermill", {}).get("exception")
        ]
        if not failed or not run_sync(self.km.is_alive)():
            return False
        pid = self.km.provisioner.pid
        if self.until is None and not NURSERY.keep(pid, KEPT_S):
            return False
        try:
            read = self._ask(checkpoints.SOURCES).splitlines()
            self._ask(f"{checkpoints.HERE}.end_with(0)")
        except (RuntimeError, TimeoutError):
            return False
        connection = self.km.get_connection_info()
        connection["key"] = connection["key"].decode()
        connection["kernel_name"] = self.kernel_name
        kernel = {"pid": pid, "connection": connection, "until": self.until}
        cells = [dict(cell) for _, cell in self._code_cells()[: failed[0]]]
        kept_kernels.keep(self.place, kernel, cells, read)
        return True

    def _code_cells(self) -> list[tuple[int, NotebookNode]]:
        return [(n, cell) for n, cell in enumerate(self.nb.cells) if cell.cell_type == "code"]

    def _ask(self, expression: str) -> Any:
        """The value of an expression in the kernel, which leaves no trace in its history.

        Raises
        ------
        TimeoutError
            If it does not answer soon.
        """
        return run_sync(self._async_ask)(expression)

    async def _async_ask(self, expression: str) -> Any:
        message = self.kc.execute(
            "", silent=True, store_history=False, user_expressions={"it": expression}
        )
        reply = await asyncio.wait_for(self.async_wait_for_reply(message), ANSWERS_S)
        answer = reply["content"]["user_expressions"]["it"]
        if answer["status"] != "ok":
            raise RuntimeError(f"{answer['ename']}: {answer['evalue']}")
        return ast.literal_eval(answer["data"]["text/plain"])
