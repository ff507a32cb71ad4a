"""The guard: what stands between the network and every route.

Plain ASGI, since a layer of the framework would cost more than the answer: a
request id, the size and time limits, one shape for every error, one structured
log line a request, and the counts. `origins` says what was meant for this
service at all, `admission` who may ask. A log line never holds a row, a key or
a query string.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from loopbook.project.knobs import Knobs
from loopbook.serving import log_lines
from loopbook.serving.admission import NOBODY, Admission, client_of
from loopbook.serving.metrics import Metrics
from loopbook.serving.origins import Origins
from loopbook.serving.refusals import Refusal

REDIRECTS = range(300, 400)
# Asked every few seconds by what watches the service, for as long as it runs; only a
# bad answer is told.
POLLED = ("/health/live", "/health/ready", "/metrics")


class Guard:
    """ASGI middleware around the application."""

    def __init__(
        self,
        app: Callable,
        *,
        metrics: Metrics,
        knobs: Knobs,
        origins: Origins,
        admission: Admission,
        quiet: bool = False,
    ):
        self.app, self.metrics, self.knobs = app, metrics, knobs
        self.origins, self.admission, self.quiet = origins, admission, quiet

    async def __call__(self, scope: Mapping[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self._beside_requests(scope, receive, send)
            return
        started, request_id = time.perf_counter(), uuid.uuid4().hex
        scope["state"]["request_id"], scope["state"]["started"] = request_id, started
        reply = {"status": 500, "begun": False}

        async def tell(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply["status"], reply["begun"] = message["status"], True
                if message["status"] in REDIRECTS:
                    message["headers"] = _without_host(message["headers"], headers.get(b"host"))
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        caller, headers = NOBODY, dict(scope["headers"])
        try:
            self.origins.check(scope, headers)
            async with asyncio.timeout(self.knobs.serve_timeout_s):
                caller = await self.admission.caller(scope, headers)
                await self.app(scope, self._limited(headers, receive), tell)
        except Refusal as refusal:
            await self._refuse(refusal, scope, tell, reply)
        except TimeoutError:
            slow = Refusal(504, "timeout", f"took longer than {self.knobs.serve_timeout_s:g} s")
            await self._refuse(slow, scope, tell, reply)
        except Exception as error:
            # the application has answered already, see `app._broken`
            self._log(
                "error",
                request_id=request_id,
                error=type(error).__name__,
                where=log_lines.where(error),
            )
        if refused := scope["state"].get("refused"):
            self.metrics.errors.labels(code=refused).inc()
        self._count(scope, reply["status"], started, request_id, caller)

    async def _beside_requests(
        self, scope: Mapping[str, Any], receive: Callable, send: Callable
    ) -> None:
        """Start and end the application; a WebSocket is refused, since nothing here watches it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def in_a_sentence(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed":  # the framework gives its traceback
                message = message | {"message": message["message"].strip().splitlines()[-1]}
            await send(message)

        await self.app(scope, receive, in_a_sentence)

    async def _refuse(
        self, refusal: Refusal, scope: Mapping[str, Any], tell: Callable, reply: dict[str, Any]
    ) -> None:
        self.metrics.errors.labels(code=refusal.code).inc()
        scope["state"]["cause"] = refusal.cause
        if reply["begun"]:
            return
        body = refusal.body(scope["state"]["request_id"])
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [(k.encode(), v.encode()) for k, v in refusal.headers.items()]
        await tell({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await tell({"type": "http.response.body", "body": body})

    def _limited(self, headers: Mapping[bytes, bytes], receive: Callable) -> Callable:
        """The body, up to the largest size; a body that says it is longer is refused unread."""
        largest = self.knobs.serve_body_bytes
        too_large = Refusal(
            413,
            "body_too_large",
            f"the body has more than {largest:,} bytes",
            hint="send fewer rows at a time, or use loopbook score",
        )
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and (len(said) > 18 or int(said) > largest):
            raise too_large
        seen = 0

        async def limited() -> dict[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > largest:
                raise too_large
            return message

        return limited

    def _count(
        self, scope: Mapping[str, Any], status: int, started: float, request_id: str, caller: str
    ) -> None:
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.requests.labels(route, scope["method"], status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if route in POLLED and status == 200:
            return
        self._log(
            "request",
            request_id=request_id,
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1e3, 3),
            caller=caller,
            client=client_of(scope),
            **({"cause": cause} if (cause := scope["state"].get("cause")) else {}),
        )

    def _log(self, event: str, **about: Any) -> None:
        if not self.quiet or event == "error":
            log_lines.write(event, **about)


def _without_host(
    headers: list[tuple[bytes, bytes]], host: bytes | None
) -> list[tuple[bytes, bytes]]:
    """A redirect's headers; whom a caller took this server for is not repeated in its target."""
    return [(n, _path_of(v, host) if n.lower() == b"location" else v) for n, v in headers]


def _path_of(target: bytes, host: bytes | None) -> bytes:
    parts = urlsplit(target)
    is_here = parts.netloc == host and parts.path
    return parts._replace(scheme=b"", netloc=b"").geturl() if is_here else target
