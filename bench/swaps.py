"""Swaps under load: the alias `champion` moves to and fro while clients keep asking.

Counted are requests that failed (another status than 200, a connection that
ended) and answers that are mixed: their value is not what the version that
they name had answered to that very request before.
"""

import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from loopbook.project import contract, paths
from loopbook.registry import tracking

ROOT = Path(__file__).parents[1]
REQUESTS, MOVES, CONNECTIONS = 100_000, 20, 8
SIZES = range(1000, 3000, 250)  # what the requests differ in


@dataclass
class Outcome:
    """What the clients saw. `first` is when each run of answers of one version began."""

    requests: int = 0
    failed: int = 0
    mixed: int = 0
    first: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0
    delays: list[float] = field(default_factory=list)


def requests_of(row: Mapping[str, Any]) -> list[bytes]:
    """One row in several sizes, as requests of a connection that stays."""
    asked = [urlencode(row | {"size": size}) for size in SIZES]
    return [f"GET /predict?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for query in asked]


def measure(
    address: tuple[str, int],
    client: Any,
    versions: Sequence[tracking.Version],
    row: Mapping[str, Any],
    *,
    requests: int,
    moves: int,
) -> Outcome:
    """Move the alias between two versions while a process of clients asks `requests` times.

    The moves are spread evenly over the requests; each waits until the one
    before was seen, so there may be more requests than asked for.
    """
    asked = requests_of(row)
    known = _known(address, client, versions, asked)
    spawned = multiprocessing.get_context("spawn")
    count, enough, results = spawned.Value("q", 0), spawned.Event(), spawned.Queue()
    shared = {"count": count, "enough": enough, "results": results}
    clients = spawned.Process(
        target=_ask, args=(address, asked, known, requests), kwargs={"shared": shared}, daemon=True
    )
    clients.start()
    moved: list[tuple[float, str]] = []
    for place in range(moves):
        while count.value < requests * (place + 1) // (moves + 1):
            assert clients.is_alive()
            time.sleep(0.005)
        version = versions[(place + 1) % 2]
        moved.append((time.monotonic(), version.number))
        tracking.set_alias(client, version, tracking.CHAMPION)
        asyncio.run(_answers_of(address, asked[:1], version.number))
    enough.set()
    outcome: Outcome = results.get(timeout=600)
    clients.join()
    outcome.delays = _delays(outcome, moved)
    return outcome


def _delays(outcome: Outcome, moved: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds from each move that was seen to the first answer of the version moved to."""
    first = (
        next((t - at for t, answered in outcome.first if t >= at and answered == number), None)
        for at, number in moved
    )
    return [delay for delay in first if delay is not None]


def _known(
    address: tuple[str, int],
    client: Any,
    versions: Sequence[tracking.Version],
    asked: Sequence[bytes],
) -> dict[str, list[float]]:
    """What each version answers to each request; the first version holds the alias at the end."""
    known = {}
    for version in reversed(versions):
        tracking.set_alias(client, version, tracking.CHAMPION)
        known[version.number] = asyncio.run(_answers_of(address, asked, version.number))
    assert all(a != b for a, b in zip(*known.values(), strict=True)), "the versions agree"
    return known


async def _answers_of(address: tuple[str, int], asked: Sequence[bytes], number: str) -> list[float]:
    """What a version answers to each request, as soon as it is the one that answers."""
    reader, writer = await asyncio.open_connection(*address)
    deadline = time.monotonic() + 60
    try:
        values: list[float] = []
        while len(values) < len(asked):
            assert time.monotonic() < deadline, f"v{number} does not answer"
            writer.write(asked[len(values)])
            _, answer = await _answer(reader)
            if answer["version"] != number:
                await asyncio.sleep(0.05)
                continue
            values.append(_value(answer))
        return values
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), json.loads(await reader.readexactly(length))


def _value(answer: Mapping[str, Any]) -> float:
    return next(value for name, value in answer.items() if name.startswith("predicted_"))


def _ask(address, asked, known, requests, *, shared: Mapping[str, Any]) -> None:
    """The process of the clients; what it shares with the one that moves the alias is `shared`."""
    outcome, count, enough = Outcome(), shared["count"], shared["enough"]

    async def one(place: int) -> None:
        writer = None
        while outcome.requests < requests or not enough.is_set():
            which = place = (place + 1) % len(asked)
            outcome.requests += 1
            count.value = outcome.requests
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(*address)
                writer.write(asked[which])
                status, answer = await _answer(reader)
            except (OSError, EOFError):
                outcome.failed += 1
                writer = None
                await asyncio.sleep(0.01)
                continue
            if status != 200:
                outcome.failed += 1
                continue
            version = answer["version"]
            outcome.mixed += known.get(version, {which: None})[which] != _value(answer)
            if not outcome.first or outcome.first[-1][1] != version:
                outcome.first.append((time.monotonic(), version))
        if writer is not None:
            writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(place) for place in range(CONNECTIONS)))

    start = time.monotonic()
    asyncio.run(all_of_them())
    outcome.seconds = time.monotonic() - start
    shared["results"].put(outcome)


def run() -> list[str]:
    sys.path.insert(0, str(ROOT / "tests"))
    from small_house import FULL, Running, give, make_project

    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project", serve_watch_s="0.3")
        give(project, 1, tracking.CHAMPION)
        give(project, 2, tracking.CHALLENGER)
        here = paths.Project(project)
        table = contract.read_contract(here.contract)
        os.environ["MLFLOW_TRACKING_URI"] = here.environment()["MLFLOW_TRACKING_URI"]
        client = tracking.connect(here)
        both = [
            tracking.holder(client, table.name, alias)
            for alias in (tracking.CHAMPION, tracking.CHALLENGER)
        ]
        with Running(project, "--quiet") as service:
            address = ("127.0.0.1", service.port)
            found = measure(address, client, both, FULL, requests=REQUESTS, moves=MOVES)
    return [
        f"swaps under load: {found.requests:,} requests from {CONNECTIONS} connections in "
        f"{found.seconds:.0f} s ({found.requests / found.seconds:,.0f} a second), "
        f"{len(found.delays)} of {MOVES} moves of the alias seen",
        f"failed {found.failed}, mixed {found.mixed}",
        f"from the move to the first answer of the other version: median "
        f"{statistics.median(found.delays):.2f} s, most {max(found.delays):.2f} s "
        "(the registry is looked at every 0.3 s)",
    ]
