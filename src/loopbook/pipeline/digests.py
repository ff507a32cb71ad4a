"""Digests: what a task depends on and Ploomber cannot see.

Ploomber compares a notebook's code and its parameters. It does not look into
the modules that a notebook imports, nor at the bytes of the source table. So
their digests are parameters: `pipeline.yaml` names `depends_on`, which is
computed anew whenever the graph is loaded. What has not changed has the same
digest, however often it was touched.
"""

import ast
import hashlib
import json
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path

from loopbook.data import quarantine, served_rows
from loopbook.data.places import THE_SOURCE
from loopbook.data.source_files import source_digest
from loopbook.models import own_candidates
from loopbook.pipeline import module_code
from loopbook.pipeline.notebooks import code_of
from loopbook.project.clock import utc_now
from loopbook.project.contract import Contract, read_contract
from loopbook.project.database import shown
from loopbook.project.files import read_json, sha256_of, write_json
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, current, tracking_address
from loopbook.records.roles import CHAMPION
from loopbook.registry.reader import connect

CANDIDATES = "models.candidates"  # the module that runs a project's own candidates
LOGS = "registry.tracking"  # who imports it writes to the registry
PRODUCTS_OF_LOGGING = ("evaluate.ipynb", "evidence.json", "promote.ipynb", "decision.json")
SHORT = 16


def depends_on(notebook: str, source: bool = False) -> dict[str, str]:
    """The digests of a task, for `pipeline.yaml`.

    Parameters
    ----------
    notebook : str
        Path of the notebook, from the project's folder.
    source : bool
        Whether the task reads the source table itself.

    Returns
    -------
    dict
        `contract`, `library`, `environment` and, if asked for, `source`,
        `served` (the ground truth that came back to the service) and
        `quarantine` (what people decided about rows that were set aside). A
        task that logs to the registry has its address too, as `tracking`.

    Raises
    ------
    ContractError, KnobError, SourceError, RegistryError
        Before any task runs, since the graph is loaded first.
    """
    project = current()
    for folder in ("build", "monitor"):
        _forget_broken_stamps(project.var / folder)
    contract = _contract(project.contract)
    _check_knobs(project.knobs)
    answer = {
        "contract": contract.digest()[:SHORT],
        "library": library_digest(project, project.root / notebook)[:SHORT],
        "environment": environment_digest(project)[:SHORT],
    }
    if logs(project, project.root / notebook):
        answer["tracking"] = _tracking(project)
    if source:
        _forget_what_the_registry_lost(project, contract)
        answer["source"] = _remembered_source_digest(contract, project)[:SHORT]
        answer["served"] = served_rows.digest_of(project, contract)
        answer["quarantine"] = quarantine.digest_of(project)
    return answer


def depends_on_in_grid(notebook: str) -> list[dict[str, str]]:
    """The same as the one value of a grid's parameter.

    A parameter of a grid cannot differ by candidate. So what a project's own
    candidate was trained from stands in its product, and its task runs again
    when that differs from candidates.py.
    """
    project = current()
    _forget_changed_candidates(project, project.var / "build" / "train")
    return [depends_on(notebook)]


def _forget_changed_candidates(project: Project, folder: Path) -> None:
    """Delete the stamps of own candidates that were trained from other code than they have now."""
    own = own_candidates.functions(project)
    for stamp in folder.glob(".*.json.metadata") if own else ():
        product = folder / stamp.name.removeprefix(".").removesuffix(".metadata")
        try:
            trained = read_json(product)
            name, recipe = trained["candidate"], trained["recipe_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if name in own and recipe != own_candidates.digest(name, project):
            number = product.stem.rpartition("-")[2]  # all products of a member of a grid have it
            for other in folder.glob(f".*-{number}.*.metadata"):
                other.unlink(missing_ok=True)


def _forget_broken_stamps(folder: Path) -> None:
    """Delete "up to date" stamps that a kill left half written.

    Ploomber would stop at the first of them; without it, the task runs again.
    It reads them right after this module has told it the digests.
    """
    for stamp in folder.rglob(".*.metadata"):
        try:
            is_whole = {"timestamp", "stored_source_code"} <= set(read_json(stamp))
        except (OSError, ValueError, TypeError):
            is_whole = False
        if not is_whole:
            stamp.unlink(missing_ok=True)


def depends_on_champion(notebook: str, rows: str) -> dict[str, str]:
    """The digests of a task that scores a file, or the contract's `source`, with the champion."""
    project = current()
    contract = _contract(project.contract)
    answer = depends_on(notebook)
    held = connect(tracking_address(project)).held(contract.name, CHAMPION)
    # another registry has a version of that number too
    answer["champion"] = f"{held.number} of run {held.run_id}" if held else "none"
    if rows == THE_SOURCE:
        answer["rows"] = _remembered_source_digest(contract, project)[:SHORT]
    else:
        answer["rows"] = _file_digest(project.root / rows)[:SHORT]
    return answer


def logs(project: Project, notebook: Path) -> bool:
    """Whether a notebook writes to the registry."""
    return LOGS in modules_of(project, notebook)


def _tracking(project: Project) -> str:
    """Which registry a task logs to: the project's own wherever its folder is, or an address."""
    address = tracking_address(project)
    is_own = address == project.environment()["MLFLOW_TRACKING_URI"]
    return "own" if is_own else shown(address)


def _forget_what_the_registry_lost(project: Project, contract: Contract) -> None:
    """Delete the stamps of training, evaluation and promotion if their version is not there.

    Somebody deleted the registry, or restored an earlier one. What was logged
    to another address is known by `tracking`.
    """
    folder = project.var / "build"
    try:
        challenger = read_json(folder / "decision.json")["challenger"]
        stamp = read_json(folder / ".decision.json.metadata")["params"]["depends_on"]
        made = (challenger["version"], challenger["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if stamp.get("tracking") != _tracking(project):
        return
    if not _is_registered(project, contract, made):
        stamps = [folder / f".{name}.metadata" for name in PRODUCTS_OF_LOGGING]
        for path in (*stamps, *(folder / "train").glob(".*.metadata")):
            path.unlink(missing_ok=True)


def has_registry_lost_the_challenger(project: Project) -> bool:
    """Whether the version that the last build registered is not at the tracking address."""
    try:
        challenger = read_json(project.var / "build" / "decision.json")["challenger"]
        made = (challenger["version"], challenger["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return not _is_registered(project, _contract(project.contract), made)


def _is_registered(project: Project, contract: Contract, made: tuple[str, str]) -> bool:
    there = connect(tracking_address(project)).versions(contract.name)
    return made in {(version.number, version.run_id) for version in there}


def depends_on_log(notebook: str) -> dict[str, str]:
    """The digests of a task that reads the prediction log: never up to date.

    The log has no digest that is cheaper to take than the task is to run.
    """
    return depends_on(notebook) | {"moment": utc_now().isoformat()}


@lru_cache(maxsize=4)
def _contract_of(path: Path, _modified_ns: int) -> Contract:
    return read_contract(path)


def _contract(path: Path) -> Contract:
    return _contract_of(path, path.stat().st_mtime_ns) if path.exists() else read_contract(path)


@lru_cache(maxsize=4)
def _checked_knobs(path: Path, _modified_ns: int) -> None:
    read_knobs(path)


def _check_knobs(path: Path) -> None:
    """Refuse an env.yaml that is wrong; one that was read and is as it was is not read again."""
    if path.exists():
        _checked_knobs(path, path.stat().st_mtime_ns)
    else:
        read_knobs(path)


def _file_digest(path: Path) -> str:
    return sha256_of(path) if path.exists() else "none"


def environment_digest(project: Project) -> str:
    """The digest of the lock; without a lock, of the names and versions that are installed."""
    lock = project.root / "requirements.lock"
    return _file_digest(lock) if lock.exists() else installed_digest()


@lru_cache(maxsize=1)
def installed_digest() -> str:
    """The digest of the names and versions of all that is installed but loopbook.

    What a notebook reaches of loopbook has a digest of its own.
    """
    installed = {
        (d.name.lower(), d.version) for d in distributions() if d.name != module_code.PACKAGE
    }
    return hashlib.sha256(json.dumps(sorted(installed)).encode()).hexdigest()


def library_digest(project: Project, notebook: Path) -> str:
    """SHA-256 over the code of every module of ours that a notebook reaches.

    Comments and layout do not count, since they cannot change a result.
    """
    state, memory = hashlib.sha256(), module_code.memory_of(project)
    for name, path in sorted(modules_of(project, notebook).items()):
        state.update(name.encode() + b"\0" + memory.code_of(path).digest + b"\0")
    return state.hexdigest()


def modules_of(project: Project, notebook: Path) -> dict[str, Path]:
    """The modules of ours that a notebook imports, directly or through others, with their files.

    A module is named from the package on: `data.sources`. A package counts as
    its `__init__`, which runs when anything in it is imported. Where a notebook
    may run a project's own candidates, what those import counts too.
    """
    files, memory = module_code.files_of(project.library), module_code.memory_of(project)
    waiting = module_code.imported(ast.parse(code_of(notebook)))
    reached: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in files and name not in reached:
            reached[name] = files[name]
            waiting |= memory.code_of(files[name]).imports
            if name == CANDIDATES and (project.root / own_candidates.FILE).exists():
                waiting |= memory.code_of(project.root / own_candidates.FILE).imports
    memory.keep()
    return reached


def _remembered_source_digest(contract: Contract, project: Project) -> str:
    """The digest of the source's content; a file is read again only when its size or time changed."""
    memory = project.var / "source-digest.json"
    try:
        known = {path: (stamp, digest) for path, stamp, digest in read_json(memory)["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    seen: dict[str, tuple[list[int], str]] = {}

    def digest_of(file: Path) -> str:
        stat, path = file.stat(), str(file)
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        remembered, digest = known.get(path, (None, ""))
        seen[path] = (stamp, digest if remembered == stamp else sha256_of(file))
        return seen[path][1]

    answer = source_digest(contract, project.root, digest_of)
    if seen != known:
        write_json(memory, {"files": [[path, *rest] for path, rest in seen.items()]})
    return answer
