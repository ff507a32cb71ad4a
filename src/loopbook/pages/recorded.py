"""Recorded: what stands in a record, with the place where it stands there.

It decides how a page shows a value so that a program finds it again: each is
written with a JSON Pointer into the record. A value that the record lacks is
said to be unrecorded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loopbook.pages.formats import Amount, cell

UNRECORDED = "not recorded"


@dataclass(frozen=True)
class Told:
    """A value of a record as it is shown; `pointer` is where it stands (RFC 6901)."""

    pointer: str
    value: Any
    shown: str

    @property
    def is_amount(self) -> bool:
        """Whether it stands at the right of a table's cell."""
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return is_number or isinstance(self.shown, Amount)


class Records:
    """A record, asked by the names and places on the way to a value."""

    def __init__(self, record: Mapping[str, Any]):
        self.record = record

    def get(self, *way: str | int, default: Any = None) -> Any:
        """What stands there, bare; `default` where nothing does."""
        found: Any = self.record
        for step in way:
            try:
                found = found[step]
            except (LookupError, TypeError):
                return default
        return default if found is None else found

    def __call__(self, *way: str | int, form: Callable[[Any], str] = cell) -> Told | str:
        """What stands there, as a page shows it."""
        value = self.get(*way)
        return UNRECORDED if value is None else Told(_pointer(way), value, form(value))


def _pointer(way: tuple[str | int, ...]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in way)
