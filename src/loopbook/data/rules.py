"""Rules: the contract, as one polars expression a rule. Pure.

It decides what a row must keep, once for every door: rows to learn from, rows
that came back through the service, and files to score. It never
refuses and never drops a row; the caller does, by the masks that it is given.
NaN counts as no value, infinity as out of range.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from loopbook.data.single_values import FINITE, category
from loopbook.project.clock import KNOWN_TS
from loopbook.project.contract import Contract

FLOATS = (pl.Float32, pl.Float64)
SHOWN = 3
NO_PARTS = re.compile(r"(?<=:\d\d)\.0+$")  # of a second, in a time
SHOWN_CATEGORIES = 8
LONGEST_SHOWN = 60

EVERYWHERE = pl.repeat(True, pl.len(), dtype=pl.Boolean)

Kind = Literal["presence", "type", "null", "range", "category", "clock", "constant", "unique"]
OF_A_ROW: tuple[Kind, ...] = ("presence", "type", "null", "range", "category")
OF_THE_TABLE: tuple[Kind, ...] = ("constant", "unique")


@dataclass(frozen=True)
class Rule:
    """One demand of the contract.

    `broken` is an expression over the frame that is true in each row that
    breaks the rule, and never null. `text` is what is then wrong, without its
    subject ("has no value"); that of a constant has a place for the `{value}`.
    """

    column: str
    kind: Kind
    text: str
    broken: pl.Expr


@dataclass(frozen=True, eq=False)
class Failure:
    """A rule that some rows break: which (`mask`, a Boolean for each row), and the first of them."""

    rule: Rule
    text: str
    mask: pl.Series
    first: list[str]

    @property
    def rows(self) -> int:
        return self.mask.sum()

    @property
    def of(self) -> int:
        return self.mask.len()

    def __str__(self) -> str:
        first = f"; first: {', '.join(self.first)}" if self.first else ""
        return f"{self.rows:,} of {self.of:,} rows: {self.rule.column} {self.text}{first}"

    def as_dict(self) -> dict[str, Any]:
        """What a report holds of it; without the mask."""
        shown = {"column": self.rule.column, "rule": self.text}
        return shown | {"rows": self.rows, "of": self.of, "first": self.first}


def failures(
    rows: pl.DataFrame,
    contract: Contract,
    rules: Sequence[Rule],
    unreadable: Sequence[Failure] = (),
) -> list[Failure]:
    """The rules that some row breaks, in their order, with the first rows of each.

    Parameters
    ----------
    unreadable : sequence of Failure
        Values that are there and cannot be read: they are not missing too.
    """
    masks = rows.select(rule.broken.alias(str(place)) for place, rule in enumerate(rules))
    read = (
        (rule, _readable(mask, rule, unreadable)) for rule, mask in zip(rules, masks, strict=True)
    )
    keys = [name for name in contract.key if name in rows.schema]
    return [
        Failure(rule, _text(rule, rows), mask, _first(rows, mask, rule, keys))
        for rule, mask in read
        if mask.any()
    ]


def _readable(mask: pl.Series, rule: Rule, unreadable: Sequence[Failure]) -> pl.Series:
    if rule.kind == "null":
        for failure in unreadable:
            if failure.rule.column == rule.column:
                mask &= ~failure.mask
    return mask


def rules_for(
    schema: pl.Schema,
    contract: Contract,
    *,
    columns: Sequence[str] | None = None,
    kinds: Sequence[Kind] = (*OF_A_ROW, *OF_THE_TABLE),
) -> list[Rule]:
    """The contract's rules for a frame that `values.converted` made, column by column.

    Parameters
    ----------
    columns : sequence of str, optional
        The contract's columns that must be there, in the order in which they
        are checked. Without it, those that the frame has.
    kinds : sequence of Kind
        The kinds of rules that are wanted.

    Notes
    -----
    A column that is absent has that one rule. One that cannot be read is null
    here; `values.converted` tells that, as failures of the kind `type`.
    """
    names = [n for n in contract.columns if n in schema] if columns is None else list(columns)
    sound = [name for name in names if name in schema]
    absent = [name for name in names if name not in schema]
    rules = [Rule(name, "presence", "is missing", EVERYWHERE) for name in absent]
    rules += [rule for name in sound for rule in _value_rules(name, schema, contract)]
    if contract.target.name in sound:
        rules.append(_constant_rule(contract.target.name, schema))
    if set(contract.key) <= {*names} & {*schema}:
        rules.append(_unique_rule(schema, contract))
    return [rule for rule in rules if rule.kind in kinds]


def of_a_request(schema: pl.Schema, contract: Contract) -> list[Rule]:
    """What a row to answer must keep: as little as the service asks of a request.

    A feature may be absent unless it is required, a category may be one that
    nobody has seen, and a value may be out of its range where the contract says
    `answer`; but no value is infinite.
    """
    rules: list[Rule] = []
    for name, feature in contract.features.items():
        if name not in schema:
            if feature.required:
                rules.append(Rule(name, "presence", "is missing", EVERYWHERE))
            continue
        if feature.required:
            rules.append(Rule(name, "null", "has no value", _value(name, schema).is_null()))
        if feature.type in ("integer", "number"):
            bounds = feature.range if contract.out_of_range == "refuse" else None
            rules += _range_rule(name, bounds, schema)
    return rules


def _value_rules(name: str, schema: pl.Schema, contract: Contract) -> Iterator[Rule]:
    """What the values of one sound column must keep."""
    value = _value(name, schema)
    feature = contract.features.get(name)
    if feature is None or feature.required or name in contract.key:
        yield Rule(name, "null", "has no value", value.is_null())
    allowed = contract.target.classes if name == contract.target.name else None
    allowed = feature.categories if feature is not None else allowed
    if allowed:
        known = value.is_in([category(text) for text in allowed])
        listed = ", ".join(allowed[:SHOWN_CATEGORIES])
        more = ", …" if len(allowed) > SHOWN_CATEGORIES else ""
        yield Rule(name, "category", f"not one of {listed}{more}", _broken(known))
    elif feature is not None and feature.type in ("integer", "number"):
        yield from _range_rule(name, feature.range, schema)
    elif name == contract.target.name:
        yield from _range_rule(name, contract.target.range, schema)


def _range_rule(name: str, bounds: Sequence[float] | None, schema: pl.Schema) -> Iterator[Rule]:
    value = _value(name, schema)
    if bounds is not None:
        text = f"outside [{bounds[0]:,.10g}, {bounds[1]:,.10g}]"
        yield Rule(name, "range", text, _broken(value.is_between(*bounds)))
    elif schema[name] in FLOATS:
        yield Rule(name, "range", "is infinite", _broken(value.is_between(-FINITE, FINITE)))


def _constant_rule(name: str, schema: pl.Schema) -> Rule:
    values = _value(name, schema).drop_nulls()
    constant = (values.len() > 1) & (values.min() == values.max())
    shown = "{value}" if schema[name] == pl.String else "{value:,.10g}"
    text = f"is {shown} everywhere, so there is nothing to learn"
    return Rule(name, "constant", text, EVERYWHERE & constant.fill_null(value=False))


def _unique_rule(schema: pl.Schema, contract: Contract) -> Rule:
    """A key stands once; where the contract has a known time, once with each known time."""
    versions = [KNOWN_TS] if contract.known_time and KNOWN_TS in schema else []
    text = "stands more than once" + (" with one known time" if versions else "")
    repeated = pl.struct(*contract.key, *versions).is_duplicated()
    return Rule(f"key ({', '.join(contract.key)})", "unique", text, repeated)


def _value(name: str, schema: pl.Schema) -> pl.Expr:
    """A column with NaN as no value."""
    return pl.col(name).fill_nan(None) if schema[name] in FLOATS else pl.col(name)


def _broken(kept: pl.Expr) -> pl.Expr:
    """The opposite; no value breaks no rule but that of having one."""
    return ~kept.fill_null(value=True)


def _text(rule: Rule, rows: pl.DataFrame) -> str:
    if rule.kind != "constant":
        return rule.text
    return rule.text.format(value=rows.select(_value(rule.column, rows.schema).max()).item())


def failed(
    rule: Rule, mask: pl.Series, rows: pl.DataFrame, found: pl.Series | None, keys: Sequence[str]
) -> Failure:
    """A failure about values, with the first of them as they were `found` (None: a whole column)."""
    first = [] if found is None else _shown(rows, mask, found, keys)
    return Failure(rule, rule.text, mask, first)


def _first(rows: pl.DataFrame, mask: pl.Series, rule: Rule, keys: Sequence[str]) -> list[str]:
    """The first broken rows by their key or number, each with its value where the rule is about a value."""
    if rule.kind in ("presence", "type", "constant"):
        return []
    if rule.kind == "unique":
        shown = rows.select(pl.col(name).cast(pl.String) for name in keys)
        repeated = shown.filter(mask).unique(maintain_order=True).head(SHOWN)
        return [_where(row) for row in repeated.iter_rows(named=True)]
    return _shown(rows, mask, rows.select(_value(rule.column, rows.schema)).to_series(), keys)


def _shown(rows: pl.DataFrame, mask: pl.Series, found: pl.Series, keys: Sequence[str]) -> list[str]:
    places = mask.arg_true().head(SHOWN)
    if keys:
        broken = rows[places].select(pl.col(name).cast(pl.String) for name in keys)
    else:
        broken = pl.DataFrame({"row": places + 1})
    values = (told(value) for value in found.gather(places))
    where = map(_where, broken.iter_rows(named=True))
    pairs = zip(where, values, strict=True)
    return [row if row.endswith(f" {value}") else f"{row} ({value})" for row, value in pairs]


def told(value: Any) -> str:
    """A value in a sentence, cut where it is long."""
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def _where(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {NO_PARTS.sub('', str(value))}" for name, value in row.items())
