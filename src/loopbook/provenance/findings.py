"""Findings: what of all that is kept is not as it was, in one form for every command.

It decides what a finding says: of which kind it is, where, what was found, what
was expected and what to do. It looks at nothing itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

MISSING, CHANGED, UNREPRODUCIBLE = "missing", "changed", "unreproducible"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was kept; `what` is one of the three words above."""

    what: str
    where: str
    found: str
    expected: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        return f"{self.where}: found {self.found}, expected {self.expected}. {self.remedy}."


def lines(findings: Sequence[Finding]) -> list[str]:
    """Findings for people, those that are missing first."""
    order = {MISSING: 0, CHANGED: 1, UNREPRODUCIBLE: 2}
    told = sorted(findings, key=lambda one: (order.get(one.what, 3), one.where))
    return [f"{one.what:<15} {one.sentence}" for one in told]
