"""Candidates: the kinds of model that a build compares.

It decides recipes. Each is a scikit-learn pipeline from the float32 matrix of
`features.encode` to the target as it is inside (a log, where the contract says
so), and each converts to ONNX whole, missing values included. Add yours here
and its name to the grid in `pipeline.yaml`; docs/candidates.md says which steps
were tried and do not convert, or convert and are wrong.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

from loopbook.features.rows import input_names, row_inputs
from loopbook.models.levels import Recalibrated, Relative
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract

UNKNOWN = -1.0  # the code of a category that is missing or was not seen


Model = Pipeline | Relative | Recalibrated


def build(name: str, contract: Contract, random_seed: int) -> Model:
    """A candidate, not fitted.

    Raises
    ------
    KeyError
        If there is no candidate of that name; the message lists them.
    """
    if name not in RECIPES:
        raise KeyError(f"no candidate {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name](contract, random_seed)


def meaning(name: str) -> str:
    """What a candidate is, for people: the first sentence of its docstring."""
    return (RECIPES[name].__doc__ or "").strip().splitlines()[0]


def settings(model: Model) -> dict[str, Any]:
    """The settings of a candidate's estimator, for the record."""
    inner = model if isinstance(model, Pipeline) else model.regressor
    parameters = inner[-1].get_params(deep=False)
    return {f"model_{key}": value for key, value in parameters.items() if not callable(value)}


def fit(model: Model, X: np.ndarray, y: np.ndarray, rows: pl.DataFrame) -> Model:
    """Fit a candidate in place; `rows` are those of `X`, with their event time if there is one."""
    if isinstance(model, Recalibrated):
        return model.fit(X, y, rows[EVENT_TS].dt.epoch("s").to_numpy() / 86_400)
    return model.fit(X, y)


def baseline(contract: Contract, random_seed: int) -> Pipeline:
    """The usual level of the category, in proportion to the size where the contract names one."""
    per = contract.target.per
    scale = [f"log_{per}"] if per and contract.target.transform == "log" else [per] if per else []
    return _pipeline(contract, Ridge(alpha=1.0), _scaled(), _one_hot(), numbers=scale)


def ridge(contract: Contract, random_seed: int) -> Pipeline:
    """A straight line through the numbers, with a level for every category."""
    return _pipeline(contract, Ridge(alpha=1.0), _scaled(), _one_hot())


def extra_trees(contract: Contract, random_seed: int) -> Pipeline:
    """The mean of forty trees that split at random places."""
    forest = ExtraTreesRegressor(
        n_estimators=40, min_samples_leaf=5, max_features=0.7, n_jobs=1, random_state=random_seed
    )
    # the trees' own way with missing values converts and is wrong, so they are filled in before
    return _pipeline(contract, forest, _median(), _target_mean(random_seed))


def hist_gradient_boosting(contract: Contract, random_seed: int) -> Pipeline:
    """Six hundred small trees, each correcting those before it."""
    return _pipeline(contract, _boosting(random_seed), "passthrough", _target_mean(random_seed))


def ensemble(contract: Contract, random_seed: int) -> Pipeline:
    """The mean of three gradient boostings that differ by their seed."""
    voters = [(f"seed_{i}", _boosting(random_seed + i)) for i in range(3)]
    return _pipeline(
        contract, VotingRegressor(voters, n_jobs=1), "passthrough", _target_mean(random_seed)
    )


def with_history(contract: Contract, random_seed: int) -> Pipeline:
    """Gradient boosting that is also told about the rows before: counts, levels, trends."""
    return _pipeline(
        contract,
        _boosting(random_seed),
        "passthrough",
        _target_mean(random_seed),
        numbers=[n for n in input_names(contract) if n not in contract.categories],
    )


def relative(contract: Contract, random_seed: int) -> Relative:
    """Gradient boosting of the target relative to its trailing level."""
    level = input_names(contract).index(contract.target.level)
    return Relative(hist_gradient_boosting(contract, random_seed), level)


def recalibrated(contract: Contract, random_seed: int) -> Recalibrated:
    """The mean of three gradient boostings, moved to the level that the newest rows are heading for."""
    return Recalibrated(hist_gradient_boosting(contract, random_seed), random_seed=random_seed)


RECIPES: dict[str, Callable[[Contract, int], Pipeline]] = {
    recipe.__name__: recipe
    for recipe in (
        baseline,
        ridge,
        extra_trees,
        hist_gradient_boosting,
        ensemble,
        with_history,
        relative,
        recalibrated,
    )
}


def _pipeline(contract: Contract, estimator, numeric_step, category_step, numbers=None) -> Pipeline:
    names = input_names(contract)
    if numbers is None:
        numbers = [n for n in row_inputs(contract) if n not in contract.categories]
    parts = [
        ("numbers", numeric_step, [names.index(n) for n in numbers]),
        ("categories", category_step, [names.index(n) for n in contract.categories]),
    ]
    columns = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0.0)
    return Pipeline([("columns", columns), ("model", estimator)])


def _boosting(random_seed: int) -> HistGradientBoostingRegressor:
    # chosen by random splits of other seeds than those the benchmark reports,
    # and by August and September 2014, before the windows that are reported
    return HistGradientBoostingRegressor(
        learning_rate=0.04,
        max_iter=600,
        max_leaf_nodes=31,
        min_samples_leaf=15,
        l2_regularization=10.0,
        max_features=0.2,
        early_stopping=False,
        random_state=random_seed % 2**32,
    )


def _median() -> SimpleImputer:
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _scaled() -> Pipeline:
    return make_pipeline(_median(), StandardScaler())


def _known() -> SimpleImputer:
    return SimpleImputer(strategy="constant", fill_value=UNKNOWN, keep_empty_features=True)


def _one_hot() -> Pipeline:
    # no min_frequency: with it the graph converts and then fails in ONNX Runtime
    return make_pipeline(_known(), OneHotEncoder(handle_unknown="ignore", sparse_output=False))


def _target_mean(random_seed: int) -> Pipeline:
    folds = KFold(5, shuffle=True, random_state=random_seed)
    return make_pipeline(_known(), TargetEncoder(target_type="continuous", cv=folds))


def in_float32(model: Model) -> Model:
    """Round a fitted model's numbers to what ONNX holds; the model is changed in place.

    Histogram gradient boosting compares with float64 thresholds and the
    converter rounds them to the *nearest* float32, so that a value beside a
    split goes the other way (some in 10,000 rows, by up to several per cent).
    Rounded *down* to float32, `x <= threshold` stays the same for every
    float32 x, and both models agree. The same for the means of TargetEncoder.
    """
    for part in _parts(model):
        if isinstance(part, TargetEncoder):
            part.encodings_ = [_nearest_float32(e) for e in part.encodings_]
            part.target_mean_ = float(np.float32(part.target_mean_))
        elif isinstance(part, Relative):
            part.fallback_ = float(np.float32(part.fallback_))
        elif isinstance(part, Recalibrated):
            part.offset_ = float(np.float32(part.offset_))
        elif isinstance(part, HistGradientBoostingRegressor):
            for predictor in (p for stage in part._predictors for p in stage):
                nodes = predictor.nodes = predictor.nodes.copy()
                nodes["num_threshold"] = _float32_below(nodes["num_threshold"])
    return model


def _parts(model):
    """All fitted estimators inside a model, itself included."""
    yield model
    inner: list = []
    if isinstance(model, Pipeline):
        inner = [step for _, step in model.steps]
    elif isinstance(model, ColumnTransformer):
        inner = [step for _, step, _ in model.transformers_]
    elif isinstance(model, VotingRegressor):
        inner = model.estimators_
    elif isinstance(model, Relative | Recalibrated):
        inner = [model.regressor_]
    for part in inner:
        yield from _parts(part)


def _nearest_float32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).astype(np.float64)


def _float32_below(values: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each value, as float64."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest).astype(np.float64)
