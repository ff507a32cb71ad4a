"""Pipeline dashboard: the graph of notebooks with the executed ones a click away.

It decides what is read for the page, and that the page does not wait for what is
stale: that is asked in a process of its own, and the page completes itself.
"""

from threading import Thread

import ipywidgets as widgets

from loopbook.pages import executed, late, links
from loopbook.pages import tasks as task_pages
from loopbook.pages import windows as window_pages
from loopbook.pages.dashboards import WIDE, framed, guarded, row
from loopbook.pages.tasks import Graph
from loopbook.pipeline import task_states
from loopbook.pipeline.task_states import TaskState
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project, current

NONE = "none"


def show() -> widgets.Widget:
    """The dashboard; the last value of its notebook."""
    try:
        project = current()
        graphs = _graphs(project)
    except LoopbookError as error:
        return framed("pipeline", widgets.HTML(window_pages.nothing(str(error), "make status")))
    shown = widgets.HTML(guarded(task_pages.page, graphs, command="make build"))
    Thread(target=_complete, args=(project, graphs, shown), daemon=True).start()
    return framed("pipeline", shown, *_documents(graphs))


def _graphs(project: Project) -> list[Graph]:
    """The training and, where it has ever run, the monitoring."""
    build = Graph("Training", "make build", task_states.of_graph(project), is_asked=True)
    if not project.monitor_graph.exists():
        return [build]
    monitor = task_states.of_graph(project, project.monitor_graph)
    return [build, Graph("Monitoring", "make monitor", monitor)]


def _complete(project: Project, graphs: list[Graph], shown: widgets.HTML) -> None:
    """Say what is stale, as soon as that is known."""
    training, *others = graphs
    try:
        stale, fault = task_states.why_stale(project), ""
    except LoopbookError as error:
        stale, fault = None, str(error)
    known = Graph(training.title, training.command, training.tasks, stale)
    late.tell(shown, guarded(task_pages.page, [known, *others], fault, command="make build"))


def _documents(graphs: list[Graph]) -> list[widgets.Widget]:
    """A chooser over the executed notebooks, and the one that was chosen."""
    by_name: dict[str, TaskState] = {task.name: task for g in graphs for task in g.tasks}
    asked = links.asked().get("task", NONE)
    chooser = widgets.Dropdown(
        options=[("choose one", NONE), *((name, name) for name in by_name)],
        value=asked if asked in by_name else NONE,
        description="Notebook",
        layout=WIDE,
    )
    place = widgets.HTML()

    def open_it(_: object = None) -> None:
        task = by_name.get(chooser.value)
        place.value = guarded(_document, task, command="make build") if task else ""

    chooser.observe(open_it, "value")
    open_it()
    if asked not in (NONE, *by_name):
        sentence = f"There is no task {asked!r}; there are {', '.join(by_name)}."
        place.value = window_pages.nothing(sentence, "loopbook plan", title="No such notebook")
    return [row(chooser), place]


def _document(task: TaskState) -> str:
    content = executed.page(task.executed) if task.executed.exists() else None
    return task_pages.document(task.name, content)
