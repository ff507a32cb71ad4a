"""What if: the inputs of a version as sliders, and its answer to them.

It decides that the inputs stand at once and the answer follows: ONNX Runtime,
Polars and the graph are loaded beside the page, which does not wait for them.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import ipywidgets as widgets
from IPython import get_ipython

from loopbook.pages import inputs as inputs_of
from loopbook.pages import late, links
from loopbook.pages import windows as window_pages
from loopbook.pages.dashboards import guarded
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project
from loopbook.registry.reader import Registry, Version

VERSION = "version"  # in a link, beside the inputs
Run = Callable[[Callable[[], None]], object]


def sliders(project: Project, store: Registry, held: Version) -> widgets.Widget:
    """The inputs of a version, and below them its answer, which follows them."""
    inputs = inputs_of.inputs(store, held, read_contract(project.contract))
    wrong = inputs_of.take(inputs, {k: v for k, v in links.asked().items() if k != VERSION})
    shown, run = widgets.HTML(window_pages.answer_follows()), _beside_the_page()
    ready = []

    def show() -> None:
        late.tell(shown, guarded(answer))

    def answer() -> str:
        if not ready:
            from loopbook.pages.answers import answering  # ONNX Runtime: only here is it waited for

            ready.append(answering(project, store, held))
        return ready[0]({n: w.value for n, w in inputs.items()}) + _link(held, inputs)

    for widget in inputs.values():
        widget.add_class("asked")
        widget.observe(lambda _: run(show), "value")
    run(show)
    columns = "repeat(auto-fill, minmax(min(430px, 100%), 1fr))"
    grid = widgets.Layout(display="grid", grid_template_columns=columns)
    head = widgets.HTML(window_pages.what_if(wrong))
    return widgets.VBox([head, widgets.Box(list(inputs.values()), layout=grid), shown])


def _beside_the_page() -> Run:
    """What runs work in a kernel in order and beside it, so that it goes on; elsewhere at once."""
    if getattr(get_ipython(), "kernel", None) is None:
        return lambda work: work()
    return ThreadPoolExecutor(1).submit


def _link(held: Version, inputs: Mapping[str, widgets.Widget]) -> str:
    """The address that opens the page with these inputs."""
    values = {name: inputs_of.as_text(widget.value) for name, widget in inputs.items()}
    return window_pages.what_if_link(links.of("6_what_if", {VERSION: held.number} | values))
