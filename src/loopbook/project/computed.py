"""Computed: the columns of a contract that no table holds.

It decides what is derived from a row's own features, what is read off the
calendar at its event time, and what a row may know of earlier rows. It never
computes one: `features` does.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from loopbook.project.formulas import formula_names
from loopbook.project.names import Name
from loopbook.project.strict import Ranged, Strict
from loopbook.project.target import ClassName, Target

CalendarPart = Literal["hour", "weekday", "day", "day_of_year", "week", "month", "quarter", "year"]
BEARINGS = tuple(range(15, 180, 15))  # 0 and 90 are the latitude and the longitude themselves


class Derived(Strict):
    """A column computed from a row's own features by a formula, or read off the calendar."""

    formula: Annotated[str, Field(max_length=2000)] | None = None
    calendar: CalendarPart | None = None
    unit: str | None = None
    meaning: str

    @model_validator(mode="after")
    def _is_one_way(self):
        if (self.formula is None) == (self.calendar is None):
            raise ValueError("expected a formula or a calendar; give one of the two")
        return self

    @property
    def reads(self) -> set[str]:
        """The columns that it is computed from; the calendar reads the event time alone."""
        return formula_names(self.formula) if self.formula else set()

    @property
    def told(self) -> str:
        """What it is computed from, for people."""
        return self.formula or f"{self.calendar} of the event time"


class Coordinates(Strict):
    """The two features that say where a row is, in degrees; both need a range."""

    latitude: Name
    longitude: Name


class Trailing(Strict):
    """A number about the facts of a trailing window, `[t - window, t)`, known at t.

    `of`: of a rate, the class whose share it is.
    """

    aggregate: Literal["count", "mean", "median", "min", "max", "rate"]
    of: ClassName | None = None
    window_days: Annotated[float, Field(gt=0, le=3650)]
    over: Literal["entity", "all"] = "entity"
    minimum_count: Annotated[int, Field(ge=1)] = 1
    maximum_age_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    meaning: str


class History(Strict):
    """What a row is told about earlier rows: of its entity, or of all.

    `value`: of a fact; without it the target itself, a number or a class.
    """

    value: Annotated[str, Field(max_length=2000)] | None = None
    unit: str | None = None
    features: Annotated[dict[Name, Trailing], Field(min_length=1)]


def log_of_per(target: Target) -> dict[str, Derived]:
    """The log of what the target is in proportion to: a straight line for a linear model."""
    if target.per is None or not target.is_log:
        return {}
    meaning = f"Natural log of {target.per}."
    return {f"log_{target.per}": Derived(formula=f"log({target.per})", meaning=meaning)}


def bearings(coordinates: Coordinates | None, features: Mapping[str, Ranged]) -> dict[str, Derived]:
    """How far a row lies along each of eleven directions from the middle of the ranges.

    A tree cuts along its columns. With these it can follow a coast or a valley
    that runs neither north nor east. In degrees of latitude: a degree of
    longitude is shorter by the cosine of the latitude.
    """
    if coordinates is None:
        return {}
    latitude, longitude = coordinates.latitude, coordinates.longitude
    middle_lat = sum(features[latitude].range) / 2
    middle_long = sum(features[longitude].range) / 2
    shrink = math.cos(math.radians(middle_lat))
    found = {}
    for degrees in BEARINGS:
        north = math.cos(math.radians(degrees))
        east = shrink * math.sin(math.radians(degrees))
        formula = f"({latitude} - {middle_lat:g}) * {north:.6f} + ({longitude} - {middle_long:g}) * {east:.6f}"
        meaning = f"Distance from the middle towards {degrees} degrees east of north."
        found[f"bearing_{degrees}"] = Derived(formula=formula, unit="degrees", meaning=meaning)
    return found
