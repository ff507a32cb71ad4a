"""Reigns: the ledger of champions, as the tags of the registered model hold it.

It decides how an entry reads, and who served at a moment. Who writes one, and
when, is `champions`'; here nothing of MLflow is imported.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from loopbook.project.clock import parse_instant

ENTRY = "champion_"


@dataclass(frozen=True)
class Reign:
    """One entry: from when on which version served.

    Attributes
    ----------
    at : when it was done, by the clock on the wall
    as_of : when it was done, by the clock of the data; the same tonight, and
        not in a replay of the past
    kind : gate, by hand, rollback, or outside loopbook
    """

    version: str
    at: str
    as_of: str
    kind: str
    by: str
    reason: str


def of_tags(tags: Mapping[str, str]) -> list[Reign]:
    """The ledger that the tags of a registered model hold, oldest entry first."""
    entries = sorted(key for key in tags if key.startswith(ENTRY))
    return [Reign(**json.loads(tags[key])) for key in entries]


def at(ledger: Sequence[Reign], moment: datetime) -> Reign | None:
    """Who served at a moment, by the clock of the data."""
    before = [reign for reign in ledger if parse_instant(reign.as_of) <= moment]
    return before[-1] if before else None


def done_by(ledger: Sequence[Reign], moment: datetime) -> Reign | None:
    """Who served at a moment, by the clock on the wall."""
    before = [reign for reign in ledger if parse_instant(reign.at) <= moment]
    return before[-1] if before else None
