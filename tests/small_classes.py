"""Small tables of a number, of yes or no and of one of several, with versions made in a second.

`files` has a version's graph and card, `Shelf` is a registry of them in memory and
`serving` the service on it, in this process. `make_project` makes a whole project,
and `give` registers a version in it.
"""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import polars as pl
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from small_house import ROOT, environment, set_knobs

from loopbook.data import sources
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import cards, export, inference, known_answers
from loopbook.models.task import task_of
from loopbook.project import contract, paths
from loopbook.project.contract import Contract
from loopbook.project.errors import RegistryError
from loopbook.records.roles import CHAMPION
from loopbook.registry import reader, service_files
from loopbook.registry.reader import CARD, ONNX, Run, Version
from loopbook.serving.app import create_app

with warnings.catch_warnings():  # it wants the next httpx
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

NUMBER, YES_OR_NO, SEVERAL = "regression", "binary", "multiclass"
TASKS = (NUMBER, YES_OR_NO, SEVERAL)
EARLIER = "earlier"  # a number, whose rows know of earlier rows of their zone and of all
START = datetime(2025, 1, 1, tzinfo=UTC)
THRESHOLD = 0.2  # from which probability on yes is answered
TARGETS = {
    NUMBER: {"name": "weight", "unit": "kg", "range": [-1000.0, 1000.0], "meaning": "Its weight."},
    YES_OR_NO: {
        "name": "late",
        "classes": ["yes", "no"],  # the yes comes first: nobody may take the last place for it
        "positive": "yes",
        "costs": {"false_positive": 1.0, "false_negative": 4.0},
        "meaning": "Whether it was late.",
    },
    SEVERAL: {
        "name": "kind",
        "classes": ["red", "blue, dark", "grün"],
        "meaning": "What kind it is of.",
    },
}
TARGETS[EARLIER] = TARGETS[NUMBER]
OF_EARLIER = {
    "mean_5d": {"aggregate": "mean", "window_days": 5, "minimum_count": 2, "meaning": "Its zone."},
    "count_5d": {"aggregate": "count", "window_days": 5, "meaning": "How many in its zone."},
    "all_3d": {"aggregate": "median", "window_days": 3, "over": "all", "meaning": "All zones."},
}
ROW = {"size": 11.0, "width": 2.5, "zone": "north", "as_of": "2025-02-01T00:00:00Z"}  # a request


@cache
def table(task: str) -> Contract:
    """The contract of one of the three tables."""
    number = {"type": "number", "meaning": "A number.", "example": 10.0}
    knows = {"entity": "zone", "history": {"features": OF_EARLIER, "unit": "kg"}}
    more = knows if task == EARLIER else {}
    return Contract.model_validate(
        {
            "name": f"small-{task}",
            "meaning": "A row is a thing.",
            "task": NUMBER if task == EARLIER else task,
            "source": {"path": "data/rows.parquet"},
            "key": ["id"],
            "event_time": "at",
            "label_delay_days": 1,
            "target": TARGETS[task],
            "features": {
                "size": number | {"required": True, "range": [0.0, 100.0], "unit": "cm"},
                "width": number | {"alias": "breadth"},
                "zone": {"type": "category", "meaning": "A zone.", "example": "north"},
            },
        }
        | more
    )


def rows(task: str, count: int = 600, seed: int = 1) -> pl.DataFrame:
    """Made-up rows, an hour apart, whose target follows from their features, with some noise."""
    draw = np.random.default_rng(seed)
    size, width = draw.normal(10, 3, count), draw.normal(2, 1, count)
    zone = draw.choice(["north", "south", "west"], count)
    score = size - 10 + 2 * (width - 2) + 3 * (zone == "south") + draw.normal(0, 1.5, count)
    classes = TARGETS[task].get("classes", [])
    cuts = {YES_OR_NO: [2.0], SEVERAL: [-1.5, 2.5]}.get(task, [])
    target = [classes[::-1][n] for n in np.searchsorted(cuts, score)] if classes else score * 5
    return pl.DataFrame(
        {
            "id": [f"thing-{n}" for n in range(count)],
            "at": [START + timedelta(hours=n) for n in range(count)],
            "size": size,
            "width": pl.Series(width).set(pl.Series(draw.random(count) < 0.1), None),
            "zone": zone,
            table(task).target.name: target,
        }
    )


def fitted(task: str, some: pl.DataFrame) -> tuple[Pipeline, bytes]:
    """A model of these rows, and its graph."""
    about, of = table(task), task_of(table(task))
    X = row_features.model_matrix(some, about, row_features.learn_categories(some, about))
    last = LogisticRegression(max_iter=1000) if of.classes else Ridge()
    model = make_pipeline(SimpleImputer(), last)
    model.fit(X, of.inside(of.observed(some[about.target.name])))
    return model, export.export(model, about, X.shape[1])


def earlier_graph(task: str, seed: int = 1) -> bytes:
    """The graph of `files` as an earlier loopbook wrote it: it takes no shift."""
    graph = onnx.load_from_string(version(task, seed)[1])
    del graph.graph.input[-1], graph.graph.output[-1]
    return graph.SerializeToString(deterministic=True)


@cache
def version(task: str, seed: int = 1) -> tuple[Pipeline, bytes, dict]:
    """A model, its graph and its card."""
    about = table(task)
    some = sources.with_clock(rows(task, seed=seed), about)
    if about.history:
        some = history.with_history(some, history.facts(some, about), about)
    of = task_of(about)
    model, graph = fitted(task, some)
    vocabulary = row_features.learn_categories(some, about)
    examples = known_answers.rows_with_answers(
        some,
        about,
        vocabulary,
        row_features.input_names(about),
        fitted=partial(of.answers, model),
        exported=partial(inference.predict, inference.session(graph)),
    )
    snapshot = SimpleNamespace(sha256="0" * 64, as_of="2025-02-01")
    bounds = {"test_start": "2025-02-01T00:00:00+00:00", "holdout_share": None}
    card = cards.make_card(
        about,
        cards.Fit("linear", vocabulary, some, bounds, snapshot),
        parity={"passed": True, "spread": of.spread(of.observed(some[about.target.name]))},
        validation={of.metric: 0.5},
        examples=examples,
    )
    if about.target.costs:
        card["decision"] = {"threshold": THRESHOLD}
    return model, graph, card


def files(task: str, seed: int = 1) -> dict[str, bytes]:
    """The graph and the card of a version, as the registry keeps them."""
    _, graph, card = version(task, seed)
    return {ONNX: graph, CARD: json.dumps(card, sort_keys=True).encode()}


class Shelf:
    """A registry in memory, of versions of one table and who holds which alias."""

    def __init__(self, task: str):
        self.name, self.alias = table(task).name, {CHAMPION: "1"}
        self.files = {str(seed): files(task, seed) for seed in (1, 2)}

    def held(self, name: str, alias: str) -> Version | None:
        number = self.alias.get(alias)
        tags = number and service_files.file_tags(self.files[number])
        return number and Version(self.name, number, f"run-{number}", tags)

    def versions(self, name: str) -> list[Version]:
        return [self.held(name, alias) for alias in self.alias]

    def content(self, version: Version, file: str, folder: str = "", most: int = 0) -> bytes:
        if file not in self.files[version.number]:
            raise RegistryError(f"{version.label}: {file} cannot be read (no such file).")
        return self.files[version.number][file]

    def run(self, run_id: str) -> Run:
        return Run(run_id, {"alpha": "1.0"}, {"python": "3.11.7", "git_commit": "none"})

    def model_tags(self, name: str) -> dict[str, str]:
        return {}

    def names(self, version: Version, folder: str) -> list[str]:
        return []


@contextmanager
def serving(folder: Path, shelf: Shelf, about: Contract, **knobs: str) -> Iterator[TestClient]:
    """The service of a contract over a shelf, in this process; its log lies in `folder/var`."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "env.yaml").exists():
        shutil.copy(ROOT / "env.yaml", folder)
    set_knobs(folder, **knobs)
    (folder / "contract.yaml").write_text(as_yaml(about), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "connect", lambda address: shelf)
        app = create_app(paths.Project(folder), needs_keys=False, quiet=True)
        with TestClient(app) as client:
            yield client


def as_yaml(about: Contract) -> str:
    """A contract as its file."""
    return json.dumps(about.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def make_project(folder: Path, task: str) -> Path:
    """A project of such a table, without a champion; the notebooks are those of the repository."""
    folder.mkdir(parents=True)
    for name in ("notebooks", "reports", "serving"):
        shutil.copytree(ROOT / name, folder / name)
    for file in ROOT.glob("pipeline*.yaml"):
        shutil.copy(file, folder)
    for name in ("env.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "contract.yaml").write_text(as_yaml(table(task)), encoding="utf-8")
    (folder / "data").mkdir()
    rows(task).write_parquet(folder / "data" / "rows.parquet")
    return folder


def register(task: str, seed: str, alias: str) -> None:
    """Give a version of the current project an alias."""
    from loopbook.data import snapshots
    from loopbook.registry import candidate_run, tracking

    here = paths.current()
    about = contract.read_contract(here.contract)
    model, graph, card = version(task, int(seed))
    snapshot = snapshots.Snapshot(
        *("0" * 64, str(here.root / "none"), 600, 1, None, None, None, "2025-02-01", "")
    )
    client = tracking.connect(here)
    run = candidate_run.CandidateRun("linear", model, graph, card, {}, {}, {}, {})
    experiment = tracking.experiment_id(client, about.name)
    logged = tracking.log_candidate(client, experiment, run, snapshot)
    tags = {"gate_reason": "a test", "candidate": "linear", "snapshot_sha256": snapshot.sha256}
    number = tracking.register(client, about.name, logged, tags)
    if alias == tracking.CHAMPION:
        tracking.make_champion(client, number, {})


def give(folder: Path, task: str, seed: int = 1, alias: str = "champion") -> None:
    """Let `register` run in a project, in a process of its own."""
    more = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]
    code = "import sys; from small_classes import register; register(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, task, str(seed), alias],
        cwd=folder,
        env=environment(folder, PYTHONPATH=os.pathsep.join(more)),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
