"""Weights & Biases: each candidate's run there too, by one setting. The only importer.

It decides what is told there: parameters, metrics, tags and figures of a run
of MLflow, under the same id. MLflow stays the record: registry, gate and
service never ask it, and a run that cannot be told there stops nothing.

The setting is `LOOPBOOK_WANDB`. Without it nothing is imported or sent.
"""

from __future__ import annotations

import netrc
import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loopbook.project.errors import RegistryError
from loopbook.project.paths import Project

if TYPE_CHECKING:
    from loopbook.registry.candidate_run import CandidateRun

SETTING = "LOOPBOOK_WANDB"
OFFLINE, ONLINE = "offline", "online"
FOLDER = "wandb"
INSTALL = "pip install 'loopbook[wandb]' (in loopbook's own repository: make wandb)"
SERVER = "https://api.wandb.ai"
QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_CONSOLE": "off"}


def refuse_unusable() -> None:
    """Refuse a setting that no run could be told by, before anything trains.

    Raises
    ------
    RegistryError
        If it is neither offline nor online, the package is missing, or there
        is no key for the server.
    """
    mode = _mode()
    if not mode:
        return
    if mode not in (OFFLINE, ONLINE):
        raise _refused(mode, "is no mode", f"{OFFLINE}, {ONLINE}, or nothing")
    if find_spec("wandb") is None:
        raise _refused(mode, "Weights & Biases is not installed", INSTALL)
    server = os.environ.get("WANDB_BASE_URL") or SERVER
    if mode == ONLINE and not _has_key(server):
        raise _refused(mode, f"there is no key for {server}", "WANDB_API_KEY, or wandb login")


def tell(project: Project, candidate: CandidateRun, run_id: str, tags: Mapping[str, str]) -> None:
    """Tell of a candidate's run what MLflow was told of it; nothing without the setting."""
    mode = _mode()
    if not mode:
        return
    folder = project.var / FOLDER
    try:
        _tell(folder, mode, candidate, run_id, tags)
    except Exception as reason:  # MLflow has the run, and a build must not fail for its copy
        warnings.warn(
            f"{SETTING}={mode}: Weights & Biases was not told of {candidate.name} "
            f"({type(reason).__name__}: {reason}). MLflow has the run {run_id}.",
            stacklevel=2,
        )


def _tell(
    folder: Path, mode: str, candidate: CandidateRun, run_id: str, tags: Mapping[str, str]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    own = {f"WANDB_{what}_DIR": str(folder / what.lower()) for what in ("CACHE", "CONFIG", "DATA")}
    os.environ |= {name: value for name, value in (QUIET | own).items() if name not in os.environ}
    import matplotlib.pyplot  # noqa: F401  wandb looks for it without importing it
    import wandb

    with wandb.init(
        project=os.environ.get("WANDB_PROJECT") or candidate.card["contract"]["name"],
        id=run_id,
        name=candidate.name,
        mode=mode,
        dir=folder,
        config={**candidate.params, "tags": dict(tags)},
        settings=wandb.Settings(disable_git=True, disable_code=True, x_disable_stats=True),
    ) as run:
        pictures = {name: wandb.Image(figure) for name, figure in candidate.figures.items()}
        run.log({**candidate.metrics, **pictures})


def _mode() -> str:
    mode = os.environ.get(SETTING, "").strip().lower()
    return "" if mode == "off" else mode


def _has_key(server: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(server).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _refused(mode: str, found: str, expected: str) -> RegistryError:
    return RegistryError(
        f"{SETTING}={mode}: {found}, so nothing was run. Expected {expected}; or unset it: MLflow "
        "has every run."
    )
