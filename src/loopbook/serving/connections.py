"""Connections: what one may hold, and for how long, before its request is whole.

It decides how long a head may be and may take, how many connections there may
be, and which gives way to a new one. uvicorn bounds none of these: a header of
60 MiB was taken in, and a client that sends a byte now and then kept its
connection for ever. The guard bounds what comes after the head.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from loopbook.serving.refusals import Refusal

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

FILES_BESIDE = 128  # for databases, graphs and the log
EVICTED_SHARE = 0.05  # at once, so that a flood does not look through all for each newcomer
BROKEN = Refusal(400, "broken_request", "this is no HTTP request", hint="see /docs")
LARGE_HEAD = Refusal(
    431,
    "head_too_large",
    "the request line and the headers are too long",
    hint="send the row as JSON: POST /predict",
)
SLOW_HEAD = Refusal(408, "too_slow", "the headers did not come in time", hint="ask again")
FULL = Refusal(503, "too_many_connections", "every connection is in use", hint="ask again later")


@dataclass(frozen=True)
class Limits:
    """What connections may hold: bytes as they are on the wire, and seconds."""

    connections: int
    message_bytes: int
    head_bytes: int = 65_536
    head_s: float = 10.0
    stalled_s: float = 30.0


def limits(body_bytes: int, wanted: int = 1_000) -> Limits:
    """The limits of a process: fewer connections where it may open few files.

    A body in chunks of one byte is eight times as long on the wire.
    """
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        enough = wanted + FILES_BESIDE
        if soft != resource.RLIM_INFINITY and soft < enough:
            soft = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            wanted = max(soft - FILES_BESIDE, 16)
    return Limits(connections=wanted, message_bytes=8 * body_bytes + 65_536)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with limits."""

    def __init__(self, *given: Any, limits: Limits, **named: Any):
        super().__init__(*given, **named)
        self.limits = limits
        self.active_at = self.loop.time()
        self._in_head, self._received, self._is_large = False, 0, False
        self._refusal = BROKEN
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn: for a request, or for the rest of one."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._make_room()
        self._expect_head()

    def _make_room(self) -> None:
        """End the connections whose clients were idle longest; without one, the new one."""
        waiting = [c for c in self.connections if c is not self and c.waits]
        if not waiting:
            self._refusal = FULL
            self.send_400_response("")
            return
        waiting.sort(key=lambda connection: connection.active_at)
        for idle in waiting[: max(1, int(len(waiting) * EVICTED_SHARE))]:
            self.connections.discard(idle)
            idle.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._is_large = len(data) > self.limits.head_bytes
        largest = self.limits.head_bytes if self._in_head else self.limits.message_bytes
        if self._received > largest:
            self._refusal = LARGE_HEAD
            self.send_400_response("")
            return
        super().data_received(data)
        if self._in_head or self.cycle is None or self.cycle.response_complete:
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._received = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._is_large:
            length = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if length > self.limits.head_bytes:
                self._refusal = LARGE_HEAD
                raise ValueError("the parser passes this on, and the connection ends")
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self.active_at = self.loop.time()
        super().on_response_complete()

    def _expect_head(self) -> None:
        """From now on there is a time for a head; what trickles in does not lengthen it."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_s, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.waits:  # an earlier request of this connection is being answered
            self._expect_head()
        elif self._in_head:
            self._refusal = SLOW_HEAD
            self.send_400_response("")
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        """End the connection with a refusal in the one shape of errors, whatever uvicorn says."""
        refusal = self._refusal
        body = refusal.body()
        head = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        status = STATUS_LINE[refusal.status]
        self.transport.write(b"".join([status, head, b"connection: close\r\n\r\n", body]))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a request to upgrade is answered as any other."""
