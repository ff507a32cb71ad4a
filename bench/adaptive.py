"""Adaptive: MAPIE's intervals for time series around the same answers, as a yardstick.

The model is frozen and answers as for our states (`cv="prefit"`, in the link's space), and the
first conformity scores are of the same residuals. At each midnight MAPIE is told the rows
whose truth became known the day before, in the order of their events: `enbpi` by `update`,
`aci` by `update` and `adapt_conformal_inference` with the gamma of its tutorial. Neither moves
an answer; both widen what is said around it.
"""

import warnings

import numpy as np
import polars as pl
from mapie.regression import TimeSeriesRegressor
from sklearn.base import BaseEstimator, RegressorMixin

from loopbook.models.task import Task
from loopbook.project import clock

METHODS = {"enbpi": "MAPIE, EnbPI", "aci": "MAPIE, adaptive (ACI)"}
GAMMA = 0.05


class Answered(RegressorMixin, BaseEstimator):
    """A model whose only input is its answer."""

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, _X: np.ndarray, _y: np.ndarray) -> "Answered":
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def ends(
    task: Task,
    kept: tuple[pl.DataFrame, np.ndarray],
    asked: tuple[pl.DataFrame, np.ndarray],
    method: str,
) -> np.ndarray:
    """The two ends of each answer's interval, shape (rows, 2), in the target's unit.

    Parameters
    ----------
    kept, asked : rows and the raw answers to them
        What it begins with, known by then, and what it is asked about.
    """
    level, name = task.contract.target.interval, task.contract.target.name
    inside = [task.linked(answers)[:, None] for _, answers in (kept, asked)]
    truth = [task.linked(task.observed(rows[name])) for rows, _ in (kept, asked)]
    model = TimeSeriesRegressor(Answered(), method=method, cv="prefit")
    model.fit(inside[0], truth[0])
    happened, known = (
        asked[0][n].dt.epoch("us").to_numpy() for n in (clock.EVENT_TS, clock.KNOWN_TS)
    )
    days = asked[0][clock.EVENT_TS].dt.truncate("1d").dt.epoch("us").to_numpy()
    found, told = np.empty((len(days), 2)), 0
    order = np.lexsort((happened, known))
    for day in np.unique(days):
        until = int(np.searchsorted(known[order], day, side="right"))
        news, told = order[told:until], until
        news = news[np.argsort(happened[news], kind="stable")]
        if len(news):
            _tell(model, inside[1][news], truth[1][news])
        there = days == day
        _, said = model.predict(
            inside[1][there], confidence_level=level, allow_infinite_bounds=True
        )
        found[there] = said[:, :, 0]
    return np.exp(found) if task.link == "log" else found


def _tell(model: TimeSeriesRegressor, inside: np.ndarray, truth: np.ndarray) -> None:
    """What came true since the day before, at most as much as it remembers."""
    newest = slice(-len(model.conformity_scores_), None)
    with warnings.catch_warnings():  # it says at each call that two parameters do nothing now
        warnings.simplefilter("ignore", UserWarning)
        model.update(inside[newest], truth[newest])
    if model.method == "aci":
        model.adapt_conformal_inference(inside, truth, gamma=GAMMA)
