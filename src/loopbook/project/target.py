"""Target: what is predicted, and by which error predictions are compared.

It decides which keys a target may have and what follows where one is left out.
Whether they suit the task and the other columns is `target_faults`'.
"""

import re
import unicodedata
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from loopbook.project.names import Name
from loopbook.project.strict import Header, Ranged, Strict

MOST_CLASSES = 1_000
OF_NUMBERS = (
    *("absolute_log_error", "absolute_error", "absolute_percentage_error", "squared_error"),
)
OF_CLASSES = ("log_loss",)
Metric = Literal[
    "absolute_log_error",
    "absolute_error",
    "absolute_percentage_error",
    "squared_error",
    "log_loss",
]


def _class_name(value: Any) -> Any:
    """A class as a category of a table is read: 1 and true are texts, nothing stands around it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        text = unicodedata.normalize("NFKC", value).strip()
        return re.sub(r"^(-?[1-9][0-9]*|0)\.0$", r"\1", text)
    return value


ClassName = Annotated[
    str, BeforeValidator(_class_name), Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
]


class Costs(Strict):
    """What a wrong answer to yes or no costs, in any unit; only their ratio counts."""

    false_positive: Annotated[float, Field(gt=0, le=1e9)]
    false_negative: Annotated[float, Field(gt=0, le=1e9)]


class Target(Ranged):
    """What is predicted; `range` is in `unit`, both ends belong to it.

    `classes` are the values of one that is no number, in the order in which
    probabilities are given. `metric` is the error by which models are compared,
    `interval` the share of truths that an answer's interval, or set of classes, holds.
    """

    name: Name
    column: Header | None = None
    metric: Metric | None = None
    transform: Literal["log", "none"] = "none"
    per: Name | None = None
    classes: Annotated[list[ClassName], Field(min_length=2)] | None = None
    positive: ClassName | None = None
    costs: Costs | None = None
    interval: Annotated[float, Field(ge=0.5, le=0.99)] = 0.9

    @cached_property
    def type(self) -> Literal["number", "category"]:
        """What the column holds, as a feature's type says it."""
        return "category" if self.classes else "number"

    @property
    def answer_column(self) -> str:
        """What an answer is called, over HTTP and in a scored file."""
        return f"predicted_{self.name}"

    @property
    def probability_columns(self) -> dict[str, str]:
        """In a scored file, the column of each class's probability, by the class.

        The class stands in it with all its signs, so that no two have one column.
        """
        return {name: f"probability_{name}" for name in self.classes or ()}

    @property
    def interval_columns(self) -> tuple[str, ...]:
        """In a scored file, the columns of the two ends of an interval; none for classes."""
        return () if self.classes else (f"{self.answer_column}_low", f"{self.answer_column}_high")

    @property
    def set_columns(self) -> tuple[str, ...]:
        """In a scored file, the column of the classes that hold the truth; none for a number."""
        return (f"{self.answer_column}_set",) if self.classes else ()

    @property
    def is_log(self) -> bool:
        """Whether models are fitted on its log."""
        return self.transform == "log"

    @cached_property
    def error(self) -> Metric:
        """The metric that counts: the one that was asked for, or what suits the target."""
        if self.metric:
            return self.metric
        if self.classes:
            return "log_loss"
        return "absolute_log_error" if self.is_log else "absolute_error"
