"""Challenge: the best candidate of a build against the version that serves.

It decides who challenges, which rows may judge, and what is written to the registry.
The rule itself is `promotion`; the numbers are `evaluation`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopbook.data.snapshots import Snapshot
from loopbook.data.splits import LEAST_ROWS, PART, fraction_of
from loopbook.features.rows import encode
from loopbook.models import evaluation, margins
from loopbook.models.inference import predict, session
from loopbook.models.promotion import Decision
from loopbook.models.task import Task, task_of
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.errors import BuildFailed
from loopbook.project.files import sha256
from loopbook.registry import champions, kept_code, notes, residuals, tracking
from loopbook.registry.reader import SERVICE
from loopbook.registry.reference import TAG as REFERENCE_TAG

BASELINE = "baseline"
KEPT = (
    *("ranked", "behind", "against", "bias", "bias_of", "ablation", "importance", "costs"),
    *("leaks", "accepted_leaks"),
    *("metric", "measure", "bias_measure", "scale", "raw_errors", "raw_bias"),
)  # of the evidence, in the record of the decision


def rank(runs: Mapping[str, Mapping[str, Any]], task: Task) -> pl.DataFrame:
    """Candidates by their mean loss on validation, the best first.

    Candidates that failed parity come last. Ties go by name.
    """
    rows = [
        {
            "candidate": name,
            "run_id": run.get("run_id"),
            "loss": run["validation"][task.metric],
            "bias": run["validation"].get("bias"),
            "parity": run["parity"]["largest"],
            "exportable": run["parity"]["passed"],
            "latency_ms": run["latency_ms"],
        }
        for name, run in runs.items()
    ]
    return pl.DataFrame(rows).sort(
        "exportable", "loss", "candidate", descending=[True, False, False]
    )


def best(ranked: pl.DataFrame) -> str:
    """The challenger: the first of `rank` beside the baseline, which cannot beat itself."""
    return ranked.filter(pl.col("candidate") != BASELINE)["candidate"][0]


@dataclass(frozen=True)
class Champion:
    """The version that serves, with its checked files."""

    version: tracking.Version
    onnx: bytes
    card: Mapping[str, Any]

    @property
    def label(self) -> str:
        return self.version.label

    @property
    def onnx_sha256(self) -> str:
        return self.version.tags["onnx_sha256"]

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Its answers to rows that have all of its inputs, as `task` has them."""
        matrix = encode(rows, self.card["inputs"], self.card["categories"])
        return predict(session(self.onnx), matrix)


def load_champion(client, name: str) -> Champion | None:
    """The holder of the alias `champion`, or None.

    Raises
    ------
    TrackingError
        If its files are not what the registry says.
    """
    version = tracking.holder(client, name, tracking.CHAMPION)
    if version is None:
        return None
    onnx, card = tracking.load_service_files(client, version)
    return Champion(version, onnx, card)


def obstacle(champion: Champion | None, rows: pl.DataFrame, contract: Contract) -> str | None:
    """Why a champion cannot be asked about these rows, or None."""
    if champion is None:
        return None
    absent = [name for name in champion.card["inputs"] if name not in rows.columns]
    if absent:
        return f"{champion.label} needs {', '.join(absent)}, which the contract no longer has"
    theirs, ours = champion.card["target"], contract.target
    if (theirs["unit"], theirs["name"]) != (ours.unit, ours.name):
        return f"{champion.label} predicts {theirs['name']} in {theirs['unit']}, another target"
    if theirs.get("classes") != ours.classes:
        kind = f"one of {', '.join(theirs['classes'])}" if theirs.get("classes") else "a number"
        return f"{champion.label} predicts {theirs['name']} as {kind}, another target"
    return None


def unseen_rows(
    rows: pl.DataFrame, champion: Champion | None, contract: Contract, why_not: str | None
) -> pl.DataFrame:
    """The test rows that the champion was not fitted on.

    If fewer than 30 are left, all test rows are given back, to be looked at;
    `seen_by_champion` then tells the gate, which refuses for want of rows.
    """
    if champion is None or why_not:
        return rows
    unseen = rows.filter(_unseen_mask(rows, champion.card["fitted"], contract))
    return unseen if unseen.height >= LEAST_ROWS else rows


def _unseen_mask(rows: pl.DataFrame, fitted: Mapping[str, Any], contract: Contract) -> pl.Series:
    if fitted["until"] and EVENT_TS in rows.columns:
        until, since = parse_instant(fitted["until"]), parse_instant(fitted["since"])
        return (rows[EVENT_TS] >= until) | (rows[EVENT_TS] < since)
    if fitted["key_fraction"] is not None:
        group = fitted.get("group")  # of the build that fitted it; another one parts otherwise
        if group is None or group in rows.columns:
            fraction = fraction_of(rows, contract.key, group)
            return pl.Series(fraction < fitted["key_fraction"])
    return pl.Series([False] * rows.height)


def seen_by_champion(
    rows: pl.DataFrame, champion: Champion | None, contract: Contract, why_not: str | None
) -> int:
    """How many of these rows the champion was fitted on; 0 if it is not compared."""
    if champion is None or why_not:
        return 0
    return int((~_unseen_mask(rows, champion.card["fitted"], contract)).sum())


def stored_predictions(path: Path | str, rows: pl.DataFrame, contract: Contract) -> np.ndarray:
    """What a candidate answered to these held-back rows, found by their key."""
    stored = pl.read_parquet(path, glob=False).filter(~pl.col(residuals.LEFT_OUT))
    joined = rows.select(contract.key).join(
        stored, on=contract.key, how="left", maintain_order="left", validate="1:1"
    )
    return task_of(contract).of_column(joined["predicted"])


def behind(
    predictions: Mapping[str, Path | str],
    every: pl.DataFrame,
    best: str,
    contract: Contract,
    confidence: evaluation.Confidence,
) -> dict[str, evaluation.Interval]:
    """How much more each candidate erred than the best one, on the same rows of `validation`.

    Parameters
    ----------
    predictions : mapping
        What each candidate answered to its held-back rows; see `05_train`.
    every : polars.DataFrame
        All rows of the split.
    """
    task, rows = task_of(contract), every.filter(pl.col(PART) == "validation")
    observed = task.observed(rows[contract.target.name])
    losses = {
        name: task.losses(observed, stored_predictions(path, rows, contract))
        for name, path in predictions.items()
    }
    return {
        name: confidence.mean(loss - losses[best]) for name, loss in losses.items() if name != best
    }


def check_contract(contract: Contract, depends_on: Mapping[str, str] | None) -> None:
    """Refuse to decide if the contract was changed while the build ran.

    Parameters
    ----------
    depends_on : mapping or None
        The task's digests, taken when the graph was loaded; None outside of it.

    Raises
    ------
    BuildFailed
        If the contract is another one now: some notebooks may have read the
        one and some the other.
    """
    if depends_on and not contract.digest().startswith(depends_on["contract"]):
        raise BuildFailed(
            f"contract '{contract.name}': it was changed while this build ran, so nothing is "
            "promoted. Build again: loopbook build"
        )


@dataclass(frozen=True)
class Judged:
    """A challenger that the gate has judged.

    Attributes
    ----------
    record : what `evidence.make_record` made
    reference : the file that the version's monitoring compares with
    residuals : the file that its calibration begins with
    origin : what `kept_code.keep` gave; None where nothing was kept
    """

    record: Mapping[str, Any]
    decision: Decision
    snapshot: Snapshot
    reference: Path
    residuals: Path
    origin: str | None = None


def carry_out(client, name: str, judged: Judged, *, decided_at: datetime) -> dict[str, Any]:
    """Register the challenger, move aliases as decided, and tell what was done.

    Returns
    -------
    dict
        The decision record: who challenged, who serves now and before, the
        errors on the judged rows, and every check of the gate.

    Raises
    ------
    BuildFailed
        If the champion is another one than that which was compared.
    """
    before = _compared_champion(client, name, judged.record)
    challenger = _registered(client, name, judged, before)
    if judged.decision.promoted:
        change = champions.Change(
            champions.GATE, judged.decision.sentence, decided_at, judged.snapshot.as_of
        )
        before = champions.promote(client, challenger, change)
    champion = tracking.holder(client, name, tracking.CHAMPION)
    if champion:  # an earlier loopbook gave it both aliases
        tracking.challenges_nobody(client, champion)
    record, snapshot = judged.record, judged.snapshot
    outcome = {
        "decided_at": decided_at.isoformat(),
        "as_of": snapshot.as_of,
        "snapshot_sha256": snapshot.sha256,
        "snapshot_rows": snapshot.rows,
        **judged.decision.as_dict(),
        "rows": record["rows"],
        **{key: record.get(key) for key in KEPT},
        "challenger": _who(challenger),
        "champion": champion and _who(champion),
        "previous": before and _who(before),
        "errors": _errors_now(record, promoted=judged.decision.promoted),
        "ways_on": [] if champion else _ways_on(challenger, judged.decision),
    }
    runs = notes.runs_of(outcome)
    outcome["comparison"] = tracking.comparison_page(client, challenger.run_id, runs)
    if not kept_code.is_told(client, record):
        tracking.note_build(client, outcome)
    return outcome


def _compared_champion(client, name: str, record: Mapping[str, Any]) -> tracking.Version | None:
    """Who serves, if it is still the one that was compared, or the challenger already."""
    champion = tracking.holder(client, name, tracking.CHAMPION)
    is_done = champion is not None and champion.run_id == record["challenger"]["run_id"]
    expected = record["champion"]
    if expected and not is_done and (champion is None or champion.run_id != expected["run_id"]):
        raise BuildFailed(
            f"{name}: the champion changed between evaluate and promote "
            f"(was {expected['label']}). Build again: loopbook build --force evaluate"
        )
    return champion


def _registered(
    client, name: str, judged: Judged, champion: tracking.Version | None
) -> tracking.Version:
    """The challenger as a version: the champion, if it is the same model, or a new one."""
    record, decision, snapshot = judged.record, judged.decision, judged.snapshot
    digest, held_back = (sha256(f.read_bytes()) for f in (judged.reference, judged.residuals))
    scale = margins.Scale(**record["scale"]).as_tags()
    if record["same_as_champion"]:
        if REFERENCE_TAG not in champion.tags:  # of a release before there was monitoring
            tracking.log_files(client, champion.run_id, [judged.reference], SERVICE)
            tracking.set_version_tag(client, champion, REFERENCE_TAG, digest)
        if residuals.TAG not in champion.tags:  # of a release before there was calibration
            tracking.log_files(client, champion.run_id, [judged.residuals], SERVICE)
            tracking.set_version_tag(client, champion, residuals.TAG, held_back)
        for tag, value in scale.items():
            if tag not in champion.tags:  # of a release before margins were shares
                tracking.set_version_tag(client, champion, tag, value)
        return champion
    tags = {
        "snapshot_sha256": snapshot.sha256,
        "snapshot_pointer": snapshot.pointer,
        "as_of": snapshot.as_of or "none",
        "candidate": record["challenger"]["candidate"],
        REFERENCE_TAG: digest,
        residuals.TAG: held_back,
        **scale,
        "gate": "promoted" if decision.promoted else "refused",
        "gate_reason": decision.sentence[:5000],
        **({kept_code.TAG: judged.origin} if judged.origin else {}),
    }
    return tracking.register(client, name, record["challenger"], tags)


def _who(version: tracking.Version) -> dict[str, str]:
    return {
        "label": version.label,
        "version": version.number,
        "candidate": version.tags.get("candidate", "unknown"),
        "run_id": version.run_id,
    }


def _ways_on(challenger: tracking.Version, decision: Decision) -> list[str]:
    """What a person can do where nothing serves yet: take the challenger all the same, or mend."""
    by_hand = f'loopbook promote {challenger.number} --reason "…" (it serves all the same)'
    return [by_hand, *decision.remedies]


def _errors_now(record: Mapping[str, Any], *, promoted: bool) -> dict[str, float]:
    """The loss of each by its role after the decision."""
    loss = {name: values[record["metric"]] for name, values in record["errors"].items()}
    if promoted:
        loss["champion"] = loss["challenger"]
    return loss
