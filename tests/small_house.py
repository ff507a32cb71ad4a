"""A small project of the real table, with champions made in a second, and a service on it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import polars as pl

from loopbook.data import snapshots, sources, splits, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import candidates, cards, export, fitted_parts, inference, known_answers
from loopbook.models.task import task_of
from loopbook.project import clock, contract, paths
from loopbook.project.files import sha256
from loopbook.registry import candidate_run, reference, tracking
from loopbook.registry import reader as registry_reader

ROOT = Path(__file__).parents[1]
FULL = {
    "size": 1800, "rooms": 3, "bathrooms": 2.25, "lot": 6000, "floors": 1, "waterfront": False,
    "view": 0, "condition": 3, "grade": 7, "sqft_above": 1400, "basement": 400, "built": 1975,
    "renovated": 0, "neighbourhood": "98115", "latitude": 47.68, "longitude": -122.28,
    "sqft_living15": 1800, "sqft_lot15": 6000, "as_of": "2015-03-01T00:00:00Z",
}  # fmt: skip


def environment(folder: Path, **more: str) -> dict[str, str]:
    own = ("LOOPBOOK_PROJECT", "PYTHONDONTWRITEBYTECODE", "LOOPBOOK_PREDICTION_LOG")
    clean = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}
    return clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"} | more


MAKE = """
import sys
from small_house import register
register(*sys.argv[1:4])
for moment in sys.argv[4:]:  # in this process, since another one would import for seconds
    from loopbook.cli.stores import materialize
    materialize(moment)
"""


def make_project(folder: Path, **knobs: str) -> Path:
    """A project of the real table, without a champion, its feature store as of March 2015."""
    folder.mkdir(parents=True)
    for name in ("notebooks", "reports", "serving"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pipeline.monitor.yaml", folder)
    for name in ("contract.yaml", "env.yaml", "pipeline.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "data").symlink_to(ROOT / "data")
    return set_knobs(folder, **knobs)


def set_knobs(folder: Path, **knobs: str) -> Path:
    """Write knobs of a project into its env.yaml."""
    path = folder / "env.yaml"
    text = path.read_text()
    for knob, value in knobs.items():
        text, places = re.subn(rf"^{knob}:.*$", f"{knob}: {value}", text, flags=re.MULTILINE)
        assert places == 1, knob
    path.write_text(text)
    return folder


def loopbook(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess:
    """A command of ours in a project; `more` are variables of its environment."""
    return subprocess.run(
        [sys.executable, "-m", "loopbook", *words],
        cwd=folder,
        env=environment(folder, **more),
        text=True,
        capture_output=True,
    )


def answers(address: str) -> bool:
    """Whether a page answers well."""
    try:
        return httpx.get(address, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def register(seed: str, alias: str, candidate: str = "hist_gradient_boosting") -> None:
    """Train a candidate of the real table on 3,000 rows and give its version an alias."""
    here = paths.current()
    table = contract.read_contract(here.contract)
    known, _ = sources.known_by(
        sources.read_source(table, here.root),
        datetime(2015, 3, 1, tzinfo=UTC),
        table,
        now=clock.utc_now(),
    )
    kept, _ = validation.without_known_faults(known, table)
    rows = validation.conform(kept, table)
    rows = history.with_history(rows, history.facts(rows, table), table)
    rows = row_features.with_derived(rows.sample(3000, seed=int(seed)).sort(clock.EVENT_TS), table)
    vocabulary = row_features.learn_categories(rows, table)
    names = row_features.input_names(table)
    X = row_features.encode(rows, names, vocabulary)
    model = candidates.build(candidate, table, int(seed))
    task = task_of(table)
    observed = task.observed(rows[table.target.name])
    model.fit(X, task.inside(observed))
    model = fitted_parts.in_float32(model)
    graph = export.export(model, table, len(names))
    examples = known_answers.rows_with_answers(
        rows,
        table,
        vocabulary,
        names,
        fitted=partial(task.answers, model),
        exported=partial(inference.predict, inference.session(graph)),
    )
    snapshot = snapshots.Snapshot(
        "0" * 64, str(here.root / "none"), 3000, 1, None, None, None, "2015-03-01", ""
    )
    bounds = {"test_start": "2015-03-01T00:00:00+00:00", "holdout_share": None}
    bounds |= {"train_start": None, "end": None}
    card = cards.make_card(
        table,
        cards.Fit(candidate, vocabulary, rows, bounds, snapshot),
        parity={"passed": True, "spread": task.spread(observed)},
        validation={task.metric: 0.1},
        examples=examples,
    )
    client = tracking.connect(here)
    run = candidate_run.CandidateRun(candidate, model, graph, card, {}, {}, {}, {})
    logged = tracking.log_candidate(
        client, tracking.experiment_id(client, table.name), run, snapshot
    )
    tags = {"gate_reason": "a test", "candidate": candidate}
    version = tracking.register(client, table.name, logged, tags | _reference(client, logged, rows))
    if alias == tracking.CHAMPION:
        tracking.make_champion(client, version, {})


def _reference(client, logged: dict[str, str], rows: pl.DataFrame) -> dict[str, str]:
    """Freeze the rows as a version's reference: the newest 600 as those that it had not seen."""
    table = contract.read_contract(paths.current().contract)
    parted = rows.with_columns(
        pl.when(pl.int_range(pl.len()) >= rows.height - 600)
        .then(pl.lit("test"))
        .otherwise(pl.lit("train"))
        .alias(splits.PART)
    )
    observed = rows[table.target.name].to_numpy()
    answers = observed * np.exp(np.random.default_rng(1).normal(0, 0.15, observed.size))
    content = reference.freeze(parted, answers, table, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / registry_reader.REFERENCE
        path.write_bytes(content)
        tracking.log_files(client, logged["run_id"], [path], registry_reader.SERVICE)
    return {reference.TAG: sha256(content)}


def give(
    folder: Path,
    seed: int,
    alias: str,
    candidate: str = "hist_gradient_boosting",
    features_as_of: str = "",
    **variables: str,
) -> None:
    """Let `register` run in a project, in a process of its own, which fills the store if asked to."""
    more = variables | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src"), str(ROOT / "tests")])
    }
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(seed), alias, candidate, *features_as_of.split()],
        cwd=folder,
        env=environment(folder, **more),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


class Running:
    """A service in a process of its own."""

    def __init__(self, folder: Path, *words: str, **more: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.errors = folder / "stderr.txt"
        command = [sys.executable, "-m", "serving", "--port", str(self.port), *words]
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(folder, **more),
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self.http = httpx.Client(base_url=self.address, timeout=20)
        deadline = time.monotonic() + 60
        while not self.lives():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def lives(self) -> bool:
        try:
            return self.http.get("/health/live").status_code == 200
        except httpx.TransportError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
