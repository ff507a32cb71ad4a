"""Tasks: the graphs of notebooks as a page, a picture and a table.

It decides the words for each state and where a box of the picture stands. Pure:
it reads no file; its templates escape every value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopbook.pages import links
from loopbook.pages.formats import Amount, date
from loopbook.pages.rendering import render
from loopbook.pipeline import picture
from loopbook.pipeline.task_states import DONE, FAILED, NEVER, STALE, UNFINISHED, TaskState
from loopbook.project.clock import parse_instant
from loopbook.project.counts import listed

PAGE = "8_pipeline"
LEAST_MINUTE_S = 59.95  # what would be told as 60.0 s is a minute
LOOKING = "Whether anything has changed since is being looked up …"
LOOKS = {  # a colour of the colour-blind safe ones, and a sign: nothing is told by colour alone
    DONE: ("#00634a", "✔"),
    STALE: ("#8a5a00", "↻"),
    FAILED: ("#a1262d", "✕"),
    UNFINISHED: ("#862e6b", "…"),
    NEVER: ("#555555", "–"),
}


@dataclass(frozen=True)
class Graph:
    """A graph with what builds it.

    Attributes
    ----------
    stale : why each stale task is; None where that is not known
    is_asked : whether it will be known in a moment
    """

    title: str
    command: str
    tasks: Sequence[TaskState]
    stale: Mapping[str, Sequence[str]] | None = None
    is_asked: bool = False


def page(graphs: Sequence[Graph], fault: str = "") -> str:
    """What ran when, what would run again and why.

    Parameters
    ----------
    fault : why it is not known what is stale
    """
    return render("pipeline", graphs=[_shown(g) for g in graphs], fault=fault, looks=LOOKS)


def document(task: str, content: str | None) -> str:
    """An executed notebook below the page, shut in; None for one that has never run."""
    return render("executed", task=task, content=content)


def state_of(task: TaskState, stale: Mapping[str, Sequence[str]] | None) -> str:
    """The state of a task, in which done and stale are two things."""
    return STALE if task.state == DONE and task.name in (stale or {}) else task.state


def _shown(graph: Graph) -> dict[str, Any]:
    states = {task.name: state_of(task, graph.stale) for task in graph.tasks}
    named = [{"name": task.name, "upstream": task.upstream} for task in graph.tasks]
    drawn = picture.places(named)
    boxes = [
        {
            "name": task.name,
            "state": states[task.name],
            "look": LOOKS[states[task.name]],
            "at": drawn.boxes[task.name],
            "link": links.to(PAGE, task=task.name),
        }
        for task in graph.tasks
    ]
    return {
        "title": graph.title,
        "sentence": _sentence(graph, states),
        "boxes": boxes,
        "picture": drawn,
        "size": (picture.WIDTH, picture.HEIGHT),
        "rows": [
            {
                "name": task.name,
                "state": states[task.name],
                "look": LOOKS[states[task.name]],
                "when": _when(task.began),
                "took": took(task.seconds),
                "why": _why(task, graph.stale),
                "link": links.to(PAGE, task=task.name),
                "notebook": task.notebook,
            }
            for task in graph.tasks
        ],
    }


def _sentence(graph: Graph, states: Mapping[str, str]) -> str:
    """What is to be done, first the worst."""
    by_state = {kind: [n for n, state in states.items() if state == kind] for kind in LOOKS}
    failed, absent, left = (listed(by_state[kind]) for kind in (FAILED, NEVER, UNFINISHED))
    is_first, looking = len(by_state[NEVER]) == len(states), LOOKING if graph.is_asked else ""
    told = [
        (failed, f"{failed} failed. Correct the notebook, then: {graph.command}"),
        (is_first, f"No notebook has run yet. Run them: {graph.command}"),
        (
            left,
            f"{left} did not come to the end, or still runs. If no build runs: {graph.command}",
        ),
        (absent, f"{absent} never ran. Run what is left: {graph.command}"),
        (graph.stale is None, f"{_all(len(states), 'has run', 'have run')}. {looking}".strip()),
        (
            graph.stale,
            f"{_stale(len(graph.stale or {}), len(states))} would run again: {graph.command}",
        ),
    ]
    up_to_date = f"{_all(len(states), 'is', 'are')} up to date: nothing to do."
    return next((sentence for holds, sentence in told if holds), up_to_date)


def _all(count: int, one: str, more: str) -> str:
    return f"The one task {one}" if count == 1 else f"All {count:,} tasks {more}"


def _stale(count: int, of: int) -> str:
    return _all(count, "", "").strip() if count == of else f"{count} of {of} tasks"


def _why(task: TaskState, stale: Mapping[str, Sequence[str]] | None) -> str:
    if task.error:
        return task.error
    return "; ".join((stale or {}).get(task.name, [])) if task.state != NEVER else ""


def _when(began: str | None) -> str:
    if not began:
        return ""
    try:
        at: datetime = parse_instant(began)
    except ValueError:
        return began[:16]
    return f"{date(at.isoformat())}, {at:%H:%M} UTC"


def took(seconds: float | None) -> Amount:
    """How long a run took."""
    if seconds is None:
        return Amount("")
    if seconds < LEAST_MINUTE_S:
        return Amount(f"{seconds:.1f} s")
    minutes, rest = divmod(round(seconds), 60)
    return Amount(f"{minutes} min {rest:02} s")
