"""Nearest: the real rows that are most like what a person asks about.

It decides how near a row is: the mean over the watched inputs, a number's
difference as a share of its usual spread, anything else 0 or 1. The rows are
those frozen with the version. Where the contract marks an input as sensitive, a
row may be somebody's, so none is shown.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from loopbook.pages.formats import Amount, asked, share
from loopbook.pages.rendering import render
from loopbook.project.contract import Contract
from loopbook.registry.reference import monitored

PLACES = ("nearest", "second", "third", "fourth", "fifth")
MOST = len(PLACES)
PERSONAL = "The contract marks sensitive inputs, so a row may be somebody's and none is shown."


def refusal(contract: Contract) -> str:
    """Why no row is shown; empty where rows may be."""
    return "" if len(monitored(contract)) == len(contract.features) else PERSONAL


def nearest(
    frozen: pl.DataFrame, record: Mapping[str, Any], card: Mapping[str, Any], contract: Contract
) -> pl.DataFrame:
    """The nearest rows of a reference, the nearest first, ties in their order."""
    watched = set(monitored(contract)) & set(frozen.columns)
    names = [name for name in record if name in watched]  # as the sliders stand
    far = pl.mean_horizontal(_far(name, record[name], card) for name in names)
    told = frozen.filter(pl.col("observed").is_not_null()).with_columns(far.alias("far"))
    return told.sort("far", maintain_order=True).head(MOST).select("far", "observed", *names)


def page(
    rows: pl.DataFrame,
    contract: Contract,
    record: Mapping[str, Any] | None = None,
    *,
    refused: str = "",
) -> str:
    """The nearest rows below an answer, a column each, beside what was asked.

    Parameters
    ----------
    rows : what `nearest` gives
    record : the inputs that a person asks about
    """
    if refused:
        return render("nearest", names=[], rows=[], refused=refused)
    observed = f"observed {contract.label(contract.target.name)}"
    told = [
        (observed, Amount(""), *map(_cell, rows["observed"])),
        ("how far", Amount(""), *(Amount(share(far, 1)) for far in rows["far"])),
    ]
    asked_for = record or {}
    for name in rows.columns:
        if name not in ("far", "observed"):
            values = map(_cell, rows[name])
            told.append((contract.label(name), _cell(asked_for.get(name)), *values))
    return render("nearest", names=["", "asked", *PLACES[: rows.height]], rows=told, refused="")


def _cell(value: Any) -> Amount:
    """A value in its column, at the right be it a number or a word."""
    return Amount(asked(value))


def _far(name: str, value: Any, card: Mapping[str, Any]) -> pl.Expr:
    column = pl.col(name)
    if value is None:
        return column.is_not_null().cast(pl.Float64)
    if isinstance(value, bool | str):
        return (column != value).fill_null(value=True).cast(pl.Float64)
    quantiles = card["reference"].get(name, {}).get("quantiles") or {}
    spread = (quantiles.get("0.99") or 0) - (quantiles.get("0.01") or 0)
    return ((column - value).abs() / (spread or 1.0)).clip(0, 1).fill_null(1.0)
