"""Build records: what is read for the page of a build, and of all versions beside it.

It decides which records and runs a page of versions shows, and that a figure of
them is drawn once. It computes nothing.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

from loopbook.pages import candidates as candidate_pages
from loopbook.pages import kept_drawings
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project, tracking_address
from loopbook.registry import notes, reigns
from loopbook.registry.reader import Registry, Version

MOST_VERSIONS = 40  # each has a record to fetch


def about(held: Version) -> dict[str, str]:
    return {**held.tags, "number": held.number, "run_id": held.run_id}


def decision_of(store: Registry, held: Version) -> dict[str, Any]:
    """The record of the build that made a version."""
    return json.loads(store.content(held, "decision.json", "decision"))


def of_build(
    project: Project, store: Registry, held: Version, called: Callable[[str], str] = str
) -> str:
    """The page of a version's build; `called` is what people call a slice."""

    def behind() -> bytes | None:
        from loopbook.pages import build_plots  # Matplotlib: only a new figure waits for it

        return build_plots.behind(decision)

    decision = decision_of(store, held)
    ranked = decision.get("ranked", [])
    runs = {row["candidate"]: store.run(row["run_id"]) for row in ranked if row.get("run_id")}
    place = decision.get("comparison")
    return candidate_pages.candidates(
        about(held),
        decision,
        figure=kept_drawings.drawn(project, "behind", decision, behind),
        settings={name: run.params for name, run in runs.items() if run},
        compared=notes.mlflow_page(tracking_address(project), place) if place else "",
        called=called,
    )


def every_version(project: Project, store: Registry, versions: list[Version]) -> str:
    """The newest versions with the records of their builds, and who served when."""
    ledger = reigns.of_tags(store.model_tags(versions[0].name))
    ends = [*(reign.as_of for reign in ledger[1:]), None]
    served: dict[str, list[tuple[str, str | None]]] = {}
    for reign, until in zip(ledger, ends, strict=False):  # none has served: nothing ended
        served.setdefault(reign.version, []).append((reign.as_of, until))
    past = []
    for held in versions[:MOST_VERSIONS]:
        with contextlib.suppress(LoopbookError, ValueError):  # one without a record has no row
            told = served.get(held.number, ())
            past.append(candidate_pages.Past(about(held), decision_of(store, held), told))

    def over_versions() -> bytes | None:
        from loopbook.pages import build_plots

        return build_plots.over_versions(past)

    facts = [(one.about, one.decision) for one in past]
    figure = kept_drawings.drawn(project, "versions", facts, over_versions)
    return candidate_pages.versions(past, figure)
