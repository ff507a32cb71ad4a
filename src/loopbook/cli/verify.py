"""The command `verify`: whether all that is kept is still as it was written.

It decides words and exit codes, as `cli` does for the rest.
"""

from typing import Annotated

import typer

from loopbook.cli.printed import Json, report
from loopbook.project import paths, waits

SOMETHING_FOUND = 3
INTERRUPTED = (
    "not everything was verified, and verifying changes nothing. Quicker: loopbook verify --quick"
)


def verify(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Read small records and what serves; of larger files only the size."
        ),
    ] = False,
    as_json: Json = False,
    seal: Annotated[
        bool, typer.Option("--seal", help="Seal what has no seal, as it is now; then verify.")
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Accept this file as it is now, or as gone; may be repeated. Needs --reason.",
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="WHY", help="Why; it is kept in the ledger of seals.")
    ] = "",
) -> None:
    """Check that all that is kept is as it was written.

    What is missing, changed or unreproducible is named: versions, snapshots,
    files of runs, executed notebooks, records, states, the prediction log, the
    quarantine and the features are held against the digests that were taken when
    they were written. Exit code: 0 nothing was found, 3 something was, 1 it could
    not be looked at.
    """
    from loopbook.project.errors import VerificationError
    from loopbook.project.people import who

    with waits.waiting("verify"):  # its imports take seconds
        from loopbook.provenance import verification

    here, done = paths.current(), []
    if accept:
        if not reason:
            raise VerificationError("--accept: say why, so that it stays known: --reason WHY")
        done += verification.accept(here, accept, reason, who())
    if seal:
        done += verification.seal_rest(here)
    sealed = "what was sealed or accepted stays so; " if done else ""
    leaving = waits.leaving(f"{sealed}{INTERRUPTED}")
    with leaving, waits.waiting("verify"):
        found = verification.verify(here, quick=quick)
    report(found.as_json(), lambda: [*done, *found.lines()], as_json=as_json)
    raise typer.Exit(SOMETHING_FOUND if found.findings else 0)


COMMANDS = {verify: "A turn of the loop verifies too: loopbook history"}
