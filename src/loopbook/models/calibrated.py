"""Calibrated: classifiers whose probabilities are moved to what happened.

The counterpart of `levels.Recalibrated` for classes. Averages of models are too
cautious and forests of few rows too; shares of classes move while the inputs
stand still. Both show in rows that a model has not seen.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import KFold
from sklearn.preprocessing import LabelEncoder

from loopbook.models.steps import fitted

LEAST = 1e-6  # a probability below it counts as this much, in float32 too
PRIOR_ROWS = 20.0  # the unmoved probabilities count as much as so many rows


class Calibrated(ClassifierMixin, BaseEstimator):
    """Mean of models that were each fitted without a part of the rows, calibrated by that part.

    Parameters
    ----------
    classifier : pipeline
        From the matrix to probabilities.
    folds : int
        How many parts. A row's probabilities are those of the model that has not seen it.
    half_life_days : float
        A row so much older than the newest counts half as much.
    random_seed : int
        Of the parts.

    Notes
    -----
    One slope of the log probabilities and one shift a class, by least log loss
    (Platt, 1999; temperature and bias of Guo et al., 2017), drawn towards no
    change by as much as 20 rows would.
    """

    def __init__(
        self, classifier, folds: int = 3, half_life_days: float = 28.0, random_seed: int = 0
    ):
        self.classifier = classifier
        self.folds = folds
        self.half_life_days = half_life_days
        self.random_seed = random_seed

    def fit(self, X: np.ndarray, y: np.ndarray, at_days: np.ndarray | None = None) -> "Calibrated":
        """Fit; `at_days` is when each row happened, in days since any beginning."""
        self.classes_, first, places = np.unique(y, return_index=True, return_inverse=True)
        parts = KFold(self.folds, shuffle=True, random_state=self.random_seed).split(X)
        said, models = np.zeros((len(y), len(self.classes_))), []
        for kept, left_out in parts:
            # a class that is rare may be in one part only: one row of it teaches every model
            absent = np.setdiff1d(np.arange(len(self.classes_)), places[kept])
            taught = np.union1d(kept, first[absent])
            models.append(fitted(clone(self.classifier), X[taught], y[taught]))
            said[left_out] = models[-1].predict_proba(X[left_out])
        self.classifier_ = _mean(models, self.classes_)
        weight = np.ones(len(y))
        if at_days is not None:
            weight = 0.5 ** ((at_days.max() - at_days) / self.half_life_days)
        self.slope_, self.shift_ = _moved(np.log(np.maximum(said, LEAST)), places, weight)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(self.classifier_.predict_proba(X), LEAST))
        return softmax(self.slope_ * logs + self.shift_, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _mean(models: list, classes: np.ndarray) -> VotingClassifier:
    """The mean of classifiers that are fitted already, each on rows of its own."""
    names = [f"part_{place}" for place in range(len(models))]
    mean = VotingClassifier(
        list(zip(names, models, strict=True)), voting="soft", flatten_transform=False
    )
    mean.estimators_, mean.classes_ = models, classes
    mean.le_ = LabelEncoder().fit(classes)
    return mean


def _moved(logs: np.ndarray, places: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The slope and the shift of each class under which the log loss is least."""
    rows, width = logs.shape
    happened = np.eye(width)[places]
    # rows that count less are fewer rows: the prior weighs more then
    drawn = PRIOR_ROWS / max(float(weight.sum()), 1.0)
    weight = weight / weight.sum()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, shift = np.exp(parameters[0]), parameters[1:]
        log_said = log_softmax(slope * logs + shift, axis=1)
        error = weight[:, None] * (np.exp(log_said) - happened)
        value = -float(weight @ log_said[np.arange(rows), places])
        gradient = np.concatenate([[slope * float((error * logs).sum())], error.sum(axis=0)])
        return value + drawn / 2 * float(parameters @ parameters), gradient + drawn * parameters

    best = minimize(loss, np.zeros(width + 1), jac=True, method="L-BFGS-B").x
    return float(np.exp(best[0])), best[1:]
