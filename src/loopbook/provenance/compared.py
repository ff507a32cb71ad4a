"""Compared: a version and what was built again, part for part.

It decides what is identical, equal within 1e-6 or different, and which
difference is the first on the way from rows to metrics. It knows no reason.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopbook.project.counts import counted
from loopbook.project.errors import ProvenanceError, RegistryError
from loopbook.project.files import read_json
from loopbook.provenance.recipes import Recipe
from loopbook.registry.candidate_run import loggable
from loopbook.registry.reader import CARD, REFERENCE, Registry, Version
from loopbook.registry.service_files import digest_mismatch, most_bytes

IDENTICAL, EQUAL, DIFFERENT = "identical", "equal within 1e-6", "different"
UNCOMPARED = "not compared"
ORDER = (UNCOMPARED, IDENTICAL, EQUAL, DIFFERENT)
TOLERANCE = 1e-6
TIMED = ("latency_ms",)  # of the machine, and not of the model


@dataclass(frozen=True)
class Part:
    """One part of a version beside the same part built again.

    Attributes
    ----------
    about : how much was compared, or why it was not
    found, expected : of the first difference, now and then
    """

    name: str
    outcome: str
    about: str
    found: str = ""
    expected: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    @property
    def difference(self) -> str:
        return f"{self.name}: found {self.found}, expected {self.expected}" if self.found else ""


def outcome_of(parts: list[Part]) -> str:
    """That of the part that differs most; one that was not compared counts for nothing."""
    return max((part.outcome for part in parts), key=ORDER.index)


@dataclass(frozen=True)
class Built:
    """The products of a build in a folder: those of one candidate, and the evidence of the gate."""

    build: Path
    run: Mapping[str, Any]
    card: Mapping[str, Any]
    evidence: Mapping[str, Any]


def built(root: Path, candidate: str) -> Built:
    """What was built of a candidate in a project's folder.

    Raises
    ------
    ProvenanceError
        If no task trained it.
    """
    build = root / "var" / "build"
    products = [read_json(path) for path in sorted((build / "train").glob("*.json"))]
    ours = [told for told in products if told.get("candidate") == candidate]
    runs = [told for told in ours if "run_id" in told]
    cards = [told for told in ours if "card_version" in told]
    if not runs or not cards:
        raise ProvenanceError(
            f"{root}: no task trained {candidate!r}. The pipeline.yaml of then has another grid."
        )
    return Built(build, runs[0], cards[0], read_json(build / "evidence.json"))


def parts(recipe: Recipe, again: Built, registry: Registry) -> list[Part]:
    """Everything that is compared, on the way from rows to metrics."""
    answers = _answers(recipe, again, registry)
    graph = _graph(recipe, again, answers.outcome)
    return [answers, graph, _card(recipe, again, registry), _metrics(recipe, again)]


def _graph(recipe: Recipe, again: Built, answers: str) -> Part:
    """The exported graph, by its digest; one of other bytes is as equal as its answers are."""
    expected = recipe.version.tags["onnx_sha256"]
    found = again.run["onnx_sha256"]
    if found == expected:
        return Part("graph", IDENTICAL, f"SHA-256 {found[:12]}…")
    outcome = EQUAL if answers in (IDENTICAL, EQUAL) else DIFFERENT
    return Part("graph", outcome, "its bytes", f"SHA-256 {found[:12]}…", f"{expected[:12]}…")


def _card(recipe: Recipe, again: Built, registry: Registry) -> Part:
    try:
        then = json.loads(_kept(recipe.version, registry, CARD))
    except RegistryError as error:
        return Part("card", UNCOMPARED, str(error))
    return _of_values("card", dict(_flat(again.card)), dict(_flat(then)))


def _kept(version: Version, registry: Registry, file: str) -> bytes:
    """A file of a version; a RegistryError if it is not what the registry says."""
    content = registry.content(version, file, most=most_bytes(version, file))
    if mismatch := digest_mismatch(version, file, content):
        raise RegistryError(mismatch)
    return content


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested JSON under its path."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        yield f"{path}.length", len(value)
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{place}]")
    else:
        yield path, value


def _metrics(recipe: Recipe, again: Built) -> Part:
    """The metrics of the run: of validation, and of test where the same candidate challenged."""
    now = loggable("validation", again.run["validation"])
    now |= {"parity": again.run["parity"]["largest"]}
    evidence = again.evidence
    if evidence["challenger"]["candidate"] == recipe.candidate:
        now |= loggable("test", evidence["errors"]["challenger"])
    then = {n: v for n, v in recipe.metrics.items() if n in now or n.startswith("validation_")}
    return _of_values("metrics", now, then)


def _of_values(name: str, now: Mapping[str, Any], then: Mapping[str, Any]) -> Part:
    """Values by their names; the first that differs most is told."""
    worst, first = IDENTICAL, ("", "")
    for key in [*then, *(k for k in now if k not in then)]:
        a, b = now.get(key, "nothing"), then.get(key, "nothing")
        outcome = _of_value(a, b)
        if ORDER.index(outcome) > ORDER.index(worst):
            worst, first = outcome, (f"{key} {a}"[:200], f"{b}"[:200])
    return Part(name, worst, f"{counted(len(then), 'value')}", *first)


def _of_value(now: Any, then: Any) -> str:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (now, then))
    if now == then or (numbers and math.isnan(now) and math.isnan(then)):
        return IDENTICAL
    if numbers and math.isclose(now, then, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return EQUAL
    return DIFFERENT


def _answers(recipe: Recipe, again: Built, registry: Registry) -> Part:
    """The rows that were stored with the version, and its answers to them."""
    challenged = again.evidence["challenger"]["candidate"]
    path = again.build / "monitoring" / "reference.parquet"
    if challenged != recipe.candidate:
        found = f"{challenged} the best on validation"
        return Part("answers", DIFFERENT, "who challenged", found, recipe.candidate)
    try:
        content = _kept(recipe.version, registry, REFERENCE)
    except RegistryError as error:
        return Part("answers", UNCOMPARED, str(error))
    return of_rows(pl.read_parquet(path, glob=False), pl.read_parquet(BytesIO(content)))


def of_rows(now: pl.DataFrame, then: pl.DataFrame) -> Part:
    """Two tables of the same rows, column by column, the answers last.

    Numbers are equal within 1e-6 of their column's largest; an answer of several
    classes is as many numbers.
    """
    about = f"{then.height:,} stored rows"
    if now.height != then.height or now.columns != then.columns:
        sides = (f"{counted(t.height, 'row')} of {', '.join(t.columns)}" for t in (now, then))
        return Part("answers", DIFFERENT, about, *sides)
    worst, first = IDENTICAL, ("", "")
    for name in sorted(then.columns, key=lambda column: column == "answer"):
        outcome, place = _of_column(now[name], then[name])
        if ORDER.index(outcome) > ORDER.index(worst):
            a, b = now[name][place], then[name][place]
            values = [v.to_list() if isinstance(v, pl.Series) else v for v in (a, b)]
            worst, first = outcome, (f"{name} {values[0]} in row {place:,}", f"{values[1]}")
    return Part("answers", worst, about, *first)


def _of_column(now: pl.Series, then: pl.Series) -> tuple[str, int]:
    """How two columns differ, and in which row most."""
    if now.equals(then, null_equal=True):
        return IDENTICAL, 0
    sides = [_numbers(side) for side in (now, then)]
    if any(side is None for side in sides):
        unequal = (now.ne_missing(then)).to_numpy()
        return DIFFERENT, int(np.argmax(unequal))
    apart = np.abs(sides[0] - sides[1])
    apart[np.isnan(sides[0]) & np.isnan(sides[1])] = 0
    apart = np.where(np.isnan(apart), np.inf, apart).max(axis=1)
    largest = np.nanmax(np.abs(sides[1]), initial=0)
    place = int(np.argmax(apart))
    return (EQUAL if apart[place] <= TOLERANCE * largest else DIFFERENT), place


def _numbers(column: pl.Series) -> np.ndarray | None:
    """A column as a matrix of numbers, missing ones NaN; None for one of anything else."""
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(-1, 1)
    if isinstance(column.dtype, pl.Array) and column.dtype.inner.is_numeric():
        return column.to_numpy().reshape(len(column), -1).astype(float)
    if isinstance(column.dtype, pl.List) and column.dtype.inner.is_numeric():
        return np.array(column.to_list(), dtype=float).reshape(len(column), -1)
    return None
