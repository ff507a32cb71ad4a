"""Tuning: settings of a candidate, searched on the rows that compare candidates.

It decides how settings are compared: fitted on `train`, by their mean loss on
`validation`, as a build ranks candidates. It never sees a row of `test`, and it
promotes nothing: what it finds is one more candidate, which the gate judges.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ParameterGrid, PredefinedSplit, RandomizedSearchCV

from loopbook.data import splits
from loopbook.features import rows as row_features
from loopbook.models import candidates, own_candidates, search_spaces, steps
from loopbook.models.search_spaces import Space
from loopbook.models.task import Task, task_of
from loopbook.project import waits
from loopbook.project.contract import Contract
from loopbook.project.errors import TuningError
from loopbook.project.files import read_json
from loopbook.project.paths import Project


@dataclass(frozen=True)
class Rows:
    """The rows of the last build that teach and that compare, as a model takes them."""

    X: np.ndarray
    observed: np.ndarray
    teaching: int  # the first so many teach, the others compare


@dataclass(frozen=True)
class How:
    """How many settings are drawn, and from which seed."""

    trials: int
    random_seed: int


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and their mean loss on validation; None if the fit failed."""

    settings: dict[str, Any]
    loss: float | None


@dataclass(frozen=True)
class Search:
    """What a search found: the candidate as it is, and every trial."""

    candidate: str
    as_is: float
    trials: Sequence[Trial]
    rows: int

    @property
    def best(self) -> Trial | None:
        """The trial with the smallest loss, the first of equal ones; None if none beats `as_is`."""
        done = [trial for trial in self.trials if trial.loss is not None]
        best = min(done, key=lambda trial: trial.loss, default=None)
        return best if best and best.loss < self.as_is else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"best": asdict(self.best) if self.best else None}


def rows_of_build(project: Project, contract: Contract) -> Rows:
    """The parts `train` and `validation` of the last build; its test rows are not read.

    Raises
    ------
    TuningError
        If there was no build.
    """
    folder = project.var / "build"
    try:
        bounds = read_json(folder / "split.json")
        every = pl.scan_parquet(folder / "split_rows.parquet", glob=False)
        parts = [every.filter(pl.col(splits.PART) == p).collect() for p in ("train", "validation")]
    except (OSError, pl.exceptions.PolarsError):
        raise TuningError(
            "tune: there are no rows of a build to learn from. Make them: loopbook build"
        ) from None
    some = pl.concat(parts)
    names = row_features.input_names(contract)
    X = row_features.encode(some, names, bounds["categories"])
    return Rows(X, task_of(contract).observed(some[contract.target.name]), parts[0].height)


def search(
    name: str, contract: Contract, rows: Rows, space: Space, how: How, client: Any = None
) -> Search:
    """Try settings of a candidate: here, or with a Dask `client` on its workers.

    The same space, trials and seed give the same trials and losses wherever
    they are computed.

    Raises
    ------
    TuningError
        If the space names a setting that the candidate does not have, or no trial could be fitted.
    """
    task = task_of(contract)
    model = candidates.build(name, contract, how.random_seed, rows.teaching)
    search_spaces.check_names(space, model.get_params(), name)
    y, teaching = task.inside(rows.observed), rows.teaching
    steps.prepared(model, rows.X[:teaching], y[:teaching])
    compared = partial(_score, task, rows.observed[teaching:])
    part = np.where(np.arange(len(y)) < teaching, -1, 0)
    searched = RandomizedSearchCV(
        model,
        search_spaces.distributions(space),
        n_iter=_count(how.trials, space),
        scoring=compared,
        cv=PredefinedSplit(part),
        refit=False,
        random_state=how.random_seed,
        n_jobs=-1 if client else None,
        error_score=np.nan,
    )
    where = "on the scheduler's workers" if client else "here"
    waits.at(f"trying settings {where}")
    if client is None:
        waits.expect(searched.n_iter, "trials")
    with _computing_on(client):
        try:
            found = searched.fit(rows.X, y).cv_results_
        except ValueError as reason:
            raise TuningError(
                f"tune {name}: no trial could be fitted ({str(reason).strip().splitlines()[-1]}). "
                f"Correct its space in {search_spaces.FILE}."
            ) from None
    waits.at("fitting it as it is")
    as_is = model.fit(rows.X[:teaching], y[:teaching])
    losses = -found["split0_test_score"]
    done = [
        Trial({k: _plain(v) for k, v in settings.items()}, float(loss) if isfinite(loss) else None)
        for settings, loss in zip(found["params"], losses, strict=True)
    ]
    return Search(name, -compared(as_is, rows.X[teaching:], None), done, teaching)


def _score(task: Task, observed: np.ndarray, model: BaseEstimator, X: np.ndarray, _y: Any) -> float:
    """The mean loss of the rows that compare, in the target's unit; larger is better."""
    loss = float(task.losses(observed, task.answers(model, X)).mean())
    waits.advance()  # a trial; on a worker of a scheduler nobody waits
    return -loss


def _count(trials: int, space: Space) -> int:
    """How many trials a space has room for."""
    is_finite = all(isinstance(values, list) for values in space.values())
    return min(trials, len(ParameterGrid(space))) if is_finite else trials


def _plain(value: Any) -> Any:
    """A setting as Python and JSON write it."""
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def _computing_on(client: Any) -> Iterator[None]:
    """Let scikit-learn's search compute on a client's workers, or here, and say no word of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)  # such a trial has no loss, and says so
        warnings.filterwarnings("ignore", message="One or more of the test scores are non-finite")
        if client is None:
            yield
            return
        import cloudpickle
        import joblib

        own = sys.modules.get(own_candidates.MODULE)  # a file of the project, not of the workers
        if own:
            cloudpickle.register_pickle_by_value(own)
        with joblib.parallel_config("dask", client=client):
            yield
