"""Where a project's files are, and what its tools find in their environment.

A project is a folder with a `contract.yaml` and a `pipeline.yaml`. Its runs
write below `var/` and nowhere else. `apply_environment` is called when any
Python of the environment starts (by `loopbook_environment.pth`), so that
`ploomber`, `papermill`, `mlflow` and `jupyter` typed bare find the same
settings as the Makefile's commands. For that reason this module imports the
standard library and `addresses` only, and never fails.
"""

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from loopbook.project.addresses import sqlite_address

# settings of JupyterLab and Voila, which are the same in every project
JUPYTER = Path(__file__).parents[1] / "pipeline" / "jupyter"
MARKS = ("contract.yaml", "pipeline.yaml")

# Nobody's notebook should tell anybody that it ran.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # read when it is imported; without it a session asks for a name of Microsoft's and
    # writes an id of this machine below the home folder
    "ORT_DISABLE_TELEMETRY": "1",
    "PLOOMBER_STATS_ENABLED": "false",
    "PLOOMBER_VERSION_CHECK_DISABLED": "true",
    "SKOPS_TELEMETRY": "0",
}
# Notebooks hold results, not a library's chatter.
QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm, about widgets that nobody needs
}
# MLflow asks a server that is away for minutes; a turn of the loop should say so in seconds.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
# Gradient boosting stalls for seconds when its threads outnumber idle cores;
# loopbook runs notebooks side by side instead.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "2",
}


@dataclass(frozen=True)
class Project:
    """The folders of one project; all paths are absolute."""

    root: Path

    @property
    def contract(self) -> Path:
        return self.root / "contract.yaml"

    @property
    def knobs(self) -> Path:
        return self.root / "env.yaml"

    @property
    def signers(self) -> Path:
        """The public keys whose signatures this project trusts."""
        return self.root / "signers.yaml"

    @property
    def graph(self) -> Path:
        return self.root / "pipeline.yaml"

    @property
    def monitor_graph(self) -> Path:
        return self.root / "pipeline.monitor.yaml"

    @property
    def library(self) -> Path:
        """The library that its notebooks import: its own, or the installed one."""
        own = self.root / "src" / "loopbook"
        return own if own.is_dir() else Path(__file__).parents[1]

    @property
    def var(self) -> Path:
        return self.root / "var"

    @property
    def snapshots(self) -> Path:
        return self.var / "snapshots"

    @property
    def mlflow(self) -> Path:
        return self.var / "mlflow"

    def environment(self) -> dict[str, str]:
        """What this project's tools expect to find in their environment."""
        tracking = sqlite_address(self.mlflow / "mlflow.db")
        return {
            "MLFLOW_TRACKING_URI": tracking,
            "MLFLOW_BACKEND_STORE_URI": tracking,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": (self.mlflow / "artifacts").as_uri(),
            # one worker and no job runners: 0.5 GB instead of 2.2
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "JUPYTER_CONFIG_PATH": str(JUPYTER),
            "JUPYTER_PATH": str(JUPYTER),  # the dashboards' template
            "DVC_SITE_CACHE_DIR": str(self.var / "dvc"),
        }


def tracking_address(project: Project) -> str:
    """Where runs and versions are: `MLFLOW_TRACKING_URI`, or SQLite below `var/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or project.environment()["MLFLOW_TRACKING_URI"]


def find_root(start: Path | None = None) -> Path | None:
    """The nearest folder at or above `start` (default: here) that is a project."""
    try:
        here = (start or Path.cwd()).resolve()
    except OSError:  # the folder we stand in was deleted
        return None
    return next(
        (folder for folder in (here, *here.parents) if all((folder / m).is_file() for m in MARKS)),
        None,
    )


def current() -> Project:
    """The project around the working directory.

    Raises
    ------
    ProjectNotFound
        If no folder at or above the working directory is a project, or if its
        path cannot be used.
    """
    root = find_root()
    if root is None:
        from loopbook.project.errors import ProjectNotFound

        raise ProjectNotFound(
            f"{Path.cwd()}: neither this folder nor one above it holds {' and '.join(MARKS)}. "
            "Change into a loopbook project."
        )
    refuse_unusable(root)
    return Project(root)


def refuse_unusable(folder: Path) -> None:
    """Refuse a path that would be read as a template, or that no line of text can hold.

    Raises
    ------
    ProjectNotFound
        With the part that cannot stand in the path of a project.
    """
    from unicodedata import category

    from loopbook.project.errors import ProjectNotFound

    # Ploomber and Papermill fill in what stands in braces in the path of a product
    unusable = [sign for sign in str(folder) if sign in "{}" or category(sign) in ("Cc", "Cs")]
    if unusable:
        raise ProjectNotFound(
            f"{str(folder)!r}: the path of a project cannot hold {unusable[0]!r}; all other "
            "signs it may. Rename that folder."
        )


def first_free_port(host: str, start: int) -> int:
    """The first port from `start` on that nobody serves on; `start` if a hundred are in use."""
    import socket

    for port in range(start, start + 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    return start


def _is_mlflow() -> bool:
    """Whether this process is the command `mlflow`, which takes one port and gives up."""
    return len(sys.orig_argv) > 1 and Path(sys.orig_argv[1]).name == "mlflow"


def apply_environment() -> None:
    """Fill in the variables that nobody has set; what a person set stays.

    A value that an outer process took from *another* project's defaults is not
    a person's choice: it gives way, so that a copy of a project never writes
    into the original.
    """
    defaults = NO_TELEMETRY | QUIET | PATIENCE | ONE_THREAD
    root = find_root()
    inherited: dict[str, str] = {}
    if outer := os.environ.get("LOOPBOOK_PROJECT"):
        inherited = Project(Path(outer)).environment()
    if root is not None:
        defaults = defaults | Project(root).environment()
        os.environ["LOOPBOOK_PROJECT"] = str(root)
        # env.yaml has the knobs of every graph and of the service; Ploomber counts those unused
        warnings.filterwarnings("ignore", message="The following placeholders are declared")
    # `make mlflow` would open with a path of this machine
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
    if _is_mlflow():
        defaults = defaults | {"MLFLOW_PORT": str(first_free_port("127.0.0.1", 5000))}
    for name, value in defaults.items():
        if os.environ.get(name) in (None, inherited.get(name)):
            os.environ[name] = value
