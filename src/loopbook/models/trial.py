"""Trial: a project's own candidates on made-up rows, before a build begins.

It decides whether a candidate can be trained and served at all: its function
runs, gives an estimator that takes missing values, and that estimator converts
to ONNX. How good it is, `05_train` finds out. The project's code runs in a
process of its own; what passed is remembered until the candidate, the
contract or the converter changes.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from loopbook.features.rows import input_names
from loopbook.models import own_candidates
from loopbook.models.own_candidates import FILE
from loopbook.models.task import Task, task_of
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import CandidateError, ExportError, listed
from loopbook.project.files import read_json, write_json
from loopbook.project.paths import Project, current

ROWS = 200
MEMORY = "candidates-tried.json"


def check(names: Sequence[str], project: Project) -> None:
    """Try the project's own candidates that were not tried as they are now.

    Raises
    ------
    CandidateError
        With every candidate that cannot be trained or served, and why.
    """
    contract = read_contract(project.contract)
    states = {name: _state(name, contract, project) for name in names}
    passed = _passed(project)
    untried = [name for name in names if passed.get(name) != states[name]]
    if not untried:
        return
    faults = _tried_apart(untried, project)
    if faults:
        raise CandidateError(f"Candidates: nothing was run.\n{listed(faults)}")
    write_json(project.var / MEMORY, passed | {name: states[name] for name in untried})


def _passed(project: Project) -> dict[str, str]:
    try:
        return dict(read_json(project.var / MEMORY))
    except (OSError, ValueError, TypeError):
        return {}


def _state(name: str, contract: Contract, project: Project) -> str:
    """All that the outcome of a candidate's trial depends on."""
    versions = [version(package) for package in ("scikit-learn", "skl2onnx", "onnxruntime")]
    parts = [own_candidates.digest(name, project), contract.digest(), *versions]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _tried_apart(names: Sequence[str], project: Project) -> list[str]:
    """The faults of these candidates, found by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "faults.json"
        done = subprocess.run(
            [sys.executable, "-m", "loopbook.models.trial", str(report), *names],
            cwd=project.root,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if report.exists():
            return read_json(report)
    last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
    return [
        f"{FILE}: the trial of {', '.join(names)} ended with exit code {done.returncode} "
        f"({last[0]}). Run it alone: python {FILE}"
    ]


def faults_of(name: str, contract: Contract, project: Project) -> list[str]:
    """Why a candidate cannot be trained or served; runs its code in this process."""
    from loopbook.models import candidates, export, fitted_parts, inference, steps

    X, y = made_up(contract)
    doing = "its function ran"
    try:
        model = candidates.build(name, contract, 0)
        doing = f"it was fitted to {len(y)} made-up rows, some values missing"
        model = fitted_parts.in_float32(steps.fitted(model, X, y))
        doing = "it predicted them"
        task = task_of(contract)
        if fault := _unlike(model, task, X):
            return [f"{FILE}: {name} {fault}. End it with {task.ending}"]
        doing = "it was converted to ONNX"
        graph = export.export(model, contract, X.shape[1])
        doing = "its ONNX graph answered"
        answers = inference.predict(inference.session(graph), X)
        if not np.isfinite(answers).all():
            return [
                f"{FILE}: {name} answers missing values in Python and not as ONNX. Fill them in "
                "before: steps.median(), steps.known()"
            ]
    except CandidateError as reason:
        return [str(reason)]
    except ExportError as reason:
        return [f"{FILE}: {name}: {reason}"]
    except (Exception, SystemExit) as reason:
        remedy = " Fill in missing values in a step before (steps.median(), steps.known())."
        return [
            f"{name} stopped when {doing}. {own_candidates.described(reason, project)}."
            f"{remedy if 'NaN' in str(reason) else ''} Correct it, or take it out of pipeline.yaml"
        ]
    return []


def _unlike(model: Any, task: Task, X: np.ndarray) -> str:
    """How a fitted model's answers are not those that the target asks for; empty if they are."""
    if not hasattr(model, task.method):
        return f"has no {task.method}"
    answers, expected = task.answers(model, X), (len(X), *task.shape)
    if answers.shape == expected and np.isfinite(answers).all():
        return ""
    found = (
        f"{int((~np.isfinite(answers)).sum())} numbers that are not finite"
        if answers.shape == expected
        else f"an array of shape {answers.shape}"
    )
    return f"predicted {found} for {len(X)} rows, expected {task.answer_words} a row"


def made_up(contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and a target as it is inside, of the contract's shape, drawn at random.

    One value in ten is missing. A category has five codes. The target depends
    on the inputs, so that no estimator ends in a constant.
    """
    draw = np.random.default_rng(0)
    names = input_names(contract)
    classes = task_of(contract).classes or []
    count = max(ROWS, 5 * len(classes))
    X = draw.uniform(1, 100, (count, len(names)))
    for place, name in enumerate(names):
        if name in contract.categories:
            X[:, place] = draw.integers(0, 5, count)
    y = 1 + X.mean(axis=1) / 100 + draw.normal(0, 0.01, count)
    if classes:  # as many rows of each
        y = np.searchsorted(np.quantile(y, np.arange(1, len(classes)) / len(classes)), y)
    X[draw.random(X.shape) < 0.1] = np.nan
    return X.astype(np.float32), y


def main(report: str, *names: str) -> None:
    """Try candidates of the project around the working directory; write their faults."""
    project = current()
    contract = read_contract(project.contract)
    faults = [fault for name in names for fault in faults_of(name, contract, project)]
    Path(report).write_text(json.dumps(list(dict.fromkeys(faults))), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
