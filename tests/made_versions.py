"""Versions of a project in git, registered without a build: each by one edit of the project."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import small_classes
from small_classes import NUMBER, START
from small_house import ROOT

from loopbook.data import snapshots, splits
from loopbook.features.rows import model_matrix
from loopbook.models import inference
from loopbook.project import clock
from loopbook.project.contract import Contract, read_contract
from loopbook.project.files import sha256
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.registry import candidate_run, kept_code, reference, tracking
from loopbook.registry.reader import CARD, ONNX, REFERENCE, SERVICE
from loopbook.registry.service_files import file_tags

NAME = small_classes.table(NUMBER).name
UNTIL = START + timedelta(hours=450)  # rows from here on judge
TRAIN = """from loopbook.models import candidates

parts = candidates.build("ridge")"""
FILES = {
    "contract.yaml": small_classes.as_yaml(small_classes.table(NUMBER)),
    "requirements.lock": "numpy==2.0 \\\n    --hash=sha256:aa\npolars==2.1\n",
    "pipeline.yaml": json.dumps(
        {
            "tasks": [
                {"name": "ingest", "source": "notebooks/01_ingest.ipynb"},
                {"name": "train-[[candidate]]", "source": "notebooks/05_train.ipynb"},
            ]
        }
    ),
    "candidates.py": "def own():\n    return 1\n",
    "src/loopbook/__init__.py": "",
    "src/loopbook/models/__init__.py": "",
    "src/loopbook/models/candidates.py": "from loopbook.models import steps\n",
    "src/loopbook/models/steps.py": "# where it begins\ndef first():\n    return 1\n",
    "src/loopbook/models/unread.py": "x = 1\n",
}
Rows = Callable[[pl.DataFrame], pl.DataFrame]


def notebook(*cells: tuple[str, str]) -> dict[str, Any]:
    """A notebook of cells, each of a kind and its text."""
    made = [{"cell_type": k, "metadata": {}, "source": text, "outputs": []} for k, text in cells]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}


NOTEBOOKS = {
    "notebooks/01_ingest.ipynb": notebook(("markdown", "# Ingest"), ("code", "rows = 1")),
    "notebooks/05_train.ipynb": notebook(("markdown", "# Train"), ("code", TRAIN)),
}


def git(folder: Path, *words: str) -> bytes:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, env=clean
    )
    return done.stdout


def make_project(folder: Path) -> Project:
    """A project in a repository of its own, with nothing registered."""
    folder.mkdir()
    shutil.copy(ROOT / "env.yaml", folder)
    write(folder, {".gitignore": "var/\n"} | FILES)
    write(folder, {name: json.dumps(told) for name, told in NOTEBOOKS.items()})
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "as it began")
    return Project(folder)


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@cache
def table_rows() -> pl.DataFrame:
    return small_classes.rows(NUMBER).with_columns(pl.col("at").alias(clock.EVENT_TS))


def register(
    project: Project,
    edits: Mapping[str, str] | None = None,
    *,
    rows: Rows = lambda some: some,
    seed: int = 1,
    keeps: bool = True,
) -> str:
    """Register a version of the project with some files edited, then put these back; its number.

    `keeps` False: as an earlier loopbook did, without what made it.
    """
    before = {name: (project.root / name).read_text() for name in edits or {}}
    write(project.root, edits or {})
    try:
        with contextlib.chdir(project.root):  # what lasts is sealed in the project around us
            return _register(project, rows(table_rows()), seed, keeps=keeps)
    finally:
        write(project.root, before)


def _register(project: Project, rows: pl.DataFrame, seed: int, *, keeps: bool) -> str:
    about = read_contract(project.contract)
    client = tracking.connect(project)
    now = clock.utc_now()
    snapshot = snapshots.write_snapshot(rows, project.snapshots, None, now=now)
    build = project.var / "build"
    build.mkdir(parents=True, exist_ok=True)
    snapshots.save_record(snapshot, build / "snapshot.json")
    service = _service_files(about, snapshot, rows, seed)
    run_id = client.create_run(tracking.experiment_id(client, about.name)).info.run_id
    for key, value in candidate_run.provenance(project).items():
        client.set_tag(run_id, key, value)
    client.log_param(run_id, "candidate", "linear")
    for name, content in service.items():
        (build / name).write_bytes(content)
    tracking.log_files(client, run_id, [build / name for name in service], SERVICE)
    ran = _as_ran(project, build)
    tracking.log_files(client, run_id, list(ran.values()), "notebooks")
    digest = service.pop(REFERENCE)
    tags = file_tags(service) | {reference.TAG: sha256(digest), "candidate": "linear"}
    if keeps:
        products = {task: {"nb": str(path)} for task, path in ran.items()}
        products["ingest"]["snapshot"] = str(build / "snapshot.json")
        tags[kept_code.TAG] = kept_code.keep(client, run_id, project, about, products)
    return _version(client, about.name, run_id, tags)


def _version(client: Any, name: str, run_id: str, tags: Mapping[str, str]) -> str:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{SERVICE}"
    return str(client.create_model_version(name, source, run_id=run_id, tags=dict(tags)).version)


def _service_files(
    about: Contract, snapshot: snapshots.Snapshot, rows: pl.DataFrame, seed: int
) -> dict[str, bytes]:
    _, graph, card = small_classes.version(NUMBER, seed)
    fitted = card["fitted"] | {"until": UNTIL.isoformat()}
    card = card | {"snapshot_sha256": snapshot.sha256, "fitted": fitted, "candidate": "linear"}
    card |= {"contract": about.model_dump(mode="json"), "contract_sha256": about.digest()}
    is_test = pl.col(clock.EVENT_TS) >= UNTIL
    part = pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit("train")).alias(splits.PART)
    said = inference.predict(
        inference.session(graph), model_matrix(rows, about, card["categories"])
    )
    frozen = reference.freeze(rows.with_columns(part), said, about, seed=1)
    written = json.dumps(card, sort_keys=True).encode()
    return {ONNX: graph, CARD: written, REFERENCE: frozen}


def _as_ran(project: Project, build: Path) -> dict[str, Path]:
    """The notebooks as Papermill leaves them: with a cell of parameters, and with outputs."""
    knobs = read_knobs(project.knobs)
    given = {"as_of": knobs.as_of, "random_seed": knobs.random_seed, "test_days": knobs.test_days}
    found = {}
    # a grid's notebook has its place there in its name, which differs from build to build
    for task, name, file in (
        ("ingest", "ingest", "notebooks/01_ingest.ipynb"),
        ("train", f"linear-{knobs.test_days}", "notebooks/05_train.ipynb"),
    ):
        told = json.loads((project.root / file).read_text())
        injected = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}}
        told["cells"].insert(1, injected | {"source": repr(given), "outputs": [{"text": "42"}]})
        told["metadata"]["papermill"] = {"parameters": given}
        path = build / f"{name}.ipynb"
        path.write_text(json.dumps(told))
        found[task] = path
    return found
