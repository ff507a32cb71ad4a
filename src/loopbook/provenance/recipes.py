"""Recipes: all that is needed to build a version again, and what of it is not here.

It decides from what a version is built again: the commit with its patch or the
kept files, the knobs as they ran, the snapshot by its hash, who served then. It
calls missing what is missing, says how to get it, and builds nothing.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loopbook.data import dataset_versions, snapshots
from loopbook.data.snapshots import Snapshot
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError, ProvenanceError, RegistryError
from loopbook.project.files import read_json, sha256_of
from loopbook.project.git import answer
from loopbook.project.paths import Project, tracking_address
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.provenance.reasons import CODE, DATA, DIRTY, LOCK, Reason, shown
from loopbook.registry import code_state, kept_code, notes, reader, tracking
from loopbook.registry.code_state import HOLDS_ROWS, NONE
from loopbook.registry.environments import Environment
from loopbook.registry.kept_code import Origin
from loopbook.registry.reader import Registry, Version

MOST_BYTES = 2**28
RESTORE = "Restore the files of its run from a copy of the registry's"


@dataclass(frozen=True)
class Recipe:
    """What a version is built from.

    Attributes
    ----------
    folder : the project's, from the top of its repository
    origin : what its run keeps; None for a version of an earlier loopbook
    knobs : as they ran, where they are known
    snapshot : its `path` is where the rows are here; None if they are nowhere
    predecessor : who served when it was judged
    executed : its notebooks that the run holds, by file name
    doubts : what may make another version of it
    obstacles : what makes it impossible
    """

    version: Version
    run_tags: Mapping[str, str]
    metrics: Mapping[str, float]
    commit: str
    folder: str
    origin: Origin | None
    knobs: Mapping[str, Any]
    snapshot: Snapshot | None
    decision: Mapping[str, Any] | None
    predecessor: Version | None
    began: datetime
    executed: Mapping[str, Mapping[str, Any]]
    environment: Environment | None
    doubts: tuple[Reason, ...]
    obstacles: tuple[Reason, ...]

    @property
    def candidate(self) -> str:
        return self.version.tags.get("candidate", "unknown")


def of_version(project: Project, number: str) -> Recipe:
    """The recipe of a registered version.

    Raises
    ------
    ProvenanceError
        If there is no such version.
    TrackingError
        If its run is gone.
    RegistryError
        If the registry cannot be asked.
    """
    registry = reader.connect(tracking_address(project))
    name = read_contract(project.contract).name
    versions = {version.number: version for version in registry.versions(name)}
    version = versions.get(number.removeprefix("v"))
    if version is None:
        raise ProvenanceError(reader.no_version(name, number, list(versions.values())))
    client = tracking.connect(project)
    run = tracking.run_of(client, version)
    doubts: list[Reason] = []
    obstacles: list[Reason] = []
    origin = _origin(registry, version, doubts, obstacles)
    executed = _executed(client, version)
    decision = _decision(registry, version, doubts)
    commit, folder = _code(project, version, origin, obstacles)
    environment = _environment(version, run.data.tags, origin, doubts)
    doubts += _dirt(version, run.data.tags, origin)
    return Recipe(
        version=version,
        run_tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        commit=commit,
        folder=folder,
        origin=origin,
        knobs=origin.json(kept_code.KNOBS) if origin else kept_code.knobs_in(executed.values()),
        snapshot=_snapshot(project, version, run.data.tags, obstacles),
        decision=decision,
        predecessor=_predecessor(versions, decision, doubts),
        began=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        executed=executed,
        environment=environment,
        doubts=tuple(doubts),
        obstacles=tuple(obstacles),
    )


def _origin(
    registry: Registry, version: Version, doubts: list[Reason], obstacles: list[Reason]
) -> Origin | None:
    where = f"{version.label}, {kept_code.FOLDER}/"
    try:
        origin = kept_code.of_version(registry, version)
        for name in origin.manifest["files"] if origin else ():
            origin.content(name)
    except RegistryError as error:
        finding = Finding(MISSING, where, str(error), "the files as they were kept", RESTORE)
        obstacles.append(Reason(CODE, finding))
        return None
    if origin is None:
        remedy = "Build once with this loopbook: later versions have all of it"
        found = "nothing, since an earlier loopbook built it"
        finding = Finding(MISSING, where, found, "what made it", remedy)
        doubts.append(Reason(DIRTY, finding))
    return origin


def _executed(client, version: Version) -> dict[str, Mapping[str, Any]]:
    """The executed notebooks that a version's run holds, by the names of their files."""
    with tempfile.TemporaryDirectory() as folder:
        executed = {}
        for path in tracking.downloaded(client, version.run_id, "notebooks", Path(folder)):
            with suppress(ValueError):  # one that was changed tells nothing
                executed[path.name] = read_json(path)
        return executed


def _decision(
    registry: Registry, version: Version, doubts: list[Reason]
) -> Mapping[str, Any] | None:
    try:
        return json.loads(registry.content(version, notes.DECISION, notes.DECIDED, MOST_BYTES))
    except (RegistryError, ValueError) as error:
        where = f"{version.label}, decision/decision.json"
        finding = Finding(MISSING, where, str(error), "who served when it was judged", RESTORE)
        doubts.append(Reason(DATA, finding))
        return None


def _predecessor(
    versions: Mapping[str, Version], decision: Mapping[str, Any] | None, doubts: list[Reason]
) -> Version | None:
    """Who served when a version was judged: on the rows that it had not seen both were compared."""
    if decision is None:
        return None
    who = decision["previous"] if decision["promoted"] else decision["champion"]
    found = versions.get(who["version"]) if who else None
    if who and found is None:
        remedy = "Restore the registry from a copy"
        where = f"v{who['version']}, which served then"
        finding = Finding(
            MISSING, where, "no such version", "the one that it was compared with", remedy
        )
        doubts.append(Reason(DATA, finding))
    return found


def _code(
    project: Project, version: Version, origin: Origin | None, obstacles: list[Reason]
) -> tuple[str, str]:
    """The commit that has the code, and the project's folder in it; `none` where it was kept whole."""
    where = f"{version.label}, code"
    commit = (origin.manifest if origin else version.tags).get("commit" if origin else "git_commit")
    if commit in (None, NONE):
        if origin is None and not obstacles:
            remedy = "Put the project under git, or build it once with this loopbook"
            finding = Finding(MISSING, where, "no commit", "a commit, or files in its run", remedy)
            obstacles.append(Reason(CODE, finding))
        return NONE, ""
    folder = origin.manifest["folder"] if origin else code_state.of(project).folder
    if answer(project.root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        shallow = answer(project.root, "rev-parse", "--is-shallow-repository") == b"true\n"
        fetch = "git fetch --unshallow" if shallow else f"git fetch origin {commit}"
        found = "a shallow clone without it" if shallow else "a repository without it"
        finding = Finding(MISSING, where, found, f"commit {commit[:12]}", f"Type: {fetch}")
        obstacles.append(Reason(CODE, finding))
    elif answer(project.root, "cat-file", "-e", f"{commit}:{folder}") is None:
        finding = Finding(
            *(MISSING, where, f"no folder {folder!r} in commit {commit[:12]}", "the project in it"),
            "Nothing else was kept of it",
        )
        obstacles.append(Reason(CODE, finding))
    return commit, folder


def _dirt(version: Version, run_tags: Mapping[str, str], origin: Origin | None) -> Iterator[Reason]:
    """What of the code is known not to have been kept."""
    where = f"{version.label}, code"
    if origin is None:
        if run_tags.get("git_dirty") == "true":
            expected = f"commit {version.tags.get('git_commit', NONE)[:12]} alone"
            remedy = "The changes are lost, unless somebody has them"
            found = "changes that were not committed, and not kept"
            yield Reason(DIRTY, Finding(MISSING, where, found, expected, remedy))
        return
    told = origin.manifest
    absent = {path: why for path, why in told["left_out"].items() if why != HOLDS_ROWS}
    if absent:
        named = shown([f"{path} ({why})" for path, why in absent.items()])
        remedy = "Commit what may be committed, before a build"
        finding = Finding(MISSING, where, f"no copy of {named}", "every file", remedy)
        yield Reason(DIRTY, finding)
    if told["changed_during_build"]:
        remedy = "Edit when no build runs"
        found = "files that changed after it was trained"
        yield Reason(
            DIRTY, Finding(CHANGED, where, found, "the same from training to promotion", remedy)
        )


def _environment(
    version: Version,
    run_tags: Mapping[str, str],
    origin: Origin | None,
    doubts: list[Reason],
) -> Environment | None:
    """What it was built on; None where only the digest of its lock is known."""
    if origin is not None:
        return origin.environment
    if lock := run_tags.get("environment_sha256"):
        finding = Finding(
            *(MISSING, f"{version.label}, packages", f"only the digest {lock[:12]} of its lock"),
            *("the packages", "Find the lock in the history: git log -- requirements.lock"),
        )
        doubts.append(Reason(LOCK, finding))
    return None


def _snapshot(
    project: Project, version: Version, run_tags: Mapping[str, str], obstacles: list[Reason]
) -> Snapshot | None:
    """The rows it learned from, with their record as the version's tags say it."""
    digest = version.tags.get("snapshot_sha256", NONE)
    where = f"{version.label}, snapshot {digest[:12]}"
    path = project.snapshots / f"{digest}.parquet"
    try:
        if not path.exists():
            _pull(project, version, digest)
        actual = sha256_of(path)
    except (OSError, LoopbookError) as error:
        remedy = f"Copy {digest}.parquet from the machine that built it into {project.snapshots}"
        obstacles.append(
            Reason(DATA, Finding(MISSING, where, f"none: {error}", "its rows", remedy))
        )
        return None
    if actual != digest:
        remedy = f"Delete {path}, then: loopbook snapshots restore {digest[:12]}"
        finding = Finding(CHANGED, where, f"SHA-256 {actual[:12]}…", f"{digest[:12]}…", remedy)
        obstacles.append(Reason(DATA, finding))
        return None
    moment = version.tags.get("as_of", NONE)
    return Snapshot(
        sha256=digest,
        path=str(path),
        rows=int(run_tags.get("snapshot_rows", 0)),
        bytes=path.stat().st_size,
        as_of=None if moment == NONE else moment,
        **_window(project, digest),
        pointer=version.tags.get("snapshot_pointer", ""),
    )


def _window(project: Project, digest: str) -> dict[str, Any]:
    record = project.snapshots / f"{digest}.json"
    told = vars(snapshots.load_record(record)) if record.exists() else {}
    made_at = told.get("made_at", datetime.fromtimestamp(0, UTC).isoformat())
    return {name: told.get(name) for name in ("first_event", "last_event")} | {"made_at": made_at}


def _pull(project: Project, version: Version, digest: str) -> None:
    """Bring a snapshot back by DVC, if it was made under it."""
    pointer = version.tags.get("snapshot_pointer", "")
    if not pointer:
        raise ProvenanceError("it was pruned, or made elsewhere, and without DVC")
    dataset_versions.restore(project.snapshots, digest, pointer)
