"""`make bench`: quality beside the peers, then scale, then the cost of the graph."""

from bench import graph, quality, scale

for part in (quality, scale, graph):
    print("\n".join(part.run()), flush=True)
    print(flush=True)
