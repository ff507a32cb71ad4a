"""Scale: ingest, validate and build_features on the table resampled with jitter.

Each size runs in a process of its own, whose peak memory the system tells.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from loopbook.project import paths

SIZES = (200_000, 2_000_000)
CHILD = """
import json, resource, sys, time
from pathlib import Path
from loopbook.data import snapshots, sources, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.project import clock, contract
root, folder = Path(sys.argv[1]), Path(sys.argv[2])
table = contract.read_contract(root / "contract.yaml")
start = time.perf_counter()
raw = sources.read_source(table.model_copy(update={"source": contract.Source(path="big.parquet")}), folder)
known, as_of = sources.known_by(raw, None, table, now=clock.utc_now())
rows_raw = snapshots.read_snapshot(snapshots.write_snapshot(known, folder, as_of, now=clock.utc_now()))
kept, _ = validation.without_known_faults(rows_raw, table)
rows = validation.conform(kept, table)
rows = history.with_history(rows, history.facts(rows, table), table)
built = row_features.with_derived(rows, table)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"rows": built.height, "seconds": seconds, "gib": peak}))
"""


def run() -> list[str]:
    lines = ["| rows | seconds | peak GiB | µs a row |", "|---|---|---|---|"]
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            found = _measured(size, Path(folder))
        micros = found["seconds"] / found["rows"] * 1e6
        lines.append(
            f"| {found['rows']:,} | {found['seconds']:.1f} | {found['gib']:.2f} | {micros:.1f} |"
        )
    return lines


def _measured(size: int, folder: Path) -> dict:
    root = paths.current().root
    write = [sys.executable, "-c", RESAMPLE, str(root), str(folder), str(size)]
    subprocess.run(write, check=True, cwd=root)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), str(folder)],
        check=True,
        cwd=root,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


RESAMPLE = """
import sys
from pathlib import Path
import numpy as np, polars as pl
from loopbook.data import sources, validation
from loopbook.project import contract
root, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
table = contract.read_contract(root / "contract.yaml")
rows, _ = validation.without_known_faults(sources.read_source(table, root), table)
big = rows.sample(size, with_replacement=True, seed=1)
number, draw = pl.int_range(size).cast(rows.schema[table.key[0]]), np.random.default_rng(1)
big = big.with_columns(number.alias(table.key[0]))
for name, feature in table.features.items():
    if feature.type == "number" and feature.range:
        low, high = feature.range
        moved = pl.col(name) + draw.uniform(-1e-3, 1e-3, size) * (high - low)
        big = big.with_columns(moved.clip(low, high))
big.write_parquet(folder / "big.parquet")
"""
