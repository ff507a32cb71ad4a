"""Task: what the contract's target asks of all that fits, compares and shows models.

It decides how a target is encoded, how a model's numbers become answers, the
one loss a row, the signed error, parity, and the words for all of these. It is
the only place that knows whether a target is a number or a class; it imports
no training library, so that the service can ask it.

Answers are float64 of shape (n,) for a number, in the target's unit, and
probabilities of shape (n, K) for classes, in the contract's order. `observed`
is of shape (n,): the number, or the place of the class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from loopbook.models import decisions, measures
from loopbook.models.measures import Measure
from loopbook.project.contract import Contract

PARITY_TOLERANCE = 1e-4
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

    def shown_columns(self, answers: np.ndarray) -> dict[str, pl.Series]:
        """What of the answers is compared between windows, by what people call it."""
        return {"answer": pl.Series(answers, dtype=pl.Float64)}

    def calibration(self, observed: np.ndarray, answers: np.ndarray, groups: int = 10):
        """Mean answer and mean outcome; see `scores.calibration`."""
        from loopbook.models import scores

        return scores.calibration(observed, answers, groups)


@dataclass(frozen=True)
class Classes:
    """A target that is one of several classes, or yes or no."""

    contract: Contract
    measure = measures.LOG_LOSS
    bias_measure = Measure("bias of the probability", "points", 100)
    metric = "log_loss"
    centre = None
    answer_words = "a probability for each class"
    method, ending = "predict_proba", "a classifier that gives probabilities"
    parity_words = "of probability"

    @property
    def classes(self) -> list[str]:
        return list(self.contract.target.classes)

    @property
    def width(self) -> int:
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one answer."""
        return (self.width,)

    @property
    def positive(self) -> int | None:
        """The place of the class that is the yes; None where there are more than two."""
        if self.width != 2:
            return None
        return self.classes.index(self.contract.target.positive or self.classes[-1])

    @property
    def link(self) -> str:
        return "softmax" if self.positive is None else "logit"

    @property
    def frame_type(self) -> pl.DataType:
        return pl.Array(pl.Float64, self.width)

    @property
    def observed_type(self) -> pl.DataType:
        return pl.String()

    def observed(self, column: pl.Series) -> np.ndarray:
        """The place of each class, float64 of shape (n,); NaN where there is none."""
        places = {name: float(place) for place, name in enumerate(self.classes)}
        found = column.cast(pl.String).replace_strict(places, default=None, return_dtype=pl.Float64)
        return found.fill_null(np.nan).to_numpy()

    def inside(self, observed: np.ndarray) -> np.ndarray:
        return observed.astype(np.int64)

    def answers(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Probabilities of a fitted classifier, shape (n, K); 0 for a class that it never saw."""
        said = np.asarray(model.predict_proba(X), np.float64)
        every = np.zeros((len(said), self.width))
        every[:, np.asarray(model.classes_, np.intp)] = said
        return every

    def column(self, answers: np.ndarray) -> pl.Series:
        return pl.Series("answer", np.asarray(answers, np.float64), dtype=self.frame_type)

    def of_column(self, column: pl.Series) -> np.ndarray:
        return column.cast(self.frame_type).to_numpy().reshape(-1, self.width)

    def linked(self, answers: np.ndarray) -> np.ndarray:
        """Log odds of each class against all others, shape (n, K)."""
        p = np.clip(answers, measures.LEAST_PROBABILITY, 1 - measures.LEAST_PROBABILITY)
        return np.log(p) - np.log1p(-p)

    def losses(self, observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return measures.log_loss(observed, answers)

    def signed_errors(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Probability less what happened (1 or 0), for the yes or for each class."""
        places = range(self.width) if self.positive is None else [self.positive]
        return {
            self.classes[place]: answers[:, place] - (observed == place).astype(np.float64)
            for place in places
        }

    def outcomes(self, observed: np.ndarray, most: int = 6) -> dict[str, np.ndarray]:
        """1 where a class happened and 0 elsewhere: the yes, or the `most` frequent classes."""
        counts = np.bincount(observed[np.isfinite(observed)].astype(np.intp), minlength=self.width)
        often = sorted(np.argsort(-counts, kind="stable")[:most])
        places = often if self.positive is None else [self.positive]
        return {f"share of {self.classes[k]}": (observed == k).astype(np.float64) for k in places}

    def least_spread(self, answers: np.ndarray) -> dict[str, float]:
        """That of what happens with these probabilities, which is a draw from them."""
        places = range(self.width) if self.positive is None else [self.positive]
        spread = np.sqrt((answers * (1 - answers)).clip(0).mean(axis=0))
        return {self.classes[place]: float(spread[place]) for place in places}

    def metrics(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        from loopbook.models import scores

        return scores.of_classes(self, observed, answers)

    def spread(self, observed: np.ndarray) -> float:
        """1: probabilities are compared as they are."""
        return 1.0

    def apart(self, answers: np.ndarray, others: np.ndarray, spread: float = 1.0) -> np.ndarray:
        """The largest difference of a row's probabilities, shape (n,)."""
        return np.abs(answers - others).max(axis=1)

    def constant(self, observed: np.ndarray, rows: int) -> np.ndarray:
        """One answer to so many rows: the share of each class."""
        shares = np.bincount(observed.astype(np.intp), minlength=self.width) / len(observed)
        return np.tile(shares, (rows, 1))

    def is_measurable(self, observed: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Which rows have a loss: the class is one of the contract's, and all is a probability."""
        sound = (answers >= 0) & (answers <= 1 + PARITY_TOLERANCE)
        return np.isfinite(observed) & sound.all(axis=1)

    def decision(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, Any] | None:
        """From which probability on yes is answered, the cheapest on these rows.

        None without costs in the contract; see `decisions.cheapest`.
        """
        if not (costs := self.contract.target.costs):
            return None
        is_yes, chance = observed == self.positive, answers[:, self.positive]
        return decisions.cheapest(is_yes, chance, **costs.model_dump()).as_dict()

    def cost(
        self,
        observed: np.ndarray,
        answers: np.ndarray,
        decision: Mapping[str, Any] | None = None,
    ) -> float | None:
        """The mean cost of a row with a decision; None without costs in the contract."""
        if not (costs := self.contract.target.costs):
            return None
        said = np.array([self.classes[self.positive]]) == np.array(self.decided(answers, decision))
        was = observed == self.positive
        false = costs.false_positive * (said & ~was) + costs.false_negative * (~said & was)
        return float(false.mean())

    def decided(self, answers: np.ndarray, decision: Mapping[str, Any] | None = None) -> list[str]:
        """The class that is answered to each row.

        Parameters
        ----------
        decision : mapping, optional
            `threshold`: from which probability on the yes is answered; without
            it the most probable class.
        """
        threshold = (decision or {}).get("threshold")
        if threshold is None or self.positive is None:
            places = answers.argmax(axis=1)
        else:
            is_yes = answers[:, self.positive] >= threshold
            places = np.where(is_yes, self.positive, 1 - self.positive)
        return [self.classes[place] for place in places]

    def groups(self, observed: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Rows by what happened."""
        names = np.array([f"{self.contract.target.name} {name}" for name in self.classes])
        return {"observed": names[observed.astype(np.intp)]}

    def shown_columns(self, answers: np.ndarray) -> dict[str, pl.Series]:
        places = range(self.width) if self.positive is None else [self.positive]
        most = np.array(self.classes, dtype=object)[answers.argmax(axis=1)] if len(answers) else []
        shown = {"answer": pl.Series(list(most), dtype=pl.String)}
        return shown | {
            f"probability of {self.classes[place]}": pl.Series(answers[:, place], dtype=pl.Float64)
            for place in places
        }

    def calibration(self, observed: np.ndarray, answers: np.ndarray, groups: int = 10):
        """Mean probability and share of the yes, or of every class taken by itself."""
        from loopbook.models import scores

        places: Sequence[int] = range(self.width) if self.positive is None else [self.positive]
        said = np.concatenate([answers[:, place] for place in places])
        was = np.concatenate([(observed == place).astype(float) for place in places])
        return scores.calibration(was, said, groups)


Task = Number | Classes


def task_of(contract: Contract) -> Task:
    """What the contract's target asks for."""
    return Classes(contract) if contract.target.classes else Number(contract)
