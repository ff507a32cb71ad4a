"""Plain: what a verdict says, in words that need no explanation.

It decides how a column, a fault and a reason are told to somebody who knows the
table and no statistics. Pure: its numbers are those of the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from loopbook.models.measures import of_record
from loopbook.pages.formats import date, share
from loopbook.project.contract import Contract
from loopbook.project.counts import listed
from loopbook.records.verdicts import WATCH

if TYPE_CHECKING:  # SciPy: a page with a verdict does not wait for it
    from loopbook.monitoring.drift import ColumnDrift

Record = Mapping[str, Any]
T = TypeVar("T")
AS_PROMISED = "its errors and its inputs are what they were when it was promoted"
DIFFERS = "{} from what it has learned"
MOST = 4  # inputs that a sentence names; Drift has all
# what is said of one input, and of several
OF_ONE = re.compile(r"^(“[^”]+”) (is missing|differs) (.+)$")
OF_MANY = {"is missing": "are missing", "differs": "differ"}
NAMED = {"the ground truth": "the outcomes", "the answers": "its answers"}
OF_WINDOWS = {"answer": "the answers", "observed": "the ground truth"}
TRUTHS = {"true": "yes", "false": "no"}
DAY = re.compile(r"\d{4}-\d\d-\d\d")
# where a reason has the name of a column or a slice
NAME = re.compile(
    r"^(in [\d.]+ % of the rows )?(.+?)"
    r"(?= is one that training has| moved: distance | is missing in | lies outside | drifts apart: )"
)
# a reason's beginning, and what is said instead; groups are the reason's own numbers
PLAIN = (
    (r"only 1 answers? in the window, ([\d,]+) are needed", "only 1 of the {0} requests needed to judge it has come"),
    (r"ground truth is late: 1 of ([\d,]+) answers", "the outcomes are late: 1 of {0} that are due has come"),
    (r"too little ground truth: 1 answers? ha(?:s|ve) it, ([\d,]+) are", "the outcome of 1 request is known, and {0} are needed to judge its error"),
    (r"only ([\d,]+) answers in the window, ([\d,]+) are needed", "only {0} of the {1} requests needed to judge it have come"),
    (r"ground truth is late: ([\d,]+) of ([\d,]+) answers", "the outcomes are late: {0} of {1} that are due have come"),
    (r"too little ground truth: ([\d,]+) answers have it, ([\d,]+) are", "the outcomes of {0} requests are known, and {1} are needed to judge its error"),
    (r"the error is estimated to have grown by (\S+(?: points| [^\d\s]+)?)", "its error has probably grown by {0}"),
    (r"the calibration is at its bound", "its automatic correction is at its limit"),
    (r"nothing was ever asked", "nobody has asked it anything yet"),
    (r"nothing was asked from (\S+) to (\S+);", "nobody asked it anything from {0} to {1}"),
    (r"there is no champion yet", "no model serves yet"),
    (r"the error has not grown|no input has moved", AS_PROMISED),
)  # fmt: skip

UNJUDGED = (
    "only ",
    "ground truth is late",
    "too little ground truth",
    "nothing was ",
    "there is no ",
)


def is_unjudged(record: Record) -> bool:
    """Whether a verdict says that there was nothing to judge by."""
    judged = record["verdict"]
    return judged["level"] == WATCH and judged["reasons"][0].startswith(UNJUDGED)


def called(name: str, contract: Contract) -> str:
    """What people call a column: its alias, or its meaning where its name is the program's."""
    if feature := contract.features.get(name):
        return (feature.alias or name).replace("_", " ")
    about = contract.trailing.get(name) or contract.computed.get(name)
    return about.meaning.rstrip(".") if about else name.replace("_", " ")


def labelled(name: str, contract: Contract) -> str:
    """What a reader calls an input: as its slider does, or by its meaning where it has none."""
    return contract.label(name) if name in contract.features else called(name, contract)


def column_called(name: str, contract: Contract) -> str:
    """What a reader calls a column of a window: an input by its label, the others by what they are."""
    return OF_WINDOWS.get(name) or labelled(name, contract)


def named(columns: Iterable[ColumnDrift], contract: Contract) -> list[ColumnDrift]:
    """Columns of a window with the names that a reader knows, for a figure."""
    return [replace(c, column=column_called(c.column, contract)) for c in columns]


def with_names(reason: str, contract: Contract) -> str:
    """A reason as it is recorded, with the name that a reader knows in the place of a column's."""
    return NAME.sub(lambda told: (told[1] or "") + slice_called(told[2], contract), reason)


def readable(record: Record, contract: Contract) -> Record:
    """The record of a window whose reasons and faults have the names that a reader knows."""
    judged = record["verdict"]
    reasons = [with_names(reason, contract) for reason in judged["reasons"]]
    faults = [
        fault | {"sentence": with_names(fault["sentence"], contract)}
        for fault in record.get("faults", [])
    ]
    return {**record, "verdict": judged | {"reasons": reasons}, "faults": faults}


def causes(record: Record, contract: Contract) -> list[str]:
    """The reasons of a verdict, the weightiest first, each once and without a capital."""
    return together(by_reason(record, contract).values())


def by_reason(record: Record, contract: Contract) -> dict[str, str]:
    """What is said of each reason of a verdict."""
    faults = {fault["sentence"]: fault for fault in record.get("faults", [])}
    return {
        reason: _fault(faults[reason], contract)
        if reason in faults
        else _reason(reason, record, contract)
        for reason in record["verdict"]["reasons"]
    }


def together(told: Iterable[str]) -> list[str]:
    """Each sentence once; inputs of which the same is said share one, where the first of them was."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for text in told:
        of_one = OF_ONE.match(text)
        names = alike.setdefault(of_one.groups()[1:] if of_one else (text,), [])
        if of_one and of_one[1] not in names:
            names.append(of_one[1])
    return [_of_all(names, *said) for said, names in alike.items()]


def _of_all(names: Sequence[str], said: str, rest: str = "") -> str:
    if not names:
        return said
    if len(names) > 1:
        said, rest = OF_MANY[said], rest.replace(", and was in ", ", and were in ")
    return f"{listed(names, MOST)} {said} {rest}"


def _fault(fault: Record, contract: Contract) -> str:
    name, now = called(fault["column"], contract), share(fault["share"], 1)
    if fault["kind"] == "missing":
        before = share(fault["reference_share"], 1)
        return f"“{name}” is missing in {now} of the requests, and was in {before} before"
    if fault["kind"] == "new category":
        return f"in {now} of the requests “{name}” is one that it has not learned"
    if fault["kind"] == "implausible":
        return f"in {now} of the requests “{name}” is far outside of what it has learned"
    return fault["sentence"]


def _reason(reason: str, record: Record, contract: Contract) -> str:
    for pattern, words in PLAIN:
        if match := re.match(pattern, reason):
            return words.format(*(date(x) if DAY.fullmatch(x) else x for x in match.groups()))
    if told := _measured(reason, record, contract):
        return told
    if moved := re.match(r"(.+?) moved: distance ", reason):
        name = NAMED.get(moved[1]) or f"“{called(moved[1], contract)}”"
        return f"{name} {DIFFERS.format('differ' if moved[1] in NAMED else 'differs')}"
    if apart := re.match(r"(.+?) drifts apart: ", reason):
        return f"it errs otherwise for {slice_called(apart[1], contract)} than for all"
    return reason.partition("; the champion serves for")[0]


def _measured(reason: str, record: Record, contract: Contract) -> str | None:
    """A reason about error, bias or intervals, by the numbers of the record; None if it is none."""
    numbers, (measure, bias) = record["numbers"], of_record(record)
    side = re.match(r"the model predicts too (little|much)", reason)
    if side and numbers.get("bias") is not None:
        of = f" of {record['bias_of']}" if record.get("bias_of") else ""
        return f"it predicts too {side[1]}{of}, by {bias.said(abs(numbers['bias']))} on average"
    if reason.startswith("the error has grown by") and numbers.get("error_growth") is not None:
        return f"its error has grown by {measure.said_change(numbers['error_growth']).lstrip('+')} since its promotion"
    if re.match(r"the (intervals|sets) hold too", reason) and numbers.get("inside") is not None:
        level, held = share(contract.target.interval, 0), share(numbers["inside"], 1)
        return f"its intervals hold {held} of the outcomes, and {level} is promised"
    return None


def slice_called(name: str, contract: Contract) -> str:
    """What people call a slice, such as `width under 2`."""
    column, _, rest = name.partition(" ")
    return f"{called(column, contract)} {TRUTHS.get(rest, rest)}".strip()


def by_slice(values: Mapping[str, T], contract: Contract) -> dict[str, T]:
    """Values by slice, under the names that a reader knows."""
    return {slice_called(name, contract): value for name, value in values.items()}


def sentence(text: str) -> str:
    """A text with its capital and its full stop."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
