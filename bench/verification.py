"""Verification: how long it takes to look at fifty versions, a year of turns and a log.

The versions are made up in size and number as a year of builds leaves them: the
graph, the card and the rows of each, its executed notebooks, and the files of the
candidates that lost. All is written by those who write it in a project, so that
it is sealed as there.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from bench.swaps import ROOT
from loopbook.project.contract import read_contract

VERSIONS, CANDIDATES, TURNS, ANSWERS = 50, 7, 365, 100_000
NOTEBOOK, MODEL = 400_000, 4_000_000  # bytes: of an executed notebook, of a candidate's files
START = datetime(2015, 3, 2, tzinfo=UTC)
NAME = read_contract(ROOT / "contract.yaml").name


def run() -> list[str]:
    with tempfile.TemporaryDirectory() as folder, _project(Path(folder) / "project") as project:
        megabytes = _fill(project) / 1e6
        rows = [_timed(project, quick=quick) for quick in (False, True)]
        _break(project)
        rows.append(_timed(project, quick=False))
    return [
        f"{VERSIONS} versions with the candidates that lost, {megabytes:,.0f} MB of files, {TURNS} "
        f"turns, {ANSWERS:,} answers",
        "",
        "| form | on the clock, s | of processor time, s | found |",
        "|---|---:|---:|---:|",
        *rows,
    ]


@contextmanager
def _project(folder: Path) -> Iterator:
    """A project without a table, and its settings."""
    from loopbook.project.paths import Project

    folder.mkdir()
    for name in ("contract.yaml", "env.yaml", "pipeline.yaml", "requirements.lock"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    before, variables = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ |= Project(folder).environment()
    try:
        yield Project(folder)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ |= variables


def _fill(project) -> int:
    """Everything that a year leaves; how many bytes the files have."""
    from loopbook.data import snapshots
    from loopbook.records import turns
    from loopbook.registry import tracking

    draw, client, size = np.random.default_rng(7), tracking.connect(project), 0
    for number in range(VERSIONS):
        rows = pl.DataFrame(
            {"id": draw.integers(0, 2**62, 20_000), "rent": draw.normal(size=20_000)}
        )
        snapshot = snapshots.write_snapshot(rows, project.snapshots, None, now=START)
        size += snapshot.bytes + _version(client, draw, snapshot, number)
    tracking.make_champion(client, tracking.versions(client, NAME)[0], {})
    for number in range(1, TURNS + 1):
        at = (START + timedelta(days=number)).isoformat()
        record = {
            "turn": number,
            "as_of": at,
            "began_at": at,
            "outcome": "nothing",
            "reason": "it is",
        }
        turns.keep(project, record | {"numbers": dict.fromkeys(map(str, range(60)), 1.5)})
    _log(project)
    return size


def _version(client, draw, snapshot, number: int) -> int:
    """A run that won with its files, and those that lost; how many bytes they have."""
    import mlflow

    from loopbook.registry import sealing, tracking

    experiment, size = tracking.experiment_id(client, NAME), 0
    with tempfile.TemporaryDirectory() as folder:
        for candidate in range(CANDIDATES):
            files = {
                "service": ("model.onnx", "card.json", "reference.parquet", "residuals.parquet")
            }
            if candidate == 0:
                files["notebooks"] = tuple(f"task-{n}.ipynb" for n in range(15))
            with mlflow.start_run(experiment_id=experiment) as run:
                mlflow.log_metrics({f"test_{n}": float(n) for n in range(30)})
            for place, names in files.items():
                paths = [Path(folder) / name for name in names]
                for path in paths:
                    bytes_of = NOTEBOOK if place == "notebooks" else MODEL // len(names)
                    path.write_bytes(draw.bytes(bytes_of))
                    size += bytes_of
                tracking.log_files(client, run.info.run_id, paths, place)
            sealing.seal_run(client, run.info.run_id)
            if candidate == 0:
                winner, tags = run.info.run_id, {}
                for name, tag in (("model.onnx", "onnx_sha256"), ("card.json", "card_sha256")):
                    tags[tag] = sealing.Seal.of_file(Path(folder) / name).sha256
    if number == 0:
        client.create_registered_model(NAME)
    tags |= {"snapshot_sha256": snapshot.sha256, "gate_reason": "made up"}
    version = client.create_model_version(NAME, f"runs:/{winner}/service", winner, tags=tags)
    sealing.seal_version(client, NAME, version.version)
    return size


def _log(project) -> None:
    from loopbook.data import prediction_log
    from loopbook.data.log_tables import Entry
    from loopbook.project.clock import to_micros
    from loopbook.project.contract import read_contract
    from loopbook.provenance import kept_rows

    log, first = prediction_log.connect(project, read_contract(project.contract)), to_micros(START)
    features, request = np.zeros(30, np.float32), {f"column {n}": n for n in range(20)}
    for start in range(0, ANSWERS, 10_000):
        log.append(
            [
                Entry(
                    f"{n:032x}", first + n, first + n, NAME, "1", "champion", None, "predict",
                    f"{n}", request, features, "layout", {}, float(n), 900,
                )
                for n in range(start, start + 10_000)
            ]
        )  # fmt: skip
        kept_rows.seal(project, log)
    log.close()


def _break(project) -> None:
    """Flip a byte of one file."""
    path = next(project.mlflow.rglob("task-7.ipynb"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _timed(project, *, quick: bool) -> str:
    from loopbook.provenance import verification

    clock, processor = time.perf_counter(), time.process_time()
    report = verification.verify(project, quick=quick)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    places = [one.where for one in report.findings if one.what != "unreproducible"]
    return f"| {report.form} | {clock:.1f} | {processor:.1f} | {', '.join(places) or 'nothing'} |"
