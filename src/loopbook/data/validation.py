"""Validation: which rows break which rule of the contract.

It decides which rows break which rule, and lists them all. It never repairs a
row; the known faults of the contract are left out before, counted and shown.
"""

from collections.abc import Sequence

import polars as pl

from loopbook.data import instants, rules, values
from loopbook.data.single_values import reader
from loopbook.project.clock import KNOWN_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.errors import DataError, listed

OF_TARGET = {
    "null": " Rows without a target can be left out: unlabelled: drop.",
    "type": (
        " A target that is one of several classes has task: binary or multiclass, and "
        "target.classes lists its values."
    ),
    "category": " A class that the table may have is added to target.classes.",
}  # what else helps where the target breaks a rule of this kind


def without_known_faults(rows: pl.DataFrame, contract: Contract) -> tuple[pl.DataFrame, list[dict]]:
    """Leave out the rows that the contract names as wrong, or as nothing to learn from.

    Returns
    -------
    rows, faults
        `faults` has one entry a known fault: `where`, `reason` and `rows`, the
        number left out, which may be 0; and one for rows without a target where
        the contract says that they are dropped.
    """
    faults = []
    for fault in contract.known_faults:
        is_fault = _is_at(rows, fault.where, contract)
        where = {name: str(value) for name, value in fault.where.items()}
        faults.append({"where": where, "reason": fault.reason, "rows": is_fault.sum()})
        rows = rows.filter(~is_fault)
    if contract.unlabelled == "drop":
        labelled = rows.filter(~_is_unlabelled(rows, contract))
        reason = "no target (unlabelled: drop)"
        where = {contract.target.name: "no value"}
        faults.append({"where": where, "reason": reason, "rows": rows.height - labelled.height})
        rows = labelled
    return rows, faults


def with_unlabelled(rows: pl.DataFrame, rows_raw: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Usable rows, and below them those that were left out for want of a target."""
    if contract.unlabelled != "drop":
        return rows
    absent = typed(rows_raw.filter(_is_unlabelled(rows_raw, contract)), contract)
    return pl.concat([rows, absent], how="diagonal_relaxed")


def _is_unlabelled(rows: pl.DataFrame, contract: Contract) -> pl.Series:
    """Rows without a target, and all versions of a key whose newest has none: it was taken back."""
    target = rows[contract.target.name]
    absent = (target.is_null() | (target.is_nan() if target.dtype.is_float() else False)).rename(
        "_"
    )
    if contract.known_time is None or KNOWN_TS not in rows.columns:
        return absent
    newest = pl.col("_").sort_by(KNOWN_TS).last().over(contract.key)
    return rows.with_columns(absent).select(pl.col("_") | newest).to_series()


def is_known_fault(rows: pl.DataFrame, contract: Contract) -> pl.Series:
    """Whether each row is one that the contract names as wrong."""
    any_of = pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    for fault in contract.known_faults:
        any_of |= _is_at(rows, fault.where, contract)
    return any_of


def _is_at(rows: pl.DataFrame, where: dict, contract: Contract) -> pl.Series:
    """Which rows have these values in their key, each read as the column is."""
    found = pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)
    for name, value in where.items():
        found &= _is_value(rows[name], value, values.kind_of(name, contract), contract)
    return found


def _is_value(column: pl.Series, value: object, kind: values.Kind, contract: Contract) -> pl.Series:
    try:
        if kind == "time":
            zone = contract.time_zone
            same = instants.in_utc(column, zone) == parse_instant(value, zone)
        else:
            is_number = kind == "key" and column.dtype.is_integer()
            text = value if isinstance(value, int) else str(value)
            same = column == reader("integer" if is_number else kind)(text)
    except ValueError:  # no value of this column is that
        return pl.repeat(False, column.len(), dtype=pl.Boolean, eager=True)
    return same.fill_null(value=False)


def checked(
    rows_raw: pl.DataFrame,
    contract: Contract,
    *,
    columns: Sequence[str] | None = None,
    kinds: Sequence[rules.Kind] = (*rules.OF_A_ROW, *rules.OF_THE_TABLE),
) -> tuple[pl.DataFrame, list[rules.Failure]]:
    """Rows as the contract's types, and every rule that some of them break.

    Parameters
    ----------
    columns : sequence of str, optional
        The contract's columns that must be there; without it, those that are.
    kinds : sequence of Kind
        The kinds of rules that are wanted, beside that a value can be read.
    """
    typed, unread = values.converted(rows_raw, contract, columns)
    demanded = rules.rules_for(typed.schema, contract, columns=columns, kinds=kinds)
    return typed, unread + rules.failures(typed, contract, demanded, unread)


def validate(rows_raw: pl.DataFrame, contract: Contract) -> list[rules.Failure]:
    """Every rule of the contract that some row breaks, in the contract's order.

    Checked are the columns, their types, required values, ranges, categories,
    a target that is there and not constant, and the key's uniqueness.
    """
    return checked(rows_raw, contract, columns=contract.columns)[1]


def conform(rows_raw: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows that broke no rule, with one type a kind: Int64, Float64, Boolean, String.

    Raises
    ------
    DataError
        With every violation, if there is one.
    """
    rows, violations = checked(rows_raw, contract, columns=contract.columns)
    if violations:
        raise DataError(refusal(violations, contract))
    return rows


def typed(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Usable rows with one type a kind: Int64, Float64, Boolean, String."""
    return values.converted(rows, contract)[0]


def refusal(violations: list[rules.Failure], contract: Contract) -> str:
    """The message about rows that break the contract."""
    of_target = {v.rule.kind for v in violations if v.rule.column == contract.target.name}
    remedies = [remedy for kind, remedy in OF_TARGET.items() if kind in of_target]
    return (
        f"contract '{contract.name}': {len(violations)} rule"
        f"{'s are' if len(violations) != 1 else ' is'} broken.\n"
        f"{listed([str(v) for v in violations])}\n"
        "Correct the rows, widen the rule in contract.yaml, or list single rows under known_faults."
        f"{''.join(remedies)}"
    )
