"""Answer changes: what two versions say to the same rows, and which says it better.

It decides which rows both are asked about and which answers changed most. Both
answer by themselves: what came true since, which moves answers in service, is
no part of a version. Pure: no file, no registry.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from loopbook.data.splits import PART
from loopbook.features.rows import encode, with_derived
from loopbook.models import evaluation
from loopbook.models.evaluation import Confidence, Interval
from loopbook.models.inference import predict, session
from loopbook.models.task import Task, task_of
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.counts import counted

MOST = 10  # rows of those that changed most
EQUAL = 1e-6  # of the target's spread, or of a probability: no answer changed
LEAST_ROWS = 30


@dataclass(frozen=True)
class Answerer:
    """A version as far as it answers."""

    label: str
    onnx: bytes
    card: Mapping[str, Any]
    contract: Contract

    def answers(self, rows: pl.DataFrame) -> np.ndarray:
        """What it says by itself, as `task` has it."""
        # the contract came out of a card, whose keys are sorted: it does not tell the inputs' order
        inputs, known = self.card["inputs"], self.card["categories"]
        matrix = encode(with_derived(rows, self.contract), inputs, known)
        return predict(session(self.onnx), matrix)


@dataclass(frozen=True)
class ChangedAnswer:
    """One row that the two answer otherwise; classes have the probability of what is said."""

    at: str | None
    inputs: dict[str, Any]
    before: Any
    after: Any
    observed: Any
    apart: float


@dataclass(frozen=True)
class AnswerChanges:
    """What two versions say to the same rows.

    Attributes
    ----------
    rows : how many both were asked about; 0 where they cannot be, and `obstacle` says why
    of : whose rows these are
    changed : how many answers differ by more than `EQUAL`
    largest : the largest difference, in the unit of parity
    errors : by version, all its metrics
    unit : of the target, where it has one
    loss : by slice, the later version's loss minus the earlier one's, on the same rows
    notes : what is otherwise than in service
    """

    rows: int
    of: str
    obstacle: str | None = None
    changed: int = 0
    largest: float = 0.0
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    loss: dict[str, Interval] = field(default_factory=dict)
    most: list[ChangedAnswer] = field(default_factory=list)
    metric: str = ""
    measure: dict[str, Any] = field(default_factory=dict)
    bias_measure: dict[str, Any] = field(default_factory=dict)
    apart_words: str = ""
    unit: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def are_none(self) -> bool:
        return self.obstacle is None and self.changed == 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def obstacle(before: Answerer, after: Answerer, rows: pl.DataFrame) -> str | None:
    """Why the two cannot be asked about the same rows, or None."""
    theirs, ours = (side.contract.target for side in (before, after))
    for what, one, other in (
        ("name", theirs.name, ours.name),
        ("unit", theirs.unit, ours.unit),
        ("classes", theirs.classes, ours.classes),
    ):
        if one != other:
            return (
                f"{before.label} and {after.label} have another target each: its {what} is "
                f"{one or 'none'} and {other or 'none'}, so their errors are no two of a kind"
            )
    for side in (before, after):
        kept = [n for n, f in side.contract.features.items() if f.sensitive == "no"]
        absent = [n for n in (*kept, *side.contract.trailing) if n not in rows.columns]
        if absent:
            return f"{side.label} needs {', '.join(absent)}, which these rows do not have"
        if side.contract.event_time and EVENT_TS not in rows.columns:
            return f"{side.label} needs the time of each row, which these rows do not have"
    return None


def judged(rows: pl.DataFrame, before: Answerer, after: Answerer) -> tuple[pl.DataFrame, list[str]]:
    """The rows of a reference that neither version was fitted on, and what is to be said of them."""
    rows, notes = rows.filter(pl.col(PART) == "test"), []
    parts = set()
    for side in (before, after):
        fitted = side.card["fitted"]
        if fitted["until"] and EVENT_TS in rows.columns:
            until, since = parse_instant(fitted["until"]), parse_instant(fitted["since"])
            rows = rows.filter((pl.col(EVENT_TS) >= until) | (pl.col(EVENT_TS) < since))
        else:
            parts.add((fitted["key_fraction"], fitted.get("group")))
    if len(parts) > 1:
        notes.append("the two were fitted on other parts of the keys: one may have seen these rows")
    return rows, notes


def compare(
    before: Answerer,
    after: Answerer,
    rows: pl.DataFrame,
    confidence: Confidence,
    *,
    of: str,
    least_slice_rows: int,
) -> AnswerChanges:
    """What two versions say to the rows of a reference that neither was fitted on.

    Parameters
    ----------
    rows : polars.DataFrame
        What `reference.freeze` wrote: watched inputs, `observed`, part, time.
    of : str
        Whose reference it is.

    Returns
    -------
    AnswerChanges
        Losses are in the measure of `after`; ties in what changed most are
        in the order of the rows.
    """
    if why := obstacle(before, after, rows):
        return AnswerChanges(0, of, why)
    rows, notes = judged(rows, before, after)
    task = task_of(after.contract)
    rows, said = _answered(before, after, rows, task)
    if rows.height < LEAST_ROWS:
        why = f"{counted(rows.height, 'row')} that neither was fitted on, expected {LEAST_ROWS}"
        return AnswerChanges(0, of, why, notes=notes)
    observed = task.observed(rows["observed"])
    losses = [task.losses(observed, answers) for answers in said]
    slices = {n: edges for n, edges in after.contract.slices.items() if n in rows.columns}
    about = after.contract.model_copy(update={"slices": slices})
    labels = evaluation.slice_labels(rows, about)
    apart = task.apart(*said, spread=task.spread(observed))
    return AnswerChanges(
        rows=rows.height,
        of=of,
        changed=int((apart > EQUAL).sum()),
        largest=float(apart.max()),
        errors={
            side.label: task.metrics(observed, answers)
            for side, answers in zip((before, after), said, strict=True)
        },
        loss=evaluation.compare(
            losses[1], losses[0], labels, confidence, least_rows=least_slice_rows
        ),
        most=_most(task, rows, said, apart, (before.card, after.card)),
        metric=task.metric,
        measure=asdict(task.measure),
        bias_measure=asdict(task.bias_measure),
        apart_words=task.parity_words,
        unit=task.contract.target.unit or "",
        notes=[*notes, *_not_kept(before, after)],
    )


def _answered(
    before: Answerer, after: Answerer, rows: pl.DataFrame, task: Task
) -> tuple[pl.DataFrame, list[np.ndarray]]:
    """The rows whose loss can be taken of both, and both answers to them."""
    if not rows.height:
        return rows, []
    said = [side.answers(_with_inputs(rows, side)) for side in (before, after)]
    observed = task.observed(rows["observed"])
    sound = np.logical_and(*(task.is_measurable(observed, answers) for answers in said))
    return rows.filter(sound), [answers[sound] for answers in said]


def _with_inputs(rows: pl.DataFrame, side: Answerer) -> pl.DataFrame:
    """Rows with a column for each input; one that is not kept has no value, as if it was not sent."""
    kinds = {"category": pl.String, "boolean": pl.Boolean}
    absent = {n: f for n, f in side.contract.features.items() if n not in rows.columns}
    return rows.with_columns(
        pl.lit(None, dtype=kinds.get(feature.type, pl.Float64)).alias(name)
        for name, feature in absent.items()
    )


def _not_kept(before: Answerer, after: Answerer) -> list[str]:
    names = {
        n: None
        for side in (before, after)
        for n, feature in side.contract.features.items()
        if feature.sensitive != "no"
    }
    if not names:
        return []
    return [f"{', '.join(names)}: sensitive, so not kept with a version; both answered without"]


def _most(
    task: Task,
    rows: pl.DataFrame,
    said: list[np.ndarray],
    apart: np.ndarray,
    cards: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> list[ChangedAnswer]:
    """The rows whose answers are farthest apart."""
    order = np.argsort(-apart, kind="stable")[:MOST]
    order = order[apart[order] > EQUAL]
    inputs = rows.drop(PART, "observed", "answer", EVENT_TS, strict=False)
    words = [_words(task, a[order], card) for a, card in zip(said, cards, strict=True)]
    found = []
    for nth, place in enumerate(order.tolist()):
        row = rows.row(place, named=True)
        found.append(
            ChangedAnswer(
                at=row[EVENT_TS].isoformat() if row.get(EVENT_TS) else None,
                inputs=inputs.row(place, named=True),
                before=words[0][nth],
                after=words[1][nth],
                observed=row["observed"],
                apart=float(apart[place]),
            )
        )
    return found


def _words(task: Task, answers: np.ndarray, card: Mapping[str, Any]) -> list[Any]:
    """An answer as it is said: a number, or a class with its probability."""
    said = task.decided(answers, card.get("decision")) if len(answers) else []
    if task.classes is None:
        return said
    places = {name: place for place, name in enumerate(task.classes)}
    return [
        {"class": name, "probability": float(row[places[name]])}
        for name, row in zip(said, answers, strict=True)
    ]
