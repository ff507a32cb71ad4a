"""Reading: tables and sentences in a notebook, as people read them.

It decides how a value stands in a table (no type, no quotes, amounts at the
right and in their unit) and that nothing of the data becomes markup or a
formula. It computes no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from loopbook.models.measures import amount
from loopbook.pages import metrics
from loopbook.pages.escapes import escaped
from loopbook.pages.formats import Amount, one_line

if TYPE_CHECKING:  # the figures of a page do not wait for SciPy
    from loopbook.models.task import Task
    from loopbook.pages.figures import Picture
    from loopbook.project.contract import Contract

A_DOLLAR = "<span>$</span>"  # MathJax sees a formula between two that stand in one text
NUMBERS = (int, float, Amount)
A_YEAR, UNSAID = "year", ("count",)  # units that a reader knows without their word


class Sentence(str):
    """A text that a notebook shows as it stands: neither markup nor a formula."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return escaped(self).replace(r"\$", A_DOLLAR)


class Prose(str):
    """Markdown that a notebook shows: how a figure is read."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


def bullets(texts: Iterable[str], none: str = "") -> Prose:
    """Texts as a list, or `none` of no text; nothing in them is markup."""
    lines = [f"- {Sentence(text)._repr_markdown_()}" for text in texts]
    return Prose("\n".join(lines) or Sentence(none)._repr_markdown_())


def explained(picture: Picture) -> list[Any]:
    """What a notebook displays of a figure: how it is read, the figure, and what it shows.

    Where there is nothing to show, that is said once, without a figure.
    """
    if picture.is_empty:
        return [Sentence(picture.finding)]
    told = escape(picture.reading, quote=False).replace("](", r"]\(")  # a class may be named so
    above = [Prose(told)] if told else []
    return [*above, picture, Sentence(picture.finding)]


@dataclass(frozen=True)
class Table:
    """A table that a notebook shows in HTML, and a terminal in columns.

    Attributes
    ----------
    names : of the columns
    rows : texts, as they are read
    right : places of the columns that stand at the right
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]

    def _repr_html_(self) -> str:
        head = self._row("th", self.names)
        body = "\n".join(self._row("td", row) for row in self.rows)
        return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    def _row(self, tag: str, texts: Sequence[str]) -> str:
        cells = []
        for place, text in enumerate(texts):
            side = "right" if place in self.right else "left"
            inside = escape(one_line(text)).replace("$", A_DOLLAR)
            cells.append(f'<{tag} style="text-align: {side}">{inside}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>"

    def __repr__(self) -> str:
        lines = [self.names, *self.rows]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.names))]
        return "\n".join("  ".join(self._padded(line, widths)).rstrip() for line in lines)

    def _padded(self, line: Sequence[str], widths: Sequence[int]) -> list[str]:
        return [
            text.rjust(width) if place in self.right else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]


def table(rows: Iterable[Mapping[str, Any]], none: str = "None.") -> Table | Sentence:
    """Rows as a table: its columns are the names in the order in which rows first have them.

    Parameters
    ----------
    rows : mappings from a column's name to a value
        A number that is no `Amount` gets its form from `value`.
    none : str
        What is said instead of a table without rows.
    """
    rows = [dict(row) for row in rows]
    if not rows:
        return Sentence(none)
    names = list(dict.fromkeys(name for row in rows for name in row))
    right = frozenset(
        place
        for place, name in enumerate(names)
        if all(_is_number(row.get(name)) for row in rows) and any(row.get(name) for row in rows)
    )
    told = tuple(tuple(value(row.get(name)) for name in names) for row in rows)
    return Table(tuple(str(name) for name in names), told, right)


def _is_number(cell: Any) -> bool:
    return cell is None or (isinstance(cell, NUMBERS) and not isinstance(cell, bool))


def value(cell: Any) -> str:
    """A value of a cell: counts with commas, other numbers with three significant digits."""
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return amount(cell)
    if isinstance(cell, list | tuple):
        return ", ".join(value(part) for part in cell)
    return str(cell)


def per_cent(share: float | None, digits: int = 1) -> Amount:
    """A share as per cent: 2.0 %."""
    if share is None or not math.isfinite(share):
        return Amount("not known")
    return Amount(f"{100 * share:,.{digits}f} %")


def in_unit(number: float | None, unit: str | None = None, *, bare: bool = False) -> Amount:
    """An amount with three significant digits and its unit, or `bare` of it; a year has neither."""
    if number is None or not math.isfinite(number):
        return Amount("not known")
    if unit == A_YEAR:
        return Amount(f"{number:.0f}")
    size = f"{number:,.0f}" if float(number).is_integer() else amount(number)
    return Amount(size if bare or unit in (None, "", *UNSAID) else f"{size} {unit}")


def form_of(table: Contract, name: str) -> Callable[[float | None], Amount]:
    """How the values of one of a contract's columns are read: in its unit, or as per cent."""
    if name in table.trailing:
        aggregate = table.trailing[name].aggregate
        units = {"count": None, "rate": None}
        unit = units.get(aggregate, table.history.unit)
        return per_cent if aggregate == "rate" else partial(in_unit, unit=unit)
    about = table.target if name == table.target.name else table.features.get(name)
    return partial(in_unit, unit=getattr(about, "unit", None))


def candidates(ranked: Iterable[Mapping[str, Any]], task: Task) -> Table | Sentence:
    """The candidates of a build as `challenge.rank` has them, in its order."""
    ranked = list(ranked)
    has_bias = any(run["bias"] is not None for run in ranked)
    rows = []
    for run in ranked:
        row = {"candidate": run["candidate"]}
        row[task.measure.title] = Amount(task.measure.said(run["loss"]))
        if has_bias:
            off = run["bias"]
            row["bias"] = None if off is None else Amount(task.bias_measure.said_change(off))
        row |= {"export answers the same": run["exportable"], "ms a row": run["latency_ms"]}
        rows.append(row)
    return table(rows)


def scores(by_model: Mapping[str, Mapping[str, float]], task: Task) -> Table | Sentence:
    """Metrics of some models side by side: a row a metric, the one that decides first."""
    unit = task.contract.target.unit
    measures = (task.measure, task.bias_measure)
    told: dict[str, dict[str, Any]] = {}
    for model, found in by_model.items():
        for name, score in metrics.rows(found, task.metric, measures, unit):
            told.setdefault(name, {})[model] = score
    return table([{"metric": name, **scores} for name, scores in told.items()])


def by_class(found: Mapping[str, float]) -> Table | None:
    """Of classes, the share of each one's rows that was found, and of its answers that was right."""
    rows = [
        {"class": name, "of its rows found": recall, "of its answers right": precision}
        for name, recall, precision in metrics.by_class(found)
    ]
    return table(rows) if rows else None


def of_window(numbers: Mapping[str, float | int | None], task: Task) -> Table | Sentence:
    """The numbers of a window's record: a row each, with its interval where it has one."""
    error, bias = task.measure, task.bias_measure
    forms: dict[str, tuple[str, Callable]] = {
        "rows": ("answers in the newest window", value),
        "due": ("answers that should have ground truth", value),
        "labels": ("answers that have it", value),
        "coverage": ("share that have it", per_cent),
        "error": (f"realized {error.title}", error.said),
        "reference_error": (f"{error.title} at promotion", error.said),
        "error_growth": ("growth of the error since promotion", error.said_change),
        "bias": ("bias of the answers", bias.said_change),
        "raw_bias": ("bias of the model without its level", bias.said_change),
        "bias_moved": ("change of the bias since promotion", bias.said_change),
        "inside": ("share of observed targets that the intervals or sets hold", per_cent),
        "above": ("share above the interval", per_cent),
        "below": ("share below the interval", per_cent),
        "set_size": ("classes in a set, on average", value),
        "estimated_error": (f"estimated {error.title}, newest window", error.said),
        "drifted_columns": ("judged columns that moved", value),
        "judged_columns": ("judged columns", value),
        "skew_share": ("answers in which a trailing feature differs", per_cent),
    }
    told = []
    for name, (words, form) in forms.items():
        if numbers.get(name) is not None:
            ends = [numbers.get(f"{name}_{end}") for end in ("low", "high")]
            low, high = (Amount("" if end is None else form(end)) for end in ends)
            told.append({"": words, "value": Amount(form(numbers[name])), "from": low, "to": high})
    return table(told, none="Nothing was measured.")
