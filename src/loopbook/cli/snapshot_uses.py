"""Snapshots and the versions that learned from them: what `loopbook snapshots` does.

It decides what counts as a use: a registered version, and the build that
stands in `var/build`. Without the registry nothing is deleted.
"""

from collections.abc import Mapping

from loopbook.data import snapshots
from loopbook.project.contract import read_contract
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


def table(project: Project) -> list[str]:
    """The snapshots that are here, a line each."""
    here = snapshots.listed(project.snapshots)
    if not here:
        return ["No snapshots yet: loopbook build"]
    used = uses(project)
    lines = [f"{'snapshot':12}  {'made':16}  {'rows':>11}  {'MB':>7}  {'window':23}  used by"]
    lines += [_line(snapshot, used) for snapshot in here]
    lines.append(_how_to_share())
    return lines


def _how_to_share() -> str:
    from loopbook.data import dataset_versions

    if not dataset_versions.is_installed():
        return f"To share them, install DVC: {dataset_versions.INSTALL}"
    return "Share them: cd var/snapshots && dvc remote add -d team ADDRESS && dvc push"


def _line(snapshot: snapshots.Snapshot, used: Mapping[str, list[str]]) -> str:
    window = "no clock"
    if snapshot.first_event and snapshot.last_event:
        window = f"{snapshot.first_event[:10]} {snapshot.last_event[:10]}"
    by = ", ".join(used.get(snapshot.sha256, [])) or "nothing"
    made = snapshot.made_at[:16].replace("T", " ")
    size = snapshot.bytes / 1e6
    return f"{snapshot.short}  {made}  {snapshot.rows:>11,}  {size:>7.1f}  {window:23}  {by}"


def prune(project: Project) -> list[str]:
    """Delete what nothing uses, and say what was deleted, what was kept, and why."""
    deleted, kept = snapshots.prune(project.snapshots, uses(project))
    freed = sum(s.bytes for s in deleted) / 1e6
    lines = [f"deleted  {s.short}  {s.rows:,} rows: no version uses it" for s in deleted]
    lines += [f"kept     {s.short}  {s.rows:,} rows: {why}" for s, why in kept]
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
        raise SourceError(
            f"snapshot {beginning}: {len(matching)} snapshots of registered versions begin with "
            "it, expected one. Give more characters; make mlflow shows every version's."
        )
    (sha256,) = matching
    if not pointers[sha256]:
        raise SourceError(
            f"snapshot {sha256[:12]}: its version was registered without DVC, so no remote has it. "
            f"Copy {sha256}.parquet from the machine that built it into {project.snapshots}."
        )
    path = dataset_versions.restore(project.snapshots, sha256, pointers[sha256])
    return [f"Restored {path}, its SHA-256 checked."]
