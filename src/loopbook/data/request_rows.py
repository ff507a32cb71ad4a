"""Request rows: what a row of a request means, as the contract of a version says.

It decides which field is which column and what its value is, the same for JSON,
a query and the Open Inference Protocol, and as `data.values` reads a table. It
is on the way of every answer, so that it does no more than it must.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from loopbook.data.single_values import reader
from loopbook.project.clock import TIME_EXPECTED, parse_instant, read_time
from loopbook.project.contract import Contract, Feature
from loopbook.project.mappings import Misfit

AS_OF = "as_of"  # the instant to answer for, where the contract has an event time


class RowReader:
    """Reads the rows of requests by one contract."""

    def __init__(self, contract: Contract):
        readers = {name: _reader_of(f, contract) for name, f in contract.features.items()}
        for name in contract.key:
            readers.setdefault(name, reader("key", contract.null_values))
        if contract.event_time:
            readers.setdefault(AS_OF, instant_reader(contract.time_zone))
        fields = {name: (name, read) for name, read in readers.items()}
        aliased = contract.aliases.items()
        self._fields = fields | {alias: (name, readers[name]) for alias, name in aliased}
        self._required = [name for name, f in contract.features.items() if f.required]

    def read(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Misfit]]:
        """A row by its columns, None for no value, and all that is wrong with it."""
        fields, row = self._fields, {}
        wrong: list[Misfit] = []
        for name, value in given.items():
            try:
                column, read = fields[name]
                row[column] = read(value)
            except KeyError:
                wrong.append(Misfit("unknown", (name,), value, ""))
            except ValueError as reason:
                row[column] = None
                wrong.append(Misfit("invalid", (name,), value, str(reason)))
        for name in self._required:
            if row.get(name) is None:
                self._tell_missing(name, given, wrong)
        return row, wrong

    def _tell_missing(self, column: str, given: Mapping[str, Any], wrong: list[Misfit]) -> None:
        """A required column that is not given, or has no value; not one that is told already."""
        names = [name for name in given if self._fields.get(name, ("",))[0] == column]
        if not names:
            wrong.append(Misfit("missing", (column,), None, ""))
        elif all(misfit.path != (names[0],) for misfit in wrong):
            wrong.append(Misfit("invalid", (names[0],), given[names[0]], "a value"))

    def twice(self, given: Mapping[str, Any]) -> str | None:
        """A column that is given under two of its names, or None."""
        seen: set[str] = set()
        for name in given:
            column = self._fields.get(name, (name,))[0]
            if column in seen:
                return column
            seen.add(column)
        return None


def _reader_of(feature: Feature, contract: Contract) -> Callable[[Any], Any]:
    bounds = feature.range if contract.out_of_range == "refuse" else None
    return reader(feature.type, contract.null_values, bounds)


def instant_reader(zone: str | None) -> Callable[[Any], datetime | None]:
    """The reader of an instant in ISO 8601; one that names no zone is of this one, or of UTC."""

    def read_instant(value: Any) -> datetime | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise ValueError(TIME_EXPECTED)
        return parse_instant(value, zone)

    return read_instant


def time_reader(value: Any) -> datetime | None:
    """A time in ISO 8601 as it says, with its offset or without one; a day is its midnight."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(TIME_EXPECTED)
    time = read_time(value.strip())
    return time if isinstance(time, datetime) else datetime.combine(time, datetime.min.time())
