"""Fitted parts: the estimators inside a fitted model, as export and storage want them.

It decides what is rounded so that both forms of a model agree, and what of a
model tells the types of all of it.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import TargetEncoder

BOOSTING = HistGradientBoostingRegressor | HistGradientBoostingClassifier


def in_float32(model: BaseEstimator) -> BaseEstimator:
    """Round a fitted model's numbers to what ONNX holds; the model is changed in place.

    Histogram gradient boosting compares with float64 thresholds and the
    converter rounds them to the *nearest* float32, so that a value beside a
    split goes the other way (some in 10,000 rows, by up to several per cent).
    Rounded *down* to float32, `x <= threshold` stays the same for every
    float32 x, and both models agree. The same for the means of TargetEncoder.
    """
    for part in parts(model):
        if isinstance(part, TargetEncoder) and hasattr(part, "encodings_"):
            part.encodings_ = [_nearest_float32(e) for e in part.encodings_]
            part.target_mean_ = float(np.float32(part.target_mean_))
        elif isinstance(part, BOOSTING) and hasattr(part, "_predictors"):
            for predictor in (p for stage in part._predictors for p in stage):
                nodes = predictor.nodes = predictor.nodes.copy()
                nodes["num_threshold"] = _float32_below(nodes["num_threshold"])
    return model


def with_one_tree(model: BaseEstimator) -> BaseEstimator:
    """A copy in which each boosting has its first trees only: the same types, in a moment.

    A writer that takes a file for each array takes a second for some hundred trees.
    """
    short = copy.deepcopy(model)
    for part in parts(short):
        if isinstance(part, BOOSTING) and hasattr(part, "_predictors"):
            part._predictors = part._predictors[:1]
    return short


def parts(part: Any) -> Iterator[BaseEstimator]:
    """All estimators inside a model that were fitted, itself included."""
    if isinstance(part, BaseEstimator):
        yield part
        # what was fitted ends with an underscore; a pipeline's steps are fitted in place
        inner = [v for k, v in vars(part).items() if k == "steps" or k.endswith("_")]
        yield from parts(inner)
    elif isinstance(part, list | tuple):
        for one in part:
            yield from parts(one)
    elif isinstance(part, dict):
        yield from parts(list(part.values()))


def _nearest_float32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).astype(np.float64)


def _float32_below(values: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each value, as float64."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest).astype(np.float64)
