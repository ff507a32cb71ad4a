"""Margins: from the shares of env.yaml to differences in the unit of a table's loss.

It decides what a margin is a share of: the baseline's mean loss, and for a bias
the baseline's mean absolute signed error, on the rows that a version was judged
on. So one default suits amounts, counts and probabilities. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loopbook.models.task import Task

LOSS, BIAS = "baseline_loss", "baseline_bias"  # as the registry's tags call them


@dataclass(frozen=True)
class Scale:
    """What margins are shares of, both in the unit of the errors.

    Attributes
    ----------
    loss : mean loss of the baseline
    bias : mean absolute signed error of the baseline, over all classes where there are some
    """

    loss: float
    bias: float

    def as_tags(self) -> dict[str, str]:
        """As the registry keeps it, all digits."""
        return {LOSS: repr(self.loss), BIAS: repr(self.bias)}


def scale(task: Task, observed: np.ndarray, answers: np.ndarray) -> Scale:
    """The scale of the baseline's answers to some rows."""
    errors = task.signed_errors(observed, answers).values()
    return Scale(
        float(task.losses(observed, answers).mean()),
        float(np.mean([np.abs(error).mean() for error in errors])),
    )


def from_tags(tags: Mapping[str, str]) -> Scale | None:
    """The scale that a version was registered with; None if an earlier loopbook did it."""
    try:
        return Scale(float(tags[LOSS]), float(tags[BIAS]))
    except (KeyError, ValueError):
        return None


def of_record(record: Mapping[str, float] | None) -> Scale:
    """The scale that a record holds; where it holds none there are no errors to hold against it."""
    return Scale(**record) if record else Scale(0.0, 0.0)


def of_constant(task: Task, learned: np.ndarray, judged: np.ndarray) -> Scale:
    """What stands in for a version without one: one answer to all, from the rows that it learned.

    Parameters
    ----------
    learned, judged : arrays of shape (n,)
        Observed targets; both have rows.
    """
    return scale(task, judged, task.constant(learned, len(judged)))
