"""Strict: what every part of a contract keeps, whatever it describes.

It decides that unknown keys, numbers as text and infinite numbers are refused,
and what a unit, a meaning and a range are. It knows no part by name.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Range = Annotated[list[float], Field(min_length=2, max_length=2)]
Header = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


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
