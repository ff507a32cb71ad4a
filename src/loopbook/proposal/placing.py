"""Placing: a proposal put into a project, where a person has written nothing yet.

It decides what may be written: a contract where there is none, or the form that
nobody filled in, and the lines of env.yaml for the knobs that depend on the
rows. Whatever else stands there stays, and the difference is shown.
"""

import difflib
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from loopbook.data.rehearsal import Rehearsed, rehearse
from loopbook.data.splits import LEAST_ROWS
from loopbook.models import sentinel
from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError, ProjectNotFound
from loopbook.project.files import replacing
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, refuse_unusable
from loopbook.project.template import safe_name
from loopbook.proposal.proposals import Proposal
from loopbook.proposal.written import contract_text

FORM = "FILL-IN"
FEW = 1_000  # rows, of which a share may be too few by chance
SHARES = (0.22, 0.18, 0.24, 0.26, 0.28, 0.3)


@dataclass(frozen=True)
class Placed:
    """What became of a proposal.

    Attributes
    ----------
    is_written : whether the contract was written
    difference : lines from the contract that is there to the proposed one, where it was not
    knobs : what was changed in env.yaml, as `name: value (was value)`
    check : what `loopbook check` says of the table, or what it stops with
    is_sound : whether it does not stop
    """

    is_written: bool
    difference: list[str] = field(default_factory=list)
    knobs: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)
    is_sound: bool = True


def project_here() -> Project:
    """The project around the working directory, also where it has no contract yet.

    Raises
    ------
    ProjectNotFound
        If there is none.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "pipeline.yaml").is_file() and (folder / "env.yaml").is_file():
            refuse_unusable(folder)
            return Project(folder)
    raise ProjectNotFound(
        f"{here}: neither this folder nor one above it is a project. Change into one, or make one of "
        "the table: loopbook new DIR --from SOURCE"
    )


def is_free(contract: Path) -> bool:
    """Whether a contract may be written there: none is, or the form that nobody filled in."""
    try:
        text = contract.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    return _is_form(text)


def _is_form(text: str) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    if not isinstance(content, dict):
        return not text.strip()
    own = [content.get("meaning"), *(content.get("key") or [])]
    target = content.get("target")
    own.append(target.get("name") if isinstance(target, dict) else None)
    return all(value == FORM for value in own)


def name_of(project: Project, proposal: Proposal) -> str:
    """The model's name: the form's, or that of the table's file."""
    try:
        content = yaml.safe_load(project.contract.read_text(encoding="utf-8"))
        return safe_name(content["name"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return safe_name(Path(proposal.table.opened.told).stem)[:100]


def place(project: Project, proposal: Proposal, *, now: datetime) -> Placed:
    """Write a proposal into a project, or show how it differs from what is there."""
    text = contract_text(proposal, name_of(project, proposal))
    if not is_free(project.contract):
        old = project.contract.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = difflib.unified_diff(
            old, text.splitlines(), "contract.yaml", "proposed", lineterm=""
        )
        return Placed(is_written=False, difference=list(lines))
    with replacing(project.contract) as target:
        target.write_text(text, encoding="utf-8")
    changed = _set(project.knobs, proposal.knobs)
    done, lines = _rehearsed(project, now)
    if proposal.clock is None and proposal.table.height < FEW:
        for share in SHARES:
            if done is not None:
                break
            # which rows a hash keeps back is known only now
            changed = [line for line in changed if not line.startswith("holdout_share")]
            changed += _set(project.knobs, {"holdout_share": share})
            done, lines = _rehearsed(project, now)
    if done is not None and (lower := _lower_gate(project, done.parts["test"])):
        changed = [line for line in changed if not line.startswith("gate_min_rows")] + lower
        done, lines = _rehearsed(project, now)
    is_sound = done is not None
    return Placed(is_written=True, knobs=changed, check=lines, is_sound=is_sound)


def _set(path: Path, knobs: dict[str, float | int]) -> list[str]:
    """Set knobs of env.yaml in their lines; comments stay."""
    text, told = path.read_text(encoding="utf-8"), []
    for name, value in knobs.items():
        line = re.search(rf"^{name}: *([^\s#]+)", text, re.MULTILINE)
        if line and line[1].replace("_", "") != str(value):
            start, end = line.span(1)
            text = f"{text[:start]}{value}{text[end:]}"
            told.append(f"{name}: {value} (was {line[1]})")
    if told:
        with replacing(path) as target:
            target.write_text(text, encoding="utf-8")
    return told


def _lower_gate(project: Project, tested: int) -> list[str]:
    """As many rows as the gate asks for, where chance has kept back fewer than that."""
    if read_knobs(project.knobs).gate_min_rows <= tested:
        return []
    return _set(project.knobs, {"gate_min_rows": max(LEAST_ROWS, tested)})


def _rehearsed(project: Project, now: datetime) -> tuple[Rehearsed | None, list[str]]:
    """What `loopbook check` says of the table; None, where it stops, and with what."""
    try:
        contract, knobs = read_contract(project.contract), read_knobs(project.knobs)
        done = rehearse(project, contract, knobs, now=now)
    except LoopbookError as error:
        return None, str(error).splitlines()
    shared = [f"  Note: {k.evidence}: {k.remedy}." for k in sentinel.shared(done.parted, contract)]
    return done, [*done.lines(), *shared]
