"""Loop dashboard: the turns of the loop and its replays, with their choosers.

It decides which records are read for the page and what a reader may choose. It
needs neither the registry nor a champion: a replay may be there before both.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from loopbook.monitoring import costs, paid
from loopbook.pages import kept_drawings
from loopbook.pages import replays as replay_pages
from loopbook.pages import turns as turn_pages
from loopbook.pages import windows as window_pages
from loopbook.pages.dashboards import WIDE, by_contract, framed, guarded, row
from loopbook.pages.formats import instant
from loopbook.pages.plain import with_names
from loopbook.project.contract import read_contract
from loopbook.project.counts import counted
from loopbook.project.errors import LoopbookError
from loopbook.project.files import read_json
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, current
from loopbook.records import turns as turn_records

MOST_TURNS = 100  # at once: each is a record of some kilobytes
LEAST_TURNS = 2  # that make a time line
NO_REPLAY = "No replay has finished yet."
NO_PAST = "The table has no time, so there is no past to replay."


def show() -> widgets.Widget:
    """The dashboard; the last value of its notebook."""
    try:
        project = current()
    except LoopbookError as error:
        return framed("loop", widgets.HTML(window_pages.nothing(str(error), "make status")))
    records = turn_records.listed(project)
    sentences = [*waiting(project), *_paid(project, records)]
    told = by_contract(project, with_names)
    head = guarded(turn_pages.top, records, sentences, told, command="make loop")
    return framed("loop", widgets.HTML(head), *_replays(project), *_turns(project, records))


def waiting(project: Project) -> list[str]:
    """What the loop has not done yet, a sentence each."""
    sentences = []
    if left := turn_records.open_turn(project):
        sentences.append(f"A turn as of {instant(left['as_of'])} UTC is open, at {left['stage']}.")
    if asked := turn_records.asked(project):
        sentences.append(f"{asked['by']} asked for a retraining: {asked['reason']}")
    return sentences


def _paid(project: Project, records: Sequence[dict[str, Any]]) -> list[str]:
    """What each retraining paid, where env.yaml says what one costs."""
    try:
        told = costs.of_knobs(read_knobs(project.knobs))
    except LoopbookError as error:
        return [str(error)]
    return [line.strip() for line in paid.lines(records, told) if line]


def results(project: Project) -> list[tuple[Path, dict[str, Any]]]:
    """The finished replays with their folders: the one without a scenario first, then by name."""
    readable = []
    for path in sorted((project.var / "replay").glob("*/result.json")):
        try:
            result = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(result, dict) and {"scenario", "step", "turns", "months"} <= result.keys():
            readable.append((path.parent, result))
    return sorted(readable, key=lambda pair: pair[1]["scenario"] is not None)


def _replays(project: Project) -> list[widgets.Widget]:
    finished = results(project)
    title, anchor = "What does the past say, replayed?", "replay"
    if not finished:
        return [widgets.HTML(turn_pages.heading(title, anchor, *_no_replay(project)))]
    names = [replay_pages.replay_name(result) for _, result in finished]

    def draw(place: int) -> str:
        folder, result = finished[place]
        return guarded(_replay, project, folder, result, command="make replay")

    return [widgets.HTML(turn_pages.heading(title, anchor)), *_choice("Replay", names, draw)]


def _no_replay(project: Project) -> tuple[str, str]:
    """Why no replay is there, and what makes one; empty where nothing can."""
    with suppress(LoopbookError):
        if read_contract(project.contract).event_time is None:
            return NO_PAST, ""
    return NO_REPLAY, "make replay"


def _replay(project: Project, folder: Path, result: dict[str, Any]) -> str:
    drawn = folder / "replay.svg"
    policies = drawn.read_bytes() if drawn.exists() else None
    records = [record for record in result["turns"] if turn_records.is_turn(record)]
    # the policies' figure has the verdicts and promotions too
    over_time = figure(project, records) if policies is None else None
    root = f"{folder.relative_to(project.root)}/loop/"
    told = by_contract(project, with_names)
    return replay_pages.replay(result, policies, over_time, records=records, root=root, told=told)


def _turns(project: Project, records: Sequence[dict[str, Any]]) -> list[widgets.Widget]:
    title, anchor = "What did the loop do here, turn by turn?", "turns"
    if not records:  # the page's head says so
        return []
    ends = range(len(records), 0, -MOST_TURNS)
    parts = [records[max(0, end - MOST_TURNS) : end] for end in ends]
    names = [f"{some[0]['as_of'][:10]} to {some[-1]['as_of'][:10]}" for some in parts]

    def draw(place: int) -> str:
        some = parts[place]
        of = f"{len(some):,} of {len(records):,} turns"
        told = of if len(some) < len(records) else counted(len(some), "turn")
        which = f"{told}, the newest first." if len(records) > 1 else f"{told}."
        return guarded(_some_turns, project, some, which, command="make loop")

    return [widgets.HTML(turn_pages.heading(title, anchor)), *_choice("Turns", names, draw)]


def _some_turns(project: Project, records: Sequence[dict[str, Any]], which: str) -> str:
    return turn_pages.turns(
        records, figure(project, records), which, by_contract(project, with_names)
    )


def _choice(
    description: str, names: Sequence[str], draw: Callable[[int], str]
) -> list[widgets.Widget]:
    """What is drawn of the chosen name's place; a chooser above where there is a choice."""
    options = [(name, place) for place, name in enumerate(names)]
    chooser = widgets.Dropdown(options=options, description=description, layout=WIDE)
    shown = widgets.HTML()

    def redraw(_: object = None) -> None:
        shown.value = draw(chooser.value)

    chooser.observe(redraw, "value")
    redraw()
    return [row(chooser), shown] if len(names) > 1 else [shown]


def figure(project: Project, records: Sequence[dict[str, Any]]) -> bytes | None:
    """The time line of some turns as an SVG; None of a single one, which its row tells."""
    if len(records) < LEAST_TURNS:
        return None
    told = (
        turn_records.verdicts(records),
        turn_records.outcomes(records),
        turn_records.changes(records),
    )
    facts = (*told[:2], sorted(told[2].items()))

    def draw() -> bytes:
        from loopbook.pages import loop_plots  # Matplotlib: only a new figure waits for it

        drawn = BytesIO()
        loop_plots.turns(*told).savefig(drawn, format="svg")
        return drawn.getvalue()

    return kept_drawings.drawn(project, "turns", facts, draw)
