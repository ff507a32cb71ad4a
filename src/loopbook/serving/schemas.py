"""Schemas: requests and answers, made from the contract of the version that serves.

They describe what `request_rows` reads: a feature may be called by its column
or by its alias, and unknown fields are refused. The examples in the API's
documentation are the contract's.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from loopbook.data.request_rows import AS_OF, RowReader, time_reader
from loopbook.data.single_values import LARGEST_INTEGER, LONGEST_TEXT, reader
from loopbook.project.contract import Contract, Feature

SHOWN_CLASSES = 20
ClassValue = bool | int | float | Annotated[str, Field(max_length=LONGEST_TEXT)]
KeyPart = int | Annotated[str, Field(max_length=LONGEST_TEXT)]
KeyText = Annotated[str, BeforeValidator(reader("key"), json_schema_input_type=KeyPart)]
Number = Annotated[float, BeforeValidator(reader("number")), Field(allow_inf_nan=False)]
Instant = Annotated[
    datetime | None, BeforeValidator(time_reader, json_schema_input_type=datetime | None)
]


class Contribution(BaseModel):
    """What one feature adds to this answer, in the unit of the explanation."""

    feature: str
    value: float | bool | str | None
    contribution: float


class Explanation(BaseModel):
    """`base` plus all contributions is the answer: a number, or the log odds of the class."""

    base: float
    contributions: list[Contribution]
    method: str
    unit: str


class Calibration(BaseModel):
    """The calibration state behind an answer; of classes `raw` and `shift` have one number each.

    `raw` is the answer without the shift, `shift` what was added in the link's
    space: to the number, to its log, or to the log of each probability.
    """

    raw: float | dict[str, float]
    shift: float | dict[str, float]
    as_of: datetime
    truths: int
    reason: str


class Truth(BaseModel):
    """An observed target, for a prediction id or for a row's key."""

    model_config = ConfigDict(extra="forbid")

    prediction_id: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    key: dict[str, KeyText] | None = None
    known_at: Instant = None


def feedback_of(contract: Contract) -> type[BaseModel]:
    """The model of one ground truth or many, whose `observed` is what the target is."""
    kind: Any = Number
    if contract.target.classes:
        given = BeforeValidator(_class_reader(contract), json_schema_input_type=ClassValue)
        kind = Annotated[str, given]
    about = Field(description=f"{contract.target.meaning} {_values(contract)}".strip())
    truth = create_model("Truth", __base__=Truth, __doc__=Truth.__doc__, observed=(kind, about))
    # fail_fast: a body of wrong truths would otherwise take a second to be refused
    many = Annotated[list[truth], Field(min_length=1, max_length=10_000, fail_fast=True)]
    forbid = ConfigDict(extra="forbid")
    about = "One ground truth or many."
    return create_model("Feedback", __config__=forbid, __doc__=about, truths=(many, ...))


def _class_reader(contract: Contract) -> Callable[[Any], str]:
    """The reader of a class, as a category is read; which classes there are is no matter here."""
    read, expected = reader("category", contract.null_values), f"one of {_classes(contract)}"

    def read_class(value: Any) -> str:
        found = read(value)
        if found is None:
            raise ValueError(expected)
        return found

    return read_class


def _values(contract: Contract) -> str:
    """What an answer of the target is, for people."""
    target = contract.target
    if not target.classes:
        return f"In {target.unit or target.name}."
    return f"One of {_classes(contract)}."


def _classes(contract: Contract) -> str:
    classes = contract.target.classes or []
    more = ", …" if len(classes) > SHOWN_CLASSES else ""
    return f"{', '.join(classes[:SHOWN_CLASSES])}{more}"


class Told(BaseModel):
    """What became of each ground truth, in its order.

    `known_at` is from when on it counts; null where nothing was written. What
    the target cannot be is `set_aside`, until a person lets it in.
    """

    accepted: int
    corrected: int
    unchanged: int
    unknown: int
    set_aside: int
    outcomes: list[Literal["accepted", "corrected", "unchanged", "unknown", "set_aside"]]
    known_at: list[datetime | None]


class Schemas:
    """The models of one contract, and the reader of its rows."""

    def __init__(self, contract: Contract, largest_batch: int):
        self.contract = contract
        self.answer_name = contract.target.answer_column
        fields: dict[str, Any] = {n: _field(n, f, contract) for n, f in contract.features.items()}
        for name in contract.key:
            if name not in fields:
                meaning = "Part of the row's key; feedback may name the row by it."
                fields[name] = (KeyPart | None, Field(default=None, description=meaning))
        if contract.event_time:
            meaning = "The instant to answer for; now, where it is not given."
            fields[AS_OF] = (datetime | None, Field(default=None, description=meaning))
        strict = ConfigDict(extra="forbid", json_schema_extra={"example": self.example})
        self.reader = RowReader(contract)
        self.Row = create_model("Row", __config__=strict, **fields)
        rows = Annotated[list[self.Row], Field(min_length=1, max_length=largest_batch)]
        batch = ConfigDict(extra="forbid", json_schema_extra={"example": {"rows": [self.example]}})
        self.Batch = create_model("Batch", __config__=batch, rows=(rows, ...))
        self.Answer = create_model(
            "Answer",
            **self._said(),
            prediction_id=(str, Field(description="Name it in /feedback when the truth is known.")),
            model=(str, ...),
            version=(str, ...),
            as_of=(datetime, ...),
            imputed=(list[str], Field(description="Without a value; the model filled them in.")),
            unknown=(list[str], Field(description="Categories that the model has not seen.")),
            out_of_range=(list[str], Field(description="Outside the contract's range.")),
            explanation=(Explanation | None, None),
            calibration=(Calibration | None, Field(None, description="With `explain`.")),
        )
        self.Answers = create_model("Answers", predictions=(list[self.Answer], ...))

    def _said(self) -> dict[str, Any]:
        """The fields of an answer that say what is predicted."""
        classes = self.contract.target.classes
        meaning = f"{self.contract.target.meaning} {_values(self.contract)}"
        if not classes:
            ends = Field(
                description="Holds the truth as often as `target.interval` in the contract says; "
                "null while too little is known for it."
            )
            both = Annotated[list[float], Field(min_length=2, max_length=2)] | None
            said = Field(description=meaning)
            return {self.answer_name: (float, said), "interval": (both, ends)}
        of_each = Field(description="The probability of each class; they add up to 1.")
        one = Literal[tuple(classes)]
        probability = Annotated[float, Field(ge=0)]  # in float32, 1 may be 1.0000001
        return {
            self.answer_name: (one, Field(description=meaning)),
            "probabilities": (dict[one, probability], of_each),
            "prediction_set": (
                list[one] | None,
                Field(None, description="With `prediction_set`: the classes that hold the truth."),
            ),
        }

    @cached_property
    def example(self) -> dict[str, Any]:
        return {f.alias or n: f.example for n, f in self.contract.features.items()}

    @cached_property
    def names(self) -> dict[str, str]:
        """From what people may type to the column."""
        return {n: n for n in self.contract.features} | self.contract.aliases


def _field(name: str, feature: Feature, contract: Contract) -> tuple[Any, Any]:
    kind = {
        "integer": Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)],
        "number": Annotated[float, Field(allow_inf_nan=False)],
        "boolean": bool,
        "category": Annotated[str, Field(max_length=LONGEST_TEXT)],
    }[feature.type]
    limits = {}
    if feature.range and contract.out_of_range == "refuse":
        limits = {"ge": feature.range[0], "le": feature.range[1]}
    sentences = [feature.meaning]
    if feature.unit:
        sentences.append(f"In {feature.unit}.")
    if feature.range:
        sentences.append(f"Usual: {feature.range[0]:,.10g} to {feature.range[1]:,.10g}.")
    about = Field(
        default=... if feature.required else None,
        description=" ".join(sentences),
        examples=[feature.example],
        validation_alias=AliasChoices(name, feature.alias) if feature.alias else None,
        **limits,
    )
    return (kind if feature.required else kind | None), about
