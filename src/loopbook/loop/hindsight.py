"""Hindsight: when one should have retrained, now that everything is known.

It decides what each schedule of retrainings would have cost: a version of one kind of model,
fitted at the beginning of each step of a replay, answers all later requests, with a level and
without it. The best schedule is found exactly, by dynamic programming over the steps. No
policy could have known it; the regret is what it cost to know less.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import calibration_states, candidates, steps
from loopbook.models.calibration_states import Rule
from loopbook.models.measures import amount
from loopbook.models.task import task_of
from loopbook.monitoring.costs import Costs
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract
from loopbook.project.knobs import Knobs
from loopbook.registry import residuals

WITH_LEVEL = ("level", "loop")  # policies whose answers calibration moves
UNTRAINED = {True: "level", False: "never"}  # the policy that never retrains, with and without it
CANDIDATE = "hist_gradient_boosting"  # every table can have it, and it is fitted in seconds


@dataclass(frozen=True)
class Schedule:
    """At the beginning of which steps one retrains (0 is the first version's), and what it costs."""

    steps: tuple[int, ...]
    cost: float


def best(losses: np.ndarray, retraining: float) -> Schedule:
    """The schedule that costs least; of two that cost the same, the one that retrains later.

    Parameters
    ----------
    losses : array of shape (steps, steps)
        In [i, j] what the errors of step j cost if a version of step i answers; read for
        j >= i only.
    retraining : float
        What each version after the first costs.
    """
    steps = len(losses)
    costs, following = np.zeros(steps + 1), np.zeros(steps, int)
    for since in reversed(range(steps)):
        ends = np.arange(since + 1, steps + 1)
        served = np.cumsum(losses[since, since:])
        whole = served + costs[ends] + retraining * (ends < steps)
        # from behind: the last of equal ones
        place = len(whole) - 1 - int(np.argmin(whole[::-1]))
        costs[since], following[since] = whole[place], ends[place]
    taken, at = [0], int(following[0])
    while at < steps:
        taken.append(at)
        at = int(following[at])
    return Schedule(tuple(taken), float(costs[0]))


def cost(losses: np.ndarray, steps: Sequence[int], retraining: float, *, tried: int) -> float:
    """What a schedule costs, where `tried` retrainings were paid for, promoted or not."""
    ends = [*steps[1:], len(losses)]
    served = sum(losses[i, i:end].sum() for i, end in zip(steps, ends, strict=True))
    return float(served) + retraining * tried


@dataclass(frozen=True)
class Losses:
    """Sums of losses by the step of the version and the step of the requests."""

    raw: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class Asked:
    """What a hindsight is computed of.

    Attributes
    ----------
    rows : all usable rows, with event and known time, before the first moment and after it
    moments : the beginning of each step in UTC, and the end of the last
    """

    contract: Contract
    rows: pl.DataFrame
    moments: Sequence[datetime]
    knobs: Knobs


def losses(asked: Asked) -> Losses:
    """What versions of each step would have lost on all later requests.

    Notes
    -----
    As in a build, no version is fitted on the newest `test_days` that are known when it is made.
    Its level begins with what it answers to these; the residuals out of fold that a build adds
    would take a second fit.
    """
    rows = _prepared(asked.rows, asked.contract)
    begins = pl.Series(asked.moments, dtype=pl.Datetime("us", "UTC")).to_numpy()
    step = np.searchsorted(begins, rows[EVENT_TS].to_numpy(), side="right") - 1
    count = len(begins) - 1
    raw, moved = np.zeros((count, count)), np.zeros((count, count))
    for made, moment in enumerate(asked.moments[:-1]):
        places = np.flatnonzero((step >= made) & (step < count))
        found = _later(asked, rows, moment, rows[places])
        for which, of_rows in zip((raw, moved), found, strict=True):
            np.add.at(which[made], step[places], of_rows)
    return Losses(raw, moved)


def _prepared(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    rows = rows.sort(EVENT_TS, *contract.key)
    if contract.history:
        rows = history.with_history(rows, history.facts(rows, contract), contract)
    return row_features.with_derived(rows, contract)


def _later(
    asked: Asked, rows: pl.DataFrame, moment: datetime, requests: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each later request under a version of a moment, raw and moved by its level."""
    contract, knobs = asked.contract, asked.knobs
    task, target = task_of(contract), contract.target.name
    known = rows.filter(pl.col(KNOWN_TS) <= moment)
    is_kept = pl.col(EVENT_TS) > known[EVENT_TS].max() - timedelta(days=knobs.test_days)
    taught = known.filter(~is_kept)
    vocabulary = row_features.learn_categories(taught, contract)
    model = candidates.build(CANDIDATE, contract, knobs.random_seed, taught.height)
    y = task.inside(task.observed(taught[target]))
    X = row_features.model_matrix(taught, contract, vocabulary)
    model = steps.fitted(model, X, y)

    def answers(some: pl.DataFrame) -> np.ndarray:
        return task.answers(model, row_features.model_matrix(some, contract, vocabulary))

    kept = known.filter(is_kept)
    both = [(some, answers(some)) for some in (kept, requests)]
    pairs = pl.concat(residuals.paired(*one, contract, moment=moment) for one in both)
    rule = Rule.of(knobs, contract)
    shifts = calibration_states.shifts_at(task, pairs, requests[EVENT_TS], rule)
    raw = both[1][1]
    moved = calibration_states.moved(task, raw, shifts)
    observed = task.observed(requests[target])
    return task.losses(observed, raw), task.losses(observed, moved)


def of_replay(result: Mapping[str, Any], asked: Asked, costs: Costs) -> dict[str, Any]:
    """What the policies of a replay cost, what each retraining paid, and the regret of each.

    Parameters
    ----------
    result : mapping
        Of the replay: `months`, `retrains`, `schedules`.

    Returns
    -------
    dict
        `answered`: by policy, what its errors and retrainings cost, as it answered.
        `paid`: by policy that retrained, what a retraining saved on average against the policy
        that never does, less its cost. `regrets`: by policy, how much more its schedule costs
        than the `best`, where one kind of model answers for all.
    """
    errors = dict.fromkeys(result["retrains"], 0.0)
    for month in result["months"]:
        errors[month["policy"]] += costs.saved(month["error"], month["rows"])
    tried = result["retrains"]
    without = {policy: UNTRAINED[policy in WITH_LEVEL] for policy in errors}
    paid = {
        policy: (errors[without[policy]] - errors[policy]) / tried[policy] - costs.retraining
        for policy in errors
        if tried[policy] and without[policy] in errors
    }
    worth = Losses(*(of * costs.loss for of in astuple(losses(asked))))
    least, is_moved = min(
        (
            (best(of, costs.retraining), moved)
            for moved, of in ((True, worth.moved), (False, worth.raw))
        ),
        key=lambda found: found[0].cost,
    )
    schedules = {
        policy: cost(
            worth.moved if policy in WITH_LEVEL else worth.raw,
            result["schedules"][policy],
            costs.retraining,
            tried=tried[policy],
        )
        for policy in errors
    }
    return {
        "retraining": costs.retraining,
        "loss": costs.loss,
        "answered": {p: errors[p] + costs.retraining * tried[p] for p in errors},
        "paid": paid,
        "candidate": CANDIDATE,
        "best": {
            "retrained": [f"{asked.moments[step]:%Y-%m-%d}" for step in least.steps[1:]],
            "cost": least.cost,
            "with_level": is_moved,
        },
        "regrets": {policy: told - least.cost for policy, told in schedules.items()},
    }


def sentence(told: Mapping[str, Any]) -> str:
    """The best schedule, and what the rows of the table mean."""
    when = ", ".join(told["best"]["retrained"]) or "never"
    level = "a level" if told["best"]["with_level"] else "no level"
    return (
        f"cost: of errors and retrainings; each paid: what a retraining saved beside no retraining, "
        f"less its cost; regret: beside the best schedule in hindsight, which is to retrain "
        f"{when if when == 'never' else 'on ' + when} with {level} "
        f"({amount(told['best']['cost'])}; computed with {told['candidate']} for every schedule)"
    )


def schedule(versions: pl.DataFrame, moments: Sequence[datetime]) -> list[int]:
    """At which steps another version began to serve, 0 for the first.

    Parameters
    ----------
    versions : polars.DataFrame
        `as_of_ts` and `version` of a policy's answers.
    moments : sequence of datetime
        The beginning of each step, and the end of the last.
    """
    changed = pl.col("version").ne_missing(pl.col("version").shift())
    starts = versions.sort("as_of_ts").filter(changed)["as_of_ts"].to_list()[1:]
    return sorted({0, *(bisect_right(moments, start) - 1 for start in starts)})
