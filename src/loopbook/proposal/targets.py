"""Targets: what is to be predicted, and how, as far as its values tell.

It decides a guess at the target, and for a target the task, the classes, the
link and the metric. Which column is meant, only a person knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from loopbook.project.counts import counted
from loopbook.project.target import MOST_CLASSES
from loopbook.proposal import wording
from loopbook.proposal.columns import Column

CALLED_SO = {"target", "label", "y", "class", "outcome", "response", "output", "dependent"}
OFTEN_ONE = {
    *("default", "defaulted", "churn", "churned", "survived", "fraud", "price", "cost", "sales"),
    *("revenue", "amount", "rent", "salary", "wage", "income", "demand", "cnt", "count", "rentals"),
    *("rating", "score", "quality", "delay", "duration", "species", "diagnosis", "risk", "result"),
    *("status", "approved", "converted", "clicked", "purchased", "attrition", "exited", "value"),
    *("mpg", "strength", "yield", "load", "consumption", "energy", "failure", "failed", "fault"),
    *("medv", "charges", "admitted", "won", "winner", "accepted", "cancelled", "canceled", "fare"),
}  # fmt: skip
NOMINAL = {
    "target",
    "label",
    "class",
    "type",
    "category",
    "species",
    "group",
    "cluster",
    "digit",
    "kind",
}
MOST_GUESSED = 100  # classes of a column that nobody named
MOST_NUMBERED = 20
LEAST_OF_A_CLASS = 10
LEAST_EACH = 3  # rows of each class, on average
SKEWED = 1.0
MOSTLY = 0.5  # from here on no class may be a class
POSITIVE = {
    "yes",
    "true",
    "1",
    "y",
    "t",
    "positive",
    "pos",
    "bad",
    "fraud",
    "default",
    "churned",
    "late",
}
POSITIVE |= {
    "malignant",
    "failure",
    "failed",
    "sick",
    "died",
    "dead",
    "won",
    "oui",
    "ja",
    "si",
    "sí",
    "1.0",
}


@dataclass(frozen=True)
class Aim:
    """What is predicted, by the contract's words.

    Attributes
    ----------
    keys : of the contract's `target`, beside its name, range, unit and meaning
    notes : what a person should look at
    """

    task: str
    why: str
    keys: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def could_be(column: Column) -> str:
    """Why a column can be no target; empty where it can."""
    if column.kind in ("nothing", "constant", "nested", "text", "time"):
        return {"time": "is a time", "text": "is free text"}.get(column.kind, column.why)
    if column.kind == "category" and column.distinct > MOST_CLASSES:
        return f"has {column.distinct:,} different texts, and classes are at most {MOST_CLASSES:,}"
    rows = column.values.len() - column.values.null_count()
    if column.kind == "category" and column.distinct > rows / LEAST_EACH:
        return f"has {column.distinct:,} different texts in {rows:,} rows, too few of each to learn from"
    return ""


def guessed(columns: Sequence[Column], taken: Sequence[str]) -> tuple[Column | None, str]:
    """The column that looks most like a target, and why; of equals the last."""
    free = [c for c in columns if not could_be(c) and c.header not in taken and not _is_name(c)]
    free = [c for c in free if c.kind != "category" or c.distinct <= MOST_GUESSED]
    if not free:
        return None, ""

    def points(column: Column) -> tuple[int, int]:
        found = wording.words(column.header)
        named = (
            6 if set(found) & CALLED_SO and len(found) <= 2 else 3 * bool(set(found) & OFTEN_ONE)
        )
        at_end = 2 * (column is columns[-1]) + (column is columns[0])
        return named + at_end - 4 * (column.missing > 0.3), list(columns).index(column)

    best = max(free, key=points)
    named = points(best)[0] >= 3
    where = "last" if best is columns[-1] else "first" if best is columns[0] else "likeliest"
    return best, "targets are often called so" if named else f"it is the {where} column"


def _is_name(column: Column) -> bool:
    return wording.is_row_name(column.header) or (
        wording.is_identifier(column.header) and column.distinct > MOST_GUESSED
    )


def aim_of(column: Column) -> Aim:
    """Task, classes, link and metric of a target."""
    counts = column.values.drop_nulls().value_counts(sort=True)
    if column.kind in ("boolean", "category") or column.distinct == 2 or _is_numbered(column):
        aim = _of_classes(column, counts)
        return replace(aim, notes=[*aim.notes, *_none_of_them(column)])
    return _of_number(column)


def _none_of_them(column: Column) -> list[str]:
    """What it may mean that most rows have no class."""
    if column.missing < MOSTLY:
        return []
    told = f"has no value in {100 * column.missing:.0f} % of the rows, and these rows are left out. If none of "
    told += "them is an answer too, give it a name: coalesce(column, 'none') in source.query"
    return [told]


def _is_numbered(column: Column) -> bool:
    """Whether a whole number is the number of a class: few, from 0 or 1 on, and called so."""
    if column.kind != "integer" or column.distinct > MOST_NUMBERED:
        return False
    values = column.values.drop_nulls()
    is_run = values.min() in (0, 1) and values.max() - values.min() + 1 == column.distinct
    return is_run and bool(set(wording.words(column.header)) & NOMINAL)


def class_of(value: object) -> str:
    """A value as the class that a contract reads it as."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _stored_class(column: Column, value: object) -> str:
    """The class as the contract meets it: a 0 that is read as false here is `0` there."""
    if isinstance(value, bool) and column.why == "only 0 and 1":
        return str(int(value))
    return class_of(value)


def _of_classes(column: Column, counts: pl.DataFrame) -> Aim:
    by_class = {_stored_class(column, v): n for v, n in counts.iter_rows()}
    classes = sorted(by_class, key=lambda text: (_as_number(text), text))
    rare = [name for name in classes if by_class[name] < LEAST_OF_A_CLASS]
    notes = []
    if rare:
        shown = ", ".join(f"{name} ({by_class[name]})" for name in rare[:5])
        notes.append(
            f"{counted(len(rare), 'class has', 'classes have')} fewer than {LEAST_OF_A_CLASS} rows: {shown}"
        )
    if len(classes) != 2:
        why = f"{len(classes)} different {'numbers' if column.is_number else 'texts'}"
        return Aim("multiclass", why, {"classes": classes}, notes)
    yes = [
        name
        for name in classes
        if name.lower() in POSITIVE or not name.lower().startswith(("no", "un"))
    ]
    positive = next((n for n in classes if n.lower() in POSITIVE), None)
    if positive is None:
        # the rarer one is usually what is asked about
        positive = min(yes if len(yes) == 1 else classes, key=lambda name: by_class[name])
    keys = {"classes": classes, "positive": positive}
    return Aim("binary", f"two values: {' and '.join(classes)}", keys, notes)


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def _of_number(column: Column) -> Aim:
    values = column.values.drop_nulls().cast(pl.Float64)
    notes = []
    if values.min() > 0:
        skew, log_skew = values.skew() or 0.0, values.log().skew() or 0.0
        ratio = values.quantile(0.99) / values.quantile(0.01)
        if skew > SKEWED and abs(log_skew) < skew / 2 and ratio > 3:
            why = f"a positive number, skewed ({skew:.1f}; its log {log_skew:.1f}), so errors are relative"
            return Aim("regression", why, {"transform": "log"}, notes)
    share = (values == 0).mean()
    if share > 0.3:
        notes.append(f"is 0 in {100 * share:.0f} % of the rows")
    return Aim("regression", f"a number with {column.distinct:,} values", {}, notes)
