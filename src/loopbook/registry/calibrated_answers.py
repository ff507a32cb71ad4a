"""Calibrated answers: rows as a version answers them, each moved by its calibration state.

It decides how service, batch and pages alike come from a state to an answer, so
that the same rows at the same instant are the same bits at every door. It never
chooses the state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopbook.models.calibration_states import State, interval, likely_classes
from loopbook.project.clock import to_micros
from loopbook.registry.servable import Servable


@dataclass(frozen=True)
class CalibratedAnswers:
    """Answers to some rows, and what they came from.

    Attributes
    ----------
    answers, raw : with the shift and without it, as `task` has them
    states : of each row, None where the version has none
    low, high : the ends of each answer's interval, shape (rows,); NaN where there is none
    """

    answers: np.ndarray
    raw: np.ndarray
    states: Sequence[State | None]
    low: np.ndarray
    high: np.ndarray

    def interval(self, place: int) -> list[float] | None:
        """The two ends of a row's interval."""
        low, high = float(self.low[place]), float(self.high[place])
        return [low, high] if math.isfinite(low) and math.isfinite(high) else None

    def sets(self, servable: Servable) -> list[list[str] | None]:
        """Of each row the classes that hold the truth; None where no state says."""
        return [
            prediction_set(servable, answer, state)
            for answer, state in zip(self.answers, self.states, strict=True)
        ]

    def logged(self, servable: Servable) -> list[dict[str, Any]]:
        """What the prediction log holds of each answer and its state, by the names of its `Entry`."""
        said, classes = servable.logged(self.answers), servable.task.classes
        for place, (held, state) in enumerate(zip(said, self.states, strict=True)):
            if state is None:
                continue
            raw = self.raw[place]
            held["raw"] = float(raw if classes is None else raw[classes.index(held["answered"])])
            held["raw_probabilities"] = None if classes is None else raw
            held["shift"], held["state_us"] = np.array(state.shift), to_micros(state.as_of)
            held["low"], held["high"] = self.interval(place) or (None, None)
            held["least"] = state.least
        return said


def fits(servable: Servable, state: State | None) -> bool:
    """Whether a version can answer by a state; a graph of an earlier loopbook cannot be moved."""
    if state is None or len(state.shift) != servable.task.width:
        return False
    return servable.can_move or not any(state.shift)


def answer(
    servable: Servable, matrix: np.ndarray, states: Sequence[State | None]
) -> CalibratedAnswers:
    """Answers to the rows of a matrix, each by its own state.

    Parameters
    ----------
    states : sequence of State or None
        One for each row. One that does not fit the version counts as none: the
        answer is raw then, and has no interval.
    """
    by_state: dict[int, tuple[State | None, list[int]]] = {}
    for place, state in enumerate(states):
        by_state.setdefault(id(state), (state, []))[1].append(place)
    if len(by_state) == 1:
        return _of_one_state(servable, matrix, next(iter(by_state.values()))[0])
    return _of_many(servable, matrix, [*by_state.values()])


def _of_one_state(servable: Servable, matrix: np.ndarray, state: State | None) -> CalibratedAnswers:
    state = state if fits(servable, state) else None
    shift = None if state is None else np.array(state.shift)
    answers, raw = servable.predict_both(matrix, shift)
    ends = interval(servable.task, answers, state)
    return CalibratedAnswers(answers, raw, [state] * len(matrix), *ends)


def _of_many(
    servable: Servable, matrix: np.ndarray, groups: Sequence[tuple[State | None, list[int]]]
) -> CalibratedAnswers:
    """One run of the graph, with a shift for each row."""
    states: list[State | None] = [None] * len(matrix)
    shifts = np.zeros((len(matrix), servable.task.width))
    for state, places in groups:
        if fits(servable, state):
            shifts[places] = state.shift
            for place in places:
                states[place] = state
    answers, raw = servable.predict_both(matrix, shifts)
    low, high = np.full(len(matrix), np.nan), np.full(len(matrix), np.nan)
    for state, places in groups:
        if fits(servable, state):
            low[places], high[places] = interval(servable.task, answers[places], state)
    return CalibratedAnswers(answers, raw, states, low, high)


def prediction_set(
    servable: Servable, probabilities: Sequence[float], state: State | None
) -> list[str] | None:
    """The classes that hold the truth at the contract's level; None where no state says."""
    (some,) = likely_classes(servable.task, np.array([probabilities]), state)
    return some
