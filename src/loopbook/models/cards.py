"""Cards: what the service and people must know of a model, as JSON.

It decides what a card holds. A card has no timings and no paths, so that the
same data and code give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from loopbook.data.snapshots import Snapshot
from loopbook.features.rows import input_names
from loopbook.models.export import CARD_VERSION, reference_statistics
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract


@dataclass(frozen=True)
class Fit:
    """What a model was fitted on.

    Attributes
    ----------
    categories : from column to vocabulary; a category's code is its place there
    rows : those of the final fit: the reference of the model's monitoring
    bounds : what `split` wrote
    """

    candidate: str
    categories: Mapping[str, Sequence[str]]
    rows: pl.DataFrame
    bounds: Mapping[str, Any]
    snapshot: Snapshot


def make_card(
    contract: Contract,
    fit: Fit,
    *,
    parity: Mapping[str, Any],
    validation: Mapping[str, float],
    examples: Mapping[str, Any],
    decision: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The card of a model.

    Parameters
    ----------
    examples : mapping
        What `known_answers` gives. The service asks itself these before it lets a model in.
    decision : mapping, optional
        What `task.decision` gives: the card has it where the contract has costs.
    """
    return {
        "card_version": CARD_VERSION,
        "name": contract.name,
        "candidate": fit.candidate,
        "task": contract.task,
        "target": contract.target.model_dump(mode="json"),
        "inputs": input_names(contract),
        "categories": {name: list(values) for name, values in fit.categories.items()},
        "contract": contract.model_dump(mode="json"),
        "contract_sha256": contract.digest(),
        "snapshot_sha256": fit.snapshot.sha256,
        "as_of": fit.snapshot.as_of,
        "fitted": fitted(fit.rows, contract, fit.bounds),
        "reference": reference_statistics(fit.rows, contract),
        "parity": dict(parity),
        "validation": dict(validation),
        "examples": dict(examples),
        "accepted_leaks": contract.accepted_leaks,
    } | ({"decision": dict(decision)} if decision else {})


def fitted(rows: pl.DataFrame, contract: Contract, bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Which rows a model was fitted on, so that nobody judges it by them.

    With an event time: those from `since` on and before `until`. Without: those
    whose fraction (`splits.fraction_of`, by key or group) is at least `key_fraction`.
    """
    has_time = EVENT_TS in rows.columns
    return {
        "rows": rows.height,
        "since": rows[EVENT_TS].min().isoformat() if has_time else None,
        "until": bounds["test_start"],
        "key_fraction": bounds["holdout_share"],
        "group": contract.group,
    }


def lineage(contract: Contract, snapshot: Snapshot, bounds: Mapping[str, Any]) -> dict[str, str]:
    """The data and the contract behind a run, as tags."""
    return {
        "contract_sha256": contract.digest(),
        "snapshot_sha256": snapshot.sha256,
        "snapshot_rows": str(snapshot.rows),
        "snapshot_pointer": snapshot.pointer,
        "as_of": snapshot.as_of or "none",
        "window_start": bounds["train_start"] or "none",
        "window_end": bounds["end"] or "none",
    }
