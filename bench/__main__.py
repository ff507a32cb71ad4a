"""`make bench`: quality beside the peers, scale, joins, the service, swaps under load,
monitoring, the graph, reliability, abuse.

`python -m bench monitoring` runs one part. `--as-of DAY` says when `quality`
stops learning; without it, 30 days before the newest row.
"""

import argparse
from datetime import UTC, datetime
from functools import partial

from bench import (
    abuse,
    graph,
    joins,
    monitoring,
    quality,
    reliability,
    scale,
    service,
    swaps,
)

PARTS = {part.__name__.split(".")[-1]: part for part in (quality, scale, joins, service)}
PARTS |= {"swaps": swaps, "monitoring": monitoring, "graph": graph}
PARTS |= {"reliability": reliability, "abuse": abuse}
asked = argparse.ArgumentParser(prog="python -m bench")
asked.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
asked.add_argument("--as-of", type=lambda day: datetime.fromisoformat(day).replace(tzinfo=UTC))
words = asked.parse_args()
if unknown := set(words.parts) - set(PARTS):
    asked.error(f"found {', '.join(sorted(unknown))}, expected one of {', '.join(PARTS)}")
for name in words.parts or PARTS:
    run = partial(quality.run, words.as_of) if name == "quality" else PARTS[name].run
    for line in run():
        print(line, flush=True)
    print(flush=True)
