"""The service beside its peers: the same champion, the same row, one worker each, one thread.

wrk (8 connections) asks each server in turn, ours with its log on. `constant`
is a FastAPI endpoint in FastAPI's own way with the same Pydantic model, that
returns a constant. MLServer and BentoML come from the package registry into an
environment of their own below `var/bench`, since their pins differ from ours.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from loopbook.features import history, materialize
from loopbook.features import rows as row_features
from loopbook.project import contract, paths
from loopbook.project.clock import utc_now
from loopbook.registry import tracking
from loopbook.serving import rows_to_score, scoring

SECONDS, ROUNDS = 6, 3
PEERS = ("mlserver==1.7.*", "bentoml>=1.4", "scikit-learn==1.9.*", "skops", "numpy")
CONSTANT = """
import sys
from typing import Annotated
from fastapi import FastAPI, Query
from loopbook.project import contract
from loopbook.project import paths
from loopbook.serving.schemas import Schemas
import uvicorn
schemas = Schemas(contract.read_contract(paths.current().contract), 1000)
Row = schemas.Row
app = FastAPI()
answer = {schemas.answer_name: 1.0, "prediction_id": "a", "model": "m", "version": "1",
          "as_of": "2026-01-01T00:00:00Z", "imputed": [], "unknown": [], "out_of_range": []}
@app.get("/predict")
async def predict(row: Annotated[Row, Query()]):
    return answer
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""
BENTO = """
import bentoml, numpy as np, skops.io
@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Champion:
    def __init__(self):
        kinds = skops.io.get_untrusted_types(file="MODEL")
        self.model = skops.io.load("MODEL", trusted=kinds)
    @bentoml.api
    def predict(self, row: list[float]) -> float:
        return float(np.exp(self.model.predict(np.array([row], np.float32))[0]))
"""
MLSERVER = """
import numpy as np, skops.io
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
class Champion(MLModel):
    async def load(self):
        kinds = skops.io.get_untrusted_types(file="MODEL")
        self.model = skops.io.load("MODEL", trusted=kinds)
        return True
    async def predict(self, payload):
        row = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        answer = np.exp(self.model.predict(row)).reshape(-1, 1)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("p", answer)])
"""


def run() -> list[str]:
    if shutil.which("wrk") is None:
        return ["service: wrk is not here; install wrk"]
    root, table = paths.current().root, contract.read_contract(paths.current().contract)
    row = {f.alias or n: f.example for n, f in table.features.items()}
    query = "&".join(f"{n}={str(v).lower() if isinstance(v, bool) else v}" for n, v in row.items())
    with tempfile.TemporaryDirectory() as folder:
        body = _bodies(table, Path(folder))
        servers = _servers(root, Path(folder), query, body)
        found = {name: _asked(name, *how) for name, how in servers.items()}
    ours = found["loopbook"]
    lines = ["| server | requests/s | against ours | p50 ms | p99 ms | MiB | ready s |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        if one is None:
            lines.append(f"| {name} | did not start | | | | | |")
            continue
        lines.append(
            f"| {name} | {one['rate']:,.0f} | {one['rate'] / ours['rate']:.3f} | {one['p50']:.1f} | "
            f"{one['p99']:.1f} | {one['mib']:.0f} | {one['ready']:.1f} |"
        )
    return [*lines, "", *_batch(root, table)]


def _champion_model(folder: Path) -> Path:
    """The champion's scikit-learn pipeline, as skops wrote it."""
    import mlflow

    here = paths.current()
    table = contract.read_contract(here.contract)
    client = tracking.connect(here)
    version = tracking.holder(client, table.name, tracking.CHAMPION)
    local = mlflow.artifacts.download_artifacts(f"models:/{table.name}/{version.number}")
    return next(Path(local).glob("*.skops"))


def _bodies(table: contract.Contract, folder: Path) -> dict[str, str]:
    """The example row as the model takes it, in each peer's words."""
    servable = scoring.champion(paths.current(), table)
    example = {n: f.example for n, f in table.features.items()}
    values = servable.matrix([example], [utc_now()])[0]
    plain = [0.0 if np.isnan(v) else float(v) for v in values]
    tensor = {"name": "x", "shape": [1, len(plain)], "datatype": "FP32", "data": plain}
    return {
        "mlflow": json.dumps({"inputs": [plain]}),
        "bentoml": json.dumps({"row": plain}),
        "mlserver": json.dumps({"inputs": [tensor]}),
    }


def _servers(root: Path, folder: Path, query: str, body: dict[str, str]) -> dict[str, tuple]:
    python = sys.executable
    name = contract.read_contract(root / "contract.yaml").name
    (folder / "constant.py").write_text(CONSTANT)
    ask = f"/predict?{query}"
    servers = {
        "loopbook": ([python, "-m", "serving", "--quiet", "--port", "PORT"], root, ask, None),
        "constant": ([python, folder / "constant.py", "PORT"], root, ask, None),
        "mlflow models serve": (
            [
                *(Path(python).with_name("mlflow"), "models", "serve", "--env-manager", "local"),
                *("--workers", "1", "-p", "PORT", "-m", f"models:/{name}@champion"),
            ],
            root,
            "/invocations",
            body["mlflow"],
        ),
    }
    if peers := _peers(root):
        model = _champion_model(folder)
        (folder / "bento.py").write_text(BENTO.replace("MODEL", str(model)))
        (folder / "champion_rows.py").write_text(MLSERVER.replace("MODEL", str(model)))
        settings = {"name": "champion", "implementation": "champion_rows.Champion"}
        (folder / "model-settings.json").write_text(json.dumps(settings))
        words = [peers / "bentoml", "serve", "bento:Champion", "--port", "PORT"]
        servers["BentoML"] = (words, folder, "/predict", body["bentoml"])
        words = [peers / "mlserver", "start", "."]
        servers["MLServer"] = (words, folder, "/v2/models/champion/infer", body["mlserver"])
    return servers


def _peers(root: Path) -> Path | None:
    """The commands of the peers' own environment, made once."""
    home = root / "var" / "bench" / "peers"
    if not (home / "bin" / "mlserver").exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", home], check=True)
        words = [uv, "pip", "install", "--quiet", "--python", home / "bin/python", *PEERS]
        if subprocess.run(words, check=False).returncode:
            return None
    return home / "bin"


@contextmanager
def _server(words: list, folder: Path, port: int):
    own = {
        "PYTHONPATH": os.pathsep.join(
            map(str, (paths.current().root, paths.current().library.parent, folder))
        ),
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(port + 1),
        "MLSERVER_METRICS_PORT": str(port + 2),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with (paths.current().var / "bench" / f"{Path(words[0]).name}.log").open("w") as log:
        command = [str(port) if w == "PORT" else str(w) for w in words]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | own,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(psutil.NoSuchProcess):  # it may have ended by itself
                family = psutil.Process(process.pid).children(recursive=True)
                for one in [*family, psutil.Process(process.pid)]:
                    one.kill()
            process.wait()


def _asked(name: str, words: list, folder: Path, path: str, body: str | None) -> dict | None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}{path}"
    with tempfile.TemporaryDirectory() as own, _server(words, folder, port) as process:
        started = time.perf_counter()
        while not _answers(address, body):
            if process.poll() is not None or time.perf_counter() - started > 90:
                return None
            time.sleep(0.05)
        ready = time.perf_counter() - started
        command = ["wrk", "-t1", "-c8", f"-d{SECONDS}", "--latency", address]
        if body is not None:
            script = Path(own) / "post.lua"
            script.write_text(
                'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                f"wrk.body = [=[{body}]=]\n"
            )
            command[-1:] = ["-s", str(script), address]
        rounds = [_round(command) for _ in range(ROUNDS)]
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        mib = sum(p.memory_info().rss for p in family) / 2**20
    middle = {k: statistics.median(r[k] for r in rounds) for k in ("rate", "p50", "p99")}
    return middle | {"mib": mib, "ready": ready, "name": name}


def _answers(address: str, body: str | None) -> bool:
    asked = urllib.request.Request(
        address, data=body.encode() if body else None, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _round(command: list[str]) -> dict[str, float]:
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    assert failed is None, told
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def percentile(which: str) -> float:
        value, unit = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", told).groups()
        return float(value) * units[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
    return {"rate": rate, "p50": percentile("50"), "p99": percentile("99")}


def _batch(root: Path, table: contract.Contract) -> list[str]:
    """A file of 200,000 rows through `loopbook score`, beside the bare session on arrays."""
    servable = scoring.champion(paths.current(), table)
    raw = pl.read_parquet(root / table.source.path).sample(200_000, with_replacement=True, seed=1)
    matrix = np.zeros((raw.height, len(servable.inputs)), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "rows.parquet", Path(folder) / "scored.parquet"
        raw.write_parquet(source)
        _, shape = rows_to_score.opened(source, table)
        typed, _ = rows_to_score.read(raw, shape, table, with_time=True)
        part = rows_to_score.prepare(typed, table, None)
        facts, _ = materialize.known_facts(paths.current(), table, None)
        part = row_features.with_derived(history.with_history(part, facts, table), table)
        matrix = row_features.encode(part, servable.inputs, servable.card["categories"])
        bare, whole = [], []
        for _ in range(3):
            start = time.perf_counter()
            servable.predict(matrix)
            bare.append(time.perf_counter() - start)
            start = time.perf_counter()
            scoring.score(paths.current(), table, source, target)
            whole.append(time.perf_counter() - start)
    rate = [raw.height / statistics.median(times) for times in (bare, whole)]
    return [
        f"batch of {raw.height:,} rows: bare session {rate[0]:,.0f} rows/s, loopbook score "
        f"{rate[1]:,.0f} rows/s, ratio {rate[1] / rate[0]:.2f}"
    ]
