"""Service files: what the registry says about a version's files, held against their bytes.

It decides which tag has which file's digest and size, and how much of a file is
read at most. What follows from a difference is for the caller to say: a build
stops, the service goes on with what it has.
"""

from collections.abc import Mapping

from loopbook.project.errors import VersionRefused
from loopbook.project.files import sha256
from loopbook.registry.reader import CARD, ONNX, REFERENCE, RESIDUALS, Registry, Version

DIGEST_TAGS = {
    ONNX: "onnx_sha256",
    CARD: "card_sha256",
    REFERENCE: "reference_sha256",
    RESIDUALS: "residuals_sha256",
}
SIZE_TAGS = {ONNX: "onnx_bytes", CARD: "card_bytes"}
FILE_TAGS = (*(DIGEST_TAGS[name] for name in SIZE_TAGS), *SIZE_TAGS.values())
# for versions that an earlier loopbook registered, without their sizes
LARGEST = {ONNX: 2**29, CARD: 2**26, REFERENCE: 2**29, RESIDUALS: 2**29}


def file_tags(files: Mapping[str, bytes]) -> dict[str, str]:
    """The digests and sizes of a version's files as tags."""
    digests = {DIGEST_TAGS[name]: sha256(content) for name, content in files.items()}
    return digests | {SIZE_TAGS[name]: str(len(content)) for name, content in files.items()}


def most_bytes(version: Version, file: str) -> int:
    """How much of a file is read: as much as the registry says that it has."""
    said = version.tags.get(SIZE_TAGS.get(file, ""), "")
    return int(said) if said.isascii() and said.isdigit() else LARGEST[file]


def digest_mismatch(version: Version, file: str, content: bytes) -> str | None:
    """How a file differs from what the registry holds, as a sentence; None if it does not."""
    actual, expected = sha256(content), version.tags.get(DIGEST_TAGS[file])
    if actual == expected:
        return None
    return (
        f"{version.label}: {file} has SHA-256 {actual[:12]}…, the registry says "
        f"{str(expected)[:12]}…."
    )


def verified(registry: Registry, version: Version, file: str) -> bytes:
    """A file of a version, if it is the one that was registered.

    Raises
    ------
    VersionRefused
        If it is another one.
    """
    content = registry.content(version, file, most=most_bytes(version, file))
    if mismatch := digest_mismatch(version, file, content):
        raise VersionRefused(
            f"{mismatch} It was changed, so it is refused; restore it, or roll back.", "digest"
        )
    return content
