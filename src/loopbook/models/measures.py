"""Measures: the one loss a row that models are compared by, and how people see it.

It decides what each metric of a contract is, in which unit it is shown and how
a value and a difference are written. It knows arrays and words; it never fits
and never decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Losses = Callable[[np.ndarray, np.ndarray], np.ndarray]
PARITY_TOLERANCE = 1e-4  # how far the answers of a graph may be from those of its model
MOST_DECIMALS = 12  # of a number without an exponent
LEAST_PROBABILITY = 1e-7  # what a float32 holds beside 1, so that a loss is finite


def absolute_log_error(observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """|log answer - log observed|; both are above 0."""
    return np.abs(np.log(answers) - np.log(observed))


def absolute_error(observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return np.abs(answers - observed)


def absolute_percentage_error(observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """|answer - observed| as a share of |observed|, which is 0 nowhere."""
    return np.abs(answers - observed) / np.abs(observed)


def squared_error(observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return (answers - observed) ** 2


def log_loss(observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Minus the log of the probability of what happened, in nats.

    Parameters
    ----------
    observed : array of shape (n,)
        The place of each row's class.
    answers : array of shape (n, K)
        Probabilities; one of 0 counts as 1e-7.
    """
    said = answers[np.arange(len(answers)), observed.astype(np.intp)]
    return -np.log(np.clip(said, LEAST_PROBABILITY, 1.0))


@dataclass(frozen=True)
class Measure:
    """A quantity as people see it.

    Attributes
    ----------
    title : what it is called, for a sentence and an axis
    unit : what is written behind a value; empty for a pure number
    scale : what a value is multiplied by before it is shown
    points : what is written behind a difference, where that is another word
    """

    title: str
    unit: str = ""
    scale: float = 1.0
    points: str | None = None

    @property
    def axis(self) -> str:
        """What an axis of these values is called."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def change_axis(self) -> str:
        """What an axis of differences of these values is called."""
        unit = self.change_unit
        return f"change of the {self.title} ({unit})" if unit else f"change of the {self.title}"

    @property
    def change_unit(self) -> str:
        """What a difference of these values is told in; empty for a pure number."""
        return self.points or self.unit

    def shown(self, value):
        """A value, or an array of them, as it stands on an axis."""
        return value * self.scale

    def said(self, value: float) -> str:
        """A value with its unit, three significant digits."""
        return _with(amount(self.shown(value)), self.unit)

    def said_change(self, value: float) -> str:
        """A difference with its sign and unit."""
        return _with(amount(self.shown(value), signed=True), self.change_unit)


def _with(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit else number


def amount(value: float, *, signed: bool = False) -> str:
    """Three significant digits, all of them before the point where there are more.

    A sum of a thousand and more has its thousands told apart; what is no number is said so.
    Only what is below 1e-10 has an exponent.
    """
    if not np.isfinite(value):
        return "not known" if np.isnan(value) else f"{'-' if value < 0 else ''}infinity"
    sign = "+" if signed else ""
    size = abs(value)
    if size >= 100:
        return f"{value:{sign},.0f}"
    if size == 0:
        return "0"  # of none at all there is no sign
    digits = max(0, 2 - int(np.floor(np.log10(size))))
    if digits > MOST_DECIMALS:
        return f"{value:{sign}.1e}"
    return f"{value:{sign}.{digits}f}"


def decimal(value: float, digits: int = 6) -> str:
    """A number in significant digits, never with an exponent; four have no comma (a year)."""
    if not np.isfinite(value):
        return amount(value)
    size = abs(value)
    before = int(np.floor(np.log10(size))) + 1 if size else 1
    told = f"{value:,.{min(max(0, digits - before), MOST_DECIMALS)}f}"
    told = told.rstrip("0").rstrip(".") if "." in told else told
    return told if size >= 10_000 else told.replace(",", "")


def of_numbers(metric: str, unit: str) -> tuple[Losses, Measure]:
    """The loss of a metric for numbers, and how it is shown; `unit` is the target's."""
    return {
        "absolute_log_error": (
            absolute_log_error,
            Measure("mean absolute log error", "%", 100, "points"),
        ),
        "absolute_error": (absolute_error, Measure("mean absolute error", unit)),
        "absolute_percentage_error": (
            absolute_percentage_error,
            Measure("mean absolute percentage error", "%", 100, "points"),
        ),
        "squared_error": (squared_error, Measure("mean squared error", f"{unit}²" if unit else "")),
    }[metric]


LOG_LOSS = Measure("log loss")
OF_EARLIER = {
    "mae": Measure("error (MAE over the mean)", "%", 100, "points"),
    "mape": Measure("error (MAPE)", "%", 100, "points"),
}  # what the records of an earlier loopbook are in, by their `loss`
BIAS_OF_EARLIER = Measure("bias", "%", 100)


def of_record(record: Mapping[str, Any]) -> tuple[Measure, Measure]:
    """How the errors and the biases in a record are shown: as it says, or as before it said so."""
    if "measure" in record:
        return Measure(**record["measure"]), Measure(**record["bias_measure"])
    return OF_EARLIER[record.get("loss") or "mape"], BIAS_OF_EARLIER
