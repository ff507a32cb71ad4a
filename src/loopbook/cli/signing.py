"""Commands of the signing key: make it, show it, put another into its place.

It decides words, as `cli` does for the rest.
"""

from typing import Annotated

import typer

from loopbook.project import paths


def sign(
    create: Annotated[
        bool, typer.Option("--create", help="Make the project's signing key, and trust it.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make another key; the old one stays trusted.")
    ] = False,
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
        print(f"Key {signer.id} signs the versions of {name}: {signatures.key_file(name)}")
        print("Keep a copy of that file, and show it to nobody. Commit signers.yaml.")
        return
    if rotate:
        old, new = signatures.rotate(here, name, **about)
        print(f"Key {new.id} signs from now on, in the place of {old.id}.")
        print(f"What {old.id} signed stays valid until you remove it from signers.yaml.")
        return
    print("\n".join(described(here, name)))


def described(project: paths.Project, name: str) -> list[str]:
    """Which key signs here, and whose signatures count."""
    from loopbook.project.knobs import read_knobs
    from loopbook.provenance import signatures

    signer, path = signatures.read_signer(name), signatures.key_file(name)
    trusted = signatures.trusted(project.signers)
    if signer is None:
        lines = [f"signs       nobody: found no key at {path}. Make one: {signatures.CREATE}"]
    elif signer.id not in trusted:
        lines = [
            f"signs       nobody: key {signer.id} of {path} is not in signers.yaml. "
            f"Trust it: {signatures.CREATE}"
        ]
    else:
        lines = [f"signs       {signer.id}, {path}"]
    lines += [f"trusted     {key.id}  {key.since[:10]}  {key.by}" for key in trusted.values()]
    is_required = read_knobs(project.knobs).require_signature
    return [*lines, f"required    {'yes' if is_required else 'no'} (require_signature in env.yaml)"]
