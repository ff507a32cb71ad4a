"""Recomputed: one logged answer, made again from what made it.

It decides what is computed anew (the row as the model takes it, from the
request and from facts; the answer, from the graph and the state) and compares
each number with the log to the last bit. Where two of them differ, it says
which of the places that they come from was changed, as far as the others tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from loopbook.data.logged_answers import LoggedAnswer
from loopbook.data.request_rows import AS_OF, RowReader
from loopbook.data.row_keys import escaped
from loopbook.data.single_values import text_of
from loopbook.models.calibration_states import State
from loopbook.project.clock import from_micros, to_micros
from loopbook.project.contract import Contract
from loopbook.provenance.findings import CHANGED, Finding
from loopbook.registry import calibrated_answers
from loopbook.registry.servable import Servable

GIVEN, FACTS, DERIVED = "the request", "earlier facts", "derived"
OF_AN_ANSWER = (
    *("answer", "answered", "probabilities", "raw", "raw_probabilities", "shift"),
    *("low", "high"),
)


@dataclass(frozen=True)
class Feature:
    """One input of the model: as the log has it, and as it is computed again.

    Attributes
    ----------
    value : as the log has it; None for no value
    computed : the same from the request, from facts, or from both
    said : what the request or the card says for it (the category, the text)
    agrees : None where it cannot be compared, because the log hides it
    """

    name: str
    source: str
    said: Any
    value: float | None
    computed: float | None
    agrees: bool | None


@dataclass(frozen=True)
class Part:
    """One number of the answer, as logged and as computed; `agrees` to the bit."""

    name: str
    logged: Any
    computed: Any
    agrees: bool


@dataclass(frozen=True)
class Recomputed:
    """What came out.

    Attributes
    ----------
    hidden : sensitive columns whose values the log does not hold, and nobody gave
    whole : whether the answer could be computed again
    """

    features: list[Feature]
    parts: list[Part] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return bool(self.parts)


@dataclass(frozen=True)
class Row:
    """A request as its version reads it, with what was known of earlier rows.

    Attributes
    ----------
    record : features and trailing features by name
    trailing : as computed from facts; None where they could not be
    """

    record: dict[str, Any]
    at: datetime
    hidden: list[str]
    trailing: Mapping[str, float | None] | None
    findings: list[Finding]


def read_row(logged: LoggedAnswer, servable: Servable, given: Mapping[str, Any], place: str) -> Row:
    """The request of an answer by the contract of its version.

    Parameters
    ----------
    given : mapping
        Values of sensitive columns that somebody brings, since the log does not hold them.
    place : str
        How messages call the row.
    """
    contract, at = servable.contract, from_micros(logged["as_of_us"])
    sensitive = _sensitive(contract)
    names = contract.aliases | {n: n for n in contract.features}
    sent = {n: v for n, v in logged.request.items() if names.get(n) not in sensitive}
    row, wrong = RowReader(contract).read(sent | dict(given))
    findings = [
        _changed(f"{place}, request, {'.'.join(m.path)}", repr(m.found), m.expected or m.kind)
        for m in wrong
        if m.kind != "missing" or m.path[-1] not in sensitive
    ]
    said = row.pop(AS_OF, None)
    if said is not None and to_micros(said) != logged["as_of_us"]:
        findings.append(_changed(f"{place}, as_of", at.isoformat(), said.isoformat()))
    record = {n: row.get(n) for n in contract.features}
    key = _key(row, logged, contract)
    if key is not None and key != logged["key"]:
        findings.append(_changed(f"{place}, key", str(logged["key"]), key))
    hidden = sorted(sensitive - set(given))
    return Row(record, at, hidden, None, findings)


def _sensitive(contract: Contract) -> set[str]:
    return {n for n, feature in contract.features.items() if feature.sensitive != "no"}


def _key(row: Mapping[str, Any], logged: LoggedAnswer, contract: Contract) -> str | None:
    """The row's key by its request; None where the log has none or hides a part."""
    parts = [row.get(name) for name in contract.key]
    hides = bool(_sensitive(contract) & set(contract.key))
    if logged["key"] is None or hides or any(part is None for part in parts):
        return None
    return escaped([text_of(part) for part in parts])


def again(
    logged: LoggedAnswer, servable: Servable, row: Row, states: Sequence[State], place: str
) -> Recomputed:
    """An answer computed again and held against the log.

    Parameters
    ----------
    row : Row
        With its trailing features, if they could be computed.
    states : sequence of State
        Those of the answer's version and of the instant that the log names, the newest
        first; empty where it names none, or none is there.
    """
    record, is_from_facts = dict(row.record), row.trailing is not None
    if is_from_facts:
        record |= row.trailing
    matrix = servable.matrix([record], [row.at])
    computed, used = matrix[0].copy(), logged.features.copy()
    if not is_from_facts:  # taken from the log: what follows from facts cannot be told
        earlier = [p for p, n in enumerate(servable.inputs) if _source(n, servable) == FACTS]
        computed[earlier] = used[earlier]
    unseen = set(row.hidden)
    features = _features(servable, record, used, computed, unseen, is_from_facts=is_from_facts)
    if unseen:
        return Recomputed(features, hidden=row.hidden)
    used[servable.hidden] = computed[servable.hidden]  # somebody brought them
    told = _Told(logged, servable, used, states, place)
    parts = told.parts(computed)
    differ = [f for f in features if f.agrees is False]
    findings = told.notes(record) if is_from_facts else []
    if differ or not _agree(parts):
        findings += told.apart(differ, parts)
    return Recomputed(features, parts, findings=findings)


def _of_shift(states: Sequence[State], shift: np.ndarray | None) -> State | None:
    """The state that added this shift; the newest one where none did."""
    if shift is None:
        return None
    same = [state for state in states if np.array_equal(np.array(state.shift), shift)]
    return (same or [*states, None])[0]


def _source(name: str, servable: Servable) -> str:
    """Where an input comes from; what is derived from facts counts as of facts."""
    contract = servable.contract
    if name in contract.trailing:
        return FACTS
    if name in contract.computed:
        return FACTS if contract.computed[name].reads & set(contract.trailing) else DERIVED
    return GIVEN


def _features(
    servable: Servable,
    record: Mapping[str, Any],
    used: np.ndarray,
    computed: np.ndarray,
    unseen: set[str],
    *,
    is_from_facts: bool,
) -> list[Feature]:
    shown = servable.loggable(computed[None])[0]
    features = []
    for place, name in enumerate(servable.inputs):
        source = _source(name, servable)
        is_hidden = place in servable.hidden
        can_tell = not is_hidden and (source != FACTS or is_from_facts)
        agrees = _same(used[place], shown[place]) if can_tell else None
        if name in unseen:
            agrees = None
        values = (_number(used[place]), _number(shown[place]) if can_tell else None)
        said = None if is_hidden else record.get(name)
        features.append(Feature(name, source, said, *values, agrees))
    return features


def _number(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)


def _same(one: Any, other: Any) -> bool:
    """To the bit, no value like no value; 0 and -0 are two."""
    if one is None or other is None:
        return one is other
    if isinstance(one, str):
        return one == other
    first, second = np.asarray(one), np.asarray(other, np.asarray(one).dtype)
    if first.shape != second.shape:
        return False
    both_none = np.isnan(first) & np.isnan(second)
    same = (first == second) & (np.signbit(first) == np.signbit(second))
    return bool(np.all(both_none | same))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class _Told:
    """A logged answer beside what may have been changed behind it.

    Attributes
    ----------
    used : the features of the log, with those that it hides filled in
    """

    logged: LoggedAnswer
    servable: Servable
    used: np.ndarray
    states: Sequence[State]
    place: str

    def parts(self, vector: np.ndarray, state: State | None = None) -> list[Part]:
        """What the graph answers to a row, beside what the log says."""
        state = state or _of_shift(self.states, self.logged["shift"])
        answered = calibrated_answers.answer(self.servable, vector[None], [state])
        (held,) = answered.logged(self.servable)
        named = [(name, self.logged[name], held.get(name)) for name in OF_AN_ANSWER]
        return [
            Part(name, _plain(said), _plain(now), _same(said, now))
            for name, said, now in named
            if said is not None or now is not None
        ]

    def notes(self, record: Mapping[str, Any]) -> list[Finding]:
        """What was unusual about the row, where the log says something else."""
        now = self.servable.notes(record)
        return [
            _changed(f"{self.place}, {name}", str(said), str(now.get(name)))
            for name, said in self.logged.notes.items()
            if now.get(name) != said
        ]

    def apart(self, differ: Sequence[Feature], parts: Sequence[Part]) -> list[Finding]:
        """Which of log, request, facts and state was changed.

        The answer is a witness: it was made of the features and the shift as they were then.
        """
        findings = []
        if differ:
            is_of_the_log, is_of_today = _agree(self.parts(self.used)), _agree(parts)
            was_behind = is_of_the_log and not is_of_today
            findings = [self._of_feature(feature, was_behind) for feature in differ]
            if is_of_the_log or is_of_today:
                return findings
        wrong = [part for part in parts if not part.agrees]
        shift = next((part for part in wrong if part.name == "shift"), None)
        if shift and self.states and self._made_by_its_own_shift():
            at = from_micros(self.logged["state_us"])
            where = f"calibration state of v{self.logged['version']} as of {at.isoformat()}"
            mend = "Restore the prediction log's database: the answer was made by the other shift"
            return [*findings, _changed(where, str(shift.computed), str(shift.logged), mend)]
        return findings + [
            _changed(f"{self.place}, {one.name}", str(one.logged), str(one.computed))
            for one in wrong
        ]

    def _of_feature(self, feature: Feature, was_behind: bool) -> Finding:
        """A feature that differs: what it was made of was changed, or the log's number."""
        logged, computed = _said(feature.value), _said(feature.computed)
        if was_behind:
            where = f"{self.place}, {feature.source}, behind {feature.name}"
            return _changed(where, computed, logged, _mend(feature))
        return _changed(f"{self.place}, feature {feature.name}", logged, computed)

    def _made_by_its_own_shift(self) -> bool:
        """Whether the logged shift makes the logged answer: then the state was changed."""
        if self.logged["shift"] is None:
            return False
        state = replace(self.states[0], shift=tuple(self.logged["shift"].tolist()))
        parts = self.parts(self.used, state)
        return _agree([part for part in parts if part.name not in ("low", "high")])


def _agree(parts: Sequence[Part]) -> bool:
    return all(part.agrees for part in parts)


def _said(value: float | None) -> str:
    return "no value" if value is None else repr(value)


def _mend(feature: Feature) -> str:
    if feature.source == FACTS:
        return (
            "A row of the source, ground truth in the log or a decision about a row that was set "
            "aside is another one now: compare the source with the version's snapshot"
        )
    return "The request in the log was changed: restore the prediction log from a backup"


def _changed(where: str, found: str, expected: str, remedy: str = "") -> Finding:
    default = "Restore the prediction log from a backup; what was changed cannot be told from it"
    return Finding(CHANGED, where, found, expected, remedy or default)
