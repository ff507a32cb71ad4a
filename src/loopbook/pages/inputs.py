"""Inputs: what a version may be asked, as sliders, boxes and lists.

It decides where an input may be moved, and how a link moves it. It needs a
version's card and no graph, so that a page shows them at once.
"""

import math
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets

from loopbook.project.contract import Contract, Feature
from loopbook.registry.card_file import read_card
from loopbook.registry.reader import CARD, Registry, Version
from loopbook.registry.service_files import verified

STEPS = 200  # of a slider
SAID = {"true": True, "false": False}


def inputs(store: Registry, held: Version, table: Contract) -> dict[str, widgets.Widget]:
    """The inputs of a version by name, in the order in which today's contract has them.

    An input of which no row that the model learned from had a value is left out:
    moving it would change nothing.
    """
    card, contract, _ = read_card(held, verified(store, held, CARD))
    # a card's keys are sorted; people and the feature store know the contract's order
    order = {name: place for place, name in enumerate(table.features)}
    names = sorted(contract.features, key=lambda name: order.get(name, len(order)))
    return {name: _input(contract, card, name) for name in names if was_seen(card, name)}


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


def as_text(value: Any) -> str:
    """A value as a link has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def was_seen(card: Mapping[str, Any], name: str) -> bool:
    """Whether any row that the model learned from had a value; else moving it changes nothing."""
    return card["reference"].get(name, {}).get("missing_share", 0) < 1


def _input(contract: Contract, card: Mapping[str, Any], name: str) -> widgets.Widget:
    feature = contract.features[name]
    looks = {
        "description": contract.label(name),
        "tooltip": feature.meaning,
        "style": {"description_width": "215px"},
        "layout": widgets.Layout(width="430px", max_width="100%"),
    }
    if feature.type == "category":
        vocabulary = card["categories"][name]
        chosen = feature.example if feature.example in vocabulary else vocabulary[0]
        return widgets.Dropdown(options=vocabulary, value=chosen, **looks)
    if feature.type == "boolean":
        return widgets.Checkbox(value=bool(feature.example), indent=True, **looks)
    return _slider(feature, card["reference"][name]["quantiles"], looks)


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
    step = (high - low) / STEPS
    ends = {"min": low, "max": high, "step": step, "readout_format": _readout(low, high, step)}
    return widgets.FloatSlider(value=middle, continuous_update=False, **ends, **looks)


def _readout(low: float, high: float, step: float) -> str:
    """As many digits as a step has, and no nought at the end: 1 and 2.25.

    No comma: a person types into it, and of 12,345 the browser would read 12.
    """
    before, after = _digits(max(abs(low), abs(high))), max(0, 1 - _digits(step))
    return f".{max(before, 1) + after}"  # without a letter: d3's `~g`, which ipywidgets refuses


def _digits(size: float) -> int:
    """How many digits a number has before its point; of 0.05 they are -1."""
    return math.floor(math.log10(size)) + 1
