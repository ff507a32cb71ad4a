"""Candidate run: all that is logged of one candidate, and what made it.

It decides which facts of the code and the environment a run carries. How a
run is stored is `tracking`'s.
"""

import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from sklearn.base import BaseEstimator

from loopbook.models.inference import sha256
from loopbook.project.paths import Project

MOST_METRICS = 500


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


def loggable(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics under names that a run may have: a class may be called anything.

    At most `MOST_METRICS` are logged, since a run takes no more at once; the
    first ones are those of all rows.
    """
    named = {re.sub(r"[^\w\-. /]", "_", f"{prefix}_{n}"): v for n, v in metrics.items()}
    return dict(list(named.items())[:MOST_METRICS])


def provenance(project: Project) -> dict[str, str]:
    """The code and the environment that a run is made by, as tags.

    `git_commit` is `none` outside a repository; `git_dirty` tells of changes
    that no commit has.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words], cwd=project.root, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    lock = project.root / "requirements.lock"
    return {
        "git_commit": git("rev-parse", "HEAD") or "none",
        "git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        "environment_sha256": sha256(lock.read_bytes()) if lock.exists() else "none",
        "python": platform.python_version(),
    }
