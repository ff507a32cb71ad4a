"""Answers: what a version says to the inputs of a page, and why.

It decides how an answer, its cause and its neighbours are told. The answer is
that of the very graph that serves, and nothing else is computed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from loopbook.features import store as feature_store
from loopbook.models.calibration_states import State
from loopbook.pages import nearest
from loopbook.pages import windows as window_pages
from loopbook.pages.formats import Amount, share
from loopbook.pages.plain import labelled
from loopbook.project.clock import parse_instant, to_micros
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project
from loopbook.registry import calibrated_answers, reference, state_store
from loopbook.registry.calibrated_answers import CalibratedAnswers
from loopbook.registry.explanations import explain
from loopbook.registry.reader import Registry, Version
from loopbook.registry.servable import Servable, load
from loopbook.registry.state_store import States

Answers = Callable[[Mapping[str, Any]], str]


def answering(project: Project, store: Registry, held: Version) -> Answers:
    """A version, ready to be asked: from the values of its inputs to what a page shows of its answer."""
    servable, table = load(store, held), read_contract(project.contract)
    features = feature_store.connect(project, table) if table.history else None
    states = state_store.read_if_there(project, table, held.number)
    now = (features and features.as_of()) or _newest(servable.card, states)

    def answer(values: Mapping[str, Any]) -> str:
        record = dict(values)
        if features and features.as_of():
            record |= features.get(record.get(table.entity), now).values
        answered = _answer(servable, states.at(to_micros(now)), record, now)
        return answered + _like(store, held, servable, record)

    return answer


def _like(store: Registry, held: Version, servable: Servable, record: Mapping[str, Any]) -> str:
    """The nearest real rows, or why none is shown."""
    contract = servable.contract
    if refused := nearest.refusal(contract):
        return nearest.page(pl.DataFrame(), contract, refused=refused)
    try:
        frozen = reference.thaw(store, held, contract)
    except LoopbookError as error:
        return nearest.page(pl.DataFrame(), contract, refused=str(error))
    rows = nearest.nearest(frozen, record, servable.card, contract)
    return nearest.page(rows, contract, record)


def _answer(
    servable: Servable, state: State | None, record: Mapping[str, Any], now: datetime
) -> str:
    contract, imputed = servable.contract, servable.notes(record)["imputed"]
    calibrated = calibrated_answers.answer(servable, servable.matrix([record], [now]), [state])
    (state,) = calibrated.states
    (said,) = servable.decided(calibrated.answers)
    return window_pages.answer(
        said,
        _about(contract, now),
        in_words(explain(servable, record, now, state and state.shift), contract),
        {labelled(n, contract): place(servable.card, n, value) for n, value in record.items()},
        [*_rule(servable), *(f"no value for {labelled(n, contract)}: imputed" for n in imputed)],
        _how_sure(servable, calibrated),
    )


def _about(contract: Contract, now: datetime) -> str:
    """What is answered: the target, its unit, and the day where the table has a time."""
    name, unit = contract.target.name.replace("_", " "), contract.target.unit
    told = [name, *([unit] if unit and unit != name else [])]
    return ", ".join([*told, *([f"as of {now:%Y-%m-%d}"] if contract.event_time else [])])


def in_words(explained: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """An explanation whose features have the names that a reader knows."""
    parts = [
        part
        | {"feature": labelled(part["feature"], contract)}
        | {"value": _value(part["feature"], part["value"], contract)}
        for part in explained["contributions"]
    ]
    return {**explained, "contributions": parts}


def _value(name: str, value: Any, contract: Contract) -> Any:
    """An input's value; a share of earlier rows as per cent."""
    about = contract.trailing.get(name)
    is_share = about is not None and about.aggregate == "rate" and value is not None
    return Amount(share(value, 1)) if is_share else value


def _how_sure(servable: Servable, calibrated: CalibratedAnswers) -> window_pages.HowSure:
    """The interval or the classes around the one answer, and why they are what they are."""
    (state,), classes = calibrated.states, servable.task.classes
    about = {"level": servable.contract.target.interval, "why": state.reason if state else ""}
    if classes is None:
        return window_pages.HowSure(interval=calibrated.interval(0), **about)
    likely = calibrated.answers[0].tolist()
    return window_pages.HowSure(
        probabilities=dict(zip(classes, likely, strict=True)),
        classes=calibrated_answers.prediction_set(servable, likely, state),
        **about,
    )


def _rule(servable: Servable) -> list[str]:
    """From which probability on the yes is answered, if not from half."""
    threshold = (servable.card.get("decision") or {}).get("threshold")
    target = servable.contract.target
    if threshold is None or servable.task.positive is None:
        return []
    positive = target.classes[servable.task.positive]
    return [f"{positive} is answered where its probability is {share(threshold, 1)} or more"]


def place(card: Mapping[str, Any], name: str, value: Any) -> str:
    """Where a value lies among the rows that the model learned from."""
    about = card["reference"].get(name, {})
    if value is None:
        return "no value"
    if about.get("missing_share") == 1:
        return "no row that the model learned from had a value"
    if isinstance(value, bool | str):
        shares = about.get("shares") or {True: about["mean"], False: 1 - about["mean"]}
        return f"{share(shares.get(value, 0), 1)} have it"
    quantiles = sorted((float(q), v) for q, v in about.get("quantiles", {}).items())
    below = [q for q, limit in quantiles if limit is not None and value >= limit]
    above = [q for q, limit in quantiles if limit is not None and value <= limit]
    if not below:
        return "below 99 % of them"
    if not above:
        return "above 99 % of them"
    low, high = sorted((below[-1] * 100, above[0] * 100))
    return f"above {low:g} % of them" if low == high else f"above {low:g} to {high:g} % of them"


def _newest(card: Mapping[str, Any], states: States) -> datetime:
    """The instant of the newest calibration state, or else of the rows that the model learned from."""
    if states.newest:
        return states.newest.as_of
    return parse_instant(card["as_of"]) if card["as_of"] else datetime.now(UTC)
