"""Loop dashboard: the turns of the loop and its replays, with their choosers.

It decides which records are read for the page and what a reader may choose. It
needs neither the registry nor a champion: a replay may be there before both.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from loopbook.pages import turns as turn_pages
from loopbook.pages import windows as window_pages
from loopbook.pages.dashboards import WIDE, guarded, row
from loopbook.project.errors import LoopbookError
from loopbook.project.files import read_json
from loopbook.project.paths import Project, current
from loopbook.records import turns as turn_records

MOST_TURNS = 100  # at once: each is a record of some kilobytes
NO_REPLAY = "No replay has finished yet."


def show() -> widgets.Widget:
    """The dashboard; the last value of its notebook."""
    try:
        project = current()
    except LoopbookError as error:
        return widgets.HTML(
            window_pages.whole("Nothing to show", window_pages.empty(str(error), "make status"))
        )
    records = turn_records.listed(project)
    head = guarded(turn_pages.top, records, waiting(project), command="make loop")
    return widgets.VBox([widgets.HTML(head), *_replays(project), *_turns(records)])


def waiting(project: Project) -> list[str]:
    """What the loop has not done yet, a sentence each."""
    told = []
    if left := turn_records.open_turn(project):
        told.append(f"A turn as of {left['as_of'][:16]} UTC is open, at {left['stage']}.")
    if asked := turn_records.asked(project):
        told.append(f"{asked['by']} asked for a retraining: {asked['reason']}")
    return told


def results(project: Project) -> list[tuple[Path, dict[str, Any]]]:
    """The finished replays with their folders: the year first, then by name."""
    found = []
    for path in sorted((project.var / "replay").glob("*/result.json")):
        try:
            told = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and {"scenario", "step", "turns", "months"} <= told.keys():
            found.append((path.parent, told))
    return sorted(found, key=lambda pair: pair[1]["scenario"] is not None)


def _replays(project: Project) -> list[widgets.Widget]:
    found = results(project)
    title = turn_pages.heading("What does the past say, replayed?", "replay")
    if not found:
        told = window_pages.empty(NO_REPLAY, "make replay")
        return [widgets.HTML(turn_pages.part(title, told))]
    chooser = widgets.Dropdown(
        options=[(turn_pages.replay_name(told), k) for k, (_, told) in enumerate(found)],
        description="Replay",
        layout=WIDE,
    )
    shown = widgets.HTML()

    def draw(_: object = None) -> None:
        folder, told = found[chooser.value]
        shown.value = guarded(_replay, project, folder, told, command="make replay")

    chooser.observe(draw, "value")
    draw()
    return [
        widgets.HTML(turn_pages.part(title)),
        *([row(chooser)] if len(found) > 1 else []),
        shown,
    ]


def _replay(project: Project, folder: Path, result: dict[str, Any]) -> str:
    drawn = folder / "replay.svg"
    policies = drawn.read_bytes() if drawn.exists() else None
    records = [record for record in result["turns"] if turn_records.is_turn(record)]
    root = f"{folder.relative_to(project.root)}/loop/"
    told = f"{len(records):,} turns of this replay, the newest first."
    # the policies' figure has the verdicts and promotions too
    over_time = figure(records) if policies is None else None
    return turn_pages.part(
        turn_pages.replay(result, policies),
        "<h3>What did the loop do in it?</h3>",
        turn_pages.turns(records, over_time, root=root, told=told),
    )


def _turns(records: Sequence[dict[str, Any]]) -> list[widgets.Widget]:
    title = turn_pages.heading("What did the loop do here, turn by turn?", "turns")
    if not records:
        told = window_pages.empty("The loop has not turned yet.", "make loop")
        return [widgets.HTML(turn_pages.part(title, told))]
    ends = range(len(records), 0, -MOST_TURNS)
    parts = [records[max(0, end - MOST_TURNS) : end] for end in ends]
    chooser = widgets.Dropdown(
        options=[
            (f"{some[0]['as_of'][:10]} to {some[-1]['as_of'][:10]}", k)
            for k, some in enumerate(parts)
        ],
        description="Turns",
        layout=WIDE,
    )
    shown = widgets.HTML()

    def draw(_: object = None) -> None:
        some = parts[chooser.value]
        told = f"{len(some):,} of {len(records):,} turns, the newest first."
        shown.value = guarded(_turns_part, some, told, command="make loop")

    chooser.observe(draw, "value")
    draw()
    return [
        widgets.HTML(turn_pages.part(title)),
        *([row(chooser)] if len(parts) > 1 else []),
        shown,
    ]


def _turns_part(records: Sequence[dict[str, Any]], told: str) -> str:
    return turn_pages.part(turn_pages.turns(records, figure(records), root="", told=told))


def figure(records: Sequence[dict[str, Any]]) -> bytes | None:
    """The time line of some turns as an SVG; None if there are none."""
    if not records:
        return None
    from loopbook.pages import loop_plots  # Matplotlib: only a page that has turns waits for it

    drawn = BytesIO()
    loop_plots.turns(
        turn_records.verdicts(records),
        turn_records.outcomes(records),
        turn_records.changes(records),
    ).savefig(drawn, format="svg")
    return drawn.getvalue()
