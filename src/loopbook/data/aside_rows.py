"""Rows that are set aside: which row it is, what is in it, why, and whether it can be let in. Pure.

It decides a row's id, which is the same whatever way its values are stored,
and its reasons in words. Nothing sensitive stands in either.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson
import polars as pl

from loopbook.data import instants
from loopbook.data.rules import Failure
from loopbook.project.clock import EVENT_TS, KNOWN_TS
from loopbook.project.contract import Contract

SOURCE, SERVED, FEEDBACK = "source", "served", "feedback"
HIDDEN = "(sensitive)"
ID_DIGITS = 12
SHOWN_VALUE = 80


@dataclass(frozen=True)
class Reading:
    """Rows as they were read.

    Attributes
    ----------
    unreadable : values that are there and cannot be read as their type, as
        whoever read them found; the frame has nulls in their place
    raw : the same rows before they were read, if they are at hand
    """

    rows: pl.DataFrame
    contract: Contract
    origin: str = SOURCE
    unreadable: Sequence[Failure] = ()
    raw: pl.DataFrame | None = None

    def as_was(self, places: Sequence[int]) -> list[dict[str, str | None]]:
        """The contract's columns of some rows as text; times as instants where they can be read.

        What could not be read stands there as it came.
        """
        rows, contract = self.rows[list(places)], self.contract
        shown = rows.select(n for n in contract.columns if n in rows.columns)
        for name, clock in ((contract.event_time, EVENT_TS), (contract.known_time, KNOWN_TS)):
            if name and clock in rows.columns:
                shown = shown.with_columns(rows[clock].alias(name))
            elif name in shown.columns and shown.schema[name].is_temporal():
                shown = shown.with_columns(instants.in_utc(rows[name], contract.time_zone))
        texts = [{n: _text(v) for n, v in row.items()} for row in shown.to_dicts()]
        if self.raw is None:
            return texts
        raw = self.raw[list(places)].select(n for n in shown.columns if n in self.raw.columns)
        return [
            {n: _text(was.get(n)) if text is None else text for n, text in row.items()}
            for row, was in zip(texts, raw.to_dicts(), strict=True)
        ]


@dataclass(frozen=True)
class Row:
    """One row that is set aside; `content` and `reasons` hold nothing sensitive.

    `fixed` is why it cannot be released, or None.
    """

    id: str
    origin: str
    key: str
    key_digest: str
    content: dict[str, str | None]
    reasons: list[str]
    fixed: str | None = None


def entries(reading: Reading, broken: Sequence[Failure], places: Sequence[int]) -> Iterator[Row]:
    """The rows at these places, each with what it breaks."""
    contract = reading.contract
    masks = [failure.mask.gather(list(places)).to_list() for failure in broken]
    typed = reading.rows[list(places)].to_dicts()
    shown = reading.as_was(places)
    ids = [row_id(texts) for texts in shown]
    times = Counter(ids)
    for at, (texts, values, name) in enumerate(zip(shown, typed, ids, strict=True)):
        its = [failure for failure, mask in zip(broken, masks, strict=True) if mask[at]]
        reasons = [_reason(failure, texts, contract) for failure in its]
        fixed = next((why for f in its if (why := _fixed(f, values, contract))), None)
        if times[name] > 1 and any(failure.rule.kind == "unique" for failure in its):
            fixed = "it stands more than once with the same values"
        content = {n: HIDDEN if _hides(n, contract) else text for n, text in texts.items()}
        key = ", ".join(f"{n} {content.get(n)}" for n in contract.key)
        yield Row(name, reading.origin, key, key_digest(texts, contract), content, reasons, fixed)


def row_id(texts: Mapping[str, str | None]) -> str:
    """A row's id, from all its values."""
    content = orjson.dumps(dict(texts), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:ID_DIGITS]


def key_digest(texts: Mapping[str, str | None], contract: Contract) -> str:
    """What a row's key is, without saying it."""
    key = [texts.get(name) for name in contract.key]
    return hashlib.sha256(orjson.dumps(key)).hexdigest()


def _reason(failure: Failure, texts: Mapping[str, str | None], contract: Contract) -> str:
    column = failure.rule.column
    text = texts.get(column)
    if text is None or failure.rule.kind == "unique" or _hides(column, contract):
        return f"{column} {failure.text}"
    return f"{column} {failure.text} ({text[:SHOWN_VALUE]}{'…' if len(text) > SHOWN_VALUE else ''})"


def _fixed(failure: Failure, values: Mapping[str, Any], contract: Contract) -> str | None:
    """Why a row that breaks this rule cannot be used whatever a person says; None if it can."""
    column, kind = failure.rule.column, failure.rule.kind
    value = values.get(column)
    if kind == "type":
        return f"{column} cannot be read"
    if kind == "clock":
        return f"{column} {failure.text}"
    if kind == "null" and (column not in contract.features or column in contract.key):
        return f"{column} has no value"
    if kind == "range" and not math.isfinite(value):
        return f"{column} is infinite"
    is_of_target = column == contract.target.name and kind in ("range", "category")
    return no_target(value, contract) if is_of_target else None


def no_target(value: float | str, contract: Contract) -> str | None:
    """Why a row or a ground truth whose target breaks the contract cannot be let in; None if it can."""
    name = contract.target.name
    if contract.target.classes:
        return f"{name} has no such class; add it to target.classes in contract.yaml"
    return f"{name} has no logarithm" if contract.target.is_log and value <= 0 else None


def _hides(name: str, contract: Contract) -> bool:
    return name in contract.features and contract.features[name].sensitive != "no"


def _text(value: Any) -> str | None:
    """A value as one text, the same from every way of storing it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)
