"""The graph's cost: a build with nothing to do against the bare import of Ploomber."""

import statistics
import subprocess
import sys
import time

from loopbook import project

RUNS = 5


def run() -> list[str]:
    root = project.current().root
    ours = [sys.executable, "-c", "from loopbook.cli import main; main()", "build"]
    bare = [sys.executable, "-c", "import ploomber.spec"]
    subprocess.run(ours, cwd=root, check=True, capture_output=True)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(RUNS):
        for name, command in (("ours", ours), ("bare", bare)):
            start = time.perf_counter()
            subprocess.run(command, cwd=root, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    idle, floor = (statistics.median(times[name]) for name in ("ours", "bare"))
    return [
        "| median of 5 | seconds |",
        "|---|---|",
        f"| build with nothing to do | {idle:.2f} |",
        f"| bare import of Ploomber | {floor:.2f} |",
        f"| ratio | {idle / floor:.2f} |",
    ]
