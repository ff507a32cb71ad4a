"""Reproduction: a version, built again from what was kept, and held against itself.

It decides what is said of it: identical, equal within 1e-6, different, or that
it cannot be built again, and by which reason. It writes into a folder of its own,
whose registry is its own too: what serves and what is registered stays as it is.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopbook.models import promotion
from loopbook.pipeline.runs import only_run
from loopbook.project.errors import BuildFailed, LoopbookError, ProvenanceError
from loopbook.project.files import read_json
from loopbook.project.paths import Project, tracking_address
from loopbook.provenance import compared, laid_out, reasons, rebuilt, recipes
from loopbook.provenance.compared import IDENTICAL, UNCOMPARED, Part
from loopbook.provenance.findings import CHANGED, UNREPRODUCIBLE, Finding
from loopbook.provenance.reasons import BUILD, CODE, LOCK, Reason
from loopbook.provenance.recipes import Recipe
from loopbook.registry import code_state, environments, kept_code, reader

IMPOSSIBLE = "cannot be reproduced"
FOLDER = "reproduced"  # below var/
LOG = "build.txt"


@dataclass(frozen=True)
class How:
    """How a version is built again.

    Attributes
    ----------
    into : an empty folder, or none yet; None: below `var/reproduced`
    is_quick : train its candidate and the baseline alone
    with_environment : make the environment of then from the lock that was kept
    """

    into: Path | None = None
    is_quick: bool = False
    with_environment: bool = False


@dataclass(frozen=True)
class Reproduction:
    """What came of it.

    Attributes
    ----------
    outcome : `compared.IDENTICAL`, `EQUAL`, `DIFFERENT`, or `IMPOSSIBLE`
    doubts : why it may be another one, or cannot be built; known before it was built
    gate : what the gate said then and now; it decides nothing here
    seconds : of the notebooks that the run kept, then and now
    """

    recipe: Recipe
    outcome: str
    parts: tuple[Part, ...]
    doubts: tuple[Reason, ...]
    folder: Path
    gate: str = ""
    seconds: tuple[float | None, float | None] = (None, None)

    @property
    def label(self) -> str:
        return self.recipe.version.label

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The doubts, unless it came out identical: then none of them made a difference."""
        return () if self.outcome == IDENTICAL else self.doubts

    @property
    def first_difference(self) -> str:
        """The first on the way from rows to metrics; empty where there is none."""
        return next((part.difference for part in self.parts if part.found), "")

    def as_json(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "version": self.label,
            "candidate": recipe.candidate,
            "outcome": self.outcome,
            "first_difference": self.first_difference,
            "reasons": [reason.as_json() for reason in self.reasons],
            "doubts": [reason.as_json() for reason in self.doubts],
            "parts": [part.as_json() for part in self.parts],
            "gate": self.gate,
            "commit": recipe.commit,
            "snapshot_sha256": recipe.version.tags.get("snapshot_sha256"),
            "seconds_then": self.seconds[0],
            "seconds_now": self.seconds[1],
            "folder": str(self.folder),
        }


def reproduce(
    project: Project, number: str, how: How, tell: Callable[[str], None] = print
) -> Reproduction:
    """Build a registered version again, and compare.

    Parameters
    ----------
    tell : callable
        Hears before what takes long.

    Raises
    ------
    ProvenanceError
        If there is no such version, or the folder is in use.
    BuildRunning
        If another reproduction of the project runs.
    """
    recipe = recipes.of_version(project, number)
    with only_run(project, "reproduce"):
        folder = _fresh(project, recipe, how)
        if recipe.obstacles:
            return Reproduction(recipe, IMPOSSIBLE, (), recipe.obstacles + recipe.doubts, folder)
        try:
            return _reproduced(project, recipe, folder, how, tell)
        except ProvenanceError as error:
            reason = _unreproducible(recipe, CODE, str(error), "a project that can be built")
            return Reproduction(recipe, IMPOSSIBLE, (), (reason, *recipe.doubts), folder)


def _fresh(project: Project, recipe: Recipe, how: How) -> Path:
    """The folder in which it is built: empty."""
    folder = (how.into or project.var / FOLDER / f"v{recipe.version.number}").absolute()
    if how.into is None:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProvenanceError(f"{folder}: is not empty. Name a folder that is not there yet.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise ProvenanceError(f"{folder}: cannot be made ({reason.strerror}).") from None
    return folder


def _reproduced(
    project: Project, recipe: Recipe, folder: Path, how: How, tell: Callable[[str], None]
) -> Reproduction:
    registry = reader.connect(tracking_address(project))
    doubts = [*recipe.doubts, *laid_out.lay_out(recipe, project, registry, folder)]
    root = laid_out.root_in(folder, recipe)
    if how.is_quick:
        laid_out.only(root, recipe.candidate)
    library, log = laid_out.library_in(folder, recipe), folder / LOG
    doubts += _library(recipe, library, how)
    python = Path(sys.executable)
    try:
        if how.with_environment:
            tell(f"{recipe.version.label}: making its environment (what is said: {log})")
            python = _environment_of(recipe, root, folder, log)
        elif recipe.environment is not None:
            now = environments.present(Project(root))
            doubts += reasons.of_environment(recipe.version.label, recipe.environment, now)
        tell(f"{recipe.version.label}: building it again in {root} (what is said: {log})")
        rebuilt.build(root, python, library, log)
    except LoopbookError as error:
        kind = BUILD if isinstance(error, BuildFailed) else LOCK
        reason = _unreproducible(recipe, kind, str(error), "a build that ends well")
        return Reproduction(recipe, IMPOSSIBLE, (), (reason, *doubts), folder)
    finally:
        laid_out.tidied(root)
    again = compared.built(root, recipe.candidate)
    parts = compared.parts(recipe, again, registry)
    outcome = compared.outcome_of(parts)
    return Reproduction(
        recipe=recipe,
        outcome=outcome,
        parts=tuple(parts),
        doubts=tuple(doubts),
        folder=folder,
        gate=_gate(recipe, root),
        seconds=_seconds(recipe, root),
    )


def _environment_of(recipe: Recipe, root: Path, folder: Path, log: Path) -> Path:
    then = recipe.environment
    python = then.python if then else recipe.run_tags.get("python", "")
    return rebuilt.made_environment(root, folder, python, log)


def _library(recipe: Recipe, library: Path | None, how: How) -> list[Reason]:
    """Whether the loopbook that builds is the one that built."""
    if recipe.origin is None or library is not None or how.with_environment:
        return []
    then = recipe.origin.manifest["library"]
    now = code_state.running_library()
    if now.sha256 == then["sha256"]:
        return []
    finding = Finding(
        *(CHANGED, f"{recipe.version.label}, library"),
        *(f"loopbook {now.version} ({now.sha256[:12]}…)",),
        *(f"loopbook {then['version']} ({then['sha256'][:12]}…)",),
        f"Build its environment anew: loopbook reproduce {recipe.version.number} --env",
    )
    return [Reason(reasons.LIBRARY, finding)]


def _unreproducible(recipe: Recipe, kind: str, found: str, expected: str) -> Reason:
    remedy = "Put right what is said there, then type it again"
    return Reason(kind, Finding(UNREPRODUCIBLE, recipe.version.label, found, expected, remedy))


def _gate(recipe: Recipe, root: Path) -> str:
    """What the gate said then and now, each compared with the version that served then."""
    path = root / "var" / "build" / "decision.json"
    if recipe.decision is None or not path.exists():
        return UNCOMPARED
    then, now = recipe.decision, read_json(path)
    words = [promotion.outcome_of(told) for told in (then, now)]
    if words[0] == words[1]:
        return f"{words[1]}, as then"
    failed = [check["name"] for check in now.get("checks", []) if not check.get("passed", True)]
    because = f" ({', '.join(failed)})" if failed else ""
    return f"{words[1]} now{because}, {words[0]} then"


def _seconds(recipe: Recipe, root: Path) -> tuple[float | None, float | None]:
    """How long the notebooks ran that the run kept, then and now."""
    there = {path.name: path for path in (root / "var" / "build").rglob("*.ipynb")}
    both = [name for name in recipe.executed if name in there]
    then = kept_code.seconds_of(recipe.executed[name] for name in both)
    return then, kept_code.seconds_of(read_json(there[name]) for name in both)
