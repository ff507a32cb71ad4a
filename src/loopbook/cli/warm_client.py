"""Warm client: a build that is given to the project's warm process, if there is one.

It decides when a build runs elsewhere: only in a process of the same Python, the
same library and the same settings that is not older than any of them. Otherwise
it runs here, as always. It imports the standard library only, since the whole
point is not to wait for imports.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopbook.pipeline import settings
from loopbook.project.paths import find_root
from loopbook.project.terminal import say

FILE = "warm.sock"  # below var/
COLD = "LOOPBOOK_COLD"  # set: a build runs where it was typed
KILLED = 137


def hand_over(words: Sequence[str]) -> int | None:
    """Let the warm process run a command; its exit code, or None if it has to run here."""
    root = find_root()
    address = root / "var" / FILE if root else None
    if address is None or COLD in os.environ or not address.is_socket():
        return None
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(short(address))
            socket.send_fds(line, [b"f"], [0, 1, 2])
            send(line, _request(words))
            pid = (receive(line) or {}).get("pid")
        except OSError:
            return None
        return None if pid is None else _wait(line, pid)


def _request(words: Sequence[str]) -> dict[str, Any]:
    return {
        "words": list(words),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "made_for": made_for(),
    }


def made_for() -> list[str]:
    """What a warm process and a build must have in common."""
    return [sys.executable, str(Path(__file__).resolve()), settings.digest(os.environ)]


def _wait(line: socket.socket, pid: int) -> int:
    with _signals_go_to(pid):
        answer = receive(line)
    if answer is None:
        say("", "The build was killed. Type the same command again.", stream=sys.stderr)
        return KILLED
    return answer["status"]


@contextmanager
def _signals_go_to(pid: int) -> Iterator[None]:
    """Let Ctrl-C and a polite end reach the process that does the work."""

    def pass_on(number: int, _frame: object) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    both = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, pass_on) for number in both}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def short(address: Path) -> str:
    """An address that fits: of a socket's, a system takes some hundred characters."""
    return min(str(address), os.path.relpath(address), key=len)


def send(line: socket.socket, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    line.sendall(len(content).to_bytes(4, "big") + content)


def receive(line: socket.socket) -> dict[str, Any] | None:
    """The next message; None if the other side is gone."""
    size = _exactly(line, 4)
    content = _exactly(line, int.from_bytes(size, "big")) if size else b""
    return json.loads(content) if content else None


def _exactly(line: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        try:
            more = line.recv(size - len(content))
        except ConnectionResetError:
            more = b""
        if not more:
            return b""
        content += more
    return content
