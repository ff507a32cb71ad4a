"""Dossier files: what a version's run keeps of its dossier, held against the registry.

It decides the names of the files, which tag has which digest, and what a
statement about a version is about. It makes none of them, and it knows no
MLflow: the pages read a dossier through it.
"""

from loopbook.project.errors import RegistryError
from loopbook.project.files import sha256
from loopbook.registry.reader import SERVICE, Registry, Version
from loopbook.registry.service_files import DIGEST_TAGS

FOLDER = "dossier"  # of a run
RECORD, PAGE, BILL = "record.json", "dossier.html", "bom.cdx.json"
TAGS = {RECORD: "dossier_record_sha256", PAGE: "dossier_sha256", BILL: "bom_sha256"}
ORIGIN = {"origin/origin.json": "origin_sha256"}  # `kept_code`'s, which imports MLflow
SNAPSHOT = "snapshot"  # in a statement; it does not lie with the run


def content(registry: Registry, version: Version, file: str) -> bytes:
    """A file of a version's dossier, if it is what the registry says.

    Raises
    ------
    RegistryError
        If it has none, it cannot be fetched, or was changed.
    """
    if TAGS[file] not in version.tags:
        raise RegistryError(
            f"{version.label}: has no dossier yet. Make it: loopbook dossier {version.number}"
        )
    found = registry.content(version, file, FOLDER)
    if sha256(found) != version.tags[TAGS[file]]:
        raise RegistryError(
            f"{version.label}: {FOLDER}/{file} has SHA-256 {sha256(found)[:12]}…, the registry "
            f"says {version.tags[TAGS[file]][:12]}…. The file was changed; restore it."
        )
    return found


def digests(version: Version) -> dict[str, str]:
    """What a statement about a version is about: SHA-256 by the path in the run, and the snapshot's.

    The gate's record is not among them, since a build that finds the same model
    again writes it anew; the dossier's record has it as it was.
    """
    files = {f"{SERVICE}/{file}": version.tags.get(tag) for file, tag in DIGEST_TAGS.items()}
    files |= {f"{FOLDER}/{file}": version.tags.get(tag) for file, tag in TAGS.items()}
    files |= {name: version.tags.get(tag) for name, tag in ORIGIN.items()}
    files |= {SNAPSHOT: version.tags.get("snapshot_sha256")}
    return {name: digest for name, digest in files.items() if digest}
