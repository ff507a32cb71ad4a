"""Candidates: the kinds of model that a build compares.

It decides the library's recipes. Each is a scikit-learn pipeline from the
float32 matrix of `features.encode` to the target as it is inside (a log, where
the contract says so; for classes, a probability each), and each converts to
ONNX whole, missing values included. A project's own recipes are functions of
the same form in its candidates.py (`own_candidates`); `build` finds both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from loopbook.features.rows import input_names, row_inputs
from loopbook.models import estimators, own_candidates, steps
from loopbook.models.estimators import Family, Member
from loopbook.models.task import task_of
from loopbook.project.contract import Contract
from loopbook.project.errors import CandidateError
from loopbook.project.paths import current

Recipe = Callable[[Contract, int], BaseEstimator]


def build(
    name: str, contract: Contract, random_seed: int, rows: int | None = None
) -> BaseEstimator:
    """A candidate of the library or of the project, not fitted.

    Parameters
    ----------
    rows : int, optional
        How many will teach it; the library's recipes have sizes by it
        (`estimators.sized`), a project's own say theirs.

    Raises
    ------
    CandidateError
        If there is no candidate of that name, or a project's own one gives no
        estimator. What its function raises is raised.
    """
    if name in RECIPES:
        return estimators.sized(RECIPES[name](contract, random_seed), rows or 0)
    model = _recipe(name)(contract, random_seed)
    if isinstance(model, type) or not (hasattr(model, "fit") and hasattr(model, "predict")):
        raise CandidateError(
            f"{own_candidates.FILE}: {name} returned {_kind(model)}, expected an estimator of "
            "scikit-learn that is not fitted, such as steps.pipeline(contract, Ridge(), …)."
        )
    return model


def meaning(name: str) -> str:
    """What a candidate is, for people: the first line of its docstring; empty without one."""
    return (_recipe(name).__doc__ or "").strip().partition("\n")[0]


def recipe_sha256(name: str) -> str | None:
    """The digest of the code of a project's own candidate; None for one of the library."""
    return None if name in RECIPES else own_candidates.digest(name, current())


def settings(model: BaseEstimator) -> dict[str, Any]:
    """The settings of a candidate's estimator, for the record."""
    inner = getattr(model, "regressor", None) or getattr(model, "classifier", model)
    estimator = inner[-1] if isinstance(inner, Pipeline) else inner
    parameters = estimator.get_params(deep=False)
    voters = parameters.pop("estimators", [])
    told = {f"model_{key}": value for key, value in parameters.items() if not callable(value)}
    return told | {
        f"model_{name}": str((voter[-1] if isinstance(voter, Pipeline) else voter).get_params())
        for name, voter in voters
    }


def _recipe(name: str) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    own = own_candidates.load(current())
    if name not in own:
        raise CandidateError(f"no candidate {name!r}; there are {', '.join([*RECIPES, *own])}")
    return own[name]


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return (
        f"the class {value.__name__}"
        if isinstance(value, type)
        else f"{type(value).__name__} {value!r:.60}"
    )


def without_values(X: np.ndarray, contract: Contract) -> list[str]:
    """The inputs that have a value in no row: a model fitted on these rows does not know them."""
    is_empty = np.isnan(X).all(axis=0)
    return [name for name, empty in zip(input_names(contract), is_empty, strict=True) if empty]


def baseline(contract: Contract, random_seed: int) -> Pipeline:
    """What is usual: for each category, and in proportion to `target.per`, where there are any."""
    kinds = _kinds(contract)
    per = contract.target.per
    scale = [f"log_{per}"] if per and kinds.task.link == "log" else [per] if per else []
    if scale:
        return steps.pipeline(
            contract, kinds.line(), steps.scaled(), steps.one_hot(), numbers=scale
        )
    if contract.categories:
        level, step = kinds.level(random_seed)
        return steps.pipeline(contract, level, steps.scaled(), step, numbers=[])
    return steps.pipeline(contract, kinds.one_answer(), steps.median(), steps.known())


def ridge(contract: Contract, random_seed: int) -> Pipeline:
    """A straight line through the numbers, with a level for every category."""
    return _line(contract)


def extra_trees(contract: Contract, random_seed: int) -> Pipeline:
    """The mean of forty trees that split at random places."""
    kinds = _kinds(contract)
    # the trees' own way with missing values converts and is wrong, so they are filled in before
    return steps.pipeline(
        contract, kinds.forest(random_seed), steps.median(), kinds.category_step(random_seed)
    )


def hist_gradient_boosting(contract: Contract, random_seed: int) -> Pipeline:
    """Many small trees, each correcting those before it."""
    return _boosting(contract, random_seed)


def robust(contract: Contract, random_seed: int) -> Pipeline:
    """Many small trees that minimise the absolute error, so that a few far rows count little."""
    return _boosting(contract, random_seed, robust=True)


def ensemble(contract: Contract, random_seed: int) -> BaseEstimator:
    """The mean of models that differ in what they minimise and in how they take categories."""
    return _mean(contract, random_seed, _kinds(contract).members)


def with_history(contract: Contract, random_seed: int) -> BaseEstimator:
    """The ensemble that is also told about the rows before: counts, levels, trends."""
    return _mean(contract, random_seed, _kinds(contract).members, _all_numbers(contract))


RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        baseline,
        ridge,
        extra_trees,
        hist_gradient_boosting,
        ensemble,
        with_history,
        robust,
    )
}


def _kinds(contract: Contract) -> Family:
    return estimators.family(task_of(contract))


def _all_numbers(contract: Contract) -> list[str]:
    return [name for name in input_names(contract) if name not in contract.categories]


def _mean(
    contract: Contract,
    random_seed: int,
    members: Sequence[Member],
    numbers: Sequence[str] | None = None,
) -> BaseEstimator:
    """The mean of some members, each with a seed of its own."""
    voters = []
    for place, member in enumerate(members):
        if member.is_line:
            voter = _line(contract, numbers)
        else:
            voter = _boosting(
                contract,
                random_seed + place,
                numbers,
                coded=member.coded,
                robust=member.robust,
            )
        voters.append((member.name, voter))
    return _kinds(contract).mean(voters)


def _line(contract: Contract, numbers: Sequence[str] | None = None) -> Pipeline:
    line = _kinds(contract).line()
    return steps.pipeline(contract, line, steps.scaled(), steps.one_hot(), numbers)


def _boosting(
    contract: Contract,
    random_seed: int,
    numbers: Sequence[str] | None = None,
    *,
    coded: bool = False,
    robust: bool = False,
) -> Pipeline:
    kinds = _kinds(contract)
    step = steps.known() if coded else kinds.category_step(random_seed)
    columns = len(row_inputs(contract) if numbers is None else input_names(contract))
    boosting = kinds.boosting(columns, random_seed, robust=robust)
    return steps.pipeline(contract, boosting, "passthrough", step, numbers)
