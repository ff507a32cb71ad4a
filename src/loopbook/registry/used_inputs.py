"""Used inputs: the columns that change an answer of a version.

It decides by the rows that a card brings along, which were chosen so that each
input that matters changes some answer (`models.known_answers`). A column counts
as not used only if no answer changes by a single bit, neither without a value
nor with the values of other rows.
"""

from datetime import datetime
from typing import Any

import numpy as np

from loopbook.registry.servable import Servable

MOST_OTHERS = 4  # rows whose value each row is given in turn


def unused(servable: Servable) -> list[str]:
    """The features and trailing features that change no answer; none where nobody can say.

    A card of an earlier loopbook has no such rows.
    """
    examples = servable.card.get("examples") or {}
    records = examples.get("records") or []
    at = [datetime.fromisoformat(moment) for moment in examples.get("at") or []]
    if len(records) < 2 or len(at) != len(records):
        return []
    usual = servable.predict(servable.matrix(records, at))

    def changes(name: str, values: list[Any]) -> bool:
        asked = [record | {name: value} for record, value in zip(records, values, strict=True)]
        return not np.array_equal(servable.predict(servable.matrix(asked, at)), usual)

    names = (*servable.contract.features, *servable.contract.trailing)
    return [
        name
        for name in names
        if not any(changes(name, values) for values in _others([r.get(name) for r in records]))
    ]


def _others(values: list[Any]) -> list[list[Any]]:
    """What the rows are asked with: nothing, and the values of the rows after them."""
    turned = [values[k:] + values[:k] for k in range(1, min(MOST_OTHERS, len(values) - 1) + 1)]
    return [[None] * len(values), *turned]
