"""Sentinel: what of a table knows its target, and what a person said to it.

It decides which leaks are told, which of them stop a build, and which the
contract accepts. How each is found is said by `leaks`, `target_functions` and
`split_leaks`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from loopbook.data.rehearsal import Rehearsed
from loopbook.data.splits import PART
from loopbook.features.calendar import local_times, part_of
from loopbook.features.rows import input_names
from loopbook.models import leaks, split_leaks, target_functions
from loopbook.models.explained import Columns, as_columns, explained
from loopbook.models.leaks import PROVEN, SUSPECTED, Leak
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import DataError, listed
from loopbook.project.formulas import formula_names

FROM_VALUES = (
    target_functions.copies,
    target_functions.together,
    target_functions.functions,
    target_functions.joint,
)
LOOKS = (*FROM_VALUES, leaks.missingness, leaks.explains, leaks.time)
COMES_AGAIN = ("hour", "weekday", "month", "quarter", "week")  # parts of the time
A_NUMBER_OF = re.compile(r"(^|_)(id|no|nr|num|number|code)(_|$)")  # a header, not a quantity
MOST_ROWS = 20_000  # in which rows that judge and rows that teach are compared


def found(table: Columns) -> list[Leak]:
    """Every leak of a table's columns, proven ones first; a column is named once."""
    if table.target.size < leaks.LEAST_ROWS:
        return []
    some: list[Leak] = []
    for look in LOOKS:
        # beside one that knows the target, no other one stands out
        named = {name for leak in some for name in leak.columns}
        left = {name: values for name, values in table.values.items() if name not in named}
        for leak in look(replace(table, values=left)):
            if not named & set(leak.columns):
                some.append(leak)
                named |= set(leak.columns)
    return _proven_first(some)


def _proven_first(some: Sequence[Leak]) -> list[Leak]:
    return sorted(some, key=lambda leak: leak.certainty != PROVEN)


def of_rows(
    rows: pl.DataFrame, names: Sequence[str], target: str, *, time: str | None = None
) -> list[Leak]:
    """Every leak of some columns of a table, rows without a target among them.

    They are looked for in a sample. What is said to follow from the values is
    held against all rows, and is a suspicion where it does not hold there.
    """
    table = as_columns(rows, names, target, time=time)
    some = [_held(leak, rows, target, time) for leak in found(table)]
    named = {name for leak in some for name in leak.columns}
    rest = [name for name in names if name not in named]
    some += leaks.gone_with_the_target(rows, rest, target)
    return _proven_first(some)


def _held(leak: Leak, rows: pl.DataFrame, target: str, time: str | None) -> Leak:
    if leak.certainty != PROVEN:
        return leak
    whole = as_columns(rows, leak.columns, target, time=time, most=rows.height)
    for look in FROM_VALUES:
        for again in look(whole):
            if set(again.columns) == set(leak.columns) and again.certainty == PROVEN:
                return again
    told = f"{leak.evidence} of a sample, though not in all rows of the table"
    return replace(leak, certainty=SUSPECTED, evidence=told)


# -- a table that a contract describes --------------------------------------------


@dataclass(frozen=True)
class Answered:
    """A leak, and what the contract says to it.

    Attributes
    ----------
    accepted : the reasons, by column; a leak is accepted where each of its columns is
    """

    leak: Leak
    accepted: dict[str, str]

    @property
    def is_accepted(self) -> bool:
        return set(self.leak.columns) <= self.accepted.keys()

    @property
    def stops(self) -> bool:
        return self.leak.certainty == PROVEN and not self.is_accepted

    @property
    def sentence(self) -> str:
        """For people."""
        if self.is_accepted:
            why = "; ".join(dict.fromkeys(self.accepted.values()))
            return f"{self.leak.evidence}. Accepted: {why}"
        return f"{self.leak.evidence}: {self.leak.remedy}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self.leak) | {"accepted": self.accepted if self.is_accepted else None}


def of_table(rows: pl.DataFrame, contract: Contract) -> list[Answered]:
    """The leaks of a table's inputs.

    Parameters
    ----------
    rows : polars.DataFrame
        Of the contract's types, with `event_ts` where it has an event time; those
        without a target tell of columns that come with it.
    """
    names, target = list(contract.features), contract.target.name
    time = EVENT_TS if EVENT_TS in rows.columns else None
    some = of_rows(rows, names, target, time=time)
    if time:
        some = [
            leak for leak in some if leak.kind != "time" or not _is_calendar(leak, rows, contract)
        ]
        named = {name for leak in some for name in leak.columns}
        rest = [name for name in names if name not in named]
        some += split_leaks.later(rows, rest, time, contract.time_zone)
    return [_answered(leak, contract) for leak in some]


def alone(rows: pl.DataFrame, contract: Contract) -> dict[str, float]:
    """How much of the target each input explains by itself, the most first."""
    table = as_columns(rows, list(contract.features), contract.target.name)
    shares = {name: explained(table, [name]) for name in table.values}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def unaccepted(contract: Contract) -> list[str]:
    """The inputs of a model that are no accepted leak, nor computed from one."""
    open_inputs = set(input_names(contract)) - contract.leaks.keys()
    formulas = {n: d.formula for n, d in contract.computed.items() if d.formula}
    made = {n for n, formula in formulas.items() if formula_names(formula) & contract.leaks.keys()}
    return [name for name in input_names(contract) if name in open_inputs - made]


def of_parts(parted: pl.DataFrame, contract: Contract, *, seed: int = 0) -> list[Answered]:
    """What the rows that judge share with those that teach, and what tells of no later rows.

    Parameters
    ----------
    parted : polars.DataFrame
        With the column `part`. Of many rows those that judge are a sample.
    """
    some = shared(parted, contract, seed=seed)
    if contract.event_time:
        names, target = list(contract.features), contract.target.name
        table = as_columns(parted, names, target, time=EVENT_TS, seed=seed)
        gone = leaks.time(table, only_counters=False)
        some += [leak for leak in gone if not _is_calendar(leak, parted, contract)]
    return [_answered(leak, contract) for leak in some]


def shared(parted: pl.DataFrame, contract: Contract, *, seed: int = 0) -> list[Leak]:
    """Rows, and things with several rows, that stand in parts that teach and in the one that judges."""
    names, target = list(contract.features), contract.target.name
    judges = pl.col(PART) == "test"
    learned, asked = parted.filter(~judges), parted.filter(judges)
    if asked.height > MOST_ROWS:
        asked = asked.sample(MOST_ROWS, seed=seed)
    alike = split_leaks.ALIKE_LATER if contract.event_time else split_leaks.ALIKE_LEAST
    things = _things(contract)
    return [
        *split_leaks.twice(learned, asked, names, target),
        *split_leaks.groups(learned, asked, things, target, alike=alike),
    ]


def _things(contract: Contract) -> list[str]:
    """Columns that may say which thing a row is about: parts of the key, categories, and numbers of a thing."""
    of_key = contract.key if len(contract.key) > 1 else []
    times = {contract.event_time} if contract.event_time else set()
    named = [
        n for n, f in contract.features.items() if f.type == "integer" and A_NUMBER_OF.search(n)
    ]
    every = dict.fromkeys([*of_key, *contract.categories, *named])
    return [name for name in every if name not in times]


def _is_calendar(leak: Leak, rows: pl.DataFrame, contract: Contract) -> bool:
    """Whether a column follows from what comes again: a month tells of no month that has not come."""
    (name,) = leak.columns
    if contract.features[name].calendar:
        return True
    times = local_times(rows[EVENT_TS], contract.time_zone)
    for part in COMES_AGAIN:
        pairs = pl.DataFrame([part_of(times, part).alias("part"), rows[name].alias("value")])
        if pairs.n_unique() == pairs["part"].n_unique():
            return True
    return False


def _answered(leak: Leak, contract: Contract) -> Answered:
    accepted = contract.accepted_leaks
    return Answered(leak, {name: accepted[name] for name in leak.columns if name in accepted})


def rehearsed(done: Rehearsed, contract: Contract) -> Iterator[str]:
    """What a build would say of leaks, a sentence each.

    Raises
    ------
    DataError
        After the last sentence, where the build would stop.
    """
    some = of_table(done.with_unlabelled, contract)
    every = [*some, *of_parts(done.parted, contract)]
    yield from dict.fromkeys(answered.sentence for answered in every if not answered.stops)
    refuse_proven(some, contract)


def refuse_proven(some: Sequence[Answered], contract: Contract) -> None:
    """Stop where an input is the target or a function of it, and nobody accepted that.

    Raises
    ------
    DataError
        With every such leak.
    """
    proven = [answered for answered in some if answered.stops]
    if not proven:
        return
    open_columns = [n for a in proven for n in a.leak.columns if n not in a.accepted]
    raise DataError(
        f"contract '{contract.name}': the target {contract.target.name} follows from "
        f"{', '.join(open_columns)}, so a model would learn the answer and not what leads to it.\n"
        f"{listed([answered.sentence for answered in proven])}\n"
        "Take a column that is known only afterwards out of features and put it under ignored in "
        f"contract.yaml: {{column: {open_columns[0]}, known: after}}. If it is known when a "
        f'prediction is asked for, say why: leaks: {{{open_columns[0]}: {{accepted: "…"}}}}.'
    )
