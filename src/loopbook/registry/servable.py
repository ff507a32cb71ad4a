"""A servable version: its graph and card, checked, and how it answers.

It decides what has to hold before a version may answer: both files have the
digests that the registry holds, the graph runs, and it gives the answers that
its card says. It never unpickles and never imports a training library.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import onnxruntime

from loopbook.features.rows import records_matrix
from loopbook.models.inference import predict, session
from loopbook.project.contract import Contract
from loopbook.project.errors import VersionRefused
from loopbook.project.formulas import formula_names
from loopbook.registry.reader import CARD, ONNX, Registry, Version
from loopbook.registry.service_files import digest_mismatch

TOLERANCE = 1e-5
WARM_UP_ROWS = 8


@dataclass(frozen=True)
class Servable:
    """One version, ready to answer."""

    version: Version
    card: Mapping[str, Any]
    contract: Contract
    runtime: onnxruntime.InferenceSession
    vocabularies: Mapping[str, frozenset[str]]
    ranges: Mapping[str, tuple[float, float]]
    hidden: list[int]

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

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Predictions in the target's unit, float64, shape (rows,)."""
        return predict(self.runtime, matrix)

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
    content = {}
    for file in (ONNX, CARD):
        content[file] = registry.content(version, file)
        if mismatch := digest_mismatch(version, file, content[file]):
            raise VersionRefused(
                f"{mismatch} It was changed, so it is refused; restore it, or roll back."
            )
    card = json.loads(content[CARD])
    contract = Contract.model_validate_json(json.dumps(card["contract"]))
    try:
        runtime = session(content[ONNX])
    except Exception as reason:  # ONNX Runtime's errors have no common parent
        raise VersionRefused(
            f"{version.label}: its graph cannot be loaded ({str(reason).splitlines()[0]})."
        ) from None
    servable = Servable(
        version,
        card,
        contract,
        runtime,
        vocabularies={n: frozenset(v) for n, v in card["categories"].items()},
        ranges={n: tuple(f.range) for n, f in contract.features.items() if f.range},
        hidden=_hidden(contract, card["inputs"]),
    )
    _check_itself(servable)
    return servable


def _hidden(contract: Contract, inputs: Sequence[str]) -> list[int]:
    """The places of sensitive inputs and of those that are derived from them."""
    sensitive = {n for n, f in contract.features.items() if f.sensitive != "no"}
    derived = {n for n, d in contract.computed.items() if formula_names(d.formula) & sensitive}
    return [place for place, name in enumerate(inputs) if name in sensitive | derived]


def _check_itself(servable: Servable) -> None:
    examples = servable.card["examples"]
    rows = [[np.nan if v is None else v for v in row] for row in examples["features"]]
    matrix = np.array(rows, np.float32)
    for _ in range(WARM_UP_ROWS):
        servable.predict(matrix[:1])
    answers, expected = servable.predict(matrix), np.array(examples["prediction"])
    off = np.abs(answers - expected) / np.maximum(np.abs(expected), 1e-12)
    if not (off <= TOLERANCE).all():
        raise VersionRefused(
            f"{servable.version.label}: answers its own examples otherwise than its card says "
            f"(off by {np.nanmax(off):.1e}, allowed {TOLERANCE:.0e}), so it is refused."
        )
