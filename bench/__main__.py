"""`make bench`: quality and the league beside the peers, levels, scale, joins, the service, swaps
under load, monitoring, the graph, reliability, abuse, leaks, why, verification, versions built again (`reproduce`), capacity,
what other engines cost a task (`engines`), a file scored on Dask (`workers`).

`python -m bench monitoring` runs one part. `--as-of DAY` says when `quality`
stops learning; without it, 30 days before the newest row. `--data FOLDER` names
whole tables for the league and the levels, `--table NAME` one of theirs or of `reproduce`, `--autogluon PYTHON` an environment with AutoGluon.
"""

import argparse
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import (
    abuse,
    capacity,
    engines,
    graph,
    joins,
    league,
    leaks,
    levels,
    monitoring,
    quality,
    reliability,
    reproduce,
    scale,
    service,
    swaps,
    verification,
    why,
    workers,
)

MODULES = (
    *(quality, league, levels, scale, joins, service, swaps, monitoring, graph, reliability),
    *(abuse, leaks, why, reproduce, capacity, verification, engines, workers),
)
PARTS = {module.__name__.split(".")[-1]: module for module in MODULES}
asked = argparse.ArgumentParser(prog="python -m bench")
asked.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
asked.add_argument("--as-of", type=lambda day: datetime.fromisoformat(day).replace(tzinfo=UTC))
asked.add_argument("--data", type=Path, metavar="FOLDER")
asked.add_argument("--table", action="append", metavar="NAME")
asked.add_argument("--autogluon", metavar="PYTHON")
words = asked.parse_args()
if unknown := set(words.parts) - set(PARTS):
    asked.error(f"found {', '.join(sorted(unknown))}, expected one of {', '.join(PARTS)}")
OPTIONS = {
    "quality": partial(quality.run, words.as_of),
    "league": partial(league.run, words.table, words.data, python=words.autogluon),
    "levels": partial(levels.run, words.table, words.data),
    "reproduce": partial(reproduce.run, words.table),
}
for name in words.parts or PARTS:
    for line in OPTIONS.get(name, PARTS[name].run)():
        print(line, flush=True)
    print(flush=True)
