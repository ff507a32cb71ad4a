"""Reliability: what is killed, moved, broken and sent on purpose, and what was lost of it.

The service is killed again and again while clients ask it and tell it what came
true; whatever a client was answered has to be in the log afterwards. Swaps are
`bench.swaps`. Faults and bad inputs are the tests that hold them, run and
counted, so that the table and the tests cannot differ.
"""

import http.client
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from bench import swaps

ROOT = Path(__file__).parents[1]
KILLS, CLIENTS, BETWEEN = 60, 8, (150, 600)  # answers between two kills
SECONDS = 60  # after which a service that does not come back is told
# claims that are held by tests: what was done on purpose, and where
FAULTS = {
    "a kernel, a service, a database killed within a turn; a full disk; a registry away": "test_faults.py",
    "builds killed, stopped, out of space": "test_build.py -k killed or disk or ctrl_c or stamp",
    "addresses of no tracking server, a registry that is gone": "test_tracking.py",
}
INPUTS = {
    "tables and files that people brought, every command": "test_no_traceback.py",
    "notebooks, graphs and YAML that cannot be read": "test_notebooks.py",
    "folders of any name": "test_folders.py",
}


@dataclass
class Told:
    """What clients were answered: predictions by their id, and truths that were acknowledged."""

    predictions: set[str] = field(default_factory=set)
    truths: set[str] = field(default_factory=set)
    broken: int = 0  # requests that ended without an answer: nobody was told anything
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> int:
        return len(self.predictions) + len(self.truths)


class Clients:
    """Connections that ask and tell, each one after the other, until they are ended."""

    def __init__(self, asked: str):
        self.asked, self.told, self.port = asked, Told(), 0
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join(SECONDS)

    def _go_on(self) -> None:
        while not self.is_over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                while not self.is_over.is_set():
                    self._ask_and_tell(connection)
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                with self.told.lock:
                    self.told.broken += 1
                self.is_over.wait(0.05)
            finally:
                connection.close()

    def _ask_and_tell(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", f"/predict?{self.asked}")
        prediction = _answer(connection)["prediction_id"]
        with self.told.lock:
            self.told.predictions.add(prediction)
        truth = {"prediction_id": prediction, "observed": 500_000}
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/feedback", json.dumps(truth), headers)
        _answer(connection)
        with self.told.lock:
            self.told.truths.add(prediction)


def _answer(connection: http.client.HTTPConnection) -> dict:
    answered = connection.getresponse()
    content = json.loads(answered.read())
    if answered.status >= 300:
        raise ValueError(f"answered {answered.status}: {content}")
    return content


def kill(folder: Path, row: dict, kills: int = KILLS) -> tuple[Told, int, int]:
    """Kill a service `kills` times under its clients; what they were told, and what of it is lost.

    Returns
    -------
    told, lost predictions, lost truths
    """
    from small_house import Running

    draw = random.Random(1)
    with Clients(urlencode(row)) as clients:
        for _ in range(kills):
            with Running(folder, "--quiet") as service:
                clients.port = service.port
                enough = clients.told.count() + draw.randint(*BETWEEN)
                for _ in range(SECONDS * 20):
                    if clients.told.count() >= enough:
                        break
                    threading.Event().wait(0.05)
                service.process.kill()
    with closing(sqlite3.connect(folder / "var" / "predictions.db")) as log:
        predictions = {key for (key,) in log.execute("SELECT id FROM predictions")}
        truths = {key for (key,) in log.execute("SELECT prediction_id FROM ground_truth")}
    told = clients.told
    return told, len(told.predictions - predictions), len(told.truths - truths)


def held(claims: dict[str, str]) -> Iterator[tuple[str, int, int]]:
    """Each claim, how many tests hold it, and how many of them failed or were skipped."""
    for claim, words in claims.items():
        file, _, which = words.partition(" -k ")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
            options += ["-k", which] if which else []
            command = [sys.executable, "-m", "pytest", *options, ROOT / "tests" / file]
            subprocess.run(
                command, check=False, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL
            )
            suite = xml.parse(report).getroot().find("testsuite")
            numbers = {
                name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            }
        yield claim, numbers.pop("tests"), sum(numbers.values())


def run() -> list[str]:
    """The table of docs/reliability.md."""
    sys.path.insert(0, str(ROOT / "tests"))
    from small_house import FULL, give, make_project

    lines = ["| done on purpose | how often | lost, failed or mixed |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project")
        give(project, 1, "champion", "ridge")
        told, answers, truths = kill(project, FULL)
    lines.append(
        f"| the service killed (SIGKILL) under {CLIENTS} clients | {KILLS} kills; "
        f"{len(told.predictions):,} answers and {len(told.truths):,} truths acknowledged | "
        f"{answers} answers, {truths} truths lost |"
    )
    lines += [f"| swaps of the champion | {line} | |" for line in swaps.run()[:2]]
    for claim, tests, failed in (*held(FAULTS), *held(INPUTS)):
        lines.append(f"| {claim} | {tests} tests | {failed} failed |")
    return lines
