"""Kept versions: what the registry says of versions and runs, held against its seals.

It decides what of a version may not differ: its run, its tags, who serves by the
ledger of champions, and how far the ledger of seals itself had come. What somebody added is not sealed; what was sealed is still there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project
from loopbook.provenance.findings import CHANGED, MISSING, UNREPRODUCIBLE, Finding
from loopbook.provenance.kept_files import REMEDY_OF_A_RUN, Shelf
from loopbook.records import seals
from loopbook.records.roles import CHAMPION
from loopbook.records.seals import Ledger, Seal
from loopbook.registry import champions, sealing, servable, tracking
from loopbook.registry.reader import Registry, Version
from loopbook.registry.sealing import FACTS, HEAD, NAME, RUN, VERSION

REMEDY = "Put it right in MLflow, or restore the registry from a backup"
REMEDY_OF_A_LEDGER = (
    "Restore var/seals.log from a backup. If this is another clone of the project, or the old "
    "ledger is lost, begin one: loopbook verify --seal"
)


def check(
    client: Any, name: str, shelf: Shelf, ledger: Ledger, versions: Sequence[Version]
) -> list[Finding]:
    """What the registry no longer says as it was sealed."""
    there = {f"{VERSION}{name}/{v.number}": sealing.facts_of_version(v) for v in versions}
    tags = tracking.model_tags(client, name)
    there[f"{NAME}{name}"] = sealing.facts_of_name(tags)
    findings = []
    for sealed_name, sealed in ledger.below(f"{VERSION}{name}/").items():
        findings += _differs(sealed_name, sealed, there.get(sealed_name))
    for sealed_name, sealed in ledger.below(f"{NAME}{name}").items():
        findings += _differs(sealed_name, sealed, there.get(sealed_name))
    for run, said in shelf.logged.runs.items():
        sealed = ledger.seals.get(f"{RUN}{run}/{FACTS}")
        if sealed and said.facts is not None:
            findings += _differs(f"{RUN}{run}", sealed, said.facts)
    return findings + _of_the_champion(client, name) + _of_the_ledger(ledger, tags)


def _differs(where: str, sealed: Seal, facts: Mapping[str, Any] | None) -> list[Finding]:
    """What was sealed and is no longer so; what came later is no difference."""
    if facts is None:
        return [Finding(MISSING, where, "nothing in the registry", "what was sealed", REMEDY)]
    now = {part: seals.part_digest(facts[part]) if part in facts else "" for part in sealed.parts}
    parts = [part for part, digest in sealed.parts.items() if now[part] != digest]
    return [
        Finding(
            CHANGED if now[part] else MISSING,
            f"{where}, {part}",
            f"{facts[part]!r}"[:200] if part in facts else "nothing",
            f"the value with digest {sealed.parts[part]}",
            REMEDY,
        )
        for part in parts
    ]


def _of_the_champion(client: Any, name: str) -> list[Finding]:
    """Whether the version that serves is the one that somebody decided on."""
    held, reigns = tracking.holder(client, name, CHAMPION), champions.reigns(client, name)
    if not reigns or (held and held.number == reigns[-1].version):
        return []
    found = held.label if held else "nobody"
    expected = f"v{reigns[-1].version}, as the ledger of champions says"
    remedy = "Say who is to serve: loopbook promote VERSION --reason WHY"
    return [Finding(CHANGED, f"alias {CHAMPION} of {name}", found, expected, remedy)]


def _of_the_ledger(ledger: Ledger, tags: Mapping[str, str]) -> list[Finding]:
    """Whether each line of the ledger is as it was written, and none that there was is gone."""
    where = f"var/{seals.FILE}"
    findings = [
        Finding(CHANGED, f"{where}, line {one.line}", one.why, "it unchanged", REMEDY_OF_A_LEDGER)
        for one in ledger.broken
    ]
    heads = {key.removeprefix(HEAD): end for key, end in tags.items() if key.startswith(HEAD)}
    if not ledger.chain and heads:
        told = max(heads.values(), key=lambda end: int(end.split()[0]))
        expected = f"{told.split()[0]} lines"
        findings.append(Finding(MISSING, where, "no ledger", expected, REMEDY_OF_A_LEDGER))
    if end := heads.get(ledger.name):
        count, digest = end.split()
        if len(ledger.chain) < int(count) or ledger.chain[int(count) - 1] != digest:
            found = f"{len(ledger.chain)} lines"
            expected = f"{count} lines at least, that one ending with {digest[:12]}…"
            findings.append(Finding(CHANGED, where, found, expected, REMEDY_OF_A_LEDGER))
    return findings


def tell_head(project: Project, client: Any, name: str) -> None:
    """Tell the registry how far the ledger has come, so that its end cannot be cut off unseen."""
    ledger = seals.read(project)
    if ledger.chain and tracking.versions(client, name):
        tracking.set_model_tag(client, name, f"{HEAD}{ledger.name}", ledger.head)


def without_snapshot(project: Project, versions: Sequence[Version]) -> list[Finding]:
    """The versions whose rows are not here."""
    findings = []
    for version in versions:
        digest = version.tags.get("snapshot_sha256", "")
        if digest and not (project.snapshots / f"{digest}.parquet").exists():
            can_be_pulled = bool(version.tags.get("snapshot_pointer"))
            remedy = (
                f"Bring it back: loopbook snapshots restore {digest[:12]}"
                if can_be_pulled
                else f"Copy {digest}.parquet from the machine that built it into var/snapshots"
            )
            expected = f"the rows that it learned from (SHA-256 {digest[:12]}…)"
            where = f"{version.label}, snapshot"
            findings.append(Finding(MISSING, where, "no such file", expected, remedy))
    return findings


def unanswering(registry: Registry, versions: Sequence[Version]) -> list[Finding]:
    """The versions that do not answer on this machine as their cards say."""
    findings = []
    for version in versions:
        try:
            servable.load(registry, version)
        except LoopbookError as refusal:
            expected = "answers as its card says them"
            findings.append(
                Finding(UNREPRODUCIBLE, version.label, str(refusal), expected, REMEDY_OF_A_RUN)
            )
    return findings
