"""Levels: models that follow a level which moves while the inputs stand still.

Two estimators around another one, for a target that is a log inside. Trees
cannot extrapolate, so a level as one more column does not help them when
it rises beyond what they have seen; here the level is added outside of them.
"""

import numpy as np
from numpy.polynomial import Polynomial
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import VotingRegressor
from sklearn.model_selection import KFold

from loopbook.models.steps import fitted


class Relative(RegressorMixin, BaseEstimator):
    """Predict the log target less the log of one input column, its trailing level.

    Parameters
    ----------
    regressor : estimator
        From the same matrix to the difference of logs.
    level : int
        The place of the level's column. Where it has no value, or none that
        has a log, the median level of the rows that it was fitted on stands in
        for it.
    """

    def __init__(self, regressor, level: int):
        self.regressor = regressor
        self.level = level

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Relative":
        there = X[:, self.level][X[:, self.level] > 0]
        self.fallback_ = float(np.median(there)) if there.size else 1.0
        self.regressor_ = fitted(clone(self.regressor), X, y - self._log_level(X))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.predict(X) + self._log_level(X)

    def _log_level(self, X: np.ndarray) -> np.ndarray:
        level = X[:, self.level].astype(np.float64)
        return np.log(np.where(level > 0, level, self.fallback_))  # NaN is not above 0 either


class Recalibrated(RegressorMixin, BaseEstimator):
    """Mean of models that were each fitted without a part of the rows, moved to today's level.

    Parameters
    ----------
    regressor : pipeline
        From the matrix to the target as it is inside.
    folds : int
        How many parts. A row's residual is that of the model that has not seen it.
    half_life_days : float
        A row so much older than the newest counts half as much for the level.
    ahead_days : float
        How long after the newest row the level is meant: by then the model serves.
    random_seed : int
        Of the parts.

    Notes
    -----
    The level is a line through the residuals over time, fitted by weighted
    least squares (local linear regression at the end of a series; Fan and
    Gijbels, 1996) after residuals beyond three robust standard deviations were
    drawn in. Three parts are as accurate as three models of all rows. Half-life
    and days ahead were chosen on October 2014 to February 2015.
    """

    def __init__(
        self,
        regressor,
        folds: int = 3,
        half_life_days: float = 28.0,
        ahead_days: float = 21.0,
        random_seed: int = 0,
    ):
        self.regressor = regressor
        self.folds = folds
        self.half_life_days = half_life_days
        self.ahead_days = ahead_days
        self.random_seed = random_seed

    def fit(self, X: np.ndarray, y: np.ndarray, at_days: np.ndarray) -> "Recalibrated":
        """Fit; `at_days` is when each row happened, in days since any beginning."""
        parts = KFold(self.folds, shuffle=True, random_state=self.random_seed).split(X)
        residuals, models = np.empty(len(y)), []
        for kept, left_out in parts:
            models.append(fitted(clone(self.regressor), X[kept], y[kept]))
            residuals[left_out] = y[left_out] - models[-1].predict(X[left_out])
        self.regressor_ = VotingRegressor([(f"part_{i}", m) for i, m in enumerate(models)])
        self.regressor_.estimators_ = models  # fitted already, each on rows of its own
        age = at_days.max() - at_days
        self.offset_ = self._level(residuals, age)
        return self

    def _level(self, residuals: np.ndarray, age: np.ndarray) -> float:
        middle = np.median(residuals)
        reach = 3 * 1.4826 * np.median(np.abs(residuals - middle))
        drawn_in = np.clip(residuals, middle - reach, middle + reach)
        weight = 0.5 ** (age / self.half_life_days)
        if np.ptp(age) == 0:
            return float(np.average(drawn_in, weights=weight))
        line = Polynomial.fit(-age, drawn_in, 1, w=np.sqrt(weight))
        return float(line(self.ahead_days))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.predict(X) + self.offset_
