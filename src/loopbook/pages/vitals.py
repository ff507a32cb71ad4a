"""Vitals: error, intervals, volume and freshness of a model, for its manager.

It decides how each is called, what it is held against, and what it means in
the words and the unit of the contract. Pure: it computes no number but the days
between two instants and the requests a day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopbook.models.measures import of_record
from loopbook.pages.formats import count, date, share
from loopbook.pages.trends import Trend, trend
from loopbook.project.clock import parse_instant
from loopbook.project.contract import Contract
from loopbook.project.counts import counted

Record = Mapping[str, Any]
MOST_SHOWN = 26  # windows of a trend
RELATIVE = ("absolute_log_error", "absolute_percentage_error", "mape", "mae")
DAY_S = 86_400


@dataclass(frozen=True)
class Vital:
    """One of the four: its title, its value now, what that means, and how it went."""

    title: str
    value: str
    means: str
    trend: Trend | None = None


def vitals(records: Sequence[Record], contract: Contract, now: datetime) -> list[Vital]:
    """The four, of the windows of the version that serves in the newest one.

    Parameters
    ----------
    records : sequence of mappings
        Oldest first, with one at least.
    now : datetime
        By the clock on the wall.
    """
    some = records[-MOST_SHOWN:]
    return [_error(some, contract), _intervals(some, contract), _volume(some), _fresh(some, now)]


def _error(records: Sequence[Record], contract: Contract) -> Vital:
    newest = records[-1]
    numbers, (measure, _) = newest["numbers"], of_record(newest)
    promised, title = numbers.get("reference_error"), "Error against promise"
    # errors of another measure, or against another version's promise, are no trend of this one
    alike = [r for r in records if of_record(r)[0] == measure]
    values = [
        (date(r["as_of"]), r["numbers"].get("error"), _said(r["numbers"].get("error"), measure))
        for r in alike
    ]
    line = trend(values, f"Error of each window; {_said(promised, measure)} was promised", promised)
    if numbers.get("error") is None:
        means = "It is not known yet: too few outcomes have come."
        if promised is not None:
            means += f" {measure.said(promised)} was promised, when it was promoted."
        return Vital(title, "not known yet", means, line)
    told = f"{_typical(newest, contract)} {_held_against(numbers)}"
    if promised is not None:
        told += f" Promised was {measure.said(promised)}."
    return Vital(title, measure.said(numbers["error"]), told, line)


def _said(value: float | None, measure: Any) -> str:
    return "not known" if value is None else measure.said(value)


def _typical(record: Record, contract: Contract) -> str:
    """What its error means for one answer."""
    target, loss = contract.target.name.replace("_", " "), record.get("loss") or "mape"
    error = record["numbers"]["error"]
    measure, _ = of_record(record)
    if contract.target.classes:
        right = record.get("metrics", {}).get("accuracy")
        # what is answered may be another class: where wrong answers have costs, a threshold decides
        loss = f"The number is its {measure.title} (0 would be perfect)."
        told = f"In {share(right, 1)} of cases the likeliest {target} was the true one. {loss}"
        return loss if right is None else told
    if loss == "squared_error":
        return f"It is the mean squared distance of an answer from the {target}."
    about = "about " if loss in RELATIVE else ""
    return f"On average an answer is {about}{measure.said(error)} away from the {target}."


def _held_against(numbers: Record) -> str:
    """Better, not worse and worse are three things; an interval says which."""
    low, high = numbers.get("error_growth_low"), numbers.get("error_growth_high")
    if low is None or high is None:
        return "It cannot be held against what was promised."
    if high < 0:
        return "That is better than promised."
    if low > 0:
        return "That is worse than promised."
    return "That is not worse than promised."


def _intervals(records: Sequence[Record], contract: Contract) -> Vital:
    numbers, level = records[-1]["numbers"], contract.target.interval
    kind = "set of classes" if contract.target.classes else "interval"
    title = f"Outcomes in their {kind}"
    values = [
        (date(r["as_of"]), r["numbers"].get("inside"), share(r["numbers"].get("inside"), 1))
        for r in records
    ]
    line = trend(
        values, f"Share in the {kind}; {share(level, 0)} is promised", level, (level - 0.15, 1.0)
    )
    inside = numbers.get("inside")
    if inside is None:
        means = f"It is not known: no outcome has come whose answer had its {kind}."
        return Vital(title, "not known yet", means, line)
    low, high = numbers.get("inside_low"), numbers.get("inside_high")
    held = "as many cases as" if None in (low, high) or low <= level <= high else "more cases than"
    held = "fewer cases than" if high is not None and high < level else held
    target = contract.target.name.replace("_", " ")
    means = (
        f"Each answer has {'an' if kind == 'interval' else 'a'} {kind} in which the {target} "
        f"should lie in {share(level, 0)} of cases. It did in {held} promised."
    )
    return Vital(title, share(inside, 1), means, line)


def _volume(records: Sequence[Record]) -> Vital:
    values = []
    for record in records:
        rows = record["numbers"]["rows"]
        values.append((date(record["as_of"]), float(rows), f"{counted(rows, 'request')}"))
    newest = records[-1]
    rows, (start, end) = newest["numbers"]["rows"], map(parse_instant, newest["current"])
    days = max((end - start).total_seconds() / DAY_S, 1 / 24)
    a_day = rows / days
    told = f"{count(a_day)} a day" if a_day >= 10 else f"{a_day:.1f} a day"
    when = f"from {date(newest['current'][0])} to {date(newest['current'][1])}"
    means = f"Requests answered {when}, {told}." if rows else f"No request was answered {when}."
    return Vital(
        "Volume", counted(rows, "request"), means, trend(values, "Requests of each window")
    )


def _fresh(records: Sequence[Record], now: datetime) -> Vital:
    newest = records[-1]
    until = newest["champion"].get("fitted", {}).get("until")
    values = []
    for record in records:
        days = _age(record)
        values.append((date(record["as_of"]), days, "not known" if days is None else _days(days)))
    line = trend(values, "Age of what the model has learned, in days, window by window")
    looked = (now - parse_instant(newest["decided_at"])).total_seconds() / DAY_S
    when = "today" if looked < 1 else f"{_days(looked)} ago"
    means = f"It was last looked at {when}, on answers until {date(newest['current'][1])}."
    numbers = newest["numbers"]
    if numbers.get("due"):
        means += f" {count(numbers['labels'])} of {count(numbers['due'])} outcomes that are due have come."
    if until is None:
        age = "Its table has no dates, so what it has learned has no age."
        return Vital("Freshness", "no age", f"{age} {means}", None)
    age = _age(newest)
    return Vital(
        "Freshness",
        _days(age),
        f"So old is what it has learned: rows until {date(until)}. {means}",
        line,
    )


def _age(record: Record) -> float | None:
    until = record["champion"].get("fitted", {}).get("until")
    if until is None:
        return None
    return max((parse_instant(record["as_of"]) - parse_instant(until)).total_seconds() / DAY_S, 0.0)


def _days(days: float) -> str:
    return counted(round(days), "day")
