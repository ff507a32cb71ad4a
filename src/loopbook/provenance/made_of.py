"""Made of: what two versions were made of, one part after the other.

It decides of each part whether it is the same, differs or cannot be told, and
from what: digests first, since what has one digest needs not be here. A part
that was not kept is never taken for the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from loopbook.project.contract import Contract
from loopbook.project.files import sha256_of
from loopbook.project.knobs import Knobs
from loopbook.provenance import code_changes, field_changes, git_trees, row_changes
from loopbook.provenance import reached_code as reached
from loopbook.provenance.code_changes import CodeChange
from loopbook.provenance.field_changes import CHANGED, REORDERED, FieldChange
from loopbook.provenance.findings import CHANGED as BYTES_CHANGED
from loopbook.provenance.findings import Finding
from loopbook.provenance.row_changes import RowChanges
from loopbook.provenance.version_parts import VersionParts

SAME, DIFFERS, UNKNOWN = "same", "differs", "cannot be told"
HIDDEN = "(hidden)"
AS_OF = "as_of"  # the knob: of which moment the rows are, so it is told with these
LIBRARY = "the library"


def rows(
    before: VersionParts, after: VersionParts, findings: list[Finding]
) -> tuple[RowChanges | None, str]:
    """What became of the rows of the one snapshot in the other, by the later version's key."""
    if before.snapshot_sha256 == after.snapshot_sha256:
        return None, SAME
    frames = [_snapshot(side, findings) for side in (before, after)]
    contract = after.contract or before.contract
    if any(frame is None for frame in frames) or contract is None:
        return None, DIFFERS  # their digests say so, and a finding why nobody can say how
    absent = [n for n in contract.key if any(n not in frame.columns for frame in frames)]
    if absent:
        remedy = "Their digests alone are compared"
        found = f"no {', '.join(absent)} in one of the snapshots"
        where = f"{before.label} and {after.label}, rows"
        findings.append(Finding(BYTES_CHANGED, where, found, "the same key in both", remedy))
        return None, DIFFERS
    return _hidden(row_changes.compare(*frames, contract.key), contract), DIFFERS


def _snapshot(side: VersionParts, findings: list[Finding]) -> pl.DataFrame | None:
    if side.snapshot is None:
        return None
    if (digest := sha256_of(side.snapshot)) != side.snapshot_sha256:
        where = f"{side.label}, snapshot {side.snapshot_sha256[:12]}"
        remedy = f"Delete {side.snapshot} and fetch it again: loopbook snapshots restore"
        expected = f"SHA-256 {side.snapshot_sha256[:12]}…"
        findings.append(Finding(BYTES_CHANGED, where, f"SHA-256 {digest[:12]}…", expected, remedy))
        return None
    return pl.read_parquet(side.snapshot, glob=False)


def _hidden(found: RowChanges, contract: Contract) -> RowChanges:
    """Without the values of sensitive columns, since what is shown goes into pull requests."""
    secret = {n for n, f in contract.features.items() if f.sensitive != "no"}

    def shown(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: HIDDEN if name in secret else value for name, value in values.items()}

    return replace(
        found,
        added_keys=[shown(key) for key in found.added_keys],
        removed_keys=[shown(key) for key in found.removed_keys],
        corrections=[
            replace(
                one,
                key=shown(one.key),
                before=HIDDEN if one.column in secret else one.before,
                after=HIDDEN if one.column in secret else one.after,
            )
            for one in found.corrections
        ],
    )


def cells(before: VersionParts, after: VersionParts) -> tuple[list[CodeChange], str]:
    """The cells of the pipeline's notebooks that differ; a notebook that one side lacks is untold."""
    sides = [reached.notebooks(side) for side in (before, after)]
    expected = [set(reached.sources(side)) for side in (before, after)]
    both = set(sides[0]) & set(sides[1])
    # a notebook that a side's pipeline does not name was not there; else it was not kept
    for one, other in ((0, 1), (1, 0)):
        both |= {n for n in sides[one] if expected[other] and n not in expected[other]}
    found = code_changes.compare_notebooks(
        *({name: told for name, told in side.items() if name in both} for side in sides)
    )
    named = reached.sources(before) | reached.sources(after)
    found = [replace(change, file=named.get(change.file, change.file)) for change in found]
    is_whole = bool(both) and both >= set().union(*sides, *expected)
    return found, DIFFERS if found else SAME if is_whole else UNKNOWN


def modules(before: VersionParts, after: VersionParts) -> tuple[list[CodeChange], str]:
    """The modules that the notebooks reach and that differ, of the library and of the project.

    Where the code of a version is not here, the digests that its notebooks ran
    with tell whether the library differs, and not in what.
    """
    if before.tree is not None and after.tree is not None:
        differing = git_trees.differing(before.tree, after.tree)
        is_any = any(path.endswith(".py") for path in differing)
        sides = [_reached(side) if is_any else {} for side in (before, after)]
        found = code_changes.compare_modules(*sides)
        found += _installed_library(before, after)
        return found, DIFFERS if found else SAME
    found = _by_digest(before, after)
    is_told = bool(_library_digests(before) and _library_digests(after))
    return found, DIFFERS if found else SAME if is_told else UNKNOWN


def _reached(side: VersionParts) -> dict[str, str]:
    told = reached.notebooks(side).values()
    return reached.modules(side.tree, [cell for notebook in told for cell in notebook])


def _installed_library(before: VersionParts, after: VersionParts) -> list[CodeChange]:
    """A library that is no part of the project is one module: its version, or its digest."""
    one, other = (side.library or {} for side in (before, after))
    if (
        "repository" in (one.get("place"), other.get("place"))
        or one == other
        or not (one and other)
    ):
        return []
    if one["sha256"] == other["sha256"]:
        return []
    words = [f"{told['version']}, SHA-256 {told['sha256'][:12]}…" for told in (one, other)]
    return [CodeChange("loopbook", "as installed", CHANGED, True, [f"-{words[0]}", f"+{words[1]}"])]


def _by_digest(before: VersionParts, after: VersionParts) -> list[CodeChange]:
    one, other = _library_digests(before), _library_digests(after)
    tasks = [task for task in other if task in one and one[task] != other[task]]
    if not tasks:
        return []
    return [CodeChange(LIBRARY, f"reached by {', '.join(tasks)}", CHANGED, True, [])]


def _library_digests(side: VersionParts) -> dict[str, str]:
    """By task: the digest of the modules that its notebook reached, as it was run with."""
    told = {task: code_changes.parameters(n) for task, n in side.notebooks.items()}
    digests = {task: (given.get("depends_on") or {}).get("library") for task, given in told.items()}
    return {task: digest for task, digest in digests.items() if digest}


def contract(before: VersionParts, after: VersionParts) -> list[FieldChange]:
    """The contract field by field, as today's loopbook reads both.

    A card does not keep the order of the features, but that of the model's columns.
    """
    one, other = (
        side.contract.model_dump(mode="json") if side.contract else side.card["contract"]
        for side in (before, after)
    )
    found = field_changes.compare(one, other)
    columns = [side.card["inputs"] for side in (before, after)]
    if not found and columns[0] != columns[1]:
        found = [FieldChange("features", REORDERED, *columns)]
    return found


def pipeline(before: VersionParts, after: VersionParts) -> tuple[list[FieldChange], str]:
    """pipeline.yaml, task by task."""
    return _compared(
        *(_by_task(side.pipeline) if side.pipeline else None for side in (before, after))
    )


def _by_task(told: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline whose tasks are found by name, whatever stands between them."""
    tasks = told.get("tasks") or []
    named = {str(task.get("name")): task for task in tasks if isinstance(task, dict)}
    return {**told, "tasks": named}


def knobs(before: VersionParts, after: VersionParts) -> tuple[list[FieldChange], str]:
    """The knobs that the builds used, and those that env.yaml had for all else.

    Of a version with which none were kept, those that its notebooks ran with are known.
    """
    if before.knobs is not None and after.knobs is not None:
        return _compared(*(_without_moment(side.knobs) for side in (before, after)))
    one, other = (_without_moment(_ran_with(side)) for side in (before, after))
    both = [name for name in other if name in one]
    found = field_changes.compare({n: one[n] for n in both}, {n: other[n] for n in both})
    return found, DIFFERS if found else UNKNOWN


def _ran_with(side: VersionParts) -> dict[str, Any]:
    given = [code_changes.parameters(notebook) for notebook in side.notebooks.values()]
    used = {name: told[name] for told in given for name in Knobs.model_fields if name in told}
    return used | dict(side.knobs or {})


def _without_moment(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != AS_OF}


def _compared(
    one: Mapping[str, Any] | None, other: Mapping[str, Any] | None
) -> tuple[list[FieldChange], str]:
    if one is None or other is None:
        return [], UNKNOWN
    found = field_changes.compare(one, other)
    return found, DIFFERS if found else SAME


def lock(before: VersionParts, after: VersionParts) -> tuple[list[FieldChange], str]:
    """The packages: as locked, and where they were installed otherwise, as installed; and Python."""
    found: list[FieldChange] = []
    digests = [side.said.get("environment_sha256", "unknown") for side in (before, after)]
    is_told = digests[0] == digests[1] != "unknown"
    if before.lock is not None and after.lock is not None:
        found, is_told = field_changes.compare_packages(before.lock, after.lock), True
    if before.installed is not None and after.installed is not None:
        locked = {change.path for change in found}
        changes = field_changes.compare(before.installed, after.installed)
        found += [
            replace(change, path=f"{change.path} (installed)")
            for change in changes
            if _canonical(change.path) not in locked
        ]
    pythons: Sequence[str | None] = [side.said.get("python") for side in (before, after)]
    if pythons[0] != pythons[1]:
        found.append(FieldChange("python", CHANGED, *pythons))
    if not found and not is_told and "unknown" not in digests:
        return [], DIFFERS  # the locks' digests differ, and neither was kept
    return found, DIFFERS if found else SAME if is_told else UNKNOWN


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
