"""Scores: the metrics that people see beside the one that decides.

It decides which metrics a number and a class have. None of them ranks, gates
or judges; the loss of `task` does.
"""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from sklearn import metrics as sk

if TYPE_CHECKING:
    from loopbook.models.classes import Classes
    from loopbook.models.number import Number


def of_numbers(task: "Number", observed: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The metrics of a number, in the target's unit unless said otherwise.

    Returns
    -------
    dict
        `n`, the task's own metric by its name, `mae`, `rmse`, `r2`, `bias` (in
        the link's space; below 0 it predicts too little); where the target is
        0 nowhere, `mape` and `median_ape` in [0, inf) as shares; where it is a
        log inside, `rmse_log`.
    """
    error = answers - observed
    total = float(np.sum((observed - observed.mean()) ** 2))
    (signed,) = task.signed_errors(observed, answers).values()
    found = {
        "n": float(observed.size),
        task.metric: float(task.losses(observed, answers).mean()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(signed.mean()),
    }
    if total > 0:
        found["r2"] = 1 - float(np.sum(error**2)) / total
    if np.all(observed != 0):
        ape = np.abs(error / observed)
        found |= {"mape": float(ape.mean()), "median_ape": float(np.median(ape))}
    if task.link == "log":
        found["rmse_log"] = float(np.sqrt((signed**2).mean()))
    return found


def of_classes(task: "Classes", observed: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The metrics of classes.

    Returns
    -------
    dict
        `n`, `log_loss` in nats, `brier` (mean squared distance of the
        probabilities from what happened, in [0, 2]), `accuracy` of the most
        probable class, `calibration_error` (see `calibration_error`), `recall_`
        and `precision_` of each class that there is; for yes or no `bias`
        (mean probability less the rate) and, where both happened, `roc_auc` and
        `pr_auc` (average precision).
    """
    places = observed.astype(np.intp)
    happened = np.eye(task.width)[places]
    said = answers.argmax(axis=1)
    found = {
        "n": float(observed.size),
        "log_loss": float(task.losses(observed, answers).mean()),
        "brier": float(((answers - happened) ** 2).sum(axis=1).mean()),
        "accuracy": float((said == places).mean()),
        "calibration_error": calibration_error(task, observed, answers),
    }
    if task.positive is not None:
        chance, yes = answers[:, task.positive], places == task.positive
        found["bias"] = float((chance - yes).mean())
        if 0 < yes.sum() < yes.size:
            found["roc_auc"] = float(sk.roc_auc_score(yes, chance))
            found["pr_auc"] = float(sk.average_precision_score(yes, chance))
    for place, name in enumerate(task.classes):
        right = float(((said == place) & (places == place)).sum())
        if (places == place).any():
            found[f"recall_{name}"] = right / float((places == place).sum())
        if (said == place).any():
            found[f"precision_{name}"] = right / float((said == place).sum())
    return found


def calibration(observed: np.ndarray, answers: np.ndarray, groups: int = 10) -> pl.DataFrame:
    """Mean answer and mean outcome in groups of about equal size by answer.

    Equal answers are in one group: apart, the chance of which row is where
    would look like an error of the model.

    Returns
    -------
    polars.DataFrame
        Columns `predicted`, `observed`, `n`; at most `groups` rows, ascending.
    """
    order = np.argsort(answers, kind="stable")
    ascending = answers[order]
    ends = [part[-1] for part in np.array_split(np.arange(order.size), groups) if part.size]
    ends = np.unique(np.searchsorted(ascending, ascending[ends], side="right"))
    parts = [part for part in np.split(order, ends) if part.size]
    return pl.DataFrame(
        {
            "predicted": [float(answers[p].mean()) for p in parts],
            "observed": [float(observed[p].mean()) for p in parts],
            "n": [int(p.size) for p in parts],
        }
    )


def calibration_error(task: "Classes", observed: np.ndarray, answers: np.ndarray) -> float:
    """The expected calibration error, in [0, 1]: mean distance of probability and rate.

    Notes
    -----
    Over ten groups of equal size by probability (Nguyen and O'Connor, 2015), of
    the yes, or of every class taken by itself.
    """
    table = task.calibration(observed, answers)
    apart = (table["predicted"] - table["observed"]).abs()
    return float((apart * table["n"]).sum() / table["n"].sum())
