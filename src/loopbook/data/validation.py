"""Validation: the contract's rules, held against rows.

It decides which rows break which rule, and lists them all. It never repairs a
row; the known faults of the contract are left out before, counted and shown.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pandera.polars as pa
import polars as pl
import polars.selectors as cs
from pandera.errors import SchemaErrors

from loopbook.data.landing import KINDS
from loopbook.project.clock import KNOWN_TS
from loopbook.project.contract import Contract, Feature
from loopbook.project.errors import DataError, listed

INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
NUMBERS = (*INTEGERS, pl.Float32, pl.Float64)
STORED = {
    "integer": INTEGERS,
    "number": NUMBERS,
    "boolean": (pl.Boolean,),
    "category": (pl.String, pl.Categorical, pl.Enum, *INTEGERS),
}
SHOWN = 3
FINITE = 1.7976931348623157e308  # the largest double


@dataclass(frozen=True)
class Violation:
    """One broken rule: how many of how many rows, and the first of them."""

    column: str
    rule: str
    rows: int
    of: int
    first: list[str]

    def __str__(self) -> str:
        first = f"; first: {', '.join(self.first)}" if self.first else ""
        return f"{self.rows:,} of {self.of:,} rows: {self.column} {self.rule}{first}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def without_known_faults(rows: pl.DataFrame, contract: Contract) -> tuple[pl.DataFrame, list[dict]]:
    """Leave out the rows that the contract names as wrong.

    Returns
    -------
    rows, faults
        `faults` has one entry a known fault: `where`, `reason` and `rows`, the
        number left out, which may be 0.
    """
    faults = []
    for fault in contract.known_faults:
        is_fault = pl.all_horizontal(pl.col(name) == value for name, value in fault.where.items())
        count = rows.select(is_fault.fill_null(value=False).sum()).item()
        where = {name: str(value) for name, value in fault.where.items()}
        faults.append({"where": where, "reason": fault.reason, "rows": count})
        if count:
            rows = rows.filter(~is_fault.fill_null(value=False))
    return rows, faults


def validate(rows_raw: pl.DataFrame, contract: Contract) -> list[Violation]:
    """Every rule of the contract that some row breaks, in the contract's order.

    Checked are types, required values, ranges, categories, the key's
    uniqueness, and a target that is there and not constant. NaN counts as no
    value, infinity as out of range. A wrong type hides that column's other rules.
    """
    rows_raw = rows_raw.with_columns(cs.float().fill_nan(None))
    wrong = _wrong_types(rows_raw, contract)
    sound = [name for name in contract.columns if name not in {v.column for v in wrong}]
    violations = wrong + _schema_violations(rows_raw.select(sound), contract)
    if contract.target.name in sound:
        violations += _target_violations(rows_raw, contract)
    return violations + _duplicate_keys(rows_raw, contract)


def conform(rows_raw: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows that broke no rule, with one type a kind: Int64, Float64, Boolean, String.

    Raises
    ------
    DataError
        With every violation, if there is one.
    """
    violations = validate(rows_raw, contract)
    if violations:
        raise DataError(refusal(violations, contract))
    casts = [pl.col(name).cast(KINDS[f.type]) for name, f in contract.features.items()]
    casts.append(pl.col(contract.target.name).cast(pl.Float64))
    return rows_raw.with_columns(cs.float().fill_nan(None)).with_columns(casts)


def keeps_contract(rows: pl.DataFrame, contract: Contract) -> pl.Series:
    """Whether each row, by itself, keeps the contract's ranges, categories and required values."""
    kept = []
    for name, feature in contract.features.items():
        column, absent = pl.col(name), pl.col(name).is_null()
        if feature.required or name in contract.key:
            kept.append(~absent)
        if feature.categories:
            kept.append(absent | column.cast(pl.String).is_in(feature.categories))
        elif feature.type in ("integer", "number"):
            low, high = feature.range or (-FINITE, FINITE)
            kept.append(absent | column.is_between(low, high))
    low, high = contract.target.range or (-FINITE, FINITE)
    kept += [pl.col(name).is_not_null() for name in contract.key]
    kept.append(pl.col(contract.target.name).is_between(low, high))
    return rows.select(pl.all_horizontal(kept)).to_series()


def refusal(violations: list[Violation], contract: Contract) -> str:
    """What a person is told about rows that break the contract."""
    return (
        f"contract '{contract.name}': {len(violations)} rule"
        f"{'s are' if len(violations) != 1 else ' is'} broken.\n"
        f"{listed([str(v) for v in violations])}\n"
        "Correct the rows, widen the rule in contract.yaml, or list single rows under known_faults."
    )


def _wrong_types(rows: pl.DataFrame, contract: Contract) -> list[Violation]:
    """Columns that are not stored as their type can be."""
    expected = {name: (f.type, STORED[f.type]) for name, f in contract.features.items()}
    expected[contract.target.name] = ("number", NUMBERS)
    return [
        Violation(
            name, f"is of type {rows.schema[name]}, expected {kind}", rows.height, rows.height, []
        )
        for name, (kind, stored) in expected.items()
        if rows.schema[name].base_type() not in stored
    ]


def pandera_schema(contract: Contract, columns: list[str]) -> pa.DataFrameSchema:
    """The contract's rules on single values, for the given columns."""
    checked = {}
    for name in columns:
        if name in contract.features:
            feature = contract.features[name]
            checked[name] = pa.Column(
                nullable=not feature.required and name not in contract.key,
                checks=_feature_checks(feature),
            )
        elif name == contract.target.name:
            checked[name] = pa.Column(nullable=False, checks=_range_checks(contract.target.range))
        else:
            checked[name] = pa.Column(nullable=False)
    return pa.DataFrameSchema(checked)


def _range_checks(bounds: list[float] | None) -> list[pa.Check]:
    if bounds is None:
        return [pa.Check.in_range(-FINITE, FINITE, error="is infinite")]
    low, high = bounds
    return [pa.Check.in_range(low, high, error=f"outside [{low:,.10g}, {high:,.10g}]")]


def _feature_checks(feature: Feature) -> list[pa.Check]:
    if feature.categories:
        allowed = feature.categories
        return [
            pa.Check(
                lambda data: data.lazyframe.select(pl.col(data.key).cast(pl.String).is_in(allowed)),
                error=f"not one of {', '.join(allowed[:8])}{', …' if len(allowed) > 8 else ''}",
            )
        ]
    return _range_checks(feature.range) if feature.type in ("integer", "number") else []


def _schema_violations(rows: pl.DataFrame, contract: Contract) -> list[Violation]:
    """What pandera finds, counted, with the key of the first rows.

    A DataFrame and not a LazyFrame goes in: with the latter pandera looks at
    the schema only and skips every value.
    """
    try:
        pandera_schema(contract, rows.columns).validate(rows, lazy=True)
    except SchemaErrors as errors:
        return [_as_violation(error, rows, contract) for error in errors.schema_errors]
    return []


def _as_violation(error: Any, rows: pl.DataFrame, contract: Contract) -> Violation:
    column = error.schema.name
    if error.reason_code.name == "SERIES_CONTAINS_NULLS":
        broken = rows.filter(pl.col(column).is_null())
        rule = "has no value"
    else:
        passed = error.check_output.get_column("check_output")
        broken = rows.filter(~passed.fill_null(value=True))
        rule = str(error.check.error)
    return Violation(column, rule, broken.height, rows.height, _first(broken, column, contract))


def _first(broken: pl.DataFrame, column: str, contract: Contract) -> list[str]:
    names = [n for n in contract.key if n in broken.columns]
    rows = broken.select(pl.col(names).cast(pl.String), pl.col(column).alias("_value"))
    shown = []
    for row in rows.head(SHOWN).iter_rows(named=True):
        where = ", ".join(f"{name} {row[name]}" for name in names)
        shown.append(f"{where} ({row['_value']})")
    return shown


def _target_violations(rows: pl.DataFrame, contract: Contract) -> list[Violation]:
    name = contract.target.name
    values = rows[name].drop_nulls()
    if values.len() > 1 and values.n_unique() == 1:
        rule = f"is {values[0]:,.10g} everywhere, so there is nothing to learn"
        return [Violation(name, rule, rows.height, rows.height, [])]
    return []


def _duplicate_keys(rows: pl.DataFrame, contract: Contract) -> list[Violation]:
    versions = [KNOWN_TS] if contract.known_time and KNOWN_TS in rows.columns else []
    repeated = rows.filter(pl.struct(*contract.key, *versions).is_duplicated())
    if repeated.is_empty():
        return []
    first = repeated.select(contract.key).unique(maintain_order=True).head(SHOWN)
    shown = [", ".join(f"{k} {v}" for k, v in row.items()) for row in first.iter_rows(named=True)]
    rule = "stands more than once" + (" with one known time" if versions else "")
    return [
        Violation(f"key ({', '.join(contract.key)})", rule, repeated.height, rows.height, shown)
    ]
