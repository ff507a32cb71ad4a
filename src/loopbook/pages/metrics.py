"""Metrics: what the metrics of a version or a window are called on a page.

It decides words and units, and puts those of each class into one row. It
computes none of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from loopbook.models.measures import Measure
from loopbook.pages.formats import Amount, share

RECALL, PRECISION = "recall_", "precision_"
WORDS = {
    "n": "rows",
    "absolute_log_error": "mean absolute log error",
    "absolute_error": "mean absolute error",
    "absolute_percentage_error": "mean absolute percentage error",
    "squared_error": "mean squared error",
    "mae": "mean absolute error",
    "rmse": "root of the mean squared error",
    "rmse_log": "root of the mean squared log error",
    "mape": "mean absolute percentage error (MAPE)",
    "median_ape": "median absolute percentage error",
    "r2": "share of the variance that is explained (R²)",
    "log_loss": "log loss",
    "brier": "Brier score",
    "accuracy": "how often the most probable class is the right one",
    "calibration_error": "expected calibration error",
    "roc_auc": "area under the ROC curve",
    "pr_auc": "area under the precision-recall curve",
}
SHARES = ("mape", "median_ape", "accuracy", "calibration_error")
IN_UNIT = ("mae", "rmse")
RELATIVE = ("mape", "median_ape")  # of a number near 0 they say nothing
OF_RATIOS = ("absolute_log_error", "absolute_percentage_error", "mape", None)
TWICE = {"absolute_error": "mae", "absolute_percentage_error": "mape"}  # under two names


def rows(
    metrics: Mapping[str, float],
    metric: str | None,
    measures: tuple[Measure, Measure],
    unit: str | None = None,
) -> list[tuple[str, Any]]:
    """Metrics as the rows of a table, the one that decides first.

    Parameters
    ----------
    metric : str or None
        Which of them decides. Where that is no relative one, those are left out.
    measures : pair of Measure
        Of that one and of the bias.
    unit : str, optional
        The target's, where it is known.
    """
    first = [name for name in (metric,) if name in metrics]
    told = (*first, TWICE.get(metric or ""), *(() if metric in OF_RATIOS else RELATIVE))
    rest = [name for name in metrics if name not in told and not _is_of_class(name)]
    return [
        (_words(name, metric), _value(name, metrics[name], metric, measures, unit))
        for name in (*first, *rest)
    ]


def _is_of_class(name: str) -> bool:
    return name.startswith((RECALL, PRECISION))


def _words(name: str, metric: str | None) -> str:
    told = WORDS.get(name, name.replace("_", " "))
    return f"{told}: what decides" if name == metric else told


def _value(
    name: str,
    value: float,
    metric: str | None,
    measures: tuple[Measure, Measure],
    unit: str | None,
) -> Amount | int:
    if name == metric:
        return Amount(measures[0].said(value))
    if name == "bias":
        return Amount(measures[1].said_change(value))
    if name in SHARES:
        return Amount(share(value))
    if name == "n":
        return int(value)
    return Amount(Measure("", unit if name in IN_UNIT else "").said(value))


def by_class(metrics: Mapping[str, float]) -> list[tuple[str, Amount, Amount]]:
    """Each class with the share of its rows that was found, and of its answers that was right.

    A class that no row had, or that was never answered, has a dash there.
    """
    names = dict.fromkeys(
        name.removeprefix(start)
        for name in metrics
        for start in (RECALL, PRECISION)
        if name.startswith(start)
    )
    return [
        (name, *(_share(metrics.get(start + name)) for start in (RECALL, PRECISION)))
        for name in names
    ]


def class_shares(
    columns: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> list[tuple[str, Amount, Amount, Amount, Amount]]:
    """How frequent each class is: answered before and now, observed before and now.

    Parameters
    ----------
    columns : sequence of mappings
        Those of a window's record; empty is answered where they lack one of the two.
    """
    by_name = {column["column"]: column for column in columns}
    if not classes or not {"answer", "observed"} <= by_name.keys():
        return []
    told = [
        dict(zip(by_name[name]["labels"], by_name[name][when], strict=True))
        for name in ("answer", "observed")
        for when in ("reference", "current")
    ]
    return [(name, *(_share(shares.get(name)) for shares in told)) for name in classes]


def _share(value: float | None) -> Amount:
    return Amount("–" if value is None else share(value))
