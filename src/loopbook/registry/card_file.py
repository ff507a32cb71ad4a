"""A card's file: a version's card as the service reads it, or the reason why it is refused.

It decides what a card must hold to be served. It trusts no byte of it: the
digest says that a card is the one that was registered, and not that it is right.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loopbook.project.contract import Contract
from loopbook.project.errors import VersionRefused
from loopbook.project.mappings import misfits, sentence
from loopbook.registry.reader import Version

GONE = ("level",)  # keys of a target that an earlier loopbook wrote into every card
Number = Annotated[float, Field(allow_inf_nan=False)]
Answer = Number | list[Number]
Value = bool | int | Number | Annotated[str, Field(max_length=10_000)] | None


class Examples(BaseModel):
    """Rows with known answers, as `known_answers` makes them.

    Attributes
    ----------
    features, prediction : what the graph takes, and what it answered when it was made
    records, at, known : the same rows as requests, and what the fitted pipeline
        answered; absent in a card of an earlier loopbook
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    features: Annotated[list[list[Number | None]], Field(min_length=1, max_length=10_000)]
    prediction: list[Answer]
    records: list[dict[str, Value]] | None = None
    at: list[Annotated[datetime, Field(strict=False)]] | None = None
    known: list[Answer] | None = None

    @model_validator(mode="after")
    def _are_of_one_length(self):
        rows = (self.prediction, *(r for r in (self.records, self.at, self.known) if r is not None))
        if {len(some) for some in rows} != {len(self.features)}:
            raise ValueError(f"expected {len(self.features)} of each")
        if len({some is None for some in (self.records, self.at, self.known)}) > 1:
            raise ValueError("expected records, at and known together, or none of them")
        return self


class Parity(BaseModel):
    """How far the target's values are apart, by which differences of answers are measured.

    Absent in a card of an earlier loopbook, whose differences are relative.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Decision(BaseModel):
    """From which probability on the yes is answered; absent: the most probable class is.

    It is just above 1 where no yes is worth it.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    threshold: Annotated[float, Field(ge=0, lt=2)] | None = None


class CardFile(BaseModel):
    """What the service needs of a card; the rest is for people and monitoring."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: str
    candidate: str
    inputs: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    categories: dict[str, list[str]]
    contract: dict[str, Any]
    contract_sha256: str
    snapshot_sha256: str
    as_of: str | None
    fitted: dict[str, Any]
    examples: Examples
    parity: Parity = Parity()
    decision: Decision | None = None


def read_card(version: Version, content: bytes) -> tuple[dict[str, Any], Contract, Examples]:
    """A card as it stands, its contract, and its examples.

    Raises
    ------
    VersionRefused
        If it is no JSON, or not what a card must be.
    """
    try:
        card = json.loads(content, object_pairs_hook=_each_once, parse_constant=_no_number)
        checked = CardFile.model_validate_json(content)
        contract = contract_of(card)
        wrong = _disagreement(version, checked, contract)
    except ValidationError as error:
        known = set(CardFile.model_fields) | set(Contract.model_fields)
        wrong = sentence(misfits(error)[0], known).splitlines()[0]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as reason:
        wrong = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    if wrong:
        raise VersionRefused(
            f"{version.label}: its card cannot be used ({wrong[:200]}). "
            "Build the version again, or roll back.",
            "card",
        )
    return card, contract, checked.examples


def contract_of(card: Mapping[str, Any]) -> Contract:
    """The contract that a card holds, whichever loopbook wrote it: keys that are gone count for nothing.

    Raises
    ------
    ValidationError, LookupError, TypeError, AttributeError
        If it holds none.
    """
    target = {n: v for n, v in card["contract"]["target"].items() if n not in GONE}
    return Contract.model_validate_json(json.dumps(card["contract"] | {"target": target}))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]} stands more than once")
    return named


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _disagreement(version: Version, card: CardFile, contract: Contract) -> str | None:
    """What in a card does not bear out what else it says."""
    known = {*contract.numbers, *contract.trailing, *contract.computed}
    codes = {n for n in card.inputs if n in card.categories}
    strange = [n for n in card.inputs if n not in known | codes]
    vocabularies = card.categories.values()
    width = len(contract.target.classes or ())
    answers = (*card.examples.prediction, *(card.examples.known or ()))
    shapes = {len(answer) if isinstance(answer, list) else 0 for answer in answers}
    faults = {
        f"it is of {card.name[:60]!r}": card.name != version.name,
        "an input stands more than once": len(set(card.inputs)) < len(card.inputs),
        f"the contract in it has no column {str(strange[:1])[:60]}": bool(strange),
        "its categories are not those of the contract in it": (
            set(card.categories) != codes or not codes <= set(contract.categories)
        ),
        "a category stands more than once": any(len(set(v)) < len(v) for v in vocabularies),
        f"an example has not {len(card.inputs)} inputs": any(
            len(row) != len(card.inputs) for row in card.examples.features
        ),
        f"the answer of an example is not {_of_width(width)}": shapes != {width},
    }
    return next((fault for fault, is_there in faults.items() if is_there), None)


def _of_width(width: int) -> str:
    return f"{width} probabilities" if width else "one number"


def vocabularies(card: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The categories that a model has seen, by column."""
    return {name: frozenset(values) for name, values in card["categories"].items()}
