"""Quality: our candidates beside the peers' defaults, on the same rows.

Two protocols. In time: what a build as of 1 October 2014 would have served,
asked about October's sales. At random: 10,000 rows to learn from, the rest to
be asked about, five seeds, as the tabular literature does with this table.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from lightgbm import LGBMRegressor
from sklearn.ensemble import HistGradientBoostingRegressor

from loopbook.data import sources, splits, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import candidates, evaluation, export, inference
from loopbook.project import clock, contract, knobs, paths

AS_OF = datetime(2014, 10, 1, tzinfo=UTC)
MONTH_END = datetime(2014, 11, 1, tzinfo=UTC)
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


def in_time(root: Path) -> list[str]:
    """MAPE and bias on October 2014, for every candidate and the plain peer."""
    table, rows = prepared(root)
    settings = knobs.read_knobs(root / "env.yaml")
    known = rows.filter(pl.col(clock.KNOWN_TS) <= AS_OF)
    windows = {k: getattr(settings, k) for k in ("validation_days", "test_days", "holdout_share")}
    parted, _ = splits.split(known, table, **windows)
    fitted_on = parted.filter(pl.col(splits.PART) != "test")
    october = rows.filter(pl.col(clock.EVENT_TS).is_between(AS_OF, MONTH_END, closed="left"))
    observed = october[table.target.name].to_numpy()
    vocabulary = row_features.learn_categories(fitted_on, table)
    X = row_features.model_matrix(fitted_on, table, vocabulary)
    y = export.from_target_unit(fitted_on[table.target.name].to_numpy(), table)
    X_october = row_features.model_matrix(october, table, vocabulary)
    lines = ["| as of 1 October 2014, on October | MAPE | bias |", "|---|---|---|"]
    for name in candidates.RECIPES:
        model = candidates.build(name, table, settings.random_seed)
        model = candidates.in_float32(candidates.fit(model, X, y, fitted_on))
        graph = inference.session(export.export(model, table, X.shape[1]))
        found = evaluation.metrics(observed, inference.predict(graph, X_october))
        lines.append(f"| {name} | {found['mape']:.2%} | {found['bias']:+.3f} |")
    before = rows.filter(pl.col(clock.EVENT_TS) < AS_OF)
    plain = HistGradientBoostingRegressor(random_state=0)
    plain.fit(raw(before, table), np.log(before[table.target.name].to_numpy()))
    found = evaluation.metrics(observed, np.exp(plain.predict(raw(october, table))))
    lines.append(f"| plain, raw columns, all before | {found['mape']:.2%} | {found['bias']:+.3f} |")
    return lines


def raw(rows: pl.DataFrame, table: contract.Contract) -> np.ndarray:
    """The contract's features as they stand; a category of digits is its number."""
    return rows.select(pl.col(n).cast(pl.Float64) for n in table.features).to_numpy()


def at_random(root: Path) -> list[str]:
    """RMSE of log price over five seeds, with its standard deviation."""
    table, rows = prepared(root)
    target = np.log(rows[table.target.name].to_numpy())
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
    lines = ["| random split, 10,000 rows, RMSE of log price | mean | sd |", "|---|---|---|"]
    for name, (X, make) in models.items():
        found = [_rmse(make(seed), X, target, rows, seed) for seed in SEEDS]
        lines.append(f"| {name} | {np.mean(found):.4f} | {np.std(found, ddof=1):.4f} |")
    return lines


def _rmse(model, X: np.ndarray, y: np.ndarray, rows: pl.DataFrame, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:TRAINING_ROWS], order[TRAINING_ROWS:]
    model = candidates.fit(model, X[train], y[train], rows[train])
    error = model.predict(X[test]) - y[test]
    return float(np.sqrt(np.mean(error**2)))


def run() -> list[str]:
    root = paths.current().root
    return [*in_time(root), "", *at_random(root)]
