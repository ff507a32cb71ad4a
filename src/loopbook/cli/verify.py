"""The command `verify`: whether all that is kept is still as it was written.

It decides words and exit codes, as `cli` does for the rest.
"""

from typing import Annotated

import typer

from loopbook.project import paths

SOMETHING_FOUND = 3


def verify(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Read small records and what serves; of larger files only the size."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
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
    import json

    from loopbook.project.errors import VerificationError
    from loopbook.project.people import who
    from loopbook.provenance import verification

    here, done = paths.current(), []
    if accept:
        if not reason:
            raise VerificationError("--accept: say why, so that it stays known: --reason WHY")
        done += verification.accept(here, accept, reason, who())
    if seal:
        done += verification.seal_rest(here)
    report = verification.verify(here, quick=quick)
    print(
        json.dumps(report.as_json(), indent=2) if as_json else "\n".join([*done, *report.lines()])
    )
    raise typer.Exit(SOMETHING_FOUND if report.findings else 0)


COMMANDS = {verify: "A turn of the loop verifies too: loopbook history"}
