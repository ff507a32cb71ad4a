"""The contract: what the user's table is, read once into a strict model.

It decides what columns mean. It never looks at data, and it opens one file.
Everything that differs from one table to another stands there and nowhere in
the code.
"""

import hashlib
import json
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from loopbook.project.computed import (
    CalendarPart,
    Coordinates,
    Derived,
    History,
    Trailing,
    bearings,
    log_of_per,
)
from loopbook.project.contract_faults import disagreements
from loopbook.project.errors import ContractError, listed
from loopbook.project.mappings import misfits, read_mapping, sentence
from loopbook.project.names import Name
from loopbook.project.source import Dialect, Part, Source
from loopbook.project.strict import Header, Ranged, Strict
from loopbook.project.target import Costs, Target


class Feature(Ranged):
    """One column known at prediction time."""

    type: Literal["integer", "number", "boolean", "category"]
    column: Header | None = None
    alias: Name | None = None
    required: bool = False
    sensitive: Literal["no", "hash", "omit"] = "no"
    example: bool | int | float | str
    categories: list[str] | None = None
    calendar: bool = False

    @model_validator(mode="after")
    def _keys_suit_the_type(self):
        if self.range and self.type in ("boolean", "category"):
            raise ValueError(f"range: a {self.type} has none; remove it")
        if self.categories and self.type != "category":
            raise ValueError(f"categories: only for type category, not {self.type}; remove them")
        twice = [c for c in dict.fromkeys(self.categories or []) if self.categories.count(c) > 1]
        if twice:
            raise ValueError(f"categories: {twice[0]!r} stands twice; name each once")
        if self.categories and self.example not in self.categories:
            raise ValueError(f"example {self.example!r}: expected one of the categories")
        wanted = {"integer": int, "number": (int, float), "boolean": bool, "category": str}
        is_bool = isinstance(self.example, bool)
        if not isinstance(self.example, wanted[self.type]) or is_bool != (self.type == "boolean"):
            raise ValueError(f"example {self.example!r}: expected a value of type {self.type}")
        if self.range and not self.range[0] <= self.example <= self.range[1]:
            raise ValueError(f"example {self.example!r}: expected it inside the range {self.range}")
        return self


class KnownFault(Strict):
    """Rows to leave out: those whose key columns have these values."""

    where: dict[Name, int | str | date]
    reason: str


class KnownAfter(Strict):
    """A column that is known only after a prediction was asked for: for people, and for no model."""

    column: str
    known: Literal["after"]


class KnownLeak(Strict):
    """Why a column that knows the target is an input all the same."""

    accepted: Annotated[str, Field(min_length=1)]


def _kind(ignored: Any) -> str:
    return "text" if isinstance(ignored, str) else "mapping"


Ignored = Annotated[
    Annotated[str, Tag("text")] | Annotated[KnownAfter, Tag("mapping")], Discriminator(_kind)
]


class Contract(Strict):
    """One table, described. A column has one name here, whatever the file calls it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]
    meaning: str
    task: Literal["regression", "binary", "multiclass"]
    source: Source
    null_values: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    unlabelled: Literal["refuse", "drop"] = "refuse"
    headers: dict[Name, Header] = Field(default_factory=dict)
    key: Annotated[list[Name], Field(min_length=1)]
    event_time: Name | None = None
    known_time: Name | None = None
    time_zone: str | None = None
    label_delay_days: Annotated[float, Field(ge=0, le=3650)] = 0
    entity: Name | None = None
    group: Name | None = None
    target: Target
    features: Annotated[dict[Name, Feature], Field(min_length=1)]
    derived: dict[Name, Derived] = Field(default_factory=dict)
    history: History | None = None
    coordinates: Coordinates | None = None
    slices: dict[Name, list[float] | None] = Field(default_factory=dict)
    known_faults: list[KnownFault] = Field(default_factory=list)
    ignored: list[Ignored] = Field(default_factory=list)
    leaks: dict[Name, KnownLeak] = Field(default_factory=dict)
    out_of_range: Literal["answer", "refuse"] = "answer"

    @model_validator(mode="after")
    def _names_agree(self):
        faults = disagreements(self)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def columns(self) -> list[str]:
        """Every column that the source must have, each once."""
        clock = [self.event_time, self.known_time]
        parts = [*self.key, *clock, *self.features, self.target.name]
        return [name for name in dict.fromkeys(parts) if name is not None]

    @cached_property
    def header_of(self) -> dict[str, str]:
        """What the source calls each of `columns`; most it calls by their names."""
        told = {name: f.column for name, f in self.features.items() if f.column}
        if self.target.column:
            told[self.target.name] = self.target.column
        told |= self.headers
        return {name: told.get(name, name) for name in self.columns}

    @property
    def ignored_headers(self) -> list[str]:
        """What the source calls the columns that are not used."""
        return [entry if isinstance(entry, str) else entry.column for entry in self.ignored]

    @property
    def known_after(self) -> list[str]:
        """Those of `ignored_headers` that are known only after a prediction was asked for."""
        return [entry.column for entry in self.ignored if not isinstance(entry, str)]

    @property
    def accepted_leaks(self) -> dict[str, str]:
        """The features that know the target and are inputs all the same, each with the reason."""
        return {name: leak.accepted for name, leak in self.leaks.items()}

    @property
    def categories(self) -> list[str]:
        return [name for name, feature in self.features.items() if feature.type == "category"]

    @property
    def numbers(self) -> list[str]:
        """The features that are a number as they stand; booleans count as 0 and 1."""
        return [name for name in self.features if name not in self.categories]

    @property
    def trailing(self) -> dict[str, Trailing]:
        """The features about earlier rows; all are numbers."""
        return self.history.features if self.history else {}

    @cached_property
    def rates(self) -> dict[str, str]:
        """The trailing features that are the share of a class, each with its class."""
        yes = self.target.positive or (self.target.classes or [None])[-1]
        return {n: t.of or yes for n, t in self.trailing.items() if t.aggregate == "rate"}

    @cached_property
    def calendar(self) -> dict[str, CalendarPart]:
        """The derived columns that are read off the calendar at the event time."""
        return {name: d.calendar for name, d in self.derived.items() if d.calendar}

    @cached_property
    def computed(self) -> dict[str, Derived]:
        """The derived columns, and those that follow from `target.per` and `coordinates`."""
        return self.derived | self.made

    @cached_property
    def made(self) -> dict[str, Derived]:
        """The derived columns that nobody wrote down."""
        return log_of_per(self.target) | bearings(self.coordinates, self.features)

    @property
    def aliases(self) -> dict[str, str]:
        """From the name that people use to the column's name."""
        return {f.alias: name for name, f in self.features.items() if f.alias}

    def label(self, name: str) -> str:
        """How a figure calls a column: its alias and unit where it has them."""
        about = self.features.get(name) or self.computed.get(name)
        if name == self.target.name:
            about = self.target
        shown = (getattr(about, "alias", None) or name).replace("_", " ")
        unit = getattr(about, "unit", None)
        if name in self.trailing:
            of_all = {"count": "count", "rate": "share"}
            unit = of_all.get(self.trailing[name].aggregate, self.history.unit)
        return f"{shown} ({unit})" if unit and unit.lower() != shown.lower() else shown

    def digest(self) -> str:
        """SHA-256 of what the contract says; comments and layout do not count."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def read_contract(path: Path | str) -> Contract:
    """Read a contract and check it against itself.

    Raises
    ------
    ContractError
        With every fault: file, key, found, expected and what to do.
    """
    path = Path(path)
    content = read_mapping(path, ContractError)
    try:
        return Contract.model_validate(content)
    except ValidationError as error:
        known = _known_keys()
        lines = [line for m in misfits(error) for line in sentence(m, known).splitlines()]
        faults = list(dict.fromkeys(lines))
        raise ContractError(
            f"{path.name}: {len(faults)} fault{'s' * (len(faults) != 1)}, nothing was run.\n"
            f"{listed(faults)}"
        ) from None


def _known_keys() -> set[str]:
    parts = (
        Source,
        Part,
        Dialect,
        Target,
        Costs,
        Feature,
        Derived,
        Coordinates,
        KnownFault,
        KnownAfter,
        KnownLeak,
        History,
        Trailing,
    )
    return {name for model in (Contract, *parts) for name in model.model_fields}
