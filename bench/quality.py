"""Quality: our candidates beside the peers' defaults, on the same rows.

Two protocols. In time: what a build as of a day would have served, asked about
the rows of the 31 days after it. At random: 10,000 rows to learn from, the rest
to be asked about, five seeds, as the tabular literature does.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from lightgbm import LGBMRegressor
from sklearn.ensemble import HistGradientBoostingRegressor

from loopbook.data import sources, splits, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import candidates, export, fitted_parts, inference, steps
from loopbook.models.task import task_of
from loopbook.project import clock, contract, knobs, paths

ASKED_DAYS = 31
SEEDS = range(5)
TRAINING_ROWS = 10_000


def prepared(root: Path) -> tuple[contract.Contract, pl.DataFrame]:
    """The contract and all its rows, with all that a build computes of them."""
    table = contract.read_contract(root / "contract.yaml")
    rows, _ = validation.without_known_faults(sources.read_source(table, root), table)
    rows = validation.conform(sources.with_clock(rows, table), table)
    rows = rows.sort(clock.EVENT_TS, *table.key)
    rows = history.with_history(rows, history.facts(rows, table), table)
    return table, row_features.with_derived(rows, table)


def in_time(root: Path, as_of: datetime | None) -> list[str]:
    """Mean loss, MAPE and bias on the days after `as_of`, for every candidate and the plain peer."""
    table, rows = prepared(root)
    task = task_of(table)
    as_of = as_of or rows[clock.EVENT_TS].max() - timedelta(days=ASKED_DAYS - 1)
    settings = knobs.read_knobs(root / "env.yaml")
    known = rows.filter(pl.col(clock.KNOWN_TS) <= as_of)
    windows = {k: getattr(settings, k) for k in ("validation_days", "test_days", "holdout_share")}
    parted, _ = splits.split(known, table, **windows)
    fitted_on = parted.filter(pl.col(splits.PART) != "test")
    end = as_of + timedelta(days=ASKED_DAYS)
    asked = rows.filter(pl.col(clock.EVENT_TS).is_between(as_of, end, closed="left"))
    observed = task.observed(asked[table.target.name])
    vocabulary = row_features.learn_categories(fitted_on, table)
    X = row_features.model_matrix(fitted_on, table, vocabulary)
    y = inside(fitted_on, table)
    X_asked = row_features.model_matrix(asked, table, vocabulary)
    lines = [
        f"| as of {as_of:%d %B %Y}, the {ASKED_DAYS} days after | {task.measure.title} | MAPE | bias |",
        "|---|---|---|---|",
    ]

    def line(name: str, answers: np.ndarray) -> str:
        found = task.metrics(observed, answers)
        cells = [task.measure.said(found[task.metric]), f"{found['mape']:.2%}"]
        return f"| {name} | {' | '.join(cells)} | {task.bias_measure.said_change(found['bias'])} |"

    for name in candidates.RECIPES:
        model = candidates.build(name, table, settings.random_seed, len(y))
        model = fitted_parts.in_float32(steps.fitted(model, X, y))
        graph = inference.session(export.export(model, table, X.shape[1]))
        lines.append(line(name, inference.predict(graph, X_asked)))
    before = rows.filter(pl.col(clock.EVENT_TS) < as_of)
    plain = HistGradientBoostingRegressor(random_state=0)
    plain.fit(raw(before, table), inside(before, table))
    answers = task.answers(plain, raw(asked, table))
    return [*lines, line("plain, raw columns, all before", answers)]


def raw(rows: pl.DataFrame, table: contract.Contract) -> np.ndarray:
    """The contract's features as they stand; a category of digits is its number, or else its code."""
    return rows.select(
        pl.col(n).cast(pl.Float64, strict=False)
        if rows[n].cast(pl.Float64, strict=False).null_count() == rows[n].null_count()
        else pl.col(n).cast(pl.Categorical).to_physical().cast(pl.Float64)
        for n in table.features
    ).to_numpy()


def inside(rows: pl.DataFrame, table: contract.Contract) -> np.ndarray:
    """The target as a model is fitted on it: its log, where the contract says so."""
    task = task_of(table)
    return task.inside(task.observed(rows[table.target.name]))


def at_random(root: Path) -> list[str]:
    """RMSE of the target (its log, where the model has it) over five seeds, with its deviation."""
    table, rows = prepared(root)
    target = inside(rows, table)
    vocabulary = row_features.learn_categories(rows, table)
    ours, plain = row_features.model_matrix(rows, table, vocabulary), raw(rows, table)
    models = {
        name: (ours, lambda seed, name=name: candidates.build(name, table, seed))
        for name in candidates.RECIPES
    }
    models["scikit-learn's default boosting"] = (
        plain,
        lambda seed: HistGradientBoostingRegressor(random_state=seed),
    )
    models["LightGBM's defaults"] = (
        plain,
        lambda seed: LGBMRegressor(random_state=seed, n_jobs=1, verbose=-1),
    )
    what = f"{'log ' if table.target.transform == 'log' else ''}{table.target.name}"
    lines = [f"| random split, 10,000 rows, RMSE of {what} | mean | sd |", "|---|---|---|"]
    for name, (X, make) in models.items():
        found = [_rmse(make(seed), X, target, rows, seed) for seed in SEEDS]
        lines.append(f"| {name} | {np.mean(found):.4f} | {np.std(found, ddof=1):.4f} |")
    return lines


def _rmse(model, X: np.ndarray, y: np.ndarray, rows: pl.DataFrame, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:TRAINING_ROWS], order[TRAINING_ROWS:]
    model = steps.fitted(model, X[train], y[train])
    error = model.predict(X[test]) - y[test]
    return float(np.sqrt(np.mean(error**2)))


def run(as_of: datetime | None = None) -> list[str]:
    root = paths.current().root
    return [*in_time(root, as_of), "", *at_random(root)]
