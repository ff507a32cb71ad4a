"""Levels: models that follow a level which moves while the inputs stand still.

Two estimators around another one, for a target that is a log inside. Trees
cannot extrapolate, so a price level as one more column does not help them when
it rises beyond what they have seen; here the level is added outside of them.
"""

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone


class Relative(RegressorMixin, BaseEstimator):
    """Predict the log target less the log of one input column, its trailing level.

    Parameters
    ----------
    regressor : estimator
        From the same matrix to the difference of logs.
    level : int
        The place of the level's column. Where it has no value, the median
        level of the rows that it was fitted on stands in for it.
    """

    def __init__(self, regressor, level: int):
        self.regressor = regressor
        self.level = level

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Relative":
        there = X[:, self.level][np.isfinite(X[:, self.level])]
        self.fallback_ = float(np.median(there)) if there.size else 1.0
        self.regressor_ = clone(self.regressor).fit(X, y - self._log_level(X))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.predict(X) + self._log_level(X)

    def _log_level(self, X: np.ndarray) -> np.ndarray:
        level = X[:, self.level].astype(np.float64)
        return np.log(np.where(np.isnan(level), self.fallback_, level))


class Recalibrated(RegressorMixin, BaseEstimator):
    """Add the median residual of the newest rows to what another model predicts.

    Parameters
    ----------
    regressor : estimator
        Fitted on all rows; it makes the predictions.
    probe : estimator
        Fitted on all but the newest rows, which it is then asked about: what
        it is off by there is what the market has moved.
    recent_rows : int
        How many rows count as the newest, at most a fifth of all. With 1,000
        and residuals of 0.2, the median's standard error is below 1 per cent.

    Notes
    -----
    Rows have to come in the order of time.
    """

    def __init__(self, regressor, probe, recent_rows: int = 1_000):
        self.regressor = regressor
        self.probe = probe
        self.recent_rows = recent_rows

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Recalibrated":
        cut = len(y) - min(self.recent_rows, len(y) // 5)
        probe = clone(self.probe).fit(X[:cut], y[:cut])
        self.offset_ = float(np.median(y[cut:] - probe.predict(X[cut:])))
        self.regressor_ = clone(self.regressor).fit(X, y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.predict(X) + self.offset_
