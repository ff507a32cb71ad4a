"""Scenarios: what may happen to a model in production, put on the replay's real rows.

It decides what each scenario changes and what the loop should do about it. They
are simulations: rows, features and dates are real, the disturbance is added.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from loopbook.loop.moved_targets import moved
from loopbook.models.task import task_of
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import ReplayError
from loopbook.records.turns import INVESTIGATE, PROMOTED, REFUSED, ROLLED_BACK

Turns = Sequence[Mapping[str, Any]]
Bias = Callable[[datetime, datetime], float | None]  # of what was answered between two instants
OTHER_UNIT = 0.09290304  # as between two units of area that clients do mix up
TOLD_TS = "told_ts"
HEALS, JUDGED = timedelta(weeks=6), timedelta(weeks=2)


@dataclass(frozen=True)
class Scenario:
    """A disturbance that begins at a moment, and what is right.

    Attributes
    ----------
    meaning : what happens
    change : of requests, from the moment on
    moves : by which share the target of each row moves, from the moment on; see `moved_targets`
    late_days : by how much ground truth is later than usual
    spoils_source : whether a retraining is asked for on a source with shuffled labels
    by_hand : whether that version is then promoted by a person
    needs_number : whether it disturbs the first required number
    expected : what the loop should do, in words
    is_right : whether these turns (from the moment on), with the moment and the bias of what
        was answered between two instants, are that
    """

    meaning: str
    expected: str
    is_right: Callable[[Turns, datetime, Bias], bool]
    change: Callable[[pl.DataFrame, Contract], pl.DataFrame] = lambda rows, _: rows
    moves: Callable[[pl.DataFrame, datetime], np.ndarray] | None = None
    late_days: float = 0
    spoils_source: bool = False
    by_hand: bool = False
    needs_number: bool = False

    def check(self, contract: Contract) -> None:
        """Raise a ReplayError if a table with this contract lacks what is disturbed."""
        if self.needs_number and not _required_numbers(contract):
            raise ReplayError(
                "this scenario changes the first number that every row has, and the contract "
                "requires none. Replay another scenario, or set required: true for a number."
            )


def outcomes(turns: Turns) -> list[str]:
    return [turn["outcome"] for turn in turns]


def _retrained(turns: Turns) -> int:
    return sum(bool(turn.get("attempt")) for turn in turns)


def _higher(rows: pl.DataFrame, _since: datetime) -> np.ndarray:
    return np.full(rows.height, 0.15)


def _up_and_down(rows: pl.DataFrame, since: datetime) -> np.ndarray:
    weeks = ((rows[EVENT_TS] - since).dt.total_days() // 7).to_numpy()
    return np.where(weeks % 4 < 2, 0.25, -0.2)


def _required_numbers(contract: Contract) -> list[str]:
    return [n for n in contract.numbers if contract.features[n].required]


def _in_another_unit(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """A client that sends the first required number in another unit."""
    name = _required_numbers(contract)[0]
    low = (contract.features[name].range or [0])[0]
    changed = (pl.col(name) * OTHER_UNIT).clip(lower_bound=low).round()
    return rows.with_columns(changed.cast(rows.schema[name]))


def _mostly_above_median(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Other clients: of the rows up to the median of the first required number, every fourth."""
    name = _required_numbers(contract)[0]
    is_above = pl.col(name) > rows[name].median()
    return rows.filter(is_above | (pl.int_range(pl.len()) % 4 == 0))


def _healed(turns: Turns, since: datetime, bias: Bias) -> bool:
    """Half of the bias of the model is gone from the answers in time, and at the end.

    By calibration or by a new version: who is answered does not care which. What
    was answered in the two weeks before is judged, with all ground truth: a
    turn's window begins where the target moved, when nothing could know of it.
    """
    told = [t["numbers"] for t in turns if t.get("numbers", {}).get("bias") is not None]
    half = max((abs(n.get("raw_bias") or n["bias"]) for n in told), default=0) / 2
    in_time, end = since + HEALS, max(datetime.fromisoformat(t["as_of"]) for t in turns)
    left = [bias(until - JUDGED, until) for until in (in_time, end)]
    return in_time <= end and all(one is not None and abs(one) <= half for one in left)


def _limited(turns: Turns, *_) -> bool:
    tried = [datetime.fromisoformat(turn["as_of"]) for turn in turns if turn.get("attempt")]
    return all(b - a >= timedelta(days=6) for a, b in pairwise(tried))


def disturbed(
    rows: pl.DataFrame, scenario: Scenario | None, contract: Contract, since: datetime
) -> pl.DataFrame:
    """The rows as they are sent; `told_ts` is when their ground truth is sent.

    Rows before `since`, and their ground truth, are as they were: on that rests
    that scenarios share their first step (`replay_projects.first_step`).
    """
    told_ts = pl.col(KNOWN_TS).alias(TOLD_TS)
    if scenario is None:
        return rows.with_columns(told_ts)
    target = contract.target.name
    held = task_of(contract).observed_type
    rows = rows.with_columns(pl.col(target).cast(held))  # a disturbed count is no integer
    before = rows.filter(pl.col(EVENT_TS) < since)
    after = scenario.change(rows.filter(pl.col(EVENT_TS) >= since), contract)
    if scenario.moves:
        shares = scenario.moves(after, since)
        after = after.with_columns(moved(after[target], shares, contract))
    late = timedelta(days=scenario.late_days)
    return pl.concat([before.with_columns(told_ts), after.with_columns(told_ts + late)])


SCENARIOS: dict[str, Scenario] = {
    "concept": Scenario(
        "the target moves up from one day on: a number by 15 %, of classes 15 % of the others",
        "by calibration or a new version, half of the bias is gone within six weeks, and at the end",
        _healed,
        moves=_higher,
    ),
    "covariate": Scenario(
        "mostly rows with a large first number are sent, and the target is what it was",
        "it does not retrain",
        lambda turns, *_: not _retrained(turns) and INVESTIGATE not in outcomes(turns),
        change=_mostly_above_median,
        needs_number=True,
    ),
    "broken-unit": Scenario(
        "a client sends the first number in another unit",
        "it investigates and does not retrain",
        lambda turns, *_: INVESTIGATE in outcomes(turns) and not _retrained(turns),
        change=_in_another_unit,
        needs_number=True,
    ),
    "late-labels": Scenario(
        "ground truth is two months late",
        "it waits",
        lambda turns, *_: (
            not _retrained(turns)
            and any("ground truth is late" in r for t in turns for r in t["verdict_reasons"])
        ),
        late_days=60,
    ),
    "bad-candidate": Scenario(
        "the source was exported with shuffled labels, and a retraining is asked for",
        "the gate refuses the challenger",
        lambda turns, *_: REFUSED in outcomes(turns) and PROMOTED not in outcomes(turns),
        spoils_source=True,
    ),
    "bad-champion": Scenario(
        "a version that the gate refused is promoted by hand",
        "it is rolled back",
        lambda turns, *_: ROLLED_BACK in outcomes(turns) and PROMOTED not in outcomes(turns),
        spoils_source=True,
        by_hand=True,
    ),
    "storm": Scenario(
        "the target moves up by a quarter and down by a fifth, every two weeks",
        "it keeps its limits: no retraining within six days of another",
        lambda turns, *_: _retrained(turns) > 0 and _limited(turns),
        moves=_up_and_down,
    ),
}
