"""Steps: how the inputs of a contract come to an estimator.

It decides how missing values are filled in and how categories become numbers,
in ways that convert to ONNX and stay the same there. Candidates of the
library and of a project are made of these; docs/candidates.md says which steps
were tried and do not convert, or convert and are wrong.
"""

from collections.abc import Sequence

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

from loopbook.features.rows import input_names, row_inputs
from loopbook.project.contract import Contract

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


def target_mean(random_seed: int) -> Pipeline:
    """Categories as the mean target of their value, cross-fitted."""
    folds = KFold(5, shuffle=True, random_state=random_seed)
    return make_pipeline(known(), TargetEncoder(target_type="continuous", cv=folds))
