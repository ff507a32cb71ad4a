"""Checked: what `loopbook check` finds out about the files and the table, and runs nothing for.

It decides words, as `cli` does for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopbook.pipeline import graph
from loopbook.project import waits
from loopbook.project.counts import counted
from loopbook.project.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loopbook.data.rehearsal import Rehearsed
    from loopbook.project.paths import Project


@dataclass
class Checked:
    """What a build would run and why, and the table as a build would take it."""

    stale: dict[str, list[str]]
    table: Rehearsed | None = None
    leaks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        names = ("source", "read", "usable", "as_of", "parts", "left_out", "hints")
        table = self.table and {name: getattr(self.table, name) for name in names}
        return {"stale": self.stale, "table": table and table | {"leaks": self.leaks}}

    def lines(self) -> list[str]:
        """For people."""
        some = self.stale
        tasks = (
            f"{counted(len(some), 'task')} would run: {', '.join(some)}"
            if some
            else "nothing would run"
        )
        return [
            *self.table_lines(),
            f"contract.yaml, env.yaml and pipeline.yaml are in order; {tasks}.",
            "Next: loopbook build",
        ]

    def table_lines(self) -> list[str]:
        told = list(self.table.lines()) if self.table else []
        return [*told, *(f"  Note: {sentence}." for sentence in self.leaks)]


def check(project: Project, changes: Mapping[str, str], *, with_table: bool) -> Checked:
    """Look at files and table as a build would.

    Raises
    ------
    LoopbookError
        What the build would stop with; what was found before it is printed.
    """
    waits.at("loading the graph")
    found = Checked(graph.stale_reasons(project, changes))
    waits.at("reading the table as a build would")
    if not with_table:
        return found
    from loopbook.data.rehearsal import rehearse
    from loopbook.models import sentinel
    from loopbook.project import clock, contract, knobs
    from loopbook.project.errors import LoopbookError

    set_knobs = knobs.read_knobs(project.knobs, changes)
    table = contract.read_contract(project.contract)
    found.table = rehearse(project, table, set_knobs, now=clock.utc_now())
    try:
        for sentence in sentinel.rehearsed(found.table, table):
            found.leaks.append(sentence)
    except LoopbookError:
        say(*found.table_lines())
        raise
    return found
