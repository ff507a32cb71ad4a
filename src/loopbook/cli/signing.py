"""Commands of the signing key: make it, show it, put another into its place.

It decides words, as `cli` does for the rest.
"""

from typing import Annotated, Any

import typer

from loopbook.cli.printed import Json, report
from loopbook.project import paths
from loopbook.project.terminal import say


def sign(
    create: Annotated[
        bool, typer.Option("--create", help="Make the project's signing key, and trust it.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make another key; the old one stays trusted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the key that signs versions, or make one.

    The private half lies outside the project, in the file that
    LOOPBOOK_SIGNING_KEY names or below ~/.config/loopbook. signers.yaml has the
    public halves of all keys that this project trusts.
    """
    from loopbook.project.clock import utc_now
    from loopbook.project.contract import read_contract
    from loopbook.project.errors import SignatureError
    from loopbook.project.people import who
    from loopbook.provenance import signatures

    here = paths.current()
    name = read_contract(here.contract).name
    if create and rotate:
        raise SignatureError("keys sign: found --create and --rotate, expected one of them.")
    about = {"now": utc_now(), "by": who()}
    if create:
        signer = signatures.create(here, name, **about)
        say(f"Key {signer.id} signs the versions of {name}: {signatures.key_file(name)}")
        say("Keep a copy of that file, and show it to nobody. Commit signers.yaml.")
        return
    if rotate:
        old, new = signatures.rotate(here, name, **about)
        say(f"Key {new.id} signs from now on, in the place of {old.id}.")
        say(f"What {old.id} signed stays valid until you remove it from signers.yaml.")
        return
    told = record(here, name)
    report(told, lambda: described(told), as_json=as_json)


def described(told: dict[str, Any]) -> list[str]:
    """Which key signs here, and whose signatures count."""
    from loopbook.provenance import signatures

    path = told["file"]
    if told["found"] is None:
        lines = [f"signs       nobody: found no key at {path}. Make one: {signatures.CREATE}"]
    elif told["signs"] is None:
        lines = [
            f"signs       nobody: key {told['found']} of {path} is not in signers.yaml. "
            f"Trust it: {signatures.CREATE}"
        ]
    else:
        lines = [f"signs       {told['signs']}, {path}"]
    lines += [f"trusted     {k['id']}  {k['since'][:10]}  {k['by']}" for k in told["trusted"]]
    word = "yes" if told["required"] else "no"
    return [*lines, f"required    {word} (require_signature in env.yaml)"]


def record(project: paths.Project, name: str) -> dict[str, Any]:
    """Which key was found here, whether it signs, and which are trusted."""
    from loopbook.project.knobs import read_knobs
    from loopbook.provenance import signatures

    signer, trusted = signatures.read_signer(name), signatures.trusted(project.signers)
    return {
        "found": signer and signer.id,
        "signs": signer.id if signer and signer.id in trusted else None,
        "file": signatures.key_file(name),
        "trusted": [{"id": k.id, "since": k.since, "by": k.by} for k in trusted.values()],
        "required": read_knobs(project.knobs).require_signature,
    }
