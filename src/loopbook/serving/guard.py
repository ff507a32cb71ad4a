"""The guard: what stands between the network and every route.

Plain ASGI, since a layer of the framework would cost more than the answer: a
request id, the size and time limits, keys and their scopes, the rate limit,
one shape for every error, one structured log line a request, and the counts.
A log line never holds a row, a key or a query string.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from loopbook.project.knobs import Knobs
from loopbook.serving.api_keys import KeyStore
from loopbook.serving.metrics import Metrics
from loopbook.serving.refusals import Refusal

OPEN = ("/health/", "/v2/health/")
CACHED_S = 2.0
BUCKETS_KEPT = 10_000


class RateLimit:
    """A token bucket a caller: `rate` requests a second, bursts of twice that."""

    def __init__(self, rate: float):
        self.rate = rate
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, caller: str, now: float) -> bool:
        if not self.rate:
            return True
        left, since = self._left.get(caller, (2 * self.rate, now))
        left = min(2 * self.rate, left + (now - since) * self.rate)
        if len(self._left) > BUCKETS_KEPT:
            self._left.clear()
        self._left[caller] = (max(left - 1, 0), now)
        return left >= 1


class Guard:
    """ASGI middleware around the application."""

    def __init__(
        self,
        app: Callable,
        *,
        metrics: Metrics,
        knobs: Knobs,
        keys: Callable[[], KeyStore],
        needs_keys: bool,
        quiet: bool = False,
    ):
        self.app, self.metrics, self.knobs = app, metrics, knobs
        self.keys, self.needs_keys, self.quiet = keys, needs_keys, quiet
        self.rates = RateLimit(knobs.serve_requests_per_second)
        self._known: dict[str, tuple[float, tuple[str, frozenset[str]] | None]] = {}

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
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        caller = "-"
        try:
            caller = self._let_in(scope)
            body = self._limited(scope, receive)
            async with asyncio.timeout(self.knobs.serve_timeout_s):
                await self.app(scope, body, tell)
        except Refusal as refusal:
            await self._refuse(refusal, request_id, tell, reply)
        except TimeoutError:
            slow = Refusal(504, "timeout", f"took longer than {self.knobs.serve_timeout_s:g} s")
            await self._refuse(slow, request_id, tell, reply)
        except Exception as error:
            # the application has answered already, see `app._broken`
            self._log(
                "error", request_id=request_id, error=type(error).__name__, where=_where(error)
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

    async def _refuse(self, refusal: Refusal, request_id: str, tell: Callable, reply: dict) -> None:
        self.metrics.errors.labels(code=refusal.code).inc()
        if reply["begun"]:
            return
        body = refusal.body(request_id)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [(k.encode(), v.encode()) for k, v in refusal.headers.items()]
        await tell({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await tell({"type": "http.response.body", "body": body})

    def _let_in(self, scope: Mapping[str, Any]) -> str:
        """Who asks, if they may; health is open to all."""
        path = scope["path"]
        if path.startswith(OPEN):
            return "-"
        scope_needed = _scope_of(path)
        caller = scope["client"][0] if scope.get("client") else "-"
        if self.needs_keys or scope_needed == "admin":
            secret = _secret(scope["headers"])
            if secret is None:
                raise Refusal(
                    401,
                    "no_key",
                    "this needs an API key, and none was given",
                    hint="send the header X-API-Key; make one: loopbook keys create NAME",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            known = self._scopes(secret)
            if known is None:
                raise Refusal(401, "wrong_key", "the API key is unknown or was revoked")
            caller, scopes = known
            if scope_needed not in scopes:
                raise Refusal(
                    403,
                    "wrong_scope",
                    f"the API key may not do this; it needs the scope {scope_needed}",
                    hint=f"loopbook keys create NAME --scope {scope_needed}",
                )
        if not self.rates.allows(caller, time.monotonic()):
            raise Refusal(
                429,
                "too_many_requests",
                f"more than {self.knobs.serve_requests_per_second:g} requests a second",
                hint="wait a second, or ask for many rows at once: POST /predict/batch",
                headers={"Retry-After": "1"},
            )
        return caller

    def _scopes(self, secret: str) -> tuple[str, frozenset[str]] | None:
        """What a key may do, remembered for two seconds."""
        now = time.monotonic()
        known = self._known.get(secret)
        if known is None or now - known[0] > CACHED_S:
            if len(self._known) > BUCKETS_KEPT:
                self._known.clear()
            known = self._known[secret] = (now, self.keys().scopes(secret))
        return known[1]

    def _limited(self, scope: Mapping[str, Any], receive: Callable) -> Callable:
        """The body, up to the largest size; a body that says it is longer is refused unread."""
        largest = self.knobs.serve_body_bytes
        too_large = Refusal(
            413,
            "body_too_large",
            f"the body has more than {largest:,} bytes",
            hint="send fewer rows at a time, or use loopbook score",
        )
        said = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if said.isdigit() and int(said) > largest:
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
        self._log(
            "request",
            request_id=request_id,
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1e3, 3),
            caller=caller,
        )

    def _log(self, event: str, **about: Any) -> None:
        if not self.quiet or event == "error":
            line = orjson.dumps({"ts": time.time(), "event": event, **about})
            sys.stderr.write(line.decode() + "\n")


def _scope_of(path: str) -> str:
    if path.startswith("/admin"):
        return "admin"
    return "feedback" if path.startswith("/feedback") else "predict"


def _secret(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1")
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
    return None


def _where(error: BaseException) -> str:
    """The place of an error, and nothing of its values."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
