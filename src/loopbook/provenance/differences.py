"""Differences: what two versions were made of, part by part, and what came of it.

It decides which parts there are, when two versions are identical, and what is
said of a part that was not kept: that it cannot be told. It reads no registry;
`version_parts` does.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from loopbook.data.splits import PART
from loopbook.models.evaluation import Confidence
from loopbook.monitoring import drift
from loopbook.monitoring.drift import ColumnDrift
from loopbook.project.knobs import Knobs
from loopbook.provenance import answer_changes, field_changes, made_of
from loopbook.provenance.answer_changes import AnswerChanges, Answerer
from loopbook.provenance.code_changes import CodeChange
from loopbook.provenance.field_changes import FieldChange
from loopbook.provenance.findings import Finding
from loopbook.provenance.made_of import DIFFERS, SAME, UNKNOWN
from loopbook.provenance.row_changes import RowChanges
from loopbook.provenance.version_parts import VersionParts

ROWS, CELLS, MODULES, PIPELINE = "rows", "cells", "modules", "pipeline"
CONTRACT, KNOBS, LOCK = "contract", "knobs", "lock"
MADE_OF = (ROWS, CELLS, MODULES, PIPELINE, CONTRACT, KNOBS, LOCK)
CANDIDATE, GRAPH, DISTRIBUTIONS, ANSWERS = "candidate", "graph", "distributions", "answers"
CAME_OUT = (CANDIDATE, GRAPH, DISTRIBUTIONS, ANSWERS)
LEAST_ROWS = 30  # of a reference, for a distribution


@dataclass(frozen=True)
class Side:
    """One of the two versions, in short; `rows` are those that it was fitted on."""

    label: str
    version: str
    run_id: str
    candidate: str
    as_of: str | None
    rows: int
    commit: str
    is_dirty: bool
    snapshot_sha256: str
    contract_sha256: str
    onnx_sha256: str
    processor: str


@dataclass(frozen=True)
class Differences:
    """Two versions, part by part.

    Attributes
    ----------
    states : from each part of `MADE_OF` and `CAME_OUT` to same, differs or cannot be told
    rows : None where a snapshot is not here, or both have the same one
    distributions : the columns whose distribution moved beyond chance, between the rows
        that each version learned from
    findings : what is not there, and how to get it
    """

    before: Side
    after: Side
    states: Mapping[str, str]
    rows: RowChanges | None = None
    cells: list[CodeChange] = field(default_factory=list)
    modules: list[CodeChange] = field(default_factory=list)
    pipeline: list[FieldChange] = field(default_factory=list)
    contract: list[FieldChange] = field(default_factory=list)
    knobs: list[FieldChange] = field(default_factory=list)
    lock: list[FieldChange] = field(default_factory=list)
    candidate: list[FieldChange] = field(default_factory=list)
    distributions: list[ColumnDrift] = field(default_factory=list)
    answers: AnswerChanges | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def differing(self) -> list[str]:
        """The parts that the two were not made alike of."""
        return [part for part in MADE_OF if self.states[part] == DIFFERS]

    @property
    def unknown(self) -> list[str]:
        return [part for part in MADE_OF if self.states[part] == UNKNOWN]

    @property
    def is_identical(self) -> bool:
        """Whether nothing that makes a version differs, and the graph is the same."""
        made_alike = all(self.states[part] == SAME for part in MADE_OF)
        return made_alike and self.states[GRAPH] == SAME

    @property
    def sentence(self) -> str:
        both = f"{self.before.label} and {self.after.label}"
        untold = f" It cannot be told of: {', '.join(self.unknown)}." if self.unknown else ""
        graphs = "the graph is the same" if self.states[GRAPH] == SAME else "the graph is another"
        if self.is_identical:
            return f"{both} are identical."
        if self.differing:
            return f"{both} differ in: {', '.join(self.differing)}; {graphs}.{untold}"
        return f"Nothing that was kept of {both} differs; {graphs}.{untold}"

    def as_json(self) -> dict[str, Any]:
        told = {
            name: [change.as_json() for change in getattr(self, name)]
            for name in (CELLS, MODULES, PIPELINE, CONTRACT, KNOBS, LOCK, CANDIDATE)
        }
        return {
            "sentence": self.sentence,
            "identical": self.is_identical,
            "differs_in": self.differing,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "states": dict(self.states),
            ROWS: self.rows and self.rows.as_json(),
            **told,
            DISTRIBUTIONS: [asdict(column) for column in self.distributions],
            ANSWERS: self.answers and self.answers.as_json(),
            "findings": [finding.as_json() for finding in self.findings],
        }


def compare(before: VersionParts, after: VersionParts, knobs: Knobs) -> Differences:
    """What two versions differ in.

    Parameters
    ----------
    knobs : Knobs
        Of the project, for confidence, the smallest slice and false alarms.
    """
    findings = [*before.findings, *after.findings]
    contract = made_of.contract(before, after)
    parts = {
        ROWS: made_of.rows(before, after, findings),
        CELLS: made_of.cells(before, after),
        MODULES: made_of.modules(before, after),
        PIPELINE: made_of.pipeline(before, after),
        CONTRACT: (contract, DIFFERS if contract else SAME),
        KNOBS: made_of.knobs(before, after),
        LOCK: made_of.lock(before, after),
        CANDIDATE: _candidate(before, after),
        DISTRIBUTIONS: _moved(before, after, knobs),
        ANSWERS: _answers(before, after, knobs),
    }
    graph = SAME if _graph(before) == _graph(after) else DIFFERS
    return Differences(
        before=_side(before),
        after=_side(after),
        states={GRAPH: graph} | {name: state for name, (_, state) in parts.items()},
        findings=list(dict.fromkeys(findings)),
        **{name: changes for name, (changes, _) in parts.items()},
    )


def _side(parts: VersionParts) -> Side:
    return Side(
        label=parts.label,
        version=parts.version.number,
        run_id=parts.version.run_id,
        candidate=parts.card["candidate"],
        as_of=parts.card["as_of"],
        rows=parts.card["fitted"]["rows"],
        commit=parts.said.get("git_commit", "unknown"),
        is_dirty=parts.said.get("git_dirty") == "true",
        snapshot_sha256=parts.snapshot_sha256,
        contract_sha256=parts.card["contract_sha256"],
        onnx_sha256=_graph(parts),
        processor=parts.said.get("processor", "unknown"),
    )


def _graph(parts: VersionParts) -> str:
    return parts.version.tags["onnx_sha256"]


def _candidate(before: VersionParts, after: VersionParts) -> tuple[list[FieldChange], str]:
    """The kind of model and its settings, as its run has them, and from where on it says yes."""
    sides = [
        {"candidate": p.card["candidate"], **p.settings, "decision": p.card.get("decision") or {}}
        for p in (before, after)
    ]
    found = field_changes.compare(*sides)
    return found, DIFFERS if found else SAME


def _moved(
    before: VersionParts, after: VersionParts, knobs: Knobs
) -> tuple[list[ColumnDrift], str]:
    """The columns of the rows that each learned from whose distribution moved beyond chance."""
    if before.reference is None or after.reference is None:
        return [], UNKNOWN
    one, other = (p.reference.filter(pl.col(PART) != "test") for p in (before, after))
    ignored = {PART, "answer", *(n for n, kind in one.schema.items() if kind.is_temporal())}
    names = [n for n, kind in one.schema.items() if other.schema.get(n) == kind]
    names = [n for n in names if n not in ignored]
    if min(one.height, other.height) < LEAST_ROWS or not names:
        return [], UNKNOWN
    if one.select(names).equals(other.select(names)):
        return [], SAME
    columns = drift.compare(
        one,
        other,
        names,
        false_alarms=knobs.monitor_false_alarms,
        floor=knobs.monitor_drift_floor,
        seed=knobs.random_seed,
    )
    moved = [column for column in columns if column.has_drifted]
    return moved, DIFFERS if moved else SAME


def _answers(
    before: VersionParts, after: VersionParts, knobs: Knobs
) -> tuple[AnswerChanges | None, str]:
    """What both say to the newest version's rows, or to the other's where these lack an input."""
    if before.contract is None or after.contract is None:
        return None, UNKNOWN
    sides = [Answerer(p.label, p.onnx, p.card, p.contract) for p in (before, after)]
    confidence = Confidence(knobs.gate_confidence, knobs.bootstrap_resamples, knobs.random_seed)
    tried = None
    for whose in _newest_first(before, after):
        if whose.reference is None:
            continue
        told = answer_changes.compare(
            *sides,
            whose.reference,
            confidence,
            of=whose.label,
            least_slice_rows=knobs.gate_min_slice_rows,
        )
        tried = tried or told
        if told.obstacle is None:
            return told, SAME if told.are_none else DIFFERS
    return tried, UNKNOWN


def _newest_first(before: VersionParts, after: VersionParts) -> list[VersionParts]:
    """By the end of what each was fitted on, then by number."""

    def age(parts: VersionParts) -> tuple[str, int]:
        return parts.card["fitted"]["until"] or "", int(parts.version.number)

    return sorted([before, after], key=age, reverse=True)
