"""Reasons: why a version comes out another one, or cannot be built again.

It decides the kinds that a program can tell apart, and how an environment of
now is held against that of then.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loopbook.provenance.findings import CHANGED, Finding
from loopbook.registry import environments
from loopbook.registry.environments import Environment

CODE, DIRTY, DATA, LIBRARY = "code missing", "code dirty", "data missing", "library"
LOCK, PYTHON, PROCESSOR, BUILD = "lock", "python", "processor", "build failed"
SHOWN = 3


@dataclass(frozen=True)
class Reason:
    """Why a version may come out another one, or cannot be built again; `kind` is for programs."""

    kind: str
    finding: Finding

    def as_json(self) -> dict[str, str]:
        return {"reason": self.kind, **self.finding.as_json()}

    @property
    def sentence(self) -> str:
        return f"{self.kind}: {self.finding.sentence}"


def of_environment(label: str, then: Environment, now: Environment) -> list[Reason]:
    """How the environment of now differs from that of then."""
    number = label.rpartition("v")[2]
    remedies = {
        LOCK: f"Build its environment anew: loopbook reproduce {number} --env",
        PYTHON: f"Use Python {then.python}",
        PROCESSOR: "Build on a machine of that kind",
    }
    found, reasons = environments.differences(then, now), []
    for kind, remedy in remedies.items():
        of_kind = [one for one in found if one.what == kind]
        if of_kind:
            sides = [[one.now for one in of_kind], [one.then for one in of_kind]]
            finding = Finding(CHANGED, f"{label}, {kind}", *map(shown, sides), remedy)
            reasons.append(Reason(kind, finding))
    return reasons


def shown(names: Sequence[str]) -> str:
    """The first names of a list, the rest counted."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
