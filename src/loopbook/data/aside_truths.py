"""Ground truth that cannot be: told to the service, set aside, and let in by a person.

It decides which observed values the contract's target cannot have. One that is
set aside is in the quarantine and not in the prediction log, so neither
monitoring nor training sees it; released, it is told to the log.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson
import polars as pl

from loopbook.data import aside_rows, rules
from loopbook.data.aside_rows import FEEDBACK, ID_DIGITS, Row
from loopbook.data.prediction_log import EPOCH, PredictionLog, Truth
from loopbook.data.single_values import category
from loopbook.project.clock import parse_instant, to_micros
from loopbook.project.contract import Contract
from loopbook.project.errors import QuarantineError, listed

PROBABILITY = re.compile(r"[01]?\.[0-9]+")


def faults(observed: Sequence[float | str | None], contract: Contract) -> list[str | None]:
    """What is wrong with each observed value; None where nothing is."""
    name = contract.target.name
    kind = pl.String if contract.target.classes else pl.Float64
    values = pl.DataFrame({name: pl.Series(observed, dtype=kind)})
    told: list[str | None] = [None] * values.height
    for failure in rules.failures(
        values, contract, rules.rules_for(values.schema, contract, kinds=rules.OF_A_ROW)
    ):
        for place in failure.mask.arg_true():
            told[place] = f"{name} {failure.text} ({_told(observed[place])})"
    return told


def _told(observed: float | str | None) -> str:
    """An observed value in a reason; a probability is told that it is none of the classes."""
    text = rules.told(observed)
    if isinstance(observed, str) and PROBABILITY.fullmatch(observed):
        return f"{text}: a probability is no class, send the one that was observed"
    return text


def as_row(truth: Truth, fault: str, contract: Contract) -> Row:
    """A ground truth as an entry of the quarantine; a sensitive key is hashed, as in the log."""
    content = {
        "prediction_id": truth.prediction_id,
        "key": truth.key,
        contract.target.name: _text(truth.observed),
        "known_at": None if truth.known_us is None else _instant(truth.known_us).isoformat(),
        "received_at": _instant(truth.received_us).isoformat(),
    }
    named = f"prediction {truth.prediction_id}" if truth.prediction_id else f"key {truth.key}"
    digest = _digest(truth.prediction_id, truth.key, truth.observed)
    why = aside_rows.no_target(truth.observed, contract)
    return Row(digest[:ID_DIGITS], FEEDBACK, named, digest, content, [fault], why)


def _text(observed: float | str) -> str:
    return observed if isinstance(observed, str) else repr(observed)


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


def _digest(prediction_id: str | None, key: str | None, observed: float | str) -> str:
    same = [FEEDBACK, prediction_id, key, repr(observed)]
    return hashlib.sha256(orjson.dumps(same)).hexdigest()


def let_in(rows: Sequence[Row], log: PredictionLog, contract: Contract) -> None:
    """Tell the log the ground truth of released entries; twice changes nothing.

    Raises
    ------
    QuarantineError
        If one was told for another target than the contract's of today.
    """
    truths, strange = [], []
    for row in rows:
        was = row.content
        observed = _observed(was.get(contract.target.name), contract)
        if observed is None:
            strange.append(f"{row.id}: {', '.join(row.reasons)}")
            continue
        known = was["known_at"] and to_micros(parse_instant(was["known_at"]))
        told = observed, known, to_micros(parse_instant(was["received_at"]))
        truths.append(Truth(was["prediction_id"], was["key"], *told))
    log.tell(truths)
    if strange:
        raise QuarantineError(
            f"quarantine: {len(strange)} of {len(rows)} ground truths were told for another target "
            f"than contract.yaml has now, and are not in the log.\n{listed(strange)}\n"
            "Send them again as the target is now, and drop these: loopbook quarantine drop ID"
        )


def _observed(text: str | None, contract: Contract) -> float | str | None:
    """What was observed, from an entry; None where the target can be no such value."""
    if text is None:
        return None
    if contract.target.classes:
        name = category(text)
        return name if name in contract.target.classes else None
    try:
        return float(text)
    except ValueError:
        return None


def _instant(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
