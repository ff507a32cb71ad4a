"""What if: the inputs of a version as sliders, and its answer to them.

It decides where an input may be moved. It computes the answer with the very
graph that serves, and nothing else.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import ipywidgets as widgets
import polars as pl

from loopbook.features import store as feature_store
from loopbook.models.calibration_states import State
from loopbook.pages import links, nearest
from loopbook.pages import windows as window_pages
from loopbook.pages.dashboards import guarded
from loopbook.pages.formats import share
from loopbook.project.clock import parse_instant, to_micros
from loopbook.project.contract import Feature, read_contract
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project
from loopbook.registry import calibrated_answers, reference, state_store
from loopbook.registry.calibrated_answers import CalibratedAnswers
from loopbook.registry.explanations import explain
from loopbook.registry.reader import Registry, Version
from loopbook.registry.servable import Servable, load
from loopbook.registry.state_store import States

VERSION = "version"  # in a link, beside the inputs
SAID = {"true": True, "false": False}


def sliders(project: Project, store: Registry, held: Version) -> widgets.Widget:
    """The inputs of a version, and below them its answer, which follows them."""
    servable = load(store, held)
    # a card's keys are sorted; people and the feature store know the contract's order
    table = read_contract(project.contract)
    order = {name: place for place, name in enumerate(table.features)}
    names = sorted(servable.contract.features, key=lambda name: order.get(name, len(order)))
    inputs = {name: _input(servable, name) for name in names if _was_seen(servable.card, name)}
    wrong = take(inputs, {k: v for k, v in links.asked().items() if k != VERSION})
    features = feature_store.connect(project, table) if table.history else None
    states = state_store.read_if_there(project, table, held.number)
    now = (features and features.as_of()) or _newest(servable.card, states)
    shown = widgets.HTML()

    def ask(_: object = None) -> None:
        shown.value = guarded(answer)

    def answer() -> str:
        record = {name: widget.value for name, widget in inputs.items()}
        if features and features.as_of():
            record |= features.get(record.get(table.entity), now).values
        answered = _answer(servable, states.at(to_micros(now)), record, now)
        return answered + _like(store, held, servable, record) + _link(held, inputs)

    for widget in inputs.values():
        widget.observe(ask, "value")
    ask()
    grid = widgets.Layout(display="flex", flex_flow="row wrap")
    head = widgets.HTML(window_pages.what_if(wrong))
    return widgets.VBox([head, widgets.Box(list(inputs.values()), layout=grid), shown])


def take(inputs: Mapping[str, widgets.Widget], given: Mapping[str, str]) -> list[str]:
    """Move inputs to what a link asks for; a sentence for each value that cannot be taken."""
    wrong = []
    for name, text in given.items():
        if name not in inputs:
            wrong.append(f"There is no input {name!r} to move.")
        elif sentence := _taken(inputs[name], name, text):
            wrong.append(sentence)
    return wrong


def _taken(widget: widgets.Widget, name: str, text: str) -> str:
    if isinstance(widget, widgets.Dropdown):
        if text not in widget.options:
            return f"{name} cannot be {text!r}: the model has not learned it."
        widget.value = text
        return ""
    if isinstance(widget, widgets.Checkbox):
        if text not in SAID:
            return f"{name} is true or false, not {text!r}."
        widget.value = SAID[text]
        return ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not widget.min <= value <= widget.max:
        return f"{name} lies between {widget.min:g} and {widget.max:g}; the link says {text!r}."
    widget.value = round(value) if isinstance(widget, widgets.IntSlider) else value
    return ""


def _link(held: Version, inputs: Mapping[str, widgets.Widget]) -> str:
    """The address that opens the page with these inputs."""
    values = {name: _as_text(widget.value) for name, widget in inputs.items()}
    return window_pages.what_if_link(links.of("6_what_if", {VERSION: held.number} | values))


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _like(store: Registry, held: Version, servable: Servable, record: Mapping[str, Any]) -> str:
    """The nearest real rows, or why none is shown."""
    contract = servable.contract
    if refused := nearest.refusal(contract):
        return nearest.page(pl.DataFrame(), contract, refused)
    try:
        frozen = reference.thaw(store, held, contract)
    except LoopbookError as error:
        return nearest.page(pl.DataFrame(), contract, str(error))
    rows = nearest.nearest(frozen, record, servable.card, contract)
    return nearest.page(rows, contract)


def _answer(
    servable: Servable, state: State | None, record: Mapping[str, Any], now: datetime
) -> str:
    target, imputed = servable.contract.target, servable.notes(record)["imputed"]
    calibrated = calibrated_answers.answer(servable, servable.matrix([record], [now]), [state])
    (state,) = calibrated.states
    (said,) = servable.decided(calibrated.answers)
    kind = "class" if target.classes else target.unit or "no unit"
    return window_pages.answer(
        said,
        f"{target.name if kind == target.name else f'{target.name}, {kind}'}, as of {now:%Y-%m-%d}",
        explain(servable, record, now, state and state.shift),
        {name: _place(servable.card, name, value) for name, value in record.items()},
        [*_rule(servable), *(f"no value for {name}, so it is imputed" for name in imputed)],
        _how_sure(servable, calibrated),
    )


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
    return [f"{positive} is answered from a probability of {share(threshold, 1)} on"]


def _was_seen(card: Mapping[str, Any], name: str) -> bool:
    """Whether any row that the model learned from had a value; else moving it changes nothing."""
    return card["reference"].get(name, {}).get("missing_share", 0) < 1


def _input(servable: Servable, name: str) -> widgets.Widget:
    feature = servable.contract.features[name]
    looks = {
        "description": servable.contract.label(name),
        "tooltip": feature.meaning,
        "style": {"description_width": "215px"},
        "layout": widgets.Layout(width="430px", max_width="100%"),
    }
    if feature.type == "category":
        vocabulary = servable.card["categories"][name]
        chosen = feature.example if feature.example in vocabulary else vocabulary[0]
        return widgets.Dropdown(options=vocabulary, value=chosen, **looks)
    if feature.type == "boolean":
        return widgets.Checkbox(value=bool(feature.example), indent=True, **looks)
    return _slider(feature, servable.card["reference"][name]["quantiles"], looks)


def _slider(
    feature: Feature, quantiles: Mapping[str, float], looks: Mapping[str, Any]
) -> widgets.Widget:
    """From the first to the last per cent of the training rows, inside the contract's range."""
    low, high = quantiles["0.01"], quantiles["0.99"]
    if feature.range:
        low, high = max(low, feature.range[0]), min(high, feature.range[1])
    if low >= high:
        high = low + 1
    middle = quantiles["0.5"] if feature.example is None else feature.example
    middle = min(max(middle, low), high)
    if feature.type == "integer":
        ends = {"min": int(low), "max": int(high) + (int(high) < high)}
        return widgets.IntSlider(value=round(middle), continuous_update=False, **ends, **looks)
    ends = {"min": low, "max": high, "step": (high - low) / 200, "readout_format": ".4g"}
    return widgets.FloatSlider(value=middle, continuous_update=False, **ends, **looks)


def _place(card: Mapping[str, Any], name: str, value: Any) -> str:
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
