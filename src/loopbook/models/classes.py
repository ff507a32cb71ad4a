"""Classes: a target that is one of several classes, or yes or no.

It decides what `task` promises, for classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from loopbook.models import decisions, measures
from loopbook.models.measures import Measure
from loopbook.project.contract import Contract


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
        sound = (answers >= 0) & (answers <= 1 + measures.PARITY_TOLERANCE)
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

    def shown_columns(
        self, answers: np.ndarray, decision: Mapping[str, Any] | None = None
    ) -> dict[str, pl.Series]:
        """The class that a version answers with its decision, and the probabilities."""
        places = range(self.width) if self.positive is None else [self.positive]
        said = self.decided(answers, decision) if len(answers) else []
        shown = {"answer": pl.Series(said, dtype=pl.String)}
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
