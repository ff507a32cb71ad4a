"""Made targets: a yes or no that a comparison makes of a column, such as `delay > 15`.

It decides what a comparison is called, which rows it says yes to, and the SQL
that says so for the contract. A row whose column has no value has no target.
"""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from loopbook.project.errors import SourceError
from loopbook.project.names import safe_name
from loopbook.proposal import wording
from loopbook.proposal.columns import Column, Table
from loopbook.proposal.forms import Form, quoted

COMPARISON = re.compile(
    r"^\s*(?P<column>.*[^<>=!\s])\s*(?P<sign><=|>=|<>|!=|==|[<>=])\s*(?P<value>[^<>=!\s].*)$"
)
# what each sign is in SQL, in polars and in a name
SIGNS = {
    ">": (">", operator.gt, "over"),
    ">=": (">=", operator.ge, "from"),
    "<": ("<", operator.lt, "below"),
    "<=": ("<=", operator.le, "up_to"),
    "=": ("=", operator.eq, "is"),
    "==": ("=", operator.eq, "is"),
    "!=": ("<>", operator.ne, "is_not"),
    "<>": ("<>", operator.ne, "is_not"),
}
ORDERED = (">", ">=", "<", "<=")


@dataclass(frozen=True, eq=False)
class MadeTarget:
    """A comparison: the header of its column, its name, its SQL, its words, and each row's answer."""

    header: str
    name: str
    sql: str
    told: str
    values: pl.Series

    def put_into(self, table: Table) -> Table:
        """A table with one more column, which holds the answers."""
        form, why = Form("boolean"), f"made by {self.told}"
        column = Column(self.name, self.name, "boolean", form, self.values, False, why=why)
        return Table(table.opened, table.columns | {self.name: column})


def made_target(table: Table, text: str, headers: Mapping[str, str]) -> MadeTarget | None:
    """The comparison that a text is, or None where it is none or a header.

    Parameters
    ----------
    headers : mapping
        Each header and each name, with the header.

    Raises
    ------
    SourceError
        If it is one, and its column or its value is none that can be compared.
    """
    found = COMPARISON.match(text)
    if text in headers or not found:
        return None
    sign, named = found["sign"], found["column"].strip("\"'`")
    header = headers.get(found["column"]) or headers.get(named)
    if header is None:
        raise SourceError(
            f"--target {text}: the table has no column {named!r}; there are "
            f"{', '.join(table.columns)[:300]}. A comparison is a column, a sign "
            f"({', '.join(SIGNS)}) and a value; all else is a query: docs/contract.md."
        )
    column = table.columns[header]
    value = _value(column, found["value"], sign, text)
    in_sql, compare, word = SIGNS[sign]
    shown = f"{value:g}".replace("-", "minus_") if isinstance(value, float) else value
    name = safe_name(f"{column.name}_{word}_{shown}")
    name = wording.free_name(name, headers)
    kind = pl.Float64 if isinstance(value, float) else pl.String
    answers = compare(column.values.cast(kind), value).alias(name)
    if answers.drop_nulls().n_unique() < 2:
        raise SourceError(
            f"--target {text}: is {str(answers.drop_nulls().first()).lower()} in every row, so there "
            f"is nothing to learn; {header} goes from {column.values.min()} to {column.values.max()}."
        )
    right = repr(value) if isinstance(value, float) else quoted(value)
    sql = f"{_left(column)} {in_sql} {right}"
    return MadeTarget(header, name, sql, f"{header} {sign} {found['value']}", answers)


def _holds_numbers(column: Column) -> bool:
    """Also of a category: of codes that are whole numbers."""
    is_coded = column.kind == "category" and column.form.kind in ("integer", "number")
    return column.is_number or is_coded


def _value(column: Column, text: str, sign: str, whole: str) -> float | str:
    if column.kind == "boolean":
        raise SourceError(
            f"--target {whole}: {column.header} is yes or no by itself; name it alone."
        )
    if not (column.is_number or column.kind == "category") or (
        sign in ORDERED and not column.is_number
    ):
        raise SourceError(
            f"--target {whole}: {column.header} is read as {column.kind}. A number is compared by any "
            "sign, and a category by = and !=. Name another column, or make the target by a query: "
            "docs/contract.md."
        )
    value = text.strip("\"'")
    if _holds_numbers(column):
        try:
            return float(value)
        except ValueError:
            raise SourceError(
                f"--target {whole}: {column.header} holds numbers, and {text!r} is none."
            ) from None
    if not (column.values == value).any():
        there = ", ".join(column.values.drop_nulls().unique().sort().head(8))
        raise SourceError(f"--target {whole}: no row has {value!r} there; there are {there}.")
    return value


def _left(column: Column) -> str:
    """A column in SQL, as it was read."""
    name = quoted(column.header, '"')
    if not _holds_numbers(column):
        return f"trim(CAST({name} AS VARCHAR))"
    return name if column.is_plain_text and not column.is_text else f"({column.sql})"
