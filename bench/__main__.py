"""`make bench`: quality beside the peers, scale, joins, then the cost of the graph."""

from bench import graph, joins, quality, scale

for part in (quality, scale, joins, graph):
    print("\n".join(part.run()), flush=True)
    print(flush=True)
