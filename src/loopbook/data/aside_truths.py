"""Ground truth that cannot be: told to the service, set aside, and let in by a person.

It decides which observed values the contract's target cannot have. One that is
set aside is in the quarantine and not in the prediction log, so neither
monitoring nor training sees it; released, it is told to the log.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson
import polars as pl

from loopbook.data import rules
from loopbook.data.aside_rows import FEEDBACK, ID_DIGITS, Row
from loopbook.data.prediction_log import EPOCH, PredictionLog, Truth
from loopbook.project.clock import parse_instant, to_micros
from loopbook.project.contract import Contract


def faults(observed: Sequence[float], contract: Contract) -> list[str | None]:
    """What is wrong with each observed value; None where nothing is."""
    name = contract.target.name
    values = pl.DataFrame({name: pl.Series(observed, dtype=pl.Float64)})
    told: list[str | None] = [None] * values.height
    for failure in rules.failures(
        values, contract, rules.rules_for(values.schema, contract, kinds=rules.OF_A_ROW)
    ):
        for place in failure.mask.arg_true():
            told[place] = f"{name} {failure.text} ({observed[place]})"
    return told


def as_row(truth: Truth, fault: str, contract: Contract) -> Row:
    """A ground truth as an entry of the quarantine; a sensitive key is hashed, as in the log."""
    content = {
        "prediction_id": truth.prediction_id,
        "key": truth.key,
        contract.target.name: repr(truth.observed),
        "known_at": None if truth.known_us is None else _instant(truth.known_us).isoformat(),
        "received_at": _instant(truth.received_us).isoformat(),
    }
    named = f"prediction {truth.prediction_id}" if truth.prediction_id else f"key {truth.key}"
    digest = _digest(truth.prediction_id, truth.key, truth.observed)
    positive = not contract.target.is_log or truth.observed > 0
    fixed = None if positive else f"{contract.target.name} has no logarithm"
    return Row(digest[:ID_DIGITS], FEEDBACK, named, digest, content, [fault], fixed)


def without(answers: pl.DataFrame, contract: Contract, released: frozenset[str]) -> pl.DataFrame:
    """Logged answers without the ground truth that the target cannot be, unless it was let in.

    Such truths were told to a service that did not look, or under a wider range.
    """
    told = answers["observed"].to_list()
    wrong = [
        place
        for place, fault in enumerate(faults(told, contract))
        if fault and told[place] is not None
    ]
    if not wrong:
        return answers
    names = [(answers["id"][place], answers["key"][place]) for place in wrong]
    digests = [
        {_digest(name, None, told[place])[:ID_DIGITS], _digest(None, key, told[place])[:ID_DIGITS]}
        for place, (name, key) in zip(wrong, names, strict=True)
    ]
    gone = [place for place, both in zip(wrong, digests, strict=True) if not both & released]
    return answers.with_columns(answers["observed"].scatter(gone, None))


def _digest(prediction_id: str | None, key: str | None, observed: float) -> str:
    same = [FEEDBACK, prediction_id, key, repr(observed)]
    return hashlib.sha256(orjson.dumps(same)).hexdigest()


def let_in(rows: Sequence[Row], log: PredictionLog, contract: Contract) -> None:
    """Tell the log the ground truth of released entries; twice changes nothing."""
    truths = []
    for row in rows:
        was = row.content
        known = was["known_at"] and to_micros(parse_instant(was["known_at"]))
        told = float(was[contract.target.name]), known, to_micros(parse_instant(was["received_at"]))
        truths.append(Truth(was["prediction_id"], was["key"], *told))
    log.tell(truths)


def _instant(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
