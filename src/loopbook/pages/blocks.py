"""Blocks: what a page that is told by a record consists of.

It decides the few forms of such a page: a sentence, a table, what only a person
can say, and the section that they stand in. A template draws them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loopbook.models.measures import Measure
from loopbook.pages.formats import changed
from loopbook.pages.recorded import Records, Told

Part = str | Told
Row = Sequence[Any]


@dataclass(frozen=True)
class Text:
    """A sentence; its parts stand one after the other."""

    parts: Sequence[Part]
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """Rows under their names; without rows it is left out, and `empty` stands there."""

    names: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    empty: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Person:
    """What only a person can say."""

    question: str
    kind: str = "person"


@dataclass(frozen=True)
class Section:
    """A heading of the Annex with what is said there."""

    number: str
    title: str
    blocks: Sequence[Text | Table | Person]


def text(*parts: Part) -> Text:
    return Text(parts)


def interval(told: Records, way: tuple[str, ...], measure: Measure) -> list[Part]:
    """The mean and the ends of an interval of differences."""
    form = lambda value: changed(value, measure)  # noqa: E731
    return [told(*way, end, form=form) for end in ("mean", "low", "high")]


def knobs(told: Records, starts: tuple[str, ...], title: str) -> Table:
    """The knobs whose names begin so, as they were when the dossier was made."""
    names = [name for name in told.get("knobs", default={}) if name.startswith(starts)]
    return Table(("knob", "value"), [(name, told("knobs", name)) for name in names], title)


def yes(value: bool) -> str:
    return "yes" if value else "no"
