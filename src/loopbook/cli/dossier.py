"""Command of the dossiers: all that is on record about a version, as files.

It decides words, as `cli` does for the rest.
"""

from pathlib import Path
from typing import Annotated

import typer

from loopbook.cli import completion
from loopbook.project import paths, waits
from loopbook.project.terminal import say


def dossier(
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            autocompletion=completion.named_versions,
            help="A version such as 7, or champion, newest.",
        ),
    ],
    into: Annotated[
        str, typer.Option("--into", metavar="DIR", help="Write its files here too.")
    ] = "",
    sign: Annotated[
        bool, typer.Option("--sign", help="Fail if it cannot be signed by the project's key.")
    ] = False,
) -> None:
    """Show a version's dossier, made and signed where it was not yet.

    It is one HTML page in the order of the EU AI Act's Annex IV, with its record
    as JSON, a bill of materials (CycloneDX) and the signed statement.
    """
    from loopbook.project.clock import utc_now
    from loopbook.project.contract import read_contract
    from loopbook.project.errors import SignatureError

    here = paths.current()
    with waits.waiting("dossier"):  # its imports take seconds
        from loopbook.pages import dossier as dossier_page
        from loopbook.provenance import dossiers

        sources = dossiers.sources_of(here, read_contract(here.contract))
        kept = dossiers.keep(sources, version, dossier_page.page, now=utc_now())
    if sign and not kept.signer:
        raise SignatureError(f"{kept.version.label}: was not signed: {kept.why_unsigned}")
    say(kept.sentence)
    if into:
        for path in _written(sources.registry, kept, Path(into)):
            say(f"Wrote {path}.")


def _written(registry, kept, folder: Path) -> list[Path]:
    """The files of a dossier in a folder, each checked before it is written."""
    from loopbook.project.errors import SignatureError
    from loopbook.project.files import replacing
    from loopbook.provenance import dossier_files, statements

    names = dossier_files.TAGS
    files = {name: dossier_files.content(registry, kept.version, name) for name in names}
    if kept.signer:
        name = statements.ENVELOPE
        files[name] = registry.content(kept.version, name, dossier_files.FOLDER)
    try:
        for name, content in files.items():
            with replacing(folder / name) as path:
                path.write_bytes(content)
    except OSError as reason:
        raise SignatureError(
            f"--into {folder}: cannot be written ({reason.strerror}). Name another folder."
        ) from None
    return [folder / name for name in files]


COMMANDS = {dossier: "Read it: loopbook dossier VERSION --into DIR, then open DIR/dossier.html"}
