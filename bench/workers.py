"""Dask: a file scored by the champion on one worker and on two, each a process of one thread.

Rows of the contract's source are repeated until there are enough. The command runs as a
person types it, its start included; the workers are there before. In turns; medians.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from loopbook.data import sources
from loopbook.project import contract, paths

ROWS, RUNS = 1_000_000, 3
COUNTS = (1, 2)


def run() -> list[str]:
    here = paths.current()
    table = contract.read_contract(here.contract)
    seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = sources.read_source(table, here.root)
        pl.concat([rows] * (ROWS // rows.height + 1)).head(ROWS).write_parquet(
            folder / "rows.parquet"
        )
        for _ in range(RUNS):
            for count in COUNTS:
                with _scheduler(folder, count) as address:
                    seconds[count].append(_scored(here.root, folder, address))
    one, *_ = medians = [statistics.median(seconds[count]) for count in COUNTS]
    lines = [f"| {ROWS:,} rows, workers | seconds, median of {RUNS} | times one |", "|---|---|---|"]
    for count, found in zip(COUNTS, medians, strict=True):
        lines.append(f"| {count} | {found:.1f} | {one / found:.2f} |")
    return lines


def _scored(root: Path, folder: Path, address: str) -> float:
    """Seconds of `loopbook score` on the workers of `address`."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "loopbook", "score", folder / "rows.parquet"]
    words += [folder / "scored.parquet", "--scheduler", address]
    subprocess.run(list(map(str, words)), check=True, cwd=root, env=_variables())
    seconds = time.perf_counter() - start
    (folder / "scored.parquet").unlink()
    return seconds


@contextmanager
def _scheduler(folder: Path, count: int):
    """The address of a scheduler that has `count` workers; they end with it."""
    about = folder / "scheduler.json"
    about.unlink(missing_ok=True)
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    own = ["--no-nanny", "--nthreads", "1", "--scheduler-file", about]
    running = [
        _started(["dask_scheduler", *local, "--port", "0", "--scheduler-file", about], folder)
    ]
    try:
        while not about.exists():
            time.sleep(0.1)
        running += [_started(["dask_worker", *local, *own], folder) for _ in range(count)]
        address = json.loads(about.read_text())["address"]
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(count, timeout=120)
        yield address
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def _started(words: list, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", f"distributed.cli.{words[0]}", *map(str, words[1:])]
    return subprocess.Popen(command, cwd=folder, env=_variables(), stderr=subprocess.DEVNULL)


def _variables() -> dict[str, str]:
    """One thread a worker, and this checkout's package."""
    source = str(paths.current().library.parent)
    return os.environ | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": source}
