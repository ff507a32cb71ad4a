"""Joins: training rows with what was known at their moment, beside a bare DuckDB ASOF join.

Facts are the table's; rows are the table's resampled, at any second of a day. Both sides join the same rows to the same change points; ours also
attaches what is over all and puts the rows back in order. Each size runs in a
process of its own, whose peak memory the system tells.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import polars as pl

from loopbook.features import materialize
from loopbook.features import store as feature_store
from loopbook.project import contract, paths

SIZES = (1_000_000, 10_000_000)
CHILD = """
import json, resource, sys, time
from pathlib import Path
import numpy as np, polars as pl
from loopbook.features import history, materialize
from loopbook.project import contract, paths
from loopbook.project.clock import EVENT_TS
who, size, here = sys.argv[1], int(sys.argv[2]), paths.current()
table = contract.read_contract(here.contract)
facts, _ = materialize.known_facts(here, table, None)
start = time.perf_counter()
timelines = {scope: history.timeline(facts, table, scope) for scope in history.SCOPES}
points = time.perf_counter() - start
draw = np.random.default_rng(1)
some = facts.select(EVENT_TS, history.ENTITY)[draw.integers(0, facts.height, size)]
seconds = pl.Series(draw.integers(0, 86_400, size)).cast(pl.Duration("us")) * 1_000_000
rows = some.with_columns((pl.col(EVENT_TS) + seconds).alias(EVENT_TS))
rows = rows.rename({history.ENTITY: table.entity})
del some, seconds
if who == "duckdb":
    import duckdb
    base = duckdb.connect()
    base.execute("SET threads = 2; SET enable_progress_bar = false")
    left, right = rows.to_arrow(), timelines["entity"].to_arrow()
    names = ", ".join("r." + n for n in history.names_over(table, "entity"))
    asked = f"SELECT l.*, {names} FROM left_rows l ASOF LEFT JOIN right_rows r "
    asked += f"ON l.{table.entity} = r.entity AND l.event_ts >= r.valid_from"
    base.register("left_rows", left), base.register("right_rows", right)
    start = time.perf_counter()
    found = base.execute(asked).to_arrow_table().num_rows
else:
    start = time.perf_counter()
    found = history.joined(rows, timelines, table).height
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"rows": found, "seconds": seconds, "gib": peak, "points": points}))
"""


def run() -> list[str]:
    lines = ["| rows | who | seconds (median of 3) | peak GiB | against DuckDB |"]
    lines.append("|---|---|---|---|---|")
    for size in SIZES:
        found = {who: [_measured(who, size) for _ in range(3)] for who in ("duckdb", "loopbook")}
        seconds = {who: statistics.median(r["seconds"] for r in f) for who, f in found.items()}
        for who, runs in found.items():
            assert all(r["rows"] == size for r in runs)
            peak, ratio = max(r["gib"] for r in runs), seconds[who] / seconds["duckdb"]
            lines.append(f"| {size:,} | {who} | {seconds[who]:.2f} | {peak:.2f} | {ratio:.2f} |")
    points = statistics.median(r["points"] for r in found["loopbook"])
    return [*lines, "", f"change points of all facts: {points:.2f} s", "", *_online()]


def _measured(who: str, size: int) -> dict:
    words = [sys.executable, "-c", CHILD, who, str(size)]
    root = paths.current().root
    done = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _online() -> list[str]:
    """One entity looked up in the default store, and a day's change against all of history."""
    here = paths.current()
    table = contract.read_contract(here.contract)
    _, newest = materialize.known_facts(here, table, None)
    # a table's last weeks hold few facts: not all of them were known when it was written
    facts, end = materialize.known_facts(here, table, newest - timedelta(days=28))
    known = [facts.filter(pl.col("known_ts") <= end - timedelta(days=n)) for n in range(10, -1, -1)]
    with tempfile.TemporaryDirectory() as folder:
        store = feature_store.connect(paths.Project(Path(folder)), table)
        whole, days = [], []
        for n, part in enumerate(known):
            start = time.perf_counter()
            store.materialize(part, end - timedelta(days=10 - n))
            (days if n else whole).append(time.perf_counter() - start)
        entities, times = facts["entity"].unique().to_list() * 50, []
        for entity in entities:
            start = time.perf_counter()
            store.get(entity, end)
            times.append(time.perf_counter() - start)
        store.close()
    micros = statistics.median(times) * 1e6
    return [
        f"lookup of one entity, SQLite, p50 of {len(times):,}: {micros:.0f} µs",
        f"materialise everything: {whole[0]:.3f} s; one day more: {statistics.median(days):.3f} s "
        f"(median of {len(days)})",
    ]
