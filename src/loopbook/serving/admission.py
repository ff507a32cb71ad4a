"""Admission: who asks, whether they may, and how often.

It decides by key and scope, and by the two rates: of requests a caller, and of
wrong keys a client, so that nobody can try keys out. A key is looked up in a
thread, since the store may be locked, and remembered for two seconds.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from loopbook.project.counts import counted
from loopbook.project.errors import KeyStoreError
from loopbook.serving.api_keys import KeyStore
from loopbook.serving.limits import CALLERS_KEPT, RateLimit, network_of
from loopbook.serving.metrics import Metrics
from loopbook.serving.outside import Outside, TooLate
from loopbook.serving.refusals import Refusal

OPEN = ("/health/", "/v2/health/")
ADMINS = ("/admin", "/metadata/why")  # on whatever address the service is
CACHED_S = 2.0
WRONG_BURST, WRONG_RATE = 10, 0.1  # ten at once, then one in ten seconds
NOBODY = "-"
Known = tuple[str, frozenset[str]]  # the id of a key, and its scopes


class Admission:
    """Who may ask what; one object a process."""

    def __init__(
        self,
        keys: Callable[[], KeyStore],
        metrics: Metrics,
        *,
        needs_keys: bool,
        requests_per_second: float,
    ):
        self.keys, self.metrics, self.needs_keys = keys, metrics, needs_keys
        self.rates = RateLimit(requests_per_second)
        self.wrong = RateLimit(WRONG_RATE, WRONG_BURST)
        self._known: dict[str, tuple[float, Known]] = {}
        self._store = Outside("API keys", threads=2, limit_s=3.0)

    async def caller(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str:
        """Who asks, if they may; health is open to all.

        Raises
        ------
        Refusal
            401, 403 or 429; 503 where keys cannot be looked up.
        """
        path = scope["path"]
        if path.startswith(OPEN):
            return NOBODY
        opening = _scopes_for(path)
        caller = client = client_of(scope)
        if self.needs_keys or "admin" in opening:
            secret = _secret(headers)
            if secret is None:
                raise Refusal(
                    401,
                    "no_key",
                    "this needs an API key, and none was given",
                    hint="send the header X-API-Key; make one: loopbook keys create NAME",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            caller, scopes = await self._holder(secret, network_of(client))
            if scopes.isdisjoint(opening):
                raise Refusal(
                    403,
                    "wrong_scope",
                    f"the API key may not do this; it needs the scope {opening[0]}",
                    hint=f"loopbook keys create NAME --scope {opening[0]}",
                )
        if not self.rates.allows(caller if caller != client else network_of(client), _now()):
            raise Refusal(
                429,
                "too_many_requests",
                f"more than {counted(self.rates.rate, 'request')} a second",
                hint="wait a second, or ask for many rows at once: POST /predict/batch",
                headers={"Retry-After": "1"},
            )
        return caller

    async def _holder(self, secret: str, client: str) -> Known:
        """The key's id and scopes. A key that was right lately is not held back by wrong ones."""
        now, known = _now(), self._known.get(secret)
        if known is not None and now - known[0] <= CACHED_S:
            return known[1]
        if known is None and not self.wrong.would_allow(client, now):
            raise Refusal(
                429,
                "too_many_wrong_keys",
                "too many wrong API keys came from this address",
                hint="wait, and check the key",
                headers={"Retry-After": f"{1 / WRONG_RATE:.0f}"},
            )
        holder = await self._looked_up(secret)
        self._known.pop(secret, None)
        if holder is None:
            self.wrong.allows(client, now)
            self.metrics.wrong_keys.inc()
            raise Refusal(401, "wrong_key", "the API key is unknown or was revoked")
        if len(self._known) >= CALLERS_KEPT:
            del self._known[next(iter(self._known))]
        self._known[secret] = (now, holder)
        return holder

    async def _looked_up(self, secret: str) -> Known | None:
        try:
            return await self._store.ask(lambda: self.keys().scopes(secret))
        except (KeyStoreError, TooLate) as error:
            raise Refusal(
                503,
                "keys_unavailable",
                "the API keys cannot be read",
                hint="ask again later",
            ).because(error) from None


def needs_admin(path: str) -> bool:
    """Whether only a key of the scope `admin` opens a path."""
    return path.startswith(ADMINS)


def client_of(scope: Mapping[str, Any]) -> str:
    """The address that a request came from; that before a proxy, if the proxy is named."""
    return scope["client"][0] if scope.get("client") else NOBODY


def _now() -> float:
    return time.monotonic()


def _scopes_for(path: str) -> tuple[str, ...]:
    """The scopes of which any opens a path, the narrowest first."""
    if needs_admin(path):
        return ("admin",)
    if path.startswith("/feedback"):
        return ("feedback",)
    return ("metrics", "predict") if path == "/metrics" else ("predict",)


def _secret(headers: Mapping[bytes, bytes]) -> str | None:
    given = headers.get(b"x-api-key")
    if given is not None:
        return given.decode("latin-1")
    given = headers.get(b"authorization", b"")
    return given[7:].strip().decode("latin-1") if given[:7].lower() == b"bearer " else None
