"""Row keys: a row's key as one text, another one for each other key.

It decides how the columns of a key are put together, and how a sensitive one
is hashed. The prediction log finds answers by this text, so that a key whose
parts need no escape has the text that it had before there was any.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopbook.data.salt import read_salt
from loopbook.data.single_values import text_of
from loopbook.project.contract import Contract

BETWEEN, ESCAPE = "|", "\\"
HASHED = "h1:"  # 24 hexadecimal digits follow; without it, a hash is an older, unsalted one


class RowKeys:
    """The keys of one contract's rows, as one project's log writes them."""

    def __init__(self, contract: Contract, folder: Path):
        self.names = tuple(contract.key)
        self.hidden = frozenset(n for n, f in contract.features.items() if f.sensitive != "no")
        self._salt = read_salt(folder) if self.hidden else b""

    def text(self, values: Mapping[str, Any]) -> str | None:
        """A row's key, or None where a part is missing."""
        return self._joined(values, self.hashed, escaped)

    def older(self, values: Mapping[str, Any]) -> str | None:
        """The key of a row that was logged before hashes had a salt; None where that is the same."""
        if self.hidden.isdisjoint(self.names):
            return None
        return self._joined(values, _unsalted, BETWEEN.join)

    def _joined(
        self,
        values: Mapping[str, Any],
        hashed: Callable[[Any], str],
        together: Callable[[Sequence[str]], str],
    ) -> str | None:
        parts = [values.get(name) for name in self.names]
        if any(part is None for part in parts):
            return None
        named = zip(self.names, parts, strict=True)
        return together([hashed(v) if n in self.hidden else text_of(v) for n, v in named])

    def hashed(self, value: Any) -> str:
        """What stands in the log for a sensitive value: the same for the same value and salt."""
        digest = hmac.new(self._salt, text_of(value).encode(), hashlib.sha256).hexdigest()
        return HASHED + digest[:24]


def escaped(parts: Sequence[str]) -> str:
    """Parts as one text from which they can be told; one part alone stands as it is."""
    if len(parts) == 1:
        return parts[0]
    return BETWEEN.join(_escaped(part) for part in parts)


def _escaped(part: str) -> str:
    return part.replace(ESCAPE, ESCAPE * 2).replace(BETWEEN, ESCAPE + BETWEEN)


def _unsalted(value: Any) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]
