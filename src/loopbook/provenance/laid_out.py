"""Laid out: a version's code, rows and predecessor in a folder of their own.

It decides what a project in that folder holds: the code of then, the knobs as
they ran, the snapshot as it is, and a graph whose first task puts these in place
instead of reading the source. It builds nothing, and writes nowhere else.
"""

import io
import os
import shutil
import sqlite3
import tempfile
import zipfile
from contextlib import closing, suppress
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import yaml

from loopbook.project.clock import to_micros
from loopbook.project.errors import ProvenanceError, RegistryError, TemplateError
from loopbook.project.files import write_json, write_text
from loopbook.project.git import git
from loopbook.project.paths import MARKS, Project
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.provenance.reasons import DATA, DIRTY, Reason
from loopbook.provenance.recipes import Recipe
from loopbook.registry import kept_code
from loopbook.registry.code_state import NONE
from loopbook.registry.reader import CARD, ONNX, REFERENCE, RESIDUALS, Registry
from loopbook.registry.service_files import digest_mismatch, most_bytes

PUT = "reproduction"  # below var/: what the first task puts in place
RESTORE = "notebooks/00_restore.ipynb"
OWN_LIBRARY = Path("src") / "loopbook"


def lay_out(recipe: Recipe, project: Project, registry: Registry, folder: Path) -> list[Reason]:
    """Put all that a version is built from into an empty folder.

    The folder stands for the top of the repository; see `root_in`.

    Returns
    -------
    list of Reason
        What is not as it was, and may make another version of it.

    Raises
    ------
    ProvenanceError
        If the code cannot be put together.
    """
    root = root_in(folder, recipe)
    doubts = _code(recipe, project, folder, root)
    absent = [mark for mark in MARKS if not (root / mark).is_file()]
    if absent:
        raise ProvenanceError(f"{recipe.version.label}: its code has no {' and no '.join(absent)}.")
    _knobs(recipe, root)
    _graph(root)
    put = root / "var" / PUT
    put.mkdir(parents=True)
    _rows(recipe, root, put)
    doubts += _predecessor(recipe, registry, put)
    _decided(recipe, project, root)
    return doubts


def root_in(folder: Path, recipe: Recipe) -> Path:
    """The project's folder in the folder that stands for its repository."""
    return folder / recipe.folder if recipe.folder else folder


def library_in(folder: Path, recipe: Recipe) -> Path | None:
    """The folder that holds the library of then; None where it came from a wheel."""
    kept = recipe.origin.manifest["library"]["folder"] if recipe.origin else ""
    places = [folder / kept] if kept else []
    places += [root_in(folder, recipe) / OWN_LIBRARY, folder / OWN_LIBRARY]
    return next((place for place in places if place.is_dir()), None)


def only(root: Path, candidate: str) -> None:
    """Let the graph train the baseline and one candidate alone."""
    graph = root / "pipeline.yaml"
    told = yaml.safe_load(graph.read_text(encoding="utf-8"))
    for task in told["tasks"]:
        names = task.get("grid", {}).get("candidate")
        if isinstance(names, dict) and "names" in names:
            names["names"] = list(dict.fromkeys(["baseline", candidate]))
        elif names:
            task["grid"]["candidate"] = list(dict.fromkeys(["baseline", candidate]))
    write_text(graph, yaml.safe_dump(told, sort_keys=False, allow_unicode=True))


def _code(recipe: Recipe, project: Project, folder: Path, root: Path) -> list[Reason]:
    if recipe.commit != NONE:
        _checked_out(project, recipe.commit, folder)
    origin, doubts = recipe.origin, []
    if origin and kept_code.PATCH in origin:
        doubts += _patched(recipe, origin.content(kept_code.PATCH), folder)
    if origin and kept_code.ZIP in origin:
        with zipfile.ZipFile(io.BytesIO(origin.content(kept_code.ZIP))) as archive:
            archive.extractall(root)
    for name in kept_code.COPIED if origin else ():
        if name in origin:
            (root / name).write_bytes(origin.content(name))
    return doubts


def _checked_out(project: Project, commit: str, folder: Path) -> None:
    """The files of a commit, by an index of our own: neither HEAD nor the work tree moves."""
    top = Path(os.fsdecode(git(project.root, "rev-parse", "--show-toplevel")).rstrip("\n"))
    with tempfile.TemporaryDirectory() as own:
        variables = {"GIT_INDEX_FILE": str(Path(own) / "index")}
        git(top, "read-tree", commit, variables=variables)
        words = ("checkout-index", "--all", "--quiet", f"--prefix={folder}/")
        git(top, *words, variables=variables)


def _patched(recipe: Recipe, patch: bytes, folder: Path) -> list[Reason]:
    # the folder may lie in a repository: git would then take only what is below it
    alone = {"GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}
    try:
        git(folder, "apply", "--binary", "--whitespace=nowarn", given=patch, variables=alone)
    except TemplateError as error:
        where = f"{recipe.version.label}, {kept_code.FOLDER}/{kept_code.PATCH}"
        remedy = "Look at the patch, and apply by hand what is right"
        finding = Finding(CHANGED, where, str(error), "a patch that fits its commit", remedy)
        return [Reason(DIRTY, finding)]
    return []


def _knobs(recipe: Recipe, root: Path) -> None:
    """Write the knobs as they ran into env.yaml."""
    path = root / "env.yaml"
    said = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {name: value for name, value in recipe.knobs.items() if name in said or not said}
    write_text(path, yaml.safe_dump(said | known, sort_keys=False, allow_unicode=True))


def _graph(root: Path) -> None:
    """Let the first task put the snapshot in place instead of reading the source."""
    graph = root / "pipeline.yaml"
    told = yaml.safe_load(graph.read_text(encoding="utf-8"))
    reads = [task for task in told["tasks"] if "snapshot" in (task.get("product") or {})]
    if len(reads) != 1:
        raise ProvenanceError(
            f"{graph.name} of then: {len(reads)} tasks make the product `snapshot`, expected one. "
            "A graph of another kind cannot begin with a snapshot."
        )
    digests = {"dotted_path": "loopbook.pipeline.digests::depends_on", "notebook": RESTORE}
    reads[0] |= {"source": RESTORE, "params": {"depends_on": digests}}
    write_text(graph, yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
    notebook = files("loopbook.provenance") / "restore.ipynb"
    target = root / RESTORE
    target.parent.mkdir(exist_ok=True)
    write_text(target, notebook.read_text(encoding="utf-8"))


def _rows(recipe: Recipe, root: Path, put: Path) -> None:
    snapshots = root / "var" / "snapshots"
    snapshots.mkdir(parents=True)
    there, here = Path(recipe.snapshot.path), snapshots / Path(recipe.snapshot.path).name
    try:
        os.link(there, here)
    except OSError:
        shutil.copyfile(there, here)
    write_json(put / "snapshot.json", asdict(replace(recipe.snapshot, path=str(here))))


def _predecessor(recipe: Recipe, registry: Registry, put: Path) -> list[Reason]:
    """Put the version that served then where the first task registers it."""
    version = recipe.predecessor
    if version is None:
        return []
    folder = put / "champion"
    folder.mkdir()
    for name in (ONNX, CARD, REFERENCE, RESIDUALS):
        try:
            content = registry.content(version, name, most=most_bytes(version, name))
        except RegistryError as error:
            if name in (ONNX, CARD):
                return [_without(recipe, str(error), folder)]
            continue
        if name in (ONNX, CARD) and (mismatch := digest_mismatch(version, name, content)):
            return [_without(recipe, mismatch, folder)]
        (folder / name).write_bytes(content)
    told = {"number": int(version.number), "tags": dict(version.tags)}
    write_json(put / "champion.json", told)
    return []


def _without(recipe: Recipe, found: str, folder: Path) -> Reason:
    shutil.rmtree(folder)
    where = f"{recipe.predecessor.label}, which served when {recipe.version.label} was judged"
    remedy = "Restore its files from a copy of the registry's"
    return Reason(DATA, Finding(MISSING, where, found, "its graph and card", remedy))


def _decided(recipe: Recipe, project: Project, root: Path) -> None:
    """What people had decided about rows by then, and what had been served and judged.

    The log and the windows are read by the gate alone, for the level of the
    version that served: of them it takes what was known by then.
    """
    quarantine, log = project.var / "quarantine.db", project.var / "predictions.db"
    if quarantine.exists():
        _copied(quarantine, root / "var" / quarantine.name)
        with closing(sqlite3.connect(root / "var" / quarantine.name)) as database, database:
            later = (to_micros(recipe.began),)
            database.execute("DELETE FROM decisions WHERE decided_us > ?", later)
    if log.exists() and recipe.predecessor is not None:
        _copied(log, root / "var" / log.name)
        windows = project.var / "monitor" / "windows"
        if windows.is_dir():
            shutil.copytree(
                windows, root / "var/monitor/windows", ignore=shutil.ignore_patterns("*.html")
            )


def _copied(source: Path, target: Path) -> None:
    """A copy of a database that others may be writing to."""
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as there,
        closing(sqlite3.connect(target)) as here,
    ):
        there.backup(here)


def tidied(root: Path) -> None:
    """Take away what only the gate needed: others may have much of it."""
    for name in ("predictions.db", "predictions.db-wal", "predictions.db-shm"):
        with suppress(OSError):
            (root / "var" / name).unlink()
