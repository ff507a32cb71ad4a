"""Snapshots and the versions that learned from them: what `loopbook snapshots` does.

It decides what counts as a use: a registered version, and the build that
stands in `var/build`. Without the registry nothing is deleted.
"""

from typing import Any

from loopbook.cli.printed import table
from loopbook.data import snapshots
from loopbook.project.contract import read_contract
from loopbook.project.counts import counted
from loopbook.project.errors import SourceError
from loopbook.project.paths import Project
from loopbook.registry import tracking


def uses(project: Project) -> dict[str, list[str]]:
    """What uses each snapshot, by its SHA-256."""
    contract = read_contract(project.contract)
    client = tracking.connect(project)
    users: dict[str, list[str]] = {}
    for version in tracking.versions(client, contract.name):
        users.setdefault(version.tags.get("snapshot_sha256", ""), []).append(f"v{version.number}")
    record = project.var / "build" / "snapshot.json"
    if record.exists():
        users.setdefault(snapshots.load_record(record).sha256, []).append("the build in var/build")
    return users


def record(project: Project) -> list[dict[str, Any]]:
    """The snapshots that are here, the newest first, each with what uses it."""
    here = snapshots.listed(project.snapshots)
    used = uses(project) if here else {}
    names = ("sha256", "made_at", "rows", "bytes", "as_of", "first_event", "last_event")
    return [
        {name: getattr(one, name) for name in names} | {"used_by": used.get(one.sha256, [])}
        for one in here
    ]


def lines(told: list[dict[str, Any]]) -> list[str]:
    """The snapshots for people, and how to share them."""
    if not told:
        return ["No snapshots yet: loopbook build"]
    names = ("snapshot", "made (UTC)", "rows", "MB", "first event\nlast event", "used by")
    return [*table(names, map(_row, told), numbers=(2, 3)), _how_to_share()]


def _how_to_share() -> str:
    from loopbook.data import dataset_versions

    if not dataset_versions.is_installed():
        return f"To share them, install DVC: {dataset_versions.INSTALL}"
    return "Share them: cd var/snapshots && dvc remote add -d team ADDRESS && dvc push"


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    window = "no clock"
    if one["first_event"] and one["last_event"]:
        window = f"{one['first_event'][:10]}\n{one['last_event'][:10]}"
    by = ", ".join(one["used_by"]) or "nothing"
    made = one["made_at"][:16].replace("T", " ")
    return one["sha256"][:12], made, f"{one['rows']:,}", f"{one['bytes'] / 1e6:.1f}", window, by


def prune(project: Project) -> list[str]:
    """Delete what nothing uses, and say what was deleted, what was kept, and why."""
    deleted, kept = snapshots.prune(project.snapshots, uses(project))
    freed = sum(s.bytes for s in deleted) / 1e6
    lines = [f"deleted  {s.short}  {counted(s.rows, 'row')}: no version uses it" for s in deleted]
    lines += [f"kept     {s.short}  {counted(s.rows, 'row')}: {why}" for s, why in kept]
    return [*lines, f"{len(deleted)} deleted ({freed:.1f} MB), {len(kept)} kept."]


def restore(project: Project, beginning: str) -> list[str]:
    """Bring back the one snapshot of a version whose SHA-256 begins so."""
    from loopbook.data import dataset_versions

    contract = read_contract(project.contract)
    pointers = {
        version.tags["snapshot_sha256"]: version.tags.get("snapshot_pointer", "")
        for version in tracking.versions(tracking.connect(project), contract.name)
        if version.tags.get("snapshot_sha256")
    }
    matching = [sha256 for sha256 in pointers if sha256.startswith(beginning)]
    if len(matching) != 1:
        some = ", ".join(sha256[:12] for sha256 in matching or pointers) or "none"
        raise SourceError(
            f"snapshot {beginning}: {len(matching)} snapshots of registered versions begin so, "
            f"expected one. There are: {some}."
        )
    (sha256,) = matching
    if not pointers[sha256]:
        raise SourceError(
            f"snapshot {sha256[:12]}: its version was registered without DVC, so no remote has it. "
            f"Copy {sha256}.parquet from the machine that built it into {project.snapshots}."
        )
    path = dataset_versions.restore(project.snapshots, sha256, pointers[sha256])
    return [f"Restored {path}, its SHA-256 checked."]
