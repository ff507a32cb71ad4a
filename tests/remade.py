"""A registered version with all that made it, of made-up bytes: nothing was trained."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from small_house import ROOT

from loopbook.data import snapshots
from loopbook.project.contract import read_contract
from loopbook.project.files import sha256, write_json
from loopbook.project.paths import Project
from loopbook.registry import candidate_run, kept_code, tracking

RAN = {"random_seed": 8, "as_of": "newest"}
CARD = {"card_version": 1, "candidate": "ridge", "inputs": ["a"], "validation": {"loss": 0.25}}


def git(folder: Path, *words: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True, env=clean
    )
    return done.stdout


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def executed(seconds: float) -> str:
    return json.dumps({"metadata": {"papermill": {"parameters": RAN, "duration": seconds}}})


def rows(answer: float = 0.5) -> pl.DataFrame:
    return pl.DataFrame({"a": [1.0, 2.0, 3.0], "answer": [answer, 0.25, 0.125]})


def committed(top: Path, place: str = "team/penguins") -> Path:
    """A repository with a project at a place in it, one line of which no commit has."""
    folder = top / place
    files = {"contract.yaml": (ROOT / "examples/penguins/contract.yaml").read_text()}
    files |= {name: (ROOT / name).read_text() for name in ("env.yaml", "pipeline.yaml")}
    files |= {"notebooks/05_train.ipynb": "{}\n", "requirements.lock": "numpy==2.1\n"}
    write(folder, files)
    write(top, {".gitignore": "var/\n"})
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    write(folder, {"notebooks/05_train.ipynb": '{"edited": 1}\n'})
    return folder


def register(folder: Path, *, is_kept: bool = True) -> Project:
    """Register a version of the project in a folder: its files, its run, its snapshot."""
    project = Project(folder)
    table = read_contract(project.contract)
    snapshot = snapshots.write_snapshot(
        pl.DataFrame({"number": [1, 2]}),
        project.snapshots,
        None,
        now=datetime(2025, 1, 1, tzinfo=UTC),
    )
    products = folder / "var" / "build"
    write(products, {"split.ipynb": executed(3), "ridge-1.ipynb": executed(4)})
    snapshots.save_record(snapshot, products / "snapshot.json")
    rows().write_parquet(products / "reference.parquet")
    write(products, {"model.onnx": "graph", "card.json": json.dumps(CARD)})
    write_json(products / "decision.json", {"promoted": True, "previous": None, "champion": None})
    client = tracking.connect(project)
    run = client.create_run(tracking.experiment_id(client, table.name)).info.run_id
    for key, value in candidate_run.provenance(project).items():
        client.set_tag(run, key, value)
    client.set_tag(run, "contract_sha256", table.digest())
    client.set_tag(run, "snapshot_rows", "2")
    client.log_metric(run, "validation_loss", 0.25)
    client.log_metric(run, "parity", 1e-7)
    client.log_metric(run, "latency_ms", 5.0)
    served = [products / name for name in ("model.onnx", "card.json", "reference.parquet")]
    tracking.log_files(client, run, served, "service")
    notebooks = [products / "split.ipynb", products / "ridge-1.ipynb"]
    tracking.log_files(client, run, notebooks, "notebooks")
    tracking.log_files(client, run, [products / "decision.json"], "decision")
    tags = {"candidate": "ridge", "snapshot_sha256": snapshot.sha256, "as_of": "none"}
    tags |= {
        f"{path.stem.replace('model', 'onnx')}_sha256": sha256(path.read_bytes()) for path in served
    }
    tags["git_commit"] = client.get_run(run).data.tags["git_commit"]
    if is_kept:
        made = {"nb": str(notebooks[0]), "snapshot": str(products / "snapshot.json")}
        tags[kept_code.TAG] = kept_code.keep(client, run, project, table, {"split": made})
    client.create_registered_model(table.name)
    client.create_model_version(table.name, f"runs:/{run}", run, tags)
    return project


def built(root: Path, *, answer: float = 0.5, loss: float = 0.25, graph: str = "graph") -> None:
    """The products of a build that trained the same candidate."""
    build = root / "var" / "build"
    run = {"candidate": "ridge", "run_id": "r", "onnx_sha256": sha256(graph.encode())}
    run |= {"validation": {"loss": loss}, "parity": {"largest": 1e-7}}
    evidence = {"challenger": {"candidate": "ridge"}, "errors": {"challenger": {}}}
    card = CARD | {"validation": {"loss": loss}}
    write(build / "train", {"ridge-0.json": json.dumps(run), "ridge_card-0.json": json.dumps(card)})
    write(build, {"evidence.json": json.dumps(evidence), "decision.json": '{"promoted": true}'})
    write(build, {"split.ipynb": executed(6), "ridge-1.ipynb": executed(2)})
    (build / "monitoring").mkdir()
    rows(answer).write_parquet(build / "monitoring" / "reference.parquet")


def environment(project: Project, patch: pytest.MonkeyPatch) -> None:
    """Let this process work in a project, as one that was started there would."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        patch.setenv(name, project.environment()[name])
