"""`make bench`: quality beside the peers, scale, joins, the service, swaps under load, monitoring, the graph.

`python -m bench monitoring` runs one part.
"""

import sys

from bench import graph, joins, monitoring, quality, scale, service, swaps

PARTS = {part.__name__.split(".")[-1]: part for part in (quality, scale, joins, service)}
PARTS |= {"swaps": swaps, "monitoring": monitoring, "graph": graph}
for name in sys.argv[1:] or PARTS:
    for line in PARTS[name].run():
        print(line, flush=True)
    print(flush=True)
