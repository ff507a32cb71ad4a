"""`make bench`: quality beside the peers, scale, joins, the service, then the cost of the graph."""

from bench import graph, joins, quality, scale, service

for part in (quality, scale, joins, service, graph):
    print("\n".join(part.run()), flush=True)
    print(flush=True)
