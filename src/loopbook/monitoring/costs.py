"""Costs: what a retraining costs, and what the errors that it takes away cost.

It decides what a growth of the error is worth in the unit that a person counts in (money,
minutes), and whether a retraining pays for itself in the time that it is given. It judges no
window and knows no file and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopbook.models.measures import amount
from loopbook.project.counts import counted

if TYPE_CHECKING:
    from loopbook.models.evaluation import Interval
    from loopbook.project.knobs import Knobs


@dataclass(frozen=True)
class Costs:
    """What a person said of costs; see env.yaml.

    Attributes
    ----------
    retraining : of one, whatever comes of it
    loss : of an error of 1, in the unit of the table's loss, of one request
    days : a retraining must pay for itself within so many
    decide : whether the verdict is held against them
    """

    retraining: float
    loss: float
    days: float
    decide: bool = False

    def saved(self, growth: float, requests: float) -> float:
        """What so much less error a request is worth over some requests."""
        return growth * requests * self.loss


def of_knobs(knobs: Knobs) -> Costs | None:
    """The costs of env.yaml; None where nobody said any."""
    return of(
        knobs.costs_retraining, knobs.costs_loss, days=knobs.costs_days, decide=knobs.costs_decide
    )


def of(retraining: float, loss: float, *, days: float, decide: bool) -> Costs | None:
    """Costs, or None where a retraining or an error costs nothing: then there is nothing to weigh."""
    return Costs(retraining, loss, days, decide) if retraining and loss else None


@dataclass(frozen=True)
class Weighed:
    """What a retraining would save within `costs.days`, if it took the growth of the error away.

    `low` and `high` are the ends of the growth's interval.
    """

    costs: Costs
    saved: float
    low: float
    high: float

    @property
    def pays(self) -> bool:
        """Beyond doubt."""
        return self.low > self.costs.retraining

    @property
    def sentence(self) -> str:
        return (
            f"a retraining costs {amount(self.costs.retraining)} and would save about "
            f"{amount(self.saved)} ({amount(self.low)} to {amount(self.high)}) in "
            f"{counted(self.costs.days, 'day')}, if it took the growth of the error away"
        )


def weighed(costs: Costs, growth: Interval, requests_a_day: float) -> Weighed:
    """A growth of the error, held against what a retraining costs."""
    ends = (growth.mean, growth.low, growth.high)
    return Weighed(costs, *(costs.saved(end, requests_a_day * costs.days) for end in ends))
