"""Dashboards: the pages with their choosers, as widgets for Voila and JupyterLab.

It decides what is read for a page and what a reader may choose. It reads
finished records and the registry; it computes nothing but the what-if answer,
with the very graph that serves. A fault is shown as a sentence.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import ipywidgets as widgets

from loopbook.pages import windows as window_pages
from loopbook.project.clock import parse_instant
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project, current, tracking_address
from loopbook.records import windows as window_records
from loopbook.registry import reader as registry_reader
from loopbook.registry.reader import Held, Registry

EVERY = "every version"
WIDE = widgets.Layout(width="auto", max_width="420px")


def show(page: str) -> widgets.Widget:
    """A dashboard by its name, such as `overview`; the last value of its notebook.

    Returns
    -------
    ipywidgets.Widget
        Choosers over the page. Where something is missing, the page says what
        and which command brings it.
    """
    try:
        here = current()
        contract = read_contract(here.contract)
        store = registry_reader.connect(tracking_address(here))
        versions = store.versions(contract.name)
    except LoopbookError as error:
        return widgets.HTML(
            window_pages.whole("Nothing to show", window_pages.empty(str(error), "make build"))
        )
    if not versions:
        told = window_pages.empty("There is no version yet.", "make build")
        return widgets.HTML(window_pages.whole("Nothing to show", told))
    if page == "what_if":
        return _by_version(store, versions, lambda held: _sliders(here, store, held))
    if page in ("candidates", "model_card"):
        return _by_version(store, versions, lambda held: _of_version(page, store, held))
    return _by_window(here, page, versions)


# -- pages about a window ------------------------------------------------------


def _by_window(project: Project, page: str, versions: list[Held]) -> widgets.Widget:
    records = window_records.listed(project)
    if not records:
        told = window_pages.empty("No window was monitored yet.", "make monitor")
        return widgets.HTML(window_pages.whole("Nothing to show yet", told))
    numbers = sorted({_number(r) for r in records}, key=lambda n: (len(n), n), reverse=True)
    version = widgets.Dropdown(
        options=[EVERY, *(f"v{n}" for n in numbers if n)], description="Version", layout=WIDE
    )
    window = widgets.Dropdown(description="Window", layout=WIDE)
    shown = widgets.HTML()

    def fill(_: object = None) -> None:
        options = [
            (f"until {r['as_of'][:16].replace('T', ' ')}: {r['verdict']['level']}", place)
            for place, r in reversed(list(enumerate(records)))
            if version.value in (EVERY, f"v{_number(r)}")
        ]
        window.options = options
        window.value = options[0][1]

    def draw(_: object = None) -> None:
        if window.value is not None:
            shown.value = guarded(_of_window, project, page, records, window.value, versions)

    version.observe(fill, "value")
    window.observe(draw, "value")
    fill()
    draw()
    return widgets.VBox([row(version, window), shown])


def _number(record: Mapping[str, Any]) -> str:
    return record["champion"].get("version", "")


def _of_window(
    project: Project,
    page: str,
    records: list[dict[str, Any]],
    place: int,
    versions: list[Held],
) -> str:
    record = records[place]
    folder = window_records.window_folder(project, record["as_of"])
    figures = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    if page == "drift":
        report = folder / window_records.REPORT
        text = report.read_text(encoding="utf-8") if report.exists() else None
        return window_pages.drift(record, figures, text)
    if page == "performance":
        return window_pages.performance(record, figures)
    happened = window_pages.happenings(records[: place + 1], [_about(held) for held in versions])
    return window_pages.overview(record, happened, figures)


# -- pages about a version -----------------------------------------------------


def _by_version(
    store: Registry, versions: list[Held], draw: Callable[[Held], str | widgets.Widget]
) -> widgets.Widget:
    by_number = {held.number: held for held in versions}
    champion = store.held(versions[0].name, "champion")
    version = widgets.Dropdown(
        options=[(_named(held, champion), held.number) for held in versions],
        value=champion.number if champion else versions[0].number,
        description="Version",
        layout=WIDE,
    )
    place = widgets.VBox([])

    def redraw(_: object = None) -> None:
        drawn = guarded(draw, by_number[version.value])
        place.children = [widgets.HTML(drawn) if isinstance(drawn, str) else drawn]

    version.observe(redraw, "value")
    redraw()
    return widgets.VBox([row(version), place])


def _named(held: Held, champion: Held | None) -> str:
    role = ", champion" if champion and held.number == champion.number else ""
    return f"v{held.number}: {held.tags.get('candidate', 'unknown')}{role}"


def _about(held: Held) -> dict[str, str]:
    return {**held.tags, "number": held.number, "run_id": held.run_id}


def _of_version(page: str, store: Registry, held: Held) -> str:
    decision = json.loads(store.content(held, "decision.json", "decision"))
    if page == "candidates":
        return window_pages.candidates(_about(held), decision)
    card = json.loads(store.content(held, registry_reader.CARD))
    return window_pages.model_card(_about(held), card, decision)


# -- what if -------------------------------------------------------------------


def _sliders(project: Project, store: Registry, held: Held) -> widgets.Widget:
    from loopbook.features import store as feature_store
    from loopbook.registry.explanations import explain
    from loopbook.registry.servable import load

    servable = load(store, held)
    contract = servable.contract
    # a card's keys are sorted; people and the feature store know the contract's order
    table = read_contract(project.contract)
    order = list(table.features)
    names = sorted(contract.features, key=lambda n: order.index(n) if n in order else len(order))
    given = {name: _widget(servable, name) for name in names}
    shown = widgets.HTML()
    features = feature_store.connect(project, table) if table.history else None
    now = (features and features.as_of()) or _newest(servable.card)

    def ask(_: object = None) -> None:
        shown.value = guarded(answer)

    def answer() -> str:
        record = {name: widget.value for name, widget in given.items()}
        if features and features.as_of():
            record |= features.get(record.get(table.entity), now).values
        value = float(servable.predict(servable.matrix([record], [now]))[0])
        notes = servable.notes(record)
        told = [f"no value for {n}, so it is imputed" for n in notes["imputed"]]
        target = contract.target
        return window_pages.what_if(
            value,
            f"{target.name}, {target.unit or 'no unit'}, as of {now:%Y-%m-%d}",
            explain(servable, record, now),
            {name: _place(servable.card, name, record.get(name)) for name in record},
            told,
        )

    for widget in given.values():
        widget.observe(ask, "value")
    ask()
    heading = widgets.HTML(
        window_pages.whole("What if?", "<p>Move an input; the answer follows.</p>")
    )
    grid = widgets.Layout(display="flex", flex_flow="row wrap")
    return widgets.VBox([heading, widgets.Box(list(given.values()), layout=grid), shown])


def _widget(servable: Any, name: str) -> widgets.Widget:
    feature, usual = servable.contract.features[name], servable.card["reference"][name]
    style = {"description_width": "130px"}
    layout = widgets.Layout(width="330px", max_width="100%")
    called = {"description": feature.alias or name, "style": style, "layout": layout}
    called["description_tooltip"] = feature.meaning
    if feature.type == "category":
        vocabulary = servable.card["categories"][name]
        chosen = feature.example if feature.example in vocabulary else vocabulary[0]
        return widgets.Dropdown(options=vocabulary, value=chosen, **called)
    if feature.type == "boolean":
        return widgets.Checkbox(value=bool(feature.example), indent=True, **called)
    ends = [usual["quantiles"]["0.01"], usual["quantiles"]["0.99"]]
    if feature.range:
        ends = [max(ends[0], feature.range[0]), min(ends[1], feature.range[1])]
    low, high = ends if ends[0] < ends[1] else (ends[0], ends[0] + 1)
    middle = usual["quantiles"]["0.5"] if feature.example is None else feature.example
    middle = min(max(middle, low), high)
    if feature.type == "integer":
        return widgets.IntSlider(
            value=round(middle),
            min=int(low),
            max=int(high) + (int(high) < high),
            continuous_update=False,
            **called,
        )
    return widgets.FloatSlider(
        value=middle,
        min=low,
        max=high,
        step=(high - low) / 200,
        readout_format=".4g",
        continuous_update=False,
        **called,
    )


def _place(card: Mapping[str, Any], name: str, value: Any) -> str:
    """Where a value lies among the rows that the model learned from."""
    about = card["reference"].get(name, {})
    if value is None:
        return "no value"
    if "shares" in about:
        return f"{about['shares'].get(value, 0) * 100:.1f} % have it"
    quantiles = sorted((float(q), v) for q, v in about.get("quantiles", {}).items())
    below = [q for q, limit in quantiles if limit is not None and value >= limit]
    above = [q for q, limit in quantiles if limit is not None and value <= limit]
    if not below:
        return "below 99 % of them"
    if not above:
        return "above 99 % of them"
    low, high = sorted((below[-1] * 100, above[0] * 100))
    return f"above {low:g} % of them" if low == high else f"above {low:g} to {high:g} % of them"


def _newest(card: Mapping[str, Any]) -> datetime:
    return parse_instant(card["as_of"]) if card["as_of"] else datetime.now(UTC)


# -- all pages -----------------------------------------------------------------


def row(*choosers: widgets.Widget) -> widgets.Widget:
    return widgets.Box(choosers, layout=widgets.Layout(display="flex", flex_flow="row wrap"))


def guarded(draw: Callable[..., Any], *words: Any, command: str = "make monitor") -> Any:
    """What `draw` gives, or a sentence about why it cannot and a command: never a traceback."""
    try:
        return draw(*words)
    except LoopbookError as error:
        return window_pages.whole("Nothing to show", window_pages.empty(str(error), "make status"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        told = f"A file of this page is missing or of another release ({type(error).__name__})."
        return window_pages.whole("Nothing to show", window_pages.empty(told, command))
