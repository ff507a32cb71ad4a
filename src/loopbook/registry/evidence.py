"""Evidence: what the gate knows of a challenger, as a record of the build.

It decides what the record holds and how the gate's evidence is read from it.
Who is compared, and on which rows, is `challenge`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from loopbook.models.evaluation import Interval
from loopbook.models.margins import Scale
from loopbook.models.promotion import Evidence
from loopbook.models.task import Task
from loopbook.registry.challenge import Champion
from loopbook.registry.service_files import FILE_TAGS


@dataclass(frozen=True)
class Raw:
    """Errors and biases of the answers that no level moved, by role."""

    errors: Mapping[str, Mapping[str, float]]
    bias: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """The challenger beside the others on the judged rows.

    Attributes
    ----------
    rows : how many judge
    against : by the other's role, by slice
    bias, errors : by role; a bias is that of `bias_of`, the target or one of its classes
    scale : what the gate's margins are shares of, on these rows
    costs : what `costs` gives
    raw : the errors and biases without the levels that the judged answers have
    ablation : by the names of a candidate and of its twin without the idea
    behind : what `challenge.behind` gives
    leaks : what `sentinel.of_parts` gives, as JSON: warnings, which decide nothing
    """

    rows: int
    against: Mapping[str, Mapping[str, Interval]]
    bias: Mapping[str, Interval]
    bias_of: str
    scale: Scale
    ablation: Mapping[str, Interval]
    errors: Mapping[str, Mapping[str, float]]
    importance: pl.DataFrame
    costs: Mapping[str, Any] | None = None
    leaks: Sequence[Mapping[str, Any]] = ()
    raw: Raw | None = None
    behind: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Opponent:
    """Who serves, and what stands between it and a comparison.

    Attributes
    ----------
    obstacle : why the champion cannot be asked about these rows
    is_same : whether the challenger is the champion
    barred : why the challenger may not be promoted by itself
    """

    champion: Champion | None
    obstacle: str | None
    is_same: bool
    barred: str | None


def costs(
    task: Task,
    observed: np.ndarray,
    answers: Mapping[str, np.ndarray],
    decisions: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, dict[str, float]] | None:
    """The mean cost of a judged row by role; None where the contract has no costs.

    `with_threshold` is that of what the service would answer, `without` that of
    the most probable class.
    """
    found = {
        role: {
            "with_threshold": task.cost(observed, said, decisions.get(role)),
            "without": task.cost(observed, said),
        }
        for role, said in answers.items()
    }
    return None if None in found["challenger"].values() else found


def make_record(
    task: Task,
    run: Mapping[str, Any],
    ranked: pl.DataFrame,
    comparison: Comparison,
    opponent: Opponent,
) -> dict[str, Any]:
    """All that the gate is told and people will ask, as JSON.

    `metric` names the loss, `measure` and `bias_measure` say how it and a bias are shown.
    """
    champion = opponent.champion
    return {
        "challenger": {key: run[key] for key in ("candidate", "run_id", "model_uri")}
        | {key: run[key] for key in FILE_TAGS if key in run},
        "champion": champion
        and {
            "label": champion.label,
            "version": champion.version.number,
            "candidate": champion.card["candidate"],
            "run_id": champion.version.run_id,
        },
        "metric": task.metric,
        "measure": asdict(task.measure),
        "bias_measure": asdict(task.bias_measure),
        "scale": asdict(comparison.scale),
        "ranked": ranked.to_dicts(),
        "behind": _as_json(comparison.behind),
        "rows": comparison.rows,
        "parity": run["parity"]["largest"],
        "latency_ms": run["latency_ms"],
        "errors": comparison.errors,
        "raw_errors": comparison.raw and comparison.raw.errors,
        "raw_bias": comparison.raw and _as_json(comparison.raw.bias),
        "against": {other: _as_json(by_slice) for other, by_slice in comparison.against.items()},
        "bias": _as_json(comparison.bias),
        "bias_of": comparison.bias_of,
        "ablation": _as_json(comparison.ablation),
        "costs": comparison.costs,
        "obstacle": opponent.obstacle,
        "same_as_champion": opponent.is_same,
        "barred": opponent.barred,
        "importance": comparison.importance.to_dicts(),
        "leaks": [dict(leak) for leak in comparison.leaks],
        "accepted_leaks": task.contract.accepted_leaks,
    }


def _as_json(intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    return {name: asdict(interval) for name, interval in intervals.items()}


def read_record(record: Mapping[str, Any]) -> Evidence:
    """The gate's evidence from the record that `make_record` made."""
    against = {
        other: {name: Interval(**i) for name, i in intervals.items()}
        for other, intervals in record["against"].items()
    }
    return Evidence(
        rows=record["rows"],
        parity=record["parity"],
        latency_ms=record["latency_ms"],
        scale=Scale(**record["scale"]),
        against_baseline=against["baseline"],
        against_champion=against.get("champion"),
        bias={role: Interval(**interval) for role, interval in record["bias"].items()},
        bias_of=record["bias_of"],
        champion_obstacle=record["obstacle"],
        same_as_champion=record["champion"]["label"] if record["same_as_champion"] else "",
        barred=record["barred"],
    )
