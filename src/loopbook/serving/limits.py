"""Limits: how often a caller may ask.

It decides what a rate means (a bucket of tokens a caller) and how many callers
are remembered. Who a caller is, and what a refusal says, is the admission's.
"""

from ipaddress import IPv6Address, ip_address

CALLERS_KEPT = 10_000


class RateLimit:
    """A token bucket a caller: `rate` requests a second, bursts of `burst`.

    The caller who asked least recently is forgotten first, so that many callers
    cannot make the service forget one of them.
    """

    def __init__(self, rate: float, burst: float | None = None):
        self.rate, self.burst = rate, 2 * rate if burst is None else burst
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, caller: str, now: float) -> bool:
        """Take a token of a caller's, if one is left; without a rate, there always is."""
        if not self.rate:
            return True
        left = self._tokens(caller, now)
        self._left.pop(caller, None)
        if len(self._left) >= CALLERS_KEPT:
            del self._left[next(iter(self._left))]
        self._left[caller] = (max(left - 1, 0), now)
        return left >= 1

    def would_allow(self, caller: str, now: float) -> bool:
        """Whether a token is left; none is taken."""
        return not self.rate or self._tokens(caller, now) >= 1

    def _tokens(self, caller: str, now: float) -> float:
        left, since = self._left.get(caller, (self.burst, now))
        return min(self.burst, left + (now - since) * self.rate)


def network_of(client: str) -> str:
    """Whom to count: an IPv4 address, or the network of 64 bits that an IPv6 client has whole."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
    return client
