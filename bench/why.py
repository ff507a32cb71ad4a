"""Why: how long it takes to trace an answer, with a million of them in the log.

The log is that of the example's project: an answer of the service, copied a million
times over two years, each under its own id and key. Every two-hundredth, and then every
one, has ground truth, and so is a fact for later rows. An answer is traced ten times
in one process, and once by the command. Processor seconds stand beside seconds, since a
machine may be busy.
"""

import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[1]
ANSWERS, TIMES = 1_000_000, 10
YEARS_US = 730 * 86_400_000_000
COPY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO predictions ({columns})
SELECT {values} FROM n, (SELECT * FROM predictions LIMIT 1) AS one"""
TELL = """
INSERT INTO ground_truth (prediction_id, observed, known_us, received_us)
SELECT id, 500000 + received_us % 1000, as_of_us + 86400000000, received_us FROM predictions
WHERE id LIKE 'c%' AND CAST(substr(id, 2, 9) AS INTEGER) % ? = 0"""
OTHERS = {  # the columns in which copies differ
    "id": "printf('c%09d', i) || substr(one.id, 11)",
    "as_of_us": f"one.as_of_us - CAST({YEARS_US}.0 * i / {ANSWERS} AS INTEGER)",
    "key": "'copy-' || i",
}


def filled(database: Path) -> None:
    """A million copies of the one answer in a log."""
    with closing(sqlite3.connect(database)) as log, log:
        names = [row[1] for row in log.execute("PRAGMA table_info(predictions)")]
        values = ", ".join(OTHERS.get(name, f"one.{name}") for name in names)
        log.execute(COPY.format(columns=", ".join(names), values=values), (ANSWERS,))


def told(database: Path, every: int) -> int:
    """Ground truth for one answer in `every`; how many there are then."""
    with closing(sqlite3.connect(database)) as log, log:
        log.execute("DELETE FROM ground_truth")
        return log.execute(TELL, (every,)).rowcount


def measured(do: Callable[[], object]) -> tuple[float, float]:
    """The median of some calls, in seconds and in seconds of the processor."""
    took = []
    for _ in range(TIMES):
        before = time.perf_counter(), time.process_time()
        do()
        took.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    return statistics.median(t for t, _ in took), statistics.median(t for _, t in took)


def by_command(project: Path, name: str) -> tuple[float, float]:
    """Seconds and processor seconds of one command, its start included."""
    words = [sys.executable, "-m", "loopbook", "why", name, "--json"]
    before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=project, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 3), done.stderr.decode()[-2000:]
    used = after.ru_utime + after.ru_stime - before[1].ru_utime - before[1].ru_stime
    return time.perf_counter() - before[0], used


def run() -> Iterator[str]:
    """The lines of the report."""
    sys.path.insert(0, str(ROOT / "tests"))
    from small_house import FULL, Running, give, loopbook, make_project

    from loopbook.project.paths import Project
    from loopbook.provenance import explained_answers

    folder = Path(tempfile.mkdtemp(prefix="loopbook-why-"))
    try:
        project = make_project(folder / "project")
        give(project, 1, "champion")
        loopbook(project, "features", "materialize", "--as-of", "2015-03-01")
        with Running(project) as service:
            asked = FULL | {"id": "one", "date": "2015-03-01"}
            name = service.http.post("/predict", json=asked).json()["prediction_id"]
        log = project / "var" / "predictions.db"
        filled(log)
        os.environ |= Project(project).environment()
        for every in (200, 1):
            count = told(log, every)
            with explained_answers.looked_up(Project(project)) as place:
                found = explained_answers.explain(place, name)
                took = measured(lambda place=place: explained_answers.explain(place, name))
            facts = "the store's numbers" if found.facts and found.facts.is_of_store else "facts"
            whole = by_command(project, name)
            yield (
                f"why: {ANSWERS:,} answers, {count:,} with ground truth: {found.verdict} by {facts}; "
                f"{took[0]:.2f} s ({took[1]:.2f} s of the processor), "
                f"as a command {whole[0]:.2f} s ({whole[1]:.2f} s)"
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
