"""A servable version: its graph and card, checked, and how it answers.

It decides what has to hold before a version may answer: both files have the
sizes and digests that the registry holds, the card and the graph are what they
must be, and rows whose answers are known are answered so. It never unpickles
and never imports a training library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import onnxruntime

from loopbook.features.rows import records_matrix
from loopbook.models import calibration_states, inference
from loopbook.models.inference import INPUT, OUTPUT, RAW, SHIFT, can_move, session
from loopbook.models.measures import decimal
from loopbook.models.task import Task, task_of
from loopbook.project.contract import Contract
from loopbook.project.errors import VersionRefused
from loopbook.registry.card_file import Examples, read_card, vocabularies
from loopbook.registry.graph_file import points_elsewhere
from loopbook.registry.reader import CARD, ONNX, Registry, Version
from loopbook.registry.service_files import verified

# differences in the unit of parity: shares of the target's spread, or probabilities
TOLERANCE = 1e-5  # of the graph against itself, on another machine
KNOWN_TOLERANCE = 2e-4  # of the graph against the fitted pipeline
SUM_TOLERANCE = 1e-3  # of a row's probabilities, which add up to 1
CHECKED_SHIFT = 0.1  # of the target's spread, or of the first class's log odds
WARM_UP_ROWS = 8


@dataclass(frozen=True)
class Servable:
    """One version, ready to answer."""

    version: Version
    card: Mapping[str, Any]
    contract: Contract
    task: Task
    runtime: onnxruntime.InferenceSession
    vocabularies: Mapping[str, frozenset[str]]
    ranges: Mapping[str, tuple[float, float]]
    hidden: list[int]
    is_checked_from_rows: bool  # False for a version of an earlier loopbook
    can_move: bool = False  # whether its graph takes a shift; False for an earlier loopbook's

    @property
    def number(self) -> str:
        return self.version.number

    @property
    def inputs(self) -> list[str]:
        return self.card["inputs"]

    @property
    def card_sha256(self) -> str:
        return self.version.tags["card_sha256"]

    def matrix(self, records: Sequence[Mapping[str, Any]], at: Sequence[datetime]) -> np.ndarray:
        """Requests, with their trailing features, as the graph takes them."""
        categories = self.card["categories"]
        return records_matrix(records, at, self.contract, self.inputs, categories)

    def predict(self, matrix: np.ndarray, shift: np.ndarray | None = None) -> np.ndarray:
        """Answers as `task` has them: numbers, shape (rows,), or probabilities, (rows, classes).

        Moved by a shift as `inference.predict` takes it, where the graph can.
        """
        return inference.predict(self.runtime, matrix, shift if self.can_move else None)

    def predict_both(
        self, matrix: np.ndarray, shift: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answers with a shift and without it: the same where there is none, or nothing moves."""
        if shift is None or not self.can_move:
            raw = self.predict(matrix)
            return raw, raw
        return inference.predict_both(self.runtime, matrix, shift)

    def decided(self, answers: np.ndarray) -> list:
        """What is said to each row: the number, or the class, by the card's threshold if it has one."""
        return self.task.decided(answers, self.card.get("decision"))

    def logged(self, answers: np.ndarray) -> list[dict[str, Any]]:
        """What the prediction log holds of each answer, by the names of its `Entry`."""
        decided = self.decided(answers)
        if self.task.classes is None:
            return [{"answer": number} for number in decided]
        places = {name: place for place, name in enumerate(self.task.classes)}
        return [
            {"answer": float(row[places[name]]), "answered": name, "probabilities": row}
            for name, row in zip(decided, answers, strict=True)
        ]

    def apart(self, answers: np.ndarray, others: np.ndarray) -> np.ndarray:
        """How far two answers to each row are apart, in the unit of parity.

        A number's card of an earlier loopbook has no spread: then it is relative.
        """
        spread = (self.card.get("parity") or {}).get("spread")
        if spread is None and self.task.classes is None:
            return np.abs(answers - others) / np.maximum(np.abs(others), 1e-12)
        return self.task.apart(answers, others, 1.0 if spread is None else spread)

    def loggable(self, matrix: np.ndarray) -> np.ndarray:
        """The features as used, without those that the contract calls sensitive.

        What is derived from a sensitive feature is left out (NaN) too.
        """
        if not self.hidden:
            return matrix
        shown = matrix.copy()
        shown[:, self.hidden] = np.nan
        return shown

    def notes(self, record: Mapping[str, Any]) -> dict[str, list[str]]:
        """What was unusual about a request.

        `imputed`: features without a value; `unknown`: categories that the
        model has not seen; `out_of_range`: numbers outside the contract's range.
        """
        imputed = [n for n in self.contract.features if record.get(n) is None]
        imputed += [n for n in self.contract.trailing if record.get(n) is None]
        unknown = [
            n
            for n, vocabulary in self.vocabularies.items()
            if record.get(n) is not None and record[n] not in vocabulary
        ]
        out = [
            n
            for n, (low, high) in self.ranges.items()
            if record.get(n) is not None and not low <= record[n] <= high
        ]
        return {"imputed": imputed, "unknown": unknown, "out_of_range": out}


def load(registry: Registry, version: Version) -> Servable:
    """Fetch a version's files, verify them, warm it up and let it check itself.

    Raises
    ------
    RegistryError
        If a file cannot be fetched; it may be there the next time.
    VersionRefused
        If a file was changed, or the graph does not answer as its card says.
        Whoever serves goes on with what it has.
    """
    content = {file: verified(registry, version, file) for file in (CARD, ONNX)}
    card, contract, examples = read_card(version, content[CARD])
    task = task_of(contract)
    runtime = _runtime(version, content[ONNX], len(card["inputs"]), task.width)
    servable = Servable(
        version,
        card,
        contract,
        task,
        runtime,
        vocabularies=vocabularies(card),
        ranges={n: tuple(f.range) for n, f in contract.features.items() if f.range},
        hidden=_hidden(contract, card["inputs"]),
        is_checked_from_rows=examples.records is not None,
        can_move=can_move(runtime),
    )
    _check_itself(servable, examples)
    return servable


def _runtime(
    version: Version, graph: bytes, width: int, answers: int
) -> onnxruntime.InferenceSession:
    """A graph, ready to run, if it takes and gives what a card describes.

    One of an earlier loopbook takes no shift and gives no raw answer.
    """
    try:
        wrong = "it points at files elsewhere" if points_elsewhere(graph) else None
        runtime = None if wrong else session(graph)
    except Exception as reason:  # ONNX Runtime's errors have no common parent
        wrong = (str(reason).strip() or type(reason).__name__).splitlines()[0][:200]
    if not wrong:
        takes = [(i.name, i.type, i.shape) for i in runtime.get_inputs()]
        gives = [o.name for o in runtime.get_outputs()]
        is_known = [(name, kind, shape[1:]) for name, kind, shape in takes] in (
            [(INPUT, "tensor(float)", [width])],
            [(INPUT, "tensor(float)", [None])],
        )
        if not is_known or OUTPUT not in gives:
            wrong = (
                f"it takes {takes!r} and gives {gives!r}, expected {width} numbers a row as "
                f"{INPUT!r} and {OUTPUT!r}"
            )
        left = [(i.name, i.type, i.shape[1:]) for i in runtime.get_overridable_initializers()]
        if left and (left != [(SHIFT, "tensor(float)", [answers])] or RAW not in gives):
            wrong = (
                f"it takes {left!r} beside {INPUT!r} and gives {gives!r}, expected {answers} "
                f"numbers as {SHIFT!r}, and {RAW!r}"
            )
    if wrong:
        raise VersionRefused(f"{version.label}: its graph cannot be used ({wrong}).", "graph")
    return runtime


def _hidden(contract: Contract, inputs: Sequence[str]) -> list[int]:
    """The places of sensitive inputs and of those that are derived from them."""
    sensitive = {n for n, f in contract.features.items() if f.sensitive != "no"}
    derived = {n for n, d in contract.computed.items() if d.reads & sensitive}
    return [place for place, name in enumerate(inputs) if name in sensitive | derived]


def _check_itself(servable: Servable, examples: Examples) -> None:
    """Rows with known answers, as the graph takes them and as callers send them.

    Only the latter tells of a card whose inputs or categories stand in another
    order than the graph's.
    """
    rows = [[np.nan if v is None else v for v in row] for row in examples.features]
    matrix = np.array(rows, np.float32)
    try:
        for _ in range(WARM_UP_ROWS):
            servable.predict(matrix[:1])
        off = _off(servable, servable.predict(matrix), examples.prediction)
        off_from_rows = 0.0
        if examples.records is not None:
            from_rows = servable.matrix(examples.records, examples.at)
            off_from_rows = _off(servable, servable.predict(from_rows), examples.known)
        off_moved = _off_moved(servable, matrix) if servable.can_move else 0.0
    except Exception as reason:  # whatever a card can make a graph or a formula do
        why = (str(reason).strip() or type(reason).__name__).splitlines()[0][:200]
        raise VersionRefused(
            f"{servable.version.label}: cannot answer its own examples ({why}).", "answers"
        ) from None
    for found, allowed, what in (
        (off, TOLERANCE, "its own examples"),
        (off_from_rows, KNOWN_TOLERANCE, "rows whose answers are known"),
        (off_moved, KNOWN_TOLERANCE, "its own examples, shifted,"),
    ):
        if not found <= allowed:
            raise VersionRefused(
                f"{servable.version.label}: answers {what} otherwise than its card says "
                f"(off by {decimal(found, 2)}, allowed {decimal(allowed, 2)}), so it is refused.",
                "answers",
            )


def _off_moved(servable: Servable, matrix: np.ndarray) -> float:
    """How far answers to a shift are from what arithmetic makes of the raw ones, and raw from those without."""
    task = servable.task
    shift = np.zeros(task.width)
    shift[0] = CHECKED_SHIFT * ((servable.card.get("parity") or {}).get("spread") or 1.0)
    answers, raw = servable.predict_both(matrix, shift)
    off = _off(servable, answers, calibration_states.moved(task, raw, shift))
    return max(off, _off(servable, raw, servable.predict(matrix)))


def _off(servable: Servable, answers: np.ndarray, expected: Sequence) -> float:
    """The largest difference; infinite where an answer is no number.

    Raises
    ------
    ValueError
        If the answers have another shape, or are no probabilities where they should be.
    """
    known = np.array(expected, np.float64)
    if answers.shape != known.shape:
        raise ValueError(f"it answers in the shape {answers.shape}, expected {known.shape}")
    if servable.task.classes and (
        (answers < 0).any() or (np.abs(answers.sum(axis=1) - 1) > SUM_TOLERANCE).any()
    ):
        raise ValueError("its answers are no probabilities that add up to 1")
    return float(np.max(np.nan_to_num(servable.apart(answers, known), nan=np.inf)))
