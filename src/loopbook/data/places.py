"""Places: where the rows of a source are, each under the name that its query gives it.

It decides what a place is called for people, and which key of the contract
puts it right. It opens nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loopbook.project.contract import Contract
from loopbook.project.counts import listed
from loopbook.project.source import Place, Source

THE_SOURCE = "source"  # what a query calls the rows of a source that is one place


@dataclass(frozen=True)
class NamedPlace:
    """A place of the contract's source.

    Attributes
    ----------
    name : what the contract calls it; None where the source is one place
    texts : columns of a database that are kept as text, whatever it has them as
    """

    name: str | None
    place: Place
    texts: frozenset[str] = frozenset()

    @property
    def table(self) -> str:
        """What the query calls it."""
        return self.name or THE_SOURCE

    @property
    def is_remote(self) -> bool:
        return self.place.path is None

    def key(self, name: str) -> str:
        """A key of this place, as it stands in the contract."""
        return ".".join(["source", *(["parts", self.name] if self.name else []), name])

    def folder(self, landing: Path) -> Path:
        """Where what comes from it is kept."""
        return landing / "parts" / self.name if self.name else landing

    def __str__(self) -> str:
        where = described(self.place)
        return f"source {self.name} ({where})" if self.name else f"source {where}"


def places_of(contract: Contract) -> list[NamedPlace]:
    """The places of a source, in the contract's order."""
    source = contract.source
    if source.parts:
        return [NamedPlace(name, part) for name, part in source.parts.items()]
    called = (contract.header_of[name] for name in (*contract.features, contract.target.name))
    texts = frozenset() if source.is_queried else frozenset(called)
    return [NamedPlace(None, source, texts)]


def landing_folder(root: Path) -> Path:
    return root / "var" / "landing"


def described(source: Place) -> str:
    """A place, or all of a source, for people, without user, password or query string."""
    if isinstance(source, Source) and source.parts:
        return listed(source.parts)
    if source.path is not None:
        return source.path
    place = source.url or source.database or ""
    address = urlsplit(place)
    if not address.scheme:
        return place  # a variable, not yet filled in
    return f"{address.scheme}://{address.netloc.rsplit('@', 1)[-1]}{address.path}"
