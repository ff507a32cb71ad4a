"""Commands for other engines: the plan, one task of it, and the graph in an engine's words.

It decides words and exit codes, as `cli` does for the rest. None of them needs
Ploomber.
"""

from typing import Annotated

import typer

from loopbook.cli import completion
from loopbook.cli.loop import Changes, changes_of
from loopbook.project import paths
from loopbook.project.counts import counted
from loopbook.project.terminal import say


def plan(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            autocompletion=completion.tasks,
            help="Print only this task's parameters.",
        ),
    ] = "",
    into: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Write what each task depends on to a file of its own, for engines that compare "
            "files.",
        ),
    ] = "",
    changes: Changes = None,
) -> None:
    """Print the resolved tasks as JSON, for any engine."""
    import json
    from pathlib import Path

    from loopbook.pipeline import tasks
    from loopbook.project.errors import KnobError

    if into:
        from loopbook.pipeline import task_inputs

        written = task_inputs.write(paths.current(), Path(into), changes_of(changes))
        say(f"Wrote {counted(len(written), 'file')} to {into}.")
        return
    resolved = tasks.plan(paths.current(), changes_of(changes))
    if not task:
        print(json.dumps(resolved, indent=2))
        return
    by_name = {one["name"]: one for one in resolved}
    if task not in by_name:
        raise KnobError(f"no task {task!r}; there are {', '.join(by_name)}.")
    print(json.dumps(by_name[task]["parameters"], indent=2))


def task(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TASK", autocompletion=completion.tasks, help="A task, as `plan` names it."
        ),
    ],
    signature: Annotated[
        str,
        typer.Option(
            metavar="DIGEST",
            help="What the engine's file says that the task is; refuse another one.",
            show_default=False,
        ),
    ] = "",
    changes: Changes = None,
) -> None:
    """Run one task, when those before it have run; for engines.

    It runs whether or not it is up to date, and ends as in a build: products,
    seals and records; exit code 1 if it fails.
    """
    from loopbook.pipeline import task_runs

    task_runs.run(paths.current(), name, changes_of(changes), signature or None)


def export(
    engine: Annotated[
        str,
        typer.Argument(
            metavar="ENGINE", autocompletion=completion.engines, help="Such as dvc or airflow."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Where to write; without it the engine's own folder."),
    ] = "",
) -> None:
    """Write the graph of notebooks for another engine."""
    from pathlib import Path

    from loopbook.engines import known, plans

    here = paths.current()
    chosen = known.engine_of(engine)
    for path in chosen.write(plans.plan_of(here), Path(to) if to else here.root / chosen.folder):
        say(f"Wrote {path}.")
    if chosen.lacks:
        say(chosen.lacks)
    say(f"Next: {chosen.next_in(to)}")


COMMANDS = {
    plan: "Run one task without the graph: loopbook plan train > p.json, then papermill "
    "IN.ipynb OUT.ipynb -f p.json",
    task: "All tasks in their order: loopbook plan",
    export: "Next: what the last line says. Engines, and what each needs: docs/engines.md; "
    "without them: loopbook plan",
}
