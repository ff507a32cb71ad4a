"""`loopbook tune`: settings of a candidate searched, and the best of them as a candidate.

It decides words, as `cli` does for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from loopbook.cli import completion
from loopbook.cli.loop import Changes, Scheduler, changes_of
from loopbook.cli.printed import Json, only_json, report
from loopbook.project import paths, waits

if TYPE_CHECKING:
    from loopbook.models.task import Task
    from loopbook.models.tuning import Search, Trial

ROWS_COME_FROM = {"ingest", "validate", "build_features", "split"}
SHOWN = 5
INTERRUPTED = (
    "no trial was kept, and candidates.py stays as it is. Fewer trials take less time: --trials "
    "COUNT"
)


def tune(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            autocompletion=completion.tuned,
            help="A candidate with a space in tune.yaml.",
        ),
    ],
    trials: Annotated[
        int, typer.Option(metavar="COUNT", min=2, max=10_000, help="How many settings to try.")
    ] = 40,
    scheduler: Scheduler = "",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Search settings of a candidate on the validation rows.

    They are drawn from the candidate's space in tune.yaml, fitted on the rows
    that teach and compared on validation; no test row is seen. The best become a
    function of candidates.py, which a build and the gate treat like any other.
    """
    waiting = waits.waiting(f"tune {candidate}")  # its imports take seconds
    with only_json(as_json), waits.leaving(INTERRUPTED), waiting:
        found, name = _tuned(candidate, trials, scheduler, changes_of(changes))
    following = [
        f"candidates.py has {name} now.",
        f"Next: add {name} at the end of names in pipeline.yaml, then loopbook build",
    ]

    def told() -> list[str]:
        from loopbook.models.task import task_of
        from loopbook.project.contract import read_contract

        task = task_of(read_contract(paths.current().contract))
        return [*lines(found, task), *(following if name else [])]

    report(found.as_json() | {"written": name}, told, as_json=as_json)


def _tuned(
    candidate: str, trials: int, scheduler: str, changes: dict[str, str]
) -> tuple[Search, str | None]:
    """What a search found, and the name of the candidate that was written, if one was."""
    from loopbook.models import search_spaces, tuned_candidates, tuning
    from loopbook.project import clock, workers
    from loopbook.project.contract import read_contract
    from loopbook.project.files import write_json
    from loopbook.project.knobs import read_knobs

    here = paths.current()
    knobs = read_knobs(here.knobs, changes)
    contract = read_contract(here.contract)
    space = search_spaces.space_of(candidate, here)
    tuned_candidates.place_of(candidate, here)
    with workers.connected(scheduler or None) as client:
        _refuse_old_rows(here, changes)
        rows = tuning.rows_of_build(here, contract)
        how = tuning.How(trials, knobs.random_seed)
        found = tuning.search(candidate, contract, rows, space, how, client)
    write_json(here.var / "tune" / f"{candidate}.json", found.as_json())
    if found.best is None:
        return found, None
    return found, tuned_candidates.write(found, f"{clock.utc_now():%Y-%m-%d}", here)


def _refuse_old_rows(here: paths.Project, changes: dict) -> None:
    """Refuse the rows of a build that are not those of a build now."""
    from loopbook.pipeline import graph
    from loopbook.project.errors import TuningError

    stale = [name for name in graph.stale_tasks(here, changes) if name in ROWS_COME_FROM]
    if stale:
        raise TuningError(
            f"tune: the rows of the last build are not those of today ({', '.join(stale)} would "
            "run), so nothing was tried. Make them: loopbook build"
        )


def lines(found: Search, task: Task) -> list[str]:
    """A search for people: as it is, the best trials, and whether one is better."""
    done = sorted((t for t in found.trials if t.loss is not None), key=lambda trial: trial.loss)
    said = [
        f"{found.candidate}: {task.measure.title} on validation, of {len(done)} trials",
        f"  {task.measure.said(found.as_is)}  as it is",
        *(f"  {task.measure.said(trial.loss)}  {settings_of(trial)}" for trial in done[:SHOWN]),
    ]
    if failed := len(found.trials) - len(done):
        said.append(f"  {failed} trials could not be fitted and have no loss.")
    if found.best is None:
        said.append("No settings were better, so candidates.py stays as it is.")
    return said


def settings_of(trial: Trial) -> str:
    """Settings on a line."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial.settings.items()
    )


COMMANDS = {tune: "What may be tried: tune.yaml. Next: loopbook build"}
