"""Calibration: the states of a version that answers, in this process.

It decides when they are read: with the version, and at each look at the
registry. What answers takes all states at once, so that a change of them is
between two answers and never within one.
"""

from typing import Any

from loopbook.models.calibration_states import State
from loopbook.registry.calibrated_answers import fits
from loopbook.registry.servable import Servable
from loopbook.registry.state_store import States, StateStore
from loopbook.serving import log_lines


class Calibration:
    """The states of one version; `states` is replaced as a whole. Without a store there are none."""

    def __init__(self, store: StateStore | None, servable: Servable):
        self.store, self.servable = store, servable
        self.states = States()
        self._told: str | None = None

    def refresh(self) -> None:
        """Read what was made since.

        Raises
        ------
        PredictionLogError
            If the store cannot be read. What was read before stays.
        """
        before, version = self.states, self.servable.version
        if self.store:
            self.states = self.store.states(version.name, version.number, before)
        if len(self.states.every) < len(before.every):
            lost = len(before.every) - len(self.states.every)
            log_lines.write("calibration states lost", version=version.number, states=lost)
        if self.reason != self._told:
            self._told = self.reason
            log_lines.write("calibration", version=version.number, reason=self.reason)

    @property
    def newest(self) -> State | None:
        """The state by which a row of now is answered."""
        newest = self.states.newest
        return newest if fits(self.servable, newest) else None

    @property
    def reason(self) -> str:
        """Why answers are moved, or are not, in a sentence."""
        newest = self.states.newest
        if self.store is None:
            return "calibration is false in env.yaml: answers are raw, without an interval"
        if newest is None:
            return (
                "no state was made for this version yet: its answers are raw, without an interval"
            )
        if self.newest is None:
            return (
                "the graph of this version takes no shift (it was made by an earlier loopbook): "
                "its answers are raw, without an interval"
            )
        return newest.reason

    def about(self) -> dict[str, Any]:
        """How it stands, for people."""
        newest = self.newest
        return {
            "as_of": newest and newest.as_of.isoformat(),
            "shift": newest and named(self.servable, newest.shift),
            "truths": newest and newest.truths,
            "at_bound": bool(newest and newest.at_bound),
            "stands_still": bool(newest and newest.stands_still),
            "reason": self.reason,
            "states": len(self.states.every),
        }


def named(servable: Servable, numbers: Any) -> float | dict[str, float]:
    """A number of the link's space, or one for each class by its name."""
    classes = servable.task.classes
    if classes is None:
        return float(numbers[0])
    return {name: float(number) for name, number in zip(classes, numbers, strict=True)}
