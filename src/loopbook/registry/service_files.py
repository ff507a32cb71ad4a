"""Service files: what the registry says about a version's files, held against their bytes.

It decides which tag has which file's digest. What follows from a difference
is for the caller to say: a build stops, the service goes on with what it has.
"""

from loopbook.models.inference import sha256
from loopbook.registry.reader import CARD, ONNX, REFERENCE, Version

DIGEST_TAGS = {ONNX: "onnx_sha256", CARD: "card_sha256", REFERENCE: "reference_sha256"}


def digest_mismatch(version: Version, file: str, content: bytes) -> str | None:
    """How a file differs from what the registry holds, as a sentence; None if it does not."""
    actual, expected = sha256(content), version.tags.get(DIGEST_TAGS[file])
    if actual == expected:
        return None
    return (
        f"{version.label}: {file} has SHA-256 {actual[:12]}…, the registry says "
        f"{str(expected)[:12]}…."
    )
