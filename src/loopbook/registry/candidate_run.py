"""Candidate run: all that is logged of one candidate, and what made it.

It decides which facts of the code and the environment a run carries. How a
run is stored is `tracking`'s.
"""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator

from loopbook.models import candidates
from loopbook.project.errors import CandidateError
from loopbook.project.paths import Project
from loopbook.registry import code_state, environments

MOST_METRICS = 500
SOURCE = "mlflow.source.name"  # a tag of MLflow's own; it would say ipykernel_launcher
SHOWN_ROWS = 5


@dataclass(frozen=True)
class CandidateRun:
    """All that is logged of one candidate."""

    name: str
    model: BaseEstimator
    onnx: bytes
    card: Mapping[str, Any]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    figures: Mapping[str, Figure]

    @property
    def note(self) -> str:
        """What MLflow's own pages say of the run until its build has compared it, as Markdown."""
        about, fitted = self.card.get("contract", {}), self.card.get("fitted", {})
        told = [f"**{self.name}**. {_meaning(self.name)}".strip()]
        if about.get("meaning"):
            target = self.card["target"]
            told.append(f"{about['meaning']} It predicts {target['name']}: {target['meaning']}")
        if fitted.get("rows"):
            told.append(f"Fitted on {fitted['rows']:,} rows.")
        return escape("\n\n".join(told), quote=False)

    def shown_input(self) -> np.ndarray | None:
        """The first made-up rows of the card, as the fitted model takes them; None without any."""
        rows = self.card.get("examples", {}).get("features", [])[:SHOWN_ROWS]
        filled = [[np.nan if value is None else value for value in row] for row in rows]
        return np.array(filled, np.float32) if rows else None


def _meaning(candidate: str) -> str:
    try:
        return candidates.meaning(candidate)
    except CandidateError:  # its function was renamed while it was fitted
        return ""


def loggable(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics under names that a run may have: a class may be called anything.

    At most `MOST_METRICS` are logged, since a run takes no more at once; the
    first ones are those of all rows, the number of rows after them: MLflow's
    comparison of runs opens with the first.
    """
    metrics = dict(sorted(metrics.items(), key=lambda metric: metric[0] == "n"))
    named = {re.sub(r"[^\w\-. /]", "_", f"{prefix}_{n}"): v for n, v in metrics.items()}
    return dict(list(named.items())[:MOST_METRICS])


def provenance(project: Project, executed: str | None = None) -> dict[str, str]:
    """The code and the environment that a run is made by, as tags.

    With `executed`, the path of the document, MLflow's pages name it as the source,
    by where it lies among the run's files.

    `git_commit` is `none` for a project that no repository holds; `git_dirty`
    tells of changes that no commit has; `code_sha256` is the digest of all of
    it (see `code_state`).
    """
    state = code_state.of(project)
    source = {SOURCE: f"notebooks/{Path(executed).name}"} if executed else {}
    return source | {
        "git_commit": state.commit,
        "git_dirty": str(state.is_dirty).lower(),
        "code_sha256": state.sha256,
        "environment_sha256": environments.lock_digest(project),
        "python": platform.python_version(),
        "processor": environments.processor(),
    }
