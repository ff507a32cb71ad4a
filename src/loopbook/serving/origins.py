"""Origins: by which names the service may be called, and from whose pages.

A page that somebody opens in a browser can send requests to any address that
the browser reaches, also to a service on loopback that wants no key, and under
a name of the page's own that leads there (DNS rebinding). It decides which
names and pages are ours, by Host, Origin and Sec-Fetch-Site. Clients that are
no browsers send the first alone.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loopbook.project.errors import KnobError
from loopbook.serving.refusals import Refusal

HOSTS, PAGES, PROXIES = "LOOPBOOK_HOSTS", "LOOPBOOK_ORIGINS", "LOOPBOOK_PROXIES"
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
AUTHORITY = re.compile(rf"(\[[0-9a-f:.]+\]|{NAME.pattern})\.?(:[0-9]{{1,5}})?")
LOCAL = ("localhost", "testserver")  # the second is FastAPI's TestClient: no name server knows it
KEPT = 100
ALONE = (b"same-origin", b"none")  # the browser asks for this service itself


@dataclass
class Origins:
    """What is ours.

    Parameters
    ----------
    names : frozenset of str
        Names and addresses by which the service is called, beside loopback's.
    any_address : bool
        Whether each address is: where the service listens on all of them. Only
        a name can be made to lead elsewhere.
    pages : frozenset of str
        Origins of pages that may ask, such as `https://app.example`.
    """

    names: frozenset[str] = frozenset()
    any_address: bool = False
    pages: frozenset[str] = frozenset()
    _ours: set[bytes] = field(default_factory=set)

    def check(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
        """Refuse (400, 403 or 421) what was meant for another server, or sent by another's page."""
        host = headers.get(b"host")
        if host not in self._ours:
            self._check_host(scope, host)
        origin = headers.get(b"origin")
        if origin is not None:
            if not self._is_ours(origin, host or b""):
                raise _foreign()
        elif headers.get(b"sec-fetch-site", b"none") not in ALONE and not _is_opened(
            scope, headers
        ):
            raise _foreign()

    def _check_host(self, scope: Mapping[str, Any], host: bytes | None) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or (host is None and scope.get("http_version") != "1.0"):
            raise Refusal(400, "no_host", "expected the header Host, once")
        if host is None:
            return
        match = AUTHORITY.fullmatch(host.decode("latin-1").lower())
        if match is None or not self._is_named(match[1]):
            raise Refusal(
                421,
                "wrong_host",
                "the header Host names another server",
                hint=f"call the service by its address; other names of it go into {HOSTS}",
            )
        if len(self._ours) < KEPT:
            self._ours.add(host)

    def _is_named(self, name: str) -> bool:
        if name in LOCAL or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return self.any_address or address.is_loopback or str(address) in self.names

    def _is_ours(self, origin: bytes, host: bytes) -> bool:
        """Whether a page is the service's own (`http://…` or `https://…` and its Host), or named."""
        text = origin.decode("latin-1").lower()
        scheme, _, authority = text.partition("://")
        asked = host.decode("latin-1").lower()
        own = {asked, asked.removesuffix(":80" if scheme == "http" else ":443")}
        return (scheme in ("http", "https") and authority in own) or text in self.pages


def _foreign() -> Refusal:
    return Refusal(
        403,
        "foreign_page",
        "a page of another server sent this",
        hint=f"ask without a browser, or put the page's origin into {PAGES}",
    )


def _is_opened(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """Whether somebody followed a link to a page, which is then before their eyes."""
    is_page = headers.get(b"sec-fetch-dest") == b"document"
    return is_page and scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"


def origins(bound_to: str) -> Origins:
    """What is ours where the service listens on an address, by what the environment names.

    Raises
    ------
    KnobError
        If a variable holds something else than names, or origins.
    """
    names = frozenset(_listed(HOSTS, NAME, "names such as models.example, without port"))
    page = re.compile(rf"https?://{AUTHORITY.pattern}")
    pages = frozenset(_listed(PAGES, page, "origins such as https://app.example"))
    try:
        is_every = ipaddress.ip_address(bound_to).is_unspecified
    except ValueError:
        is_every = False
    return Origins(names | {bound_to.lower()}, is_every, pages)


def proxies() -> list[str]:
    """The proxies whose X-Forwarded-For counts: addresses or networks that the environment names.

    Raises
    ------
    KnobError
        If one is neither.
    """
    named = _split(PROXIES)
    for text in named:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise KnobError(
                f"{PROXIES}: found {text!r}, expected addresses or networks such as 10.0.0.0/8."
            ) from None
    return named


def _listed(variable: str, form: re.Pattern[str], expected: str) -> list[str]:
    named = [text.lower().rstrip("/") for text in _split(variable)]
    for text in named:
        if not form.fullmatch(text):
            raise KnobError(f"{variable}: found {text!r}, expected {expected}.")
    return named


def _split(variable: str) -> list[str]:
    return os.environ.get(variable, "").replace(",", " ").split()
