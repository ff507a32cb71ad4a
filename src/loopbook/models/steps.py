"""Steps: how the inputs of a contract come to an estimator.

It decides how missing values are filled in and how categories become numbers,
in ways that convert to ONNX and stay the same there. Candidates of the
library and of a project are made of these; docs/candidates.md says which steps
were tried and do not convert, or convert and are wrong.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

from loopbook.features.rows import input_names, row_inputs
from loopbook.models.class_shares import ClassShares
from loopbook.project.contract import Contract
from loopbook.project.errors import CandidateError

MOST_VALUES = 200  # of a category that has a column of its own for each
UNKNOWN = -1.0  # the code of a category that is missing or was not seen
Step = BaseEstimator | str  # a transformer, or "passthrough"


def pipeline(
    contract: Contract,
    estimator: BaseEstimator,
    numeric_step: Step,
    category_step: Step,
    numbers: Sequence[str] | None = None,
) -> Pipeline:
    """A pipeline from the matrix of the contract's inputs to an estimator.

    Parameters
    ----------
    numeric_step, category_step : transformer or "passthrough"
        What the numbers and the categories go through.
    numbers : sequence of str, optional
        The numeric inputs that it may use; by default those of the row itself,
        without history.
    """
    names = input_names(contract)
    if numbers is None:
        numbers = [n for n in row_inputs(contract) if n not in contract.categories]
    parts = [
        ("numbers", numeric_step, [names.index(n) for n in numbers]),
        ("categories", category_step, [names.index(n) for n in contract.categories]),
    ]
    columns = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0.0)
    return Pipeline([("columns", columns), ("model", estimator)])


def fitted(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> BaseEstimator:
    """Fit a model in place, on the columns of `X` that have a value there.

    Raises
    ------
    CandidateError
        As `prepared` does.
    """
    return prepared(model, X, y).fit(X, y)


def prepared(model: BaseEstimator, X: np.ndarray, y: np.ndarray) -> BaseEstimator:
    """Fit the first steps of a model in place to what these rows have, and fit nothing.

    A column without any is nothing to learn from, and gradient boosting cannot
    bin one. It is left out of the first step, so that scikit-learn and ONNX see
    the same. A category of more than `MOST_VALUES` values that was to have a
    column for each has its mean target instead: of 300,000 rows with 4,000
    values the columns would take 10 GB.

    Raises
    ------
    CandidateError
        If no column that the model may use has a value.
    """
    is_empty = np.isnan(X).all(axis=0)
    for columns in _first_steps(model):
        columns.transformers = [
            part for one in columns.transformers for part in _affordable(one, X, y)
        ]
        kept = [
            (name, step, [place for place in places if not is_empty[place]])
            for name, step, places in columns.transformers
            if isinstance(places, list) and all(isinstance(place, int) for place in places)
        ]
        if len(kept) < len(columns.transformers) or not is_empty.any():
            continue  # chosen by other means, or all is there
        columns.transformers = [part for part in kept if part[2]]
        if not columns.transformers:
            raise CandidateError(
                f"none of {X.shape[0]:,} rows has a value in any of the columns that this model "
                "uses, so there is nothing to learn. Fill them, or leave the candidate out."
            )
    return model


def _affordable(part: tuple, X: np.ndarray, y: np.ndarray) -> Iterator[tuple]:
    """A part of a first step, the categories of too many values by their mean target."""
    name, step, places = part
    is_one_hot = isinstance(step, Pipeline) and isinstance(step[-1], OneHotEncoder)
    if not is_one_hot or not isinstance(places, list):
        yield part
        return
    many = [place for place in places if np.unique(X[:, place]).size > MOST_VALUES]
    if few := [place for place in places if place not in many]:
        yield name, step, few
    if many:
        yield f"{name} by their mean", _mean_of(y), many


def _mean_of(y: np.ndarray) -> Pipeline:
    """What `target_mean` or `class_shares` makes of categories, for a target like this one."""
    if y.dtype.kind == "f":
        return target_mean(0)
    return target_mean(0, "binary") if len(np.unique(y)) == 2 else class_shares(0)


def _first_steps(model: BaseEstimator) -> Iterator[ColumnTransformer]:
    """The steps of a model that see the matrix itself."""
    if isinstance(model, ColumnTransformer):
        yield model
    elif isinstance(model, Pipeline):
        yield from _first_steps(model.steps[0][1])
    elif hasattr(model, "regressor") or hasattr(model, "classifier"):
        yield from _first_steps(getattr(model, "regressor", None) or model.classifier)
    elif isinstance(getattr(model, "estimators", None), list):
        for _, inner in model.estimators:
            yield from _first_steps(inner)


def median() -> SimpleImputer:
    """Numbers, the missing ones filled in by the median."""
    return SimpleImputer(strategy="median", keep_empty_features=True)


def scaled() -> Pipeline:
    """Numbers, filled in by the median, with mean 0 and standard deviation 1."""
    return make_pipeline(median(), StandardScaler())


def known() -> SimpleImputer:
    """Codes of categories, `UNKNOWN` where one is missing."""
    return SimpleImputer(strategy="constant", fill_value=UNKNOWN, keep_empty_features=True)


def one_hot() -> Pipeline:
    """Categories as a column of 0 and 1 for each value."""
    # no min_frequency: with it the graph converts and then fails in ONNX Runtime
    return make_pipeline(known(), OneHotEncoder(handle_unknown="ignore", sparse_output=False))


def target_mean(random_seed: int, kind: str = "continuous") -> Pipeline:
    """Categories as the mean target of their value, cross-fitted; `binary` is for two classes."""
    folds = KFold(5, shuffle=True, random_state=random_seed)
    return make_pipeline(known(), TargetEncoder(target_type=kind, cv=folds))


def class_shares(random_seed: int) -> Pipeline:
    """Categories as the share of each class among their rows, cross-fitted."""
    folds = KFold(5, shuffle=True, random_state=random_seed)
    return make_pipeline(known(), ClassShares(folds))
