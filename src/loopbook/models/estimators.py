"""Estimators: the kinds that fit a number, and those that fit classes, with their settings.

It decides which estimator stands for a straight line, a forest or boosting of
each kind of target, and how settings follow from the number of rows and of
columns. Pipelines are made of them by `candidates`. All convert to ONNX.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from loopbook.models import steps
from loopbook.models.classes import Classes
from loopbook.models.number import Number
from loopbook.models.steps import Step
from loopbook.models.task import Task

# Chosen on random splits of other seeds and on windows before those that are
# reported (docs/candidates.md).
TREES, STEP = 600, 0.04  # of a number: how many, and how much each counts
ROBUST_STEP = 0.06  # its gradients are signs, which say less each
CLASS_TREES, CLASS_STEP = 300, 0.04  # more make probabilities too sure
FEW_COLUMNS, LEAST_SHARE = 7, 0.2  # of its columns a split of boosting looks at
MANY_ROWS, FEWER_TREES = 50_000, 200  # beyond so many rows: fewer trees, each counting more
MOST_LEAVES = 5_000  # of a tree in a forest: all of it is in the graph that serves
MOST_TREES = 6_000  # of all classes together


@dataclass(frozen=True)
class Member:
    """One voter of an ensemble: a straight line, or boosting.

    `coded` boosting takes categories as their codes instead of their mean
    target, `robust` boosting minimises the absolute error. Their errors differ,
    so that their mean is better than the mean of models that differ by their seed.
    """

    name: str
    is_line: bool = False
    coded: bool = False
    robust: bool = False


@dataclass(frozen=True)
class OfNumbers:
    """Estimators of a number; those named robust minimise the absolute error."""

    task: Number

    @property
    def members(self) -> list[Member]:
        """The voters of an ensemble."""
        is_robust = self.task.centre == "median"
        return [
            Member("squares"),
            Member("squares_codes", coded=True),
            Member("robust", robust=is_robust),
            Member("robust_codes", coded=True, robust=is_robust),
        ]

    def line(self) -> BaseEstimator:
        return Ridge(alpha=1.0)

    def level(self, random_seed: int) -> tuple[BaseEstimator, Step]:
        """What a baseline makes of categories: the mean of each, or the median of like ones."""
        if self.task.centre == "mean" or self.task.link == "log":
            return self.line(), steps.one_hot()
        # one tree that counts whole: the median of each of at most 31 groups
        tree = HistGradientBoostingRegressor(
            loss="absolute_error", max_iter=1, learning_rate=1.0, early_stopping=False
        )
        return tree, self.category_step(random_seed)

    def one_answer(self) -> BaseEstimator:
        """The same answer to every row: a tree that may not split."""
        criterion = "squared_error" if self.task.centre == "mean" else "absolute_error"
        return DecisionTreeRegressor(criterion=criterion, min_samples_split=2**31 - 1)

    def forest(self, random_seed: int) -> BaseEstimator:
        return ExtraTreesRegressor(**_forest(random_seed))

    def boosting(self, columns: int, random_seed: int, *, robust: bool = False) -> BaseEstimator:
        if not robust:
            return HistGradientBoostingRegressor(**_boosting(columns, random_seed))
        settings = _boosting(columns, random_seed)
        settings |= {"loss": "absolute_error", "learning_rate": ROBUST_STEP}
        return HistGradientBoostingRegressor(**settings)

    def mean(self, voters: Sequence[tuple[str, BaseEstimator]]) -> BaseEstimator:
        return VotingRegressor(list(voters), n_jobs=1)

    def category_step(self, random_seed: int) -> Step:
        """Categories as the mean target of their value."""
        return steps.target_mean(random_seed)


@dataclass(frozen=True)
class OfClasses:
    """Estimators of classes, which all give probabilities."""

    task: Classes

    @property
    def members(self) -> list[Member]:
        return [
            Member("boosting"),
            Member("boosting_codes", coded=True),
            Member("line", is_line=True),
        ]

    def line(self) -> BaseEstimator:
        return LogisticRegression(C=10.0, max_iter=300)

    def level(self, random_seed: int) -> tuple[BaseEstimator, Step]:
        """What a baseline makes of categories: how often each class is there."""
        return LogisticRegression(C=1.0, max_iter=300), steps.one_hot()

    def one_answer(self) -> BaseEstimator:
        return DecisionTreeClassifier(min_samples_split=2**31 - 1)

    def forest(self, random_seed: int) -> BaseEstimator:
        return ExtraTreesClassifier(**_forest(random_seed))

    def boosting(self, columns: int, random_seed: int, *, robust: bool = False) -> BaseEstimator:
        # of several classes each round has a tree a class
        rounds = max(20, min(CLASS_TREES, MOST_TREES // self.task.width))
        settings = _boosting(columns, random_seed)
        settings |= {"max_iter": rounds, "learning_rate": CLASS_STEP}
        return HistGradientBoostingClassifier(**settings)

    def mean(self, voters: Sequence[tuple[str, BaseEstimator]]) -> BaseEstimator:
        # the converter takes no other value of flatten_transform, which changes no answer
        return VotingClassifier(list(voters), voting="soft", n_jobs=1, flatten_transform=False)

    def category_step(self, random_seed: int) -> Step:
        """Categories as the share of each class among their rows."""
        if self.task.width == 2:
            return steps.target_mean(random_seed, "binary")
        return steps.class_shares(random_seed)


Family = OfNumbers | OfClasses


def family(task: Task) -> Family:
    """The estimators for a target."""
    return OfClasses(task) if task.classes else OfNumbers(task)


def _forest(random_seed: int) -> dict[str, Any]:
    return {
        "n_estimators": 40,
        "min_samples_leaf": 5,
        "max_features": 0.7,
        "n_jobs": 1,
        "random_state": random_seed,
    }


def _boosting(columns: int, random_seed: int) -> dict[str, Any]:
    return {
        "learning_rate": STEP,
        "max_iter": TREES,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 15,
        "l2_regularization": 10.0,
        "max_features": float(np.clip(FEW_COLUMNS / max(columns, 1), LEAST_SHARE, 1.0)),
        "early_stopping": False,
        "random_state": random_seed % 2**32,
    }


def sized(model: BaseEstimator, rows: int) -> BaseEstimator:
    """Fit a model's settings to the number of rows that will teach it; changed in place.

    Beyond 50,000 rows boosting has a third of the trees, each of which counts
    three times as much, and a leaf of a forest has at least a 5,000th of the rows, so that
    time and the size of the graph do not grow with the table.
    """
    for part in [model, *model.get_params(deep=True).values()]:
        if isinstance(part, HistGradientBoostingRegressor | HistGradientBoostingClassifier):
            if rows > MANY_ROWS and part.max_iter > FEWER_TREES:
                grown = part.learning_rate * part.max_iter / FEWER_TREES
                part.set_params(max_iter=FEWER_TREES, learning_rate=min(grown, 0.1))
        elif isinstance(part, ExtraTreesRegressor | ExtraTreesClassifier):
            part.set_params(min_samples_leaf=max(part.min_samples_leaf, rows // MOST_LEAVES))
    return model
