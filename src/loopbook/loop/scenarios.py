"""Scenarios: what may happen to a model in production, put on the replay's real rows.

It decides what each scenario changes and what the loop should make of it. They
are simulations: rows, features and dates are real, the disturbance is ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract
from loopbook.records.turns import INVESTIGATE, PROMOTED, REFUSED, ROLLED_BACK

Turns = Sequence[Mapping[str, Any]]
SQUARE_FEET = 0.09290304  # square metres
TOLD_TS = "told_ts"
HEALS = timedelta(weeks=6)


@dataclass(frozen=True)
class Scenario:
    """A disturbance that begins at a moment, and what is right.

    Attributes
    ----------
    meaning : what happens
    change : of requests, from the moment on
    truth : of observed targets, with their rows, from the moment on
    late_days : by how much ground truth is later than usual
    spoils_source : whether a retraining is asked for on a source with shuffled labels
    by_hand : whether that version is then promoted by a person
    expected : what the loop should do, in words
    is_right : whether these turns (from the moment on), with the moment, are that
    """

    meaning: str
    expected: str
    is_right: Callable[[Turns, datetime], bool]
    change: Callable[[pl.DataFrame, Contract], pl.DataFrame] = lambda rows, _: rows
    truth: Callable[[np.ndarray, pl.DataFrame, datetime], np.ndarray] = lambda y, *_: y
    late_days: float = 0
    spoils_source: bool = False
    by_hand: bool = False


def outcomes(turns: Turns) -> list[str]:
    return [turn["outcome"] for turn in turns]


def _retrained(turns: Turns) -> int:
    return sum(bool(turn.get("attempt")) for turn in turns)


def _dearer(observed: np.ndarray, _rows: pl.DataFrame, _since: datetime) -> np.ndarray:
    return observed * 1.15


def _up_and_down(observed: np.ndarray, rows: pl.DataFrame, since: datetime) -> np.ndarray:
    weeks = ((rows[EVENT_TS] - since).dt.total_days() // 7).to_numpy()
    return observed * np.where(weeks % 4 < 2, 1.25, 0.8)


def _first_number(contract: Contract) -> str:
    return next(n for n in contract.numbers if contract.features[n].required)


def _in_metres(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """A client that sends the first required number in another unit."""
    name = _first_number(contract)
    low = (contract.features[name].range or [0])[0]
    changed = (pl.col(name) * SQUARE_FEET).clip(lower_bound=low).round()
    return rows.with_columns(changed.cast(rows.schema[name]))


def _mostly_large(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Other people ask: of those below the median of the first required number, every fourth."""
    name = _first_number(contract)
    is_large = pl.col(name) > rows[name].median()
    return rows.filter(is_large | (pl.int_range(pl.len()) % 4 == 0))


def _healed(turns: Turns, since: datetime) -> bool:
    """A version was promoted in time, and half of the bias that called for it is gone at the end."""
    promoted = [t for t in turns if t["outcome"] == PROMOTED]
    in_time = bool(promoted) and datetime.fromisoformat(promoted[0]["as_of"]) - since <= HEALS
    if not in_time:
        return False
    biases = [t.get("numbers", {}).get("bias") for t in (promoted[0], *turns)]
    known = [abs(bias) for bias in biases if bias is not None]
    return len(known) > 1 and known[-1] <= known[0] / 2


def _limited(turns: Turns) -> bool:
    tried = [datetime.fromisoformat(turn["as_of"]) for turn in turns if turn.get("attempt")]
    return all(b - a >= timedelta(days=6) for a, b in pairwise(tried))


def disturbed(
    rows: pl.DataFrame, scenario: Scenario | None, contract: Contract, since: datetime
) -> pl.DataFrame:
    """The rows as they are sent; `told_ts` is when their ground truth is told."""
    told = pl.col(KNOWN_TS).alias(TOLD_TS)
    if scenario is None:
        return rows.with_columns(told)
    before = rows.filter(pl.col(EVENT_TS) < since)
    after = scenario.change(rows.filter(pl.col(EVENT_TS) >= since), contract)
    target = contract.target.name
    observed = scenario.truth(after[target].to_numpy(), after, since)
    after = after.with_columns(pl.Series(target, observed))
    late = timedelta(days=scenario.late_days)
    return pl.concat([before.with_columns(told), after.with_columns(told + late)])


SCENARIOS: dict[str, Scenario] = {
    "concept": Scenario(
        "prices are 15 % higher from one day on",
        "a new version is promoted within six weeks, and at the end half of the bias is gone",
        _healed,
        truth=_dearer,
    ),
    "covariate": Scenario(
        "mostly large houses are asked about, and prices are what they were",
        "it does not retrain",
        lambda turns, _: not _retrained(turns) and INVESTIGATE not in outcomes(turns),
        change=_mostly_large,
    ),
    "broken-unit": Scenario(
        "a client sends a size in square metres",
        "it investigates and does not retrain",
        lambda turns, _: INVESTIGATE in outcomes(turns) and not _retrained(turns),
        change=_in_metres,
    ),
    "late-labels": Scenario(
        "ground truth is two months late",
        "it waits",
        lambda turns, _: (
            not _retrained(turns)
            and any("ground truth is late" in r for t in turns for r in t["verdict_reasons"])
        ),
        late_days=60,
    ),
    "bad-candidate": Scenario(
        "the source was exported with shuffled labels, and a retraining is asked for",
        "the gate refuses the challenger",
        lambda turns, _: REFUSED in outcomes(turns) and PROMOTED not in outcomes(turns),
        spoils_source=True,
    ),
    "bad-champion": Scenario(
        "a version that the gate refused is promoted by hand",
        "it is rolled back",
        lambda turns, _: ROLLED_BACK in outcomes(turns) and PROMOTED not in outcomes(turns),
        spoils_source=True,
        by_hand=True,
    ),
    "storm": Scenario(
        "prices go up by a quarter and down by a fifth, every two weeks",
        "it keeps its limits: no retraining within six days of another",
        lambda turns, _: _retrained(turns) > 0 and _limited(turns),
        truth=_up_and_down,
    ),
}
