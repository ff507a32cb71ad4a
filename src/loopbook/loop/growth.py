"""Growth: whether so many more rows are known that a model should learn again.

A calibrated model gets no worse while the world moves, so that no verdict asks
for a new one; but it stays as sharp as on the day on which it learned. The error
of a model falls with a power of its rows, of 0.07 to 0.35 over many fields
(Hestness et al., *Deep Learning Scaling is Predictable, Empirically*, 2017): half
as many rows again take 3 to 13 % of what can still be learned, more than what the
gate calls no difference. Whether they did is decided by the gate, as ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from loopbook.data import served_rows, sources
from loopbook.project.clock import utc_now
from loopbook.project.contract import Contract
from loopbook.project.paths import Project
from loopbook.records.turns import Attempt


@dataclass(frozen=True)
class Growth:
    """How many rows are known, and how many the last build began with."""

    known: int
    learned: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def reason(self, times: float) -> str | None:
        """Why this asks for a retraining; None where it does not, or `times` is 0."""
        if not times or self.known < times * self.learned:
            return None
        return (
            f"{self.known:,} rows are known, {self.known / self.learned:.1f} times the "
            f"{self.learned:,} of the last build"
        )


def since_last_build(
    project: Project,
    contract: Contract,
    of_champion: Mapping[str, str],
    attempts: Sequence[Attempt],
    as_of: datetime,
) -> Growth | None:
    """The growth since the champion was built, or since a later attempt.

    None if no build says how many rows it began with: a version that was
    registered from outside has none.

    Parameters
    ----------
    of_champion : mapping
        The tags of the run that made the champion (`cards.lineage`).

    Raises
    ------
    LoopbookError
        If the source or the log cannot be read.
    """
    began = [attempt.rows for attempt in attempts if attempt.rows]
    if rows := of_champion.get("snapshot_rows"):
        began.append(int(rows))
    return Growth(_known(project, contract, as_of), max(began)) if began else None


def _known(project: Project, contract: Contract, as_of: datetime) -> int:
    """Rows of the source and served ones as a build would find them, before any is set aside."""
    now = utc_now()
    rows_raw = sources.read(contract, project.root).rows
    collected = served_rows.collect(project, contract, as_of, now=now)
    served = served_rows.fitting(rows_raw, collected, contract, as_of)
    return sources.known_by(rows_raw, as_of, contract, now=now, served=served.rows)[0].height
