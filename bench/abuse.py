"""Abuse: what a hostile client does to the service, while another one asks as usual.

Each row is one kind of abuse, kept up for some seconds against a live service.
Counted are the usual client's answers, how many of them failed, and its worst
wait. Beside them the same without abuse. The rows are for docs/reliability.md.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from loopbook.project import contract, paths

SECONDS, PAUSE_S = 4.0, 0.01
PARALLEL = 4  # hostile clients at once
HOST = b"Host: localhost\r\n"
JSON = HOST + b"Content-Type: application/json\r\n"


class Row(NamedTuple):
    """One kind of abuse: how often it was tried, what the usual client lost, and its worst wait."""

    name: str
    tried: int
    lost: int
    worst_ms: float
    usual: int


@dataclass
class Counts:
    """What happens while an abuse goes on."""

    over: threading.Event = field(default_factory=threading.Event)
    tried: int = 0
    asked: int = 0
    lost: int = 0
    worst_s: float = 0.0


Abuse = Callable[[tuple[str, int], Counts], None]


def run() -> list[str]:
    lines = ["| abuse | tried | usual answers | lost | worst wait, ms |", "|---|---|---|---|---|"]
    with _service() as address:
        lines += [
            f"| {r.name} | {r.tried:,} | {r.usual:,} | {r.lost} | {r.worst_ms:,.0f} |"
            for r in rows(address)
        ]
    return lines


def rows(address: tuple[str, int], seconds: float = SECONDS) -> list[Row]:
    """A row for each kind of abuse of a service that has a champion."""
    table = contract.read_contract(paths.current().contract)
    example = {f.alias or n: f.example for n, f in table.features.items()}
    usual = _request(f"/predict?{urlencode(example)}")
    found = []
    for name, abuse in abuses(example).items():
        counts = Counts()
        clients = [threading.Thread(target=abuse, args=(address, counts)) for _ in range(PARALLEL)]
        for client in clients:
            client.start()
        _ask(address, usual, counts, seconds)
        counts.over.set()
        for client in clients:
            client.join()
        found.append(Row(name, counts.tried, counts.lost, counts.worst_s * 1e3, counts.asked))
    return found


def abuses(example: Mapping[str, Any]) -> dict[str, Abuse]:
    """What is tried, by name; `example` is a row that the service takes."""
    row = json.dumps(example).encode()
    names = "&".join(f"n{n}=1" for n in range(16_201))
    unknown = json.dumps({f"n{n}": 1 for n in range(150_000)}).encode()
    batch = b'{"rows": [' + b", ".join([row] * 1_000) + b"]}"
    twice = b'{"a": "\\":", ' + b", ".join(b'"b%d": 1' % n for n in range(1_999)) + b', "b1": 1}'
    truths = json.dumps({"truths": [{"key": {"a": 1.5}, "b": 1}] * 10_000}).encode()
    many = json.dumps({"truths": [{"prediction_id": "none", "observed": 1.0}] * 10_000}).encode()
    reasons = _request(f"/predict?{urlencode(dict(example) | {'explain': 'true'})}")
    return {
        "none": _nothing,
        "a query of 16,201 names": _repeated(_request(f"/predict?{names[:60_000]}")),
        "150,000 unknown names in a row": _repeated(_posted("/predict", unknown)),
        "a name twice, 2,000 names": _repeated(_posted("/predict", twice)),
        "lists in lists, 2 MB": _repeated(_posted("/predict", b"[" * 10**6)),
        "600,000 empty lists": _repeated(_posted("/predict", b"[" + b"[]," * 600_000 + b"1]")),
        "a number of 100,000 digits": _repeated(
            _posted("/predict", b'{"a": ' + b"1" * 10**5 + b"}")
        ),
        "10,000 wrong truths": _repeated(_posted("/feedback", truths)),
        "10,000 truths of nothing": _repeated(_posted("/feedback", many)),
        "batches of 1,000 rows": _repeated(_posted("/predict/batch", batch)),
        "explanations": _repeated(reasons),
        "the document": _repeated(_request("/openapi.json")),
        "wrong keys": _repeated(_request("/admin/reload", b"X-API-Key: lb_wrong\r\n", b"POST")),
        "a header of 60 MiB": _endless_head,
        "a body that is said to be 1 GB": _repeated(
            b"POST /predict HTTP/1.1\r\n" + JSON + b"Content-Length: 1000000000\r\n\r\n"
        ),
        "headers that trickle, 200 connections": _trickle(b"GET /predict HTTP/1.1\r\n", b"X"),
        "bodies that trickle, 200 connections": _trickle(
            b"POST /predict HTTP/1.1\r\n" + JSON + b"Content-Length: 1000\r\n\r\n", b" "
        ),
        "connections that say nothing, as many as it gets": _idle,
        "another server's page": _repeated(
            _request("/predict", b"Origin: http://evil.example\r\n")
        ),
        "no HTTP": _repeated(os.urandom(4_096)),
    }


def _request(path: str, more: bytes = b"", method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\n%s%s\r\n" % (method, path.encode(), HOST, more)


def _posted(path: str, body: bytes) -> bytes:
    head = b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (path.encode(), JSON, len(body))
    return head + body


def _ask(address: tuple[str, int], usual: bytes, counts: Counts, seconds: float) -> None:
    """Ask on one connection that stays, as a usual client does; a new one where it ended."""
    ends, line = time.perf_counter() + seconds, None
    while (started := time.perf_counter()) < ends:
        try:
            line = line or socket.create_connection(address, timeout=30)
            line.sendall(usual)
            is_answered = _answer(line).startswith(b"HTTP/1.1 200")
        except OSError:
            is_answered = False
        if not is_answered and line:
            line.close()
            line = None
        counts.asked += 1
        counts.lost += not is_answered
        counts.worst_s = max(counts.worst_s, time.perf_counter() - started)
        time.sleep(PAUSE_S)
    if line:
        line.close()


def _answer(line: socket.socket) -> bytes:
    """One answer, or what came of it."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        if not (part := line.recv(65_536)):
            return answer
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        (int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0
    )
    while len(body) < length and (part := line.recv(65_536)):
        body += part
    return head


def _nothing(_: tuple[str, int], counts: Counts) -> None:
    counts.over.wait()


def _repeated(request: bytes) -> Abuse:
    """The same request again and again, each on a connection of its own."""

    def abuse(address: tuple[str, int], counts: Counts) -> None:
        while not counts.over.is_set():
            with suppress(OSError), socket.create_connection(address, timeout=30) as line:
                with suppress(OSError):  # it may be refused before it was sent
                    line.sendall(request)
                _answer(line)
            counts.tried += 1

    return abuse


def _endless_head(address: tuple[str, int], counts: Counts) -> None:
    while not counts.over.is_set():
        with suppress(OSError), socket.create_connection(address, timeout=30) as line:
            line.sendall(b"GET /predict HTTP/1.1\r\n" + HOST + b"X: ")
            for _ in range(60):
                line.sendall(b"y" * 2**20)
        counts.tried += 1


def _trickle(begun: bytes, drop: bytes) -> Abuse:
    """Connections that are kept by a byte now and then; one that ends is opened again."""

    def abuse(address: tuple[str, int], counts: Counts) -> None:
        lines: list[socket.socket] = []
        while not counts.over.wait(0.05):
            while len(lines) < 200 // PARALLEL:
                with suppress(OSError):
                    lines.append(socket.create_connection(address, timeout=30))
                    lines[-1].sendall(begun)
                counts.tried += 1
            for line in list(lines):
                try:
                    line.sendall(drop)
                except OSError:
                    lines.remove(line)
                    line.close()
        for line in lines:
            line.close()

    return abuse


def _idle(address: tuple[str, int], counts: Counts) -> None:
    lines: list[socket.socket] = []
    while not counts.over.is_set():
        with suppress(OSError):
            lines.append(socket.create_connection(address, timeout=30))
        counts.tried += 1
        if len(lines) > 600:  # of what a process may open
            lines.pop(0).close()
    for line in lines:
        line.close()


@contextmanager
def _service() -> Iterator[tuple[str, int]]:
    """The service of this project, with its log lines thrown away."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, (paths.current().root, Path(__file__).parents[1])))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "--port", str(port)],
        cwd=paths.current().root,
        env=os.environ | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address, ends = ("127.0.0.1", port), time.monotonic() + 60
        while not _is_ready(address):
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit("abuse: the service did not start; see: python -m serving")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _is_ready(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=5) as line:
        line.sendall(_request("/health/ready"))
        return _answer(line).startswith(b"HTTP/1.1 200")
    return False
