"""What a service takes and leaves: processor time a request, memory, disk a million answers.

The project's champion answers its contract's example row over 8 connections, with its
log on. Requests a second a core are 1 over the service's own processor time a request,
which a busy machine changes little; the client's time is not in it.
"""

import http.client
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import sleep
from urllib.parse import urlencode

import psutil

from loopbook.data import prediction_log
from loopbook.project import contract, paths

CONNECTIONS, WARM_UP, REQUESTS, FEWEST = 8, 400, 16_000, 1_000
ROWS = 100  # of a batch
MILLION = 1_000_000


def run() -> list[str]:
    here = paths.current()
    table = contract.read_contract(here.contract)
    example = {f.alias or n: f.example for n, f in table.features.items()}
    query = urlencode({n: str(v).lower() if isinstance(v, bool) else v for n, v in example.items()})
    lines = [
        "| route | requests | requests/s a core | answers/s a core | MiB | GB a million answers |"
    ]
    lines.append("|---|---|---|---|---|---|")
    asked = {
        "GET /predict": (("GET", f"/predict?{query}", None), 1, REQUESTS),
        f"POST /predict/batch, {ROWS} rows": (
            ("POST", "/predict/batch", json.dumps({"rows": [example] * ROWS})),
            ROWS,
            FEWEST,
        ),
    }
    for route, (request, answers, count) in asked.items():
        with tempfile.TemporaryDirectory() as folder:
            one = _measured(here, Path(folder) / "log.db", request, count)
        disk = one["bytes"] / (count * answers) * MILLION / 1e9
        rate = count / one["cpu_s"]
        lines.append(
            f"| {route} | {count:,} | {rate:,.0f} | {rate * answers:,.0f} | {one['mib']:.0f} | {disk:.2f} |"
        )
    return lines


def _measured(here: paths.Project, log: Path, request: tuple, count: int) -> dict[str, float]:
    port = paths.first_free_port("127.0.0.1", 8700)
    own = {
        prediction_log.ADDRESS: f"sqlite:///{log}",
        "PYTHONPATH": os.pathsep.join([str(here.root), str(here.library.parent)]),
    }
    words = [sys.executable, "-m", "serving", "--quiet", "--port", str(port)]
    process = subprocess.Popen(
        words, cwd=here.root, env=os.environ | own, stdout=subprocess.DEVNULL
    )
    try:
        while not _is_ready(port):
            if process.poll() is not None:
                raise RuntimeError("the service ended; see the lines above")
            sleep(0.1)
        _ask(port, request, WARM_UP)
        service, before = psutil.Process(process.pid), _size(log)
        began = service.cpu_times()
        _ask(port, request, count)
        ended = service.cpu_times()
        mib = service.memory_info().rss / 2**20
        grown = _size(log) - before
    finally:
        process.terminate()
        process.wait(30)
    cpu_s = ended.user + ended.system - began.user - began.system
    return {"cpu_s": cpu_s, "mib": mib, "bytes": grown}


def _ask(port: int, request: tuple, count: int) -> None:
    def some(_: int) -> None:
        method, path, body = request
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Content-Type": "application/json"} if body else {}
        for _ in range(count // CONNECTIONS):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path.split('?')[0]} answered {answer.status}: {said[:300]!r}")
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(some, range(CONNECTIONS)))


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _size(log: Path) -> int:
    """The bytes of the log's pages, those that are not yet in the file too."""
    with closing(sqlite3.connect(log)) as opened:
        pages, free, size = (
            opened.execute(f"PRAGMA {what}").fetchone()[0]
            for what in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size
