"""Number: a target that is a number, modelled as it is or as its log.

It decides what `task` promises, for numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from loopbook.models import measures
from loopbook.models.measures import Measure
from loopbook.project.contract import Contract

LARGEST = 1e100  # its square and the sum of many are numbers still
SPREAD = (0.05, 0.95)  # the quantiles between which a target's spread is measured


@dataclass(frozen=True)
class Number:
    """A target that is a number, modelled as it is or as its log."""

    contract: Contract
    loss: measures.Losses = field(init=False)
    measure: Measure = field(init=False)
    bias_measure: Measure = field(init=False)
    classes = None
    positive = None
    width = 1
    shape = ()  # of one answer
    answer_words = "one finite number"
    method, ending = "predict", "a regressor of one target"
    parity_words = "of the target's spread"

    def __post_init__(self):
        target = self.contract.target
        loss, measure = measures.of_numbers(target.error, target.unit or "")
        own = Measure("bias", "%", 100) if self.is_log else Measure("bias", target.unit or "")
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "measure", measure)
        object.__setattr__(self, "bias_measure", own)

    @property
    def is_log(self) -> bool:
        return self.contract.target.is_log

    @property
    def centre(self) -> str:
        """What the loss is least for: the `mean` of what may happen, or its `median`."""
        return "mean" if self.metric == "squared_error" else "median"

    @property
    def link(self) -> str:
        """From the target's unit to what a model predicts inside: `identity` or `log`."""
        return "log" if self.is_log else "identity"

    @property
    def metric(self) -> str:
        """The name of the loss's mean among `metrics`."""
        return self.contract.target.error

    @property
    def frame_type(self) -> pl.DataType:
        """What a frame's column of answers is."""
        return pl.Float64()

    @property
    def observed_type(self) -> pl.DataType:
        """What a frame's column of observed targets is."""
        return pl.Float64()

    def observed(self, column: pl.Series) -> np.ndarray:
        """A column of targets as the losses take it, float64 of shape (n,)."""
        return column.cast(pl.Float64).to_numpy()

    def inside(self, observed: np.ndarray) -> np.ndarray:
        """What an estimator is fitted on."""
        return np.log(observed) if self.is_log else observed

    def answers(self, model: Any, X: np.ndarray) -> np.ndarray:
        """What a fitted estimator answers, in the target's unit, shape (n,)."""
        raw = np.asarray(model.predict(X), np.float64)
        return np.exp(raw) if self.is_log else raw

    def column(self, answers: np.ndarray) -> pl.Series:
        """Answers as a column of a frame."""
        return pl.Series("answer", answers, dtype=pl.Float64)

    def of_column(self, column: pl.Series) -> np.ndarray:
        """A frame's column of answers as an array."""
        return column.cast(pl.Float64).to_numpy()

    def linked(self, answers: np.ndarray) -> np.ndarray:
        """Answers in the space of the link, where differences add up."""
        return np.log(answers) if self.is_log else answers

    def losses(self, observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """The loss of each row, shape (n,): what ranks, gates and monitors alike."""
        return self.loss(observed, answers)

    def signed_errors(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
        """By how much each answer is too large, in the link's space; its mean is the bias.

        One entry, named by the target; a task of several classes has one a class.
        """
        errors = self.linked(answers) - self.linked(observed)
        return {self.contract.target.name: errors}

    def outcomes(self, observed: np.ndarray, most: int = 6) -> dict[str, np.ndarray]:
        """What happened as numbers whose mean says something: the target itself.

        Named by what that mean is.
        """
        return {f"mean {self.contract.target.name}": observed}

    def least_spread(self, answers: np.ndarray) -> dict[str, float]:
        """The standard deviation that each signed error has though the answers are right."""
        return {self.contract.target.name: 0.0}

    def metrics(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """All metrics that are shown; see `scores.of_numbers`."""
        from loopbook.models import scores

        return scores.of_numbers(self, observed, answers)

    def spread(self, observed: np.ndarray) -> float:
        """How far the middle nine tenths of the target are apart, in the link's space.

        Of a target that is mostly one value (no rain on most days), how far all are.
        """
        inside = self.linked(observed[np.isfinite(observed)])
        low, high = np.quantile(inside, SPREAD)
        return float(high - low) or float(np.ptp(inside)) or 1.0

    def apart(self, answers: np.ndarray, others: np.ndarray, spread: float) -> np.ndarray:
        """How far two answers to each row are apart, shape (n,), as a share of the spread."""
        with np.errstate(divide="ignore", invalid="ignore"):
            difference = np.abs(self.linked(answers) - self.linked(others))
        return difference / max(spread, 1e-12)

    def constant(self, observed: np.ndarray, rows: int) -> np.ndarray:
        """One answer to so many rows: the median."""
        return np.full(rows, np.median(observed))

    def is_measurable(self, observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Which rows have a loss, shape (n,): neither number is missing or ends arithmetic."""
        sizes = np.abs(np.column_stack([observed, answers]))
        sound = ((sizes == 0) | ((sizes >= 1 / LARGEST) & (sizes <= LARGEST))).all(axis=1)
        if self.is_log:
            sound &= (observed > 0) & (answers > 0)
        return sound & ((observed != 0) | (self.metric != "absolute_percentage_error"))

    def decision(self, observed: np.ndarray, answers: np.ndarray) -> None:
        """A number has no threshold."""

    def cost(self, observed: np.ndarray, answers: np.ndarray, decision: Any = None) -> None:
        """A number has no costs."""

    def decided(self, answers: np.ndarray, decision: Mapping[str, Any] | None = None) -> list:
        """What is answered to each row: the number itself."""
        return answers.tolist()

    def groups(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Rows by their answer, in thirds of equal size: the name of the third of each row."""
        cuts = np.quantile(answers, [1 / 3, 2 / 3])
        low, high = (f"{c:,.0f}" if abs(c) >= 1000 else f"{c:,.3g}" for c in cuts)
        called = f"predicted {self.contract.target.name}"
        names = np.array(
            [f"{called} {t}" for t in (f"under {low}", f"{low} to {high}", f"from {high}")]
        )
        return {"answer": names[np.searchsorted(cuts, answers, side="right")]}

    def shown_columns(self, answers: np.ndarray, decision: Any = None) -> dict[str, pl.Series]:
        """What of the answers is compared between windows, by what people call it."""
        return {"answer": pl.Series(answers, dtype=pl.Float64)}

    def calibration(self, observed: np.ndarray, answers: np.ndarray, groups: int = 10):
        """Mean answer and mean outcome; see `scores.calibration`."""
        from loopbook.models import scores

        return scores.calibration(observed, answers, groups)
