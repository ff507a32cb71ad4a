"""Dashboards: the pages with their choosers, as widgets for Voila and JupyterLab.

It decides what is read for a page and what a reader may choose. It reads
finished records and the registry and computes nothing. A fault is shown as a
sentence.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ipywidgets as widgets

from loopbook.pages import build_records, links, start
from loopbook.pages import versions as version_pages
from loopbook.pages import windows as window_pages
from loopbook.pages.news import Loop
from loopbook.pages.plain import column_called, labelled, readable, slice_called
from loopbook.pages.rendering import PAGES
from loopbook.project.clock import utc_now
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import LoopbookError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, current, tracking_address
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.records.roles import CHAMPION
from loopbook.registry import reader as registry_reader
from loopbook.registry import reigns
from loopbook.registry.reader import Registry, Version

EVERY = "every version"
OF_VERSIONS = ("candidates", "model_card", "what_if")
WIDE = widgets.Layout(width="auto", max_width="420px")


def show(page: str) -> widgets.Widget:
    """A dashboard by its name, such as `overview`; the last value of its notebook.

    Returns
    -------
    ipywidgets.Widget
        Navigation and choosers over the page. Where something is missing, the
        page says what and which command brings it.
    """
    if page == "start":
        return framed(page, widgets.HTML(guarded(_start)))
    return framed(page, _shown(page))


def framed(page: str, *parts: widgets.Widget) -> widgets.VBox:
    """The parts of a page below the navigation, which every page has first."""
    return widgets.VBox([widgets.HTML(window_pages.navigation(page, _others())), *parts])


def _others() -> list[str]:
    """The pages that a person added to the project's, by their names."""
    try:
        notebooks = (current().root / "reports").glob("*.ipynb")
    except LoopbookError:
        return []
    return sorted(path.stem for path in notebooks if path.stem not in PAGES)


def _shown(page: str) -> widgets.Widget:
    try:
        here = current()
        contract = read_contract(here.contract)
        store = registry_reader.connect(tracking_address(here))
        versions = store.versions(contract.name)
    except LoopbookError as error:
        return widgets.HTML(window_pages.nothing(str(error), "make build"))
    if not versions:
        return widgets.HTML(window_pages.nothing("There is no version yet.", "make build"))
    champion = store.held(contract.name, CHAMPION)
    if page in OF_VERSIONS:
        return _about_versions(here, page, store, versions)
    if champion is None and not window_records.listed(here):
        return widgets.HTML(guarded(_no_champion, store, versions[0], command="make build"))
    return _by_window(here, page, versions)


# -- the page that opens first --------------------------------------------------


def _start() -> str:
    project = current()
    contract = read_contract(project.contract)
    store = registry_reader.connect(tracking_address(project))
    versions = store.versions(contract.name)
    champion, refused = store.held(contract.name, CHAMPION), None
    if versions and champion is None:
        decision = build_records.decision_of(store, versions[0])
        why = decision.get("sentence") or versions[0].tags.get("gate_reason", "nobody said why")
        refused = why.removeprefix("Refused: "), version_pages.ways_on(versions[0].number, decision)
    turns = turn_records.listed(project)
    loop = Loop(
        read_knobs(project.knobs).loop_interval_minutes,
        last=turns[-1] if turns else None,
        open_turn=turn_records.open_turn(project),
        asked=turn_records.asked(project),
    )
    known = start.Known(
        contract,
        loop,
        window_records.listed(project),
        reigns.of_tags(store.model_tags(contract.name)) if versions else (),
        turns,
        champion and build_records.about(champion),
        refused,
        now=utc_now(),
    )
    return start.page(known)


# -- pages about a window ------------------------------------------------------


def _by_window(project: Project, page: str, versions: list[Version]) -> widgets.Widget:
    records = window_records.listed(project)
    if not records:
        sentence = "No window was monitored yet."
        return widgets.HTML(
            window_pages.nothing(sentence, "make monitor", title="Nothing to show yet")
        )
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


def _no_champion(store: Registry, newest: Version) -> str:
    return version_pages.no_champion(
        build_records.about(newest), build_records.decision_of(store, newest)
    )


def _number(record: Mapping[str, Any]) -> str:
    return record["champion"].get("version", "")


def _of_window(
    project: Project,
    page: str,
    records: list[dict[str, Any]],
    place: int,
    versions: list[Version],
) -> str:
    contract = read_contract(project.contract)
    told = [readable(record, contract) for record in records[: place + 1]]
    record = told[-1]
    folder = window_records.window_folder(project, record["as_of"])
    figures = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    if page == "drift":
        report = folder / window_records.REPORT
        text = report.read_text(encoding="utf-8") if report.exists() else None
        called = partial(column_called, contract=contract)
        is_trailing = bool(contract.trailing)
        return window_pages.drift(record, figures, text, called, is_trailing=is_trailing)
    if page == "performance":
        return window_pages.performance(record, figures, contract.target.unit)
    happened = window_pages.happenings(told, [build_records.about(held) for held in versions])
    return window_pages.overview(record, happened, figures)


# -- pages about a version -----------------------------------------------------


def _about_versions(
    project: Project, page: str, store: Registry, versions: list[Version]
) -> widgets.Widget:
    if page == "what_if":
        from loopbook.pages import what_if  # it imports this module

        return _by_version(store, versions, lambda held: what_if.sliders(project, store, held))
    if page == "model_card":
        return _by_version(store, versions, lambda held: _card(project, store, held))
    called = by_contract(project, slice_called)
    shown = _by_version(
        store, versions, lambda held: build_records.of_build(project, store, held, called)
    )
    return widgets.VBox(
        [shown, widgets.HTML(guarded(build_records.every_version, project, store, versions))]
    )


def _by_version(
    store: Registry, versions: list[Version], draw: Callable[[Version], str | widgets.Widget]
) -> widgets.Widget:
    by_number = {held.number: held for held in versions}
    champion = store.held(versions[0].name, CHAMPION)
    version = widgets.Dropdown(
        options=[(_named(held, champion), held.number) for held in versions],
        value=champion.number if champion else versions[0].number,
        description="Version",
        layout=WIDE,
    )
    asked = links.asked().get("version", version.value).removeprefix("v")
    unknown = [] if asked in by_number else [widgets.HTML(_no_such(asked, by_number))]
    version.value = asked if asked in by_number else version.value
    place = widgets.VBox([])

    def redraw(_: object = None) -> None:
        drawn = guarded(draw, by_number[version.value])
        place.children = [widgets.HTML(drawn) if isinstance(drawn, str) else drawn]

    version.observe(redraw, "value")
    redraw()
    return widgets.VBox([row(version), *unknown, place])


def _no_such(asked: str, by_number: Mapping[str, Version]) -> str:
    there = ", ".join(f"v{number}" for number in by_number)
    sentence = f"The link asks for version {asked!r}; there are {there}. Another one is shown."
    return window_pages.nothing(sentence, "loopbook champion", title="No such version")


def _named(held: Version, champion: Version | None) -> str:
    role = ", champion" if champion and held.number == champion.number else ""
    return f"v{held.number}: {held.tags.get('candidate', 'unknown')}{role}"


def _card(project: Project, store: Registry, held: Version) -> str:
    decision = build_records.decision_of(store, held)
    card = json.loads(store.content(held, registry_reader.CARD))
    papers = _papers(project, store, held)
    words = [by_contract(project, named) for named in (labelled, slice_called)]
    return version_pages.model_card(build_records.about(held), card, decision, papers, *words)


def _papers(project: Project, store: Registry, held: Version) -> tuple[bytes | None, str]:
    """The page of a version's dossier, and who signed it; or None, and why."""
    from loopbook.provenance import dossier_files, statements  # cryptography: only this page

    try:
        page = dossier_files.content(store, held, dossier_files.PAGE)
        return page, statements.said(store, held, project.signers)
    except LoopbookError as error:
        return None, str(error)


# -- all pages -----------------------------------------------------------------


def by_contract(project: Project, told: Callable[[str, Contract], str]) -> Callable[[str], str]:
    """What tells a name in the contract's words; as it is where no contract can be read."""
    try:
        return partial(told, contract=read_contract(project.contract))
    except LoopbookError:
        return str


def row(*choosers: widgets.Widget) -> widgets.Widget:
    layout = widgets.Layout(display="flex", flex_flow="row wrap", overflow="visible")
    return widgets.Box(choosers, layout=layout)


def guarded(draw: Callable[..., Any], *arguments: Any, command: str = "make monitor") -> Any:
    """What `draw` gives, or a sentence about why it cannot and a command: never a traceback."""
    try:
        return draw(*arguments)
    except LoopbookError as error:
        return window_pages.nothing(str(error), "make status")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        return window_pages.nothing(
            f"A file of this page is missing or of another release ({kind}).", command
        )
