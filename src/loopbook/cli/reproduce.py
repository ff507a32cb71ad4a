"""`loopbook reproduce`: a version built again, and what came of it in words.

It decides words and exit codes, as `cli` does for the rest.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loopbook.cli import completion
from loopbook.cli.printed import Json, report
from loopbook.project import paths, waits
from loopbook.project.terminal import say

if TYPE_CHECKING:
    from loopbook.provenance.recipes import Recipe
    from loopbook.provenance.reproduction import Reproduction

EQUAL, DIFFERENT, IMPOSSIBLE = 3, 4, 5
Version = Annotated[
    str,
    typer.Argument(
        metavar="VERSION", autocompletion=completion.versions, help="Its number, such as 7."
    ),
]
Into = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A new or empty folder; without it: var/reproduced.",
        show_default=False,
    ),
]


def reproduce(
    version: Version,
    into: Into = None,
    env: Annotated[
        bool, typer.Option("--env", help="Make the environment of then from the lock kept with it.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train its candidate and the baseline alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a version again from what was kept, and compare.

    Code, knobs, snapshot and the version that served then are put into a folder
    with a registry of its own; what is registered stays as it is. Exit code: 0
    identical, 3 equal within 1e-6, 4 different, 5 it cannot be reproduced.
    """
    import sys

    here = paths.current()
    waiting = waits.waiting(f"reproduce v{version.removeprefix('v')}")  # its imports take seconds
    with waits.leaving(_interrupted(into)), waiting:
        from loopbook.provenance import compared, reproduction

        tell = partial(say, stream=sys.stderr if as_json else None)
        done = reproduction.reproduce(here, version, reproduction.How(into, quick, env), tell)
    report(done.as_json(), lambda: lines(done), as_json=as_json)
    codes = {compared.EQUAL: EQUAL, compared.DIFFERENT: DIFFERENT}
    codes |= {reproduction.IMPOSSIBLE: IMPOSSIBLE}
    raise typer.Exit(codes.get(done.outcome, 0))


def _interrupted(into: Path | None) -> str:
    again = (
        f"Delete {into} or name another folder, then type the same command again."
        if into
        else "Type the same command again: it begins anew."
    )
    return f"the version was not built again; what is registered stays as it is. {again}"


def lines(done: Reproduction) -> list[str]:
    """A reproduction for people: the word, what was compared, why, where."""
    from loopbook.provenance import compared

    recipe = done.recipe
    told = [f"{done.label} ({recipe.candidate}): {done.outcome}", f"code        {code_of(recipe)}"]
    told += [f"{part.name:<11} {part.outcome}: {part.about}" for part in done.parts]
    if done.gate:
        told.append(f"gate        {done.gate}")
    if done.first_difference:
        told.append(f"first       {done.first_difference}")
    told += [f"reason      {reason.sentence}" for reason in done.reasons]
    if done.outcome == compared.IDENTICAL:
        doubts = [f"although    {doubt.kind}: {doubt.finding.found}" for doubt in done.doubts]
        told += doubts or ["environment as it was"]
    if done.parts and done.first_difference and not done.reasons:
        told.append(
            "reason      unknown: code, rows, packages and processor are as they were. A step "
            "draws without random_seed, or depends on the time."
        )
    then, now = done.seconds
    if then and now:
        told.append(f"took        {now:.1f} s in notebooks, {then:.1f} s then")
    return [*told, f"folder      {done.folder}"] if done.parts else told


def code_of(recipe: Recipe) -> str:
    """Where the code came from, in words."""
    from loopbook.registry import kept_code
    from loopbook.registry.code_state import NONE

    origin = recipe.origin
    if recipe.commit == NONE:
        return f"the files in {kept_code.FOLDER}/{kept_code.ZIP}" if origin else "nowhere"
    is_patched = origin is not None and kept_code.PATCH in origin
    patch = f" with {kept_code.FOLDER}/{kept_code.PATCH}" if is_patched else ""
    return f"commit {recipe.commit[:12]}{patch}"


COMMANDS = {reproduce: "Versions that there are: loopbook champion"}
