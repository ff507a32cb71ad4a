"""The contract: what the user's table is, read once into a strict model.

It decides what columns mean. It never looks at data, and it opens one file.
Everything that differs from one table to another stands there and nowhere in
the code.
"""

import ast
import difflib
import hashlib
import json
import math
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loopbook.project.errors import ContractError, listed

Range = Annotated[list[float], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EVENT_YEAR = "event_year"
BEARINGS = tuple(range(15, 180, 15))  # 0 and 90 are the latitude and the longitude themselves
FUNCTIONS = {"abs", "ceil", "exp", "expm1", "floor", "log", "log10", "log1p", "sqrt", "where"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Ranged(Strict):
    unit: str | None = None
    meaning: str
    range: Range | None = None

    @model_validator(mode="after")
    def _range_ascends(self):
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(
                f"range {self.range}: expected [least, greatest]; write the smaller first"
            )
        return self


class Dialect(Strict):
    """How a CSV file is written; without it, the separator is found from the first lines."""

    separator: Annotated[str, Field(min_length=1, max_length=1)]
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    decimal_comma: bool = False


class Source(Strict):
    """Where the rows come from: a file or folder, a URL, or a query to a database."""

    path: str | None = None
    url: str | None = None
    database: str | None = None
    query: str | None = None
    format: Literal["parquet", "csv", "jsonl"] | None = None
    dialect: Dialect | None = None

    @model_validator(mode="after")
    def _is_one_place(self):
        if sum(place is not None for place in (self.path, self.url, self.database)) != 1:
            raise ValueError("expected one of path, url and database; keep one")
        if (self.database is None) != (self.query is None):
            raise ValueError("database and query belong together; give both or neither")
        if self.database and (self.format or self.dialect):
            raise ValueError("format and dialect are for files; remove them")
        if self.url and not self.url.startswith(("http://", "https://", "${")):
            raise ValueError(f"url {self.url!r}: expected http:// or https://")
        return self


class Target(Ranged):
    """What is predicted; `range` is in `unit`, both ends belong to it."""

    name: Name
    transform: Literal["log", "none"] = "none"
    per: Name | None = None
    level: Name | None = None


class Feature(Ranged):
    """One column known at prediction time."""

    type: Literal["integer", "number", "boolean", "category"]
    alias: Name | None = None
    required: bool = False
    sensitive: Literal["no", "hash", "omit"] = "no"
    example: bool | int | float | str
    categories: list[str] | None = None

    @model_validator(mode="after")
    def _keys_suit_the_type(self):
        if self.range and self.type in ("boolean", "category"):
            raise ValueError(f"range: a {self.type} has none; remove it")
        if self.categories and self.type != "category":
            raise ValueError(f"categories: only for type category, not {self.type}; remove them")
        wanted = {"integer": int, "number": (int, float), "boolean": bool, "category": str}
        is_bool = isinstance(self.example, bool)
        if not isinstance(self.example, wanted[self.type]) or is_bool != (self.type == "boolean"):
            raise ValueError(f"example {self.example!r}: expected a value of type {self.type}")
        if self.range and not self.range[0] <= self.example <= self.range[1]:
            raise ValueError(f"example {self.example!r}: expected it inside the range {self.range}")
        return self


class Derived(Strict):
    """A column computed from a row's own features by an arithmetic formula."""

    formula: str
    unit: str | None = None
    meaning: str


class Coordinates(Strict):
    """The two features that say where a row is, in degrees; both need a range."""

    latitude: Name
    longitude: Name


class Trailing(Strict):
    """A number about the facts of a trailing window, `[t - window, t)`, known at t."""

    aggregate: Literal["count", "median", "min", "max"]
    window_days: Annotated[float, Field(gt=0, le=3650)]
    over: Literal["entity", "all"] = "entity"
    minimum_count: Annotated[int, Field(ge=1)] = 1
    maximum_age_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    meaning: str


class History(Strict):
    """What a row is told about earlier rows: of its entity, or of all."""

    value: str
    unit: str | None = None
    features: Annotated[dict[Name, Trailing], Field(min_length=1)]


class KnownFault(Strict):
    """Rows to leave out: those whose key columns have these values."""

    where: dict[Name, int | str | date]
    reason: str


class Contract(Strict):
    """One table, described. Column orders are those of the file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    meaning: str
    task: Literal["regression"]
    source: Source
    key: Annotated[list[Name], Field(min_length=1)]
    event_time: Name | None = None
    known_time: Name | None = None
    time_zone: str | None = None
    label_delay_days: Annotated[float, Field(ge=0, le=3650)] = 0
    entity: Name | None = None
    target: Target
    features: Annotated[dict[Name, Feature], Field(min_length=1)]
    derived: dict[Name, Derived] = {}
    history: History | None = None
    coordinates: Coordinates | None = None
    slices: dict[Name, list[float] | None] = {}
    known_faults: list[KnownFault] = []
    ignored: list[Name] = []
    out_of_range: Literal["answer", "refuse"] = "answer"

    @model_validator(mode="after")
    def _names_agree(self):
        faults = _disagreements(self)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def columns(self) -> list[str]:
        """Every column that the source must have, each once."""
        clock = [self.event_time, self.known_time]
        parts = [*self.key, *clock, *self.features, self.target.name]
        return [name for name in dict.fromkeys(parts) if name is not None]

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
    def computed(self) -> dict[str, Derived]:
        """The derived columns, and those that follow from `target.per` and `coordinates`."""
        return self.derived | _log_of_per(self) | _bearings(self)

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
            unit = "count" if self.trailing[name].aggregate == "count" else self.history.unit
        return f"{shown} ({unit})" if unit else shown

    def digest(self) -> str:
        """SHA-256 of what the contract says; comments and layout do not count."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def _log_of_per(c: Contract) -> dict[str, Derived]:
    """The log of what the target is in proportion to: a straight line for a linear model."""
    if c.target.per is None or c.target.transform != "log":
        return {}
    meaning = f"Natural log of {c.target.per}."
    return {f"log_{c.target.per}": Derived(formula=f"log({c.target.per})", meaning=meaning)}


def _bearings(c: Contract) -> dict[str, Derived]:
    """How far a row lies along each of eleven directions from the middle of the ranges.

    A tree cuts along its columns. With these it can follow a coast or a valley
    that runs neither north nor east. In degrees of latitude: a degree of
    longitude is shorter by the cosine of the latitude.
    """
    if c.coordinates is None:
        return {}
    latitude, longitude = c.coordinates.latitude, c.coordinates.longitude
    middle_lat = sum(c.features[latitude].range) / 2
    middle_long = sum(c.features[longitude].range) / 2
    shrink = math.cos(math.radians(middle_lat))
    found = {}
    for degrees in BEARINGS:
        north = math.cos(math.radians(degrees))
        east = shrink * math.sin(math.radians(degrees))
        formula = f"({latitude} - {middle_lat:g}) * {north:.6f} + ({longitude} - {middle_long:g}) * {east:.6f}"
        meaning = f"Distance from the middle towards {degrees} degrees east of north."
        found[f"bearing_{degrees}"] = Derived(formula=formula, unit="degrees", meaning=meaning)
    return found


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
        faults = model_faults(error, Contract)
        raise ContractError(
            f"{path.name}: {len(faults)} fault{'s' * (len(faults) != 1)}, nothing was run.\n"
            f"{listed(faults)}"
        ) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML as everybody reads it, except that a key may stand once only."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice; remove one",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, error: type[Exception]) -> dict[str, Any]:
    """A YAML file as a dictionary, or `error` with the line that is wrong."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror}). Put it back.") from None
    except UnicodeDecodeError:
        raise error(f"{path.name}: is not UTF-8 text. Save it as UTF-8.") from None
    except yaml.YAMLError as reason:
        mark = getattr(reason, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(reason, "problem", None) or str(reason)
        raise error(f"{path.name}: {where}{problem}. Correct the YAML.") from None
    if not isinstance(content, dict):
        raise error(f"{path.name}: found {type(content).__name__}, expected keys and values.")
    return content


def model_faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Pydantic's errors as sentences: key, found, expected, remedy."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        found = fault["input"]
        if fault["type"] == "value_error":
            prefix = f"{key}: " if key else ""
            faults += [prefix + line for line in str(fault["ctx"]["error"]).splitlines()]
        elif fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), _known_keys(model), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it"
            faults.append(f"{key}: unknown key; {hint}")
        elif fault["type"] == "missing":
            faults.append(f"{key}: missing; add it")
        else:
            shown = found if isinstance(found, str | int | float | bool | None) else type(found)
            expected = fault["msg"].removeprefix("Input should be ")
            faults.append(f"{key}: found {shown!r}, expected {expected}")
    return list(dict.fromkeys(faults))


def _known_keys(model: type[BaseModel]) -> set[str]:
    parts = (Source, Dialect, Target, Feature, Derived, Coordinates, KnownFault, History, Trailing)
    models = (model, *parts)
    return {name for m in models for name in m.model_fields}


def _disagreements(c: Contract) -> list[str]:
    """Names in one part of the contract that another part does not bear out."""
    faults = [*_role_faults(c), *_clock_faults(c), *_alias_faults(c), *_history_faults(c)]
    taken = {*c.features, *c.trailing, c.target.name, *c.key, EVENT_YEAR}
    for name in sorted(set(c.derived) & taken):
        faults.append(f"derived.{name}: a column of that name exists; choose another")
    for name, derived in c.derived.items():
        known = {*c.numbers, *c.trailing, *([EVENT_YEAR] if c.event_time else [])}
        told = _formula_faults(derived.formula, known)
        faults += [f"derived.{name}.formula: {fault}" for fault in told]
    for name in vars(c.coordinates).values() if c.coordinates else ():
        if name not in c.numbers or c.features[name].range is None:
            faults.append(f"coordinates: {name!r} is not a numeric feature with a range; name one")
    for name, edges in c.slices.items():
        faults += _slice_faults(name, edges, c)
    for fault in c.known_faults:
        for name in sorted(set(fault.where) - set(c.key)):
            faults.append(f"known_faults: {name!r} is not in key {c.key}; use key columns")
    for name in sorted(set(c.ignored) & set(c.columns)):
        faults.append(f"ignored: {name!r} is in use elsewhere in the contract; remove it here")
    return faults


def _role_faults(c: Contract) -> list[str]:
    """What the target, the clock, the entity and the key do not bear out."""
    faults = []
    for part, name in (("target.name", c.target.name), ("event_time", c.event_time)):
        if name in c.features:
            faults.append(f"{part}: {name!r} is a feature too; take it out of features")
    if c.entity and c.entity not in c.categories:
        faults.append(f"entity: {c.entity!r} is not a feature of type category; describe it as one")
    if c.target.per and c.target.per not in c.numbers:
        faults.append(f"target.per: {c.target.per!r} is not a numeric feature; name one")
    if c.target.transform == "log" and not (c.target.range and c.target.range[0] > 0):
        faults.append("target.range: a log needs a least value above 0; set it, or transform: none")
    if not c.categories and not c.target.per:
        faults.append("features: the baseline needs a category or target.per; describe one")
    if len(set(c.key)) < len(c.key):
        faults.append(f"key: {c.key} names a column twice; name each once")
    return faults


def _clock_faults(c: Contract) -> list[str]:
    """What the times do not bear out."""
    faults = []
    if c.label_delay_days and not c.event_time:
        faults.append("label_delay_days: needs event_time; name it, or remove the delay")
    if c.known_time and not c.event_time:
        faults.append("known_time: needs event_time; name it, or remove known_time")
    if c.known_time and c.label_delay_days:
        faults.append("known_time: says itself when a row was known; remove label_delay_days")
    if c.known_time and c.known_time in {*c.features, *c.key, c.event_time}:
        faults.append(f"known_time: {c.known_time!r} is in use elsewhere; name another column")
    if c.time_zone and c.time_zone not in available_timezones():
        faults.append(f"time_zone: found {c.time_zone!r}, expected a name such as Europe/Paris")
    return faults


def _history_faults(c: Contract) -> list[str]:
    """What the trailing features need and do not find."""
    level = c.target.level
    faults = []
    if level and (c.trailing.get(level) is None or c.trailing[level].aggregate == "count"):
        faults.append(f"target.level: {level!r} is no trailing median, min or max; name one")
    if level and c.target.transform != "log":
        faults.append("target.level: needs transform: log; set it, or remove the level")
    if c.history is None:
        return faults
    if c.event_time is None:
        faults.append("history: needs event_time; name it, or remove history")
    for name in sorted(set(c.trailing) & {*c.features, c.target.name, *c.key}):
        faults.append(f"history.features.{name}: a column of that name exists; choose another")
    if c.entity is None and any(t.over == "entity" for t in c.trailing.values()):
        faults.append("history: needs entity; name it, or say over: all")
    known = {*c.numbers, c.target.name}
    return faults + [f"history.value: {f}" for f in _formula_faults(c.history.value, known)]


RESERVED = {"as_of", "explain"}  # what a request may say beside its features


def _alias_faults(c: Contract) -> list[str]:
    taken = {*c.features, *c.derived, *c.trailing, *c.key, c.target.name}
    aliases = [f.alias for f in c.features.values() if f.alias]
    twice = dict.fromkeys(a for a in aliases if a in taken or aliases.count(a) > 1)
    told = [f"alias {a!r}: used twice, or a column's name; choose another" for a in twice]
    names = [n for n in (*c.features, *aliases) if n in RESERVED]
    return told + [f"features: {n!r} has a meaning in requests; choose another" for n in names]


def formula_names(formula: str) -> set[str]:
    """The columns that a formula reads. Raises SyntaxError if it is none."""
    names = {n.id for n in ast.walk(ast.parse(formula, mode="eval")) if isinstance(n, ast.Name)}
    return names - FUNCTIONS


def _formula_faults(formula: str, known: set[str]) -> list[str]:
    try:
        used = formula_names(formula)
    except SyntaxError as reason:
        return [f"{formula!r} is no formula ({reason.msg}); correct it"]
    return [
        f"{name!r} is neither a number that is known here nor one of the functions "
        f"{', '.join(sorted(FUNCTIONS))}"
        for name in sorted(used - known)
    ]


def _slice_faults(name: str, edges: list[float] | None, c: Contract) -> list[str]:
    if name not in c.features:
        return [f"slices.{name}: not a feature; name one"]
    if edges is None and c.features[name].type in ("integer", "number"):
        return [f"slices.{name}: a number needs edges, such as [10, 20]; add them"]
    if edges is not None and c.features[name].type in ("boolean", "category"):
        return [f"slices.{name}: a {c.features[name].type} has no edges; leave them empty"]
    if edges is not None and (not edges or sorted(set(edges)) != edges):
        return [f"slices.{name}: found {edges}, expected ascending edges"]
    return []
