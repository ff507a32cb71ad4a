"""Validation: which rows break which rule of the contract.

It decides which rows break which rule, and lists them all. It never repairs a
row; the known faults of the contract are left out before, counted and shown.
"""

import polars as pl
import polars.selectors as cs

from loopbook.data import rules
from loopbook.data.landing import KINDS
from loopbook.project.contract import Contract
from loopbook.project.errors import DataError, listed


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


def validate(rows_raw: pl.DataFrame, contract: Contract) -> list[rules.Failure]:
    """Every rule of the contract that some row breaks, in the contract's order.

    Checked are the columns, their types, required values, ranges, categories,
    a target that is there and not constant, and the key's uniqueness.
    """
    demanded = rules.rules_for(rows_raw.schema, contract, columns=contract.columns)
    return rules.failures(rows_raw, contract, demanded)


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
    return typed(rows_raw, contract)


def typed(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Usable rows with one type a kind: Int64, Float64, Boolean, String."""
    casts = [pl.col(name).cast(KINDS[f.type]) for name, f in contract.features.items()]
    casts.append(pl.col(contract.target.name).cast(pl.Float64))
    return rows.with_columns(cs.float().fill_nan(None)).with_columns(casts)


def keeps_contract(rows: pl.DataFrame, contract: Contract) -> pl.Series:
    """Whether each row, by itself, keeps every rule of the contract."""
    demanded = rules.rules_for(
        rows.schema, contract, columns=contract.columns, kinds=rules.OF_A_ROW
    )
    return rules.keeping(rows, demanded)


def refusal(violations: list[rules.Failure], contract: Contract) -> str:
    """The message about rows that break the contract."""
    return (
        f"contract '{contract.name}': {len(violations)} rule"
        f"{'s are' if len(violations) != 1 else ' is'} broken.\n"
        f"{listed([str(v) for v in violations])}\n"
        "Correct the rows, widen the rule in contract.yaml, or list single rows under known_faults."
    )
