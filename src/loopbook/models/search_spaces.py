"""Search spaces: the settings of a candidate that a search may try, from tune.yaml.

It decides what a space may say and what is told where it is wrong. It draws
nothing and fits nothing: `tuning` does.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from scipy import stats

from loopbook.project.errors import TuningError, listed
from loopbook.project.mappings import misfits, read_mapping, sentence
from loopbook.project.paths import Project
from loopbook.project.strict import Strict

FILE = "tune.yaml"
Number = int | float
Scalar = bool | int | float | str | None


class Range(Strict):
    """Every number from one end to the other, both ends with it."""

    least: Number = Field(alias="from")
    greatest: Number = Field(alias="to")
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _is_a_range(self):
        if not self.least < self.greatest:
            raise ValueError(f"from {self.least} to {self.greatest}: write the smaller first")
        if self.scale == "log" and self.least <= 0:
            raise ValueError(f"from {self.least}: expected above 0 with scale: log")
        if self.scale == "log" and self.is_whole:
            raise ValueError("scale: log takes no whole numbers; write a list, or from: 10.0")
        return self

    @property
    def is_whole(self) -> bool:
        return isinstance(self.least, int) and isinstance(self.greatest, int)


Values = Annotated[list[Scalar], Field(min_length=1)]
Space = dict[str, Range | Values]
SPACES = TypeAdapter(dict[str, Annotated[Space, Field(min_length=1)]])


def space_of(candidate: str, project: Project) -> Space:
    """The space of a candidate.

    Raises
    ------
    TuningError
        If there is no file, something in it is wrong, or it does not name the candidate.
    """
    path = project.root / FILE
    if not path.exists():
        raise TuningError(
            f"{FILE}: there is no such file, so nothing says what to try. Write one:\n"
            f"{candidate}:\n  model__NAME: {{from: 0.01, to: 0.2}}"
        )
    try:
        spaces = SPACES.validate_python(read_mapping(path, TuningError), strict=True)
    except ValidationError as error:
        faults = dict.fromkeys(
            sentence(misfit, ("from", "to", "scale")) for misfit in misfits(error)
        )
        raise TuningError(f"{FILE}: nothing was tried.\n{listed(list(faults))}") from None
    if candidate not in spaces:
        raise TuningError(
            f"{FILE}: has no space for {candidate}; it has {', '.join(spaces)}. Add one."
        )
    return spaces[candidate]


def check_names(space: Iterable[str], settings: Mapping[str, Any], candidate: str) -> None:
    """Refuse a space with a setting that the candidate's estimator does not have.

    Raises
    ------
    TuningError
        With every such name, and the nearest that there is.
    """
    plain = [name for name, value in settings.items() if not hasattr(value, "get_params")]
    faults = []
    for name in space:
        if name not in settings:
            near = difflib.get_close_matches(name, plain, n=1, cutoff=0.4)
            faults.append(
                f"{candidate}.{name}: the candidate has no such setting"
                f"{f'; did you mean {near[0]!r}?' if near else ''}"
            )
    if faults:
        ends = sorted(name for name in plain if name.startswith("model__"))
        raise TuningError(
            f"{FILE}: nothing was tried.\n{listed(faults)}\nThere are {', '.join(ends or plain)}."
        )


def distributions(space: Space) -> dict[str, Any]:
    """A space as scikit-learn's searches draw from it."""
    return {
        name: values if isinstance(values, list) else _drawn(values)
        for name, values in space.items()
    }


def _drawn(values: Range) -> Any:
    if values.is_whole:
        return stats.randint(values.least, values.greatest + 1)
    if values.scale == "log":
        return stats.loguniform(values.least, values.greatest)
    return stats.uniform(values.least, values.greatest - values.least)
