"""Explained answers: why an answer of the log is what it is, computed again and compared.

It decides the order in which a logged answer is followed back: the request, the
features and the facts behind them, the calibration state, the version with its
lineage. What is missing or was changed is a finding; the rest is told all the
same. It changes nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from loopbook.data import logged_answers, prediction_log
from loopbook.data.logged_answers import LoggedAnswer
from loopbook.data.prediction_log import PredictionLog
from loopbook.models.calibration_states import State
from loopbook.models.truths import DAY_US
from loopbook.project.clock import from_micros
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import GivenValueError, LoopbookError, ProvenanceError
from loopbook.project.paths import Project, tracking_address
from loopbook.provenance import known_facts, lineage, recomputed
from loopbook.provenance.findings import CHANGED, MISSING, UNREPRODUCIBLE, Finding
from loopbook.provenance.known_facts import FactsBehind
from loopbook.provenance.lineage import Lineage
from loopbook.provenance.recomputed import Feature, Part, Recomputed, Row
from loopbook.registry import reader, state_store
from loopbook.registry import servable as servables
from loopbook.registry.reader import Registry, Version
from loopbook.registry.servable import Servable

OF_BYTES = ("place", "size", "digest")  # codes of a refusal of a file that is another one now
RESTORE = "Restore the prediction log from a backup"
IDENTICAL, DIFFERENT, NOT_AGAIN = "identical", "different", "cannot be computed again"


@dataclass(frozen=True)
class Place:
    """Where an answer is looked up: the project, its contract as it is now, registry and log.

    `walks_all` asks for the facts themselves, however many they are.
    """

    project: Project
    contract: Contract
    registry: Registry
    log: PredictionLog
    walks_all: bool = False


@dataclass(frozen=True)
class ExplainedAnswer:
    """An answer and all that stands behind it.

    Attributes
    ----------
    verdict : identical, different, or cannot be computed again
    why_not : why it cannot be computed again, where it cannot
    facts : behind the trailing features; None where there are none, or they cannot be read
    state : the calibration state that moved the answer, if one did
    states_written : when that state was written
    """

    logged: LoggedAnswer
    verdict: str
    why_not: str
    features: list[Feature]
    parts: list[Part]
    facts: FactsBehind | None
    state: State | None
    state_written: datetime | None
    lineage: Lineage | None
    findings: list[Finding] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        logged, state = self.logged, self.state
        return {
            "prediction_id": logged["id"],
            "verdict": self.verdict,
            "why_not": self.why_not or None,
            "findings": [finding.as_json() for finding in self.findings],
            "answered": {n: _plain(logged[n]) for n in SAID},
            "received_at": _iso(logged["received_us"]),
            "as_of": _iso(logged["as_of_us"]),
            "request": dict(logged.request),
            "notes": dict(logged.notes),
            "features": [vars(feature) for feature in self.features],
            "facts": self.facts and self.facts.as_json(),
            "store_knew_until": logged["facts_us"] and _iso(logged["facts_us"]),
            "calibration": state and state.as_json(),
            "calibration_written_at": self.state_written and self.state_written.isoformat(),
            "compared": [vars(part) for part in self.parts],
            "truths": [{"observed": o, "known": _iso(known)} for o, known in logged.truths],
            "lineage": self.lineage and self.lineage.as_json(),
        }


SAID = (
    *("model", "version", "role", "shadow_of", "route", "key"),
    *("answer", "answered", "probabilities", "raw", "shift", "low", "high", "latency_us"),
)


@contextmanager
def looked_up(project: Project, *, walks_all: bool = False) -> Iterator[Place]:
    """The place of a project's answers, opened for as long as it is needed.

    Raises
    ------
    ProvenanceError
        If no answer was ever logged.
    """
    contract = read_contract(project.contract)
    log = prediction_log.connect_if_there(project, contract)
    if log is None:
        raise ProvenanceError(
            f"{contract.name}: there is no prediction log yet. An answer is logged when the "
            "service gives it: make serve"
        )
    try:
        registry = reader.connect(tracking_address(project))
        yield Place(project, contract, registry, log, walks_all)
    finally:
        log.close()


def explain(place: Place, name: str, given: Mapping[str, Any] | None = None) -> ExplainedAnswer:
    """Follow an answer back to its cause.

    Parameters
    ----------
    given : mapping, optional
        Values of sensitive columns, which the log holds as hashes or not at all.

    Raises
    ------
    ProvenanceError
        If the log does not hold the id, or a value that was given is another one
        than the row had.
    """
    logged = logged_answers.read(place.log, name)
    if logged is None:
        why = logged_answers.why_absent(place.log, name)
        raise ProvenanceError(f"the prediction log has no answer {name!r}: {why}")
    _check_given(place.log, logged, given or {})
    findings = _broken(logged)
    version = _version(place, logged, findings)
    servable = version and _servable(place, version, logged, findings)
    traced = version and lineage.of_version(place.project, place.contract, place.registry, version)
    told = _Told(place, logged, f"answer {name}")
    states = told.states(findings)
    made = servable and not _broken(logged) and told.made(servable, given or {}, states)
    findings += made.findings if made else []
    again, states = made.again if made else Recomputed([]), told.used(states)
    verdict = _verdict(again, findings) if made else NOT_AGAIN
    verdict = DIFFERENT if _broken(logged) else verdict
    findings += traced.findings if traced else []
    return ExplainedAnswer(
        logged=logged,
        verdict=verdict,
        why_not=_why_not(again, findings) if verdict == NOT_AGAIN else "",
        features=again.features,
        parts=again.parts,
        facts=made.facts if made else None,
        state=states[0][1] if states else None,
        state_written=states[0][0] if states else None,
        lineage=traced,
        findings=list(dict.fromkeys(findings)),
    )


def _verdict(again: Recomputed, findings: list[Finding]) -> str:
    if any(finding.what == CHANGED for finding in findings):
        return DIFFERENT
    return IDENTICAL if again.whole and not findings else NOT_AGAIN


def _why_not(again: Recomputed, findings: list[Finding]) -> str:
    if again.hidden:
        named = ", ".join(again.hidden)
        return (
            f"the log does not hold the sensitive values of {named}. A hash cannot be turned back; "
            f"give them: --value {again.hidden[0]}=…"
        )
    return findings[0].sentence if findings else "nothing of it is here"


def _check_given(log: PredictionLog, logged: LoggedAnswer, given: Mapping[str, Any]) -> None:
    """Refuse a value that is not the one whose hash the log has."""
    for name, value in given.items():
        if name not in log.hidden:
            known = ", ".join(sorted(log.hidden)) or "none"
            raise GivenValueError(
                f"value of {name}: is no sensitive column of the contract; there are {known}. "
                "All other values are in the log."
            )
        held = logged.request.get(name)
        if held is not None and held != log.keys.hashed(value):
            raise GivenValueError(
                f"value of {name}: is not what the row had: its hash is another one than the log's."
            )


def _broken(logged: LoggedAnswer) -> list[Finding]:
    """Columns of the log that cannot be read, or do not fit each other."""
    broken = list(logged.broken)
    if "features" not in broken and len(logged.features) != len(logged.names):
        broken.append("features")
    expected = "what the service writes"
    return [
        Finding(
            CHANGED, f"answer {logged['id']}, {column}", "what cannot be read", expected, RESTORE
        )
        for column in broken
    ]


def _version(place: Place, logged: LoggedAnswer, findings: list[Finding]) -> Version | None:
    """The version that answered, if the registry has it."""
    try:
        return lineage.find(place.registry, logged["model"], logged["version"])
    except ProvenanceError as error:
        where = f"{logged['model']} v{logged['version']}"
        restore = "Restore the registry's database from a backup"
        findings.append(Finding(MISSING, where, _line(error), "the version that answered", restore))
        return None


def _servable(
    place: Place, version: Version, logged: LoggedAnswer, findings: list[Finding]
) -> Servable | None:
    """The version's graph and card, if they are what answered then."""
    card = version.tags.get("card_sha256", "none")
    if card != logged["inputs"]:
        where = f"answer {logged['id']}, version"
        found = f"card {logged['inputs'][:12]}"
        restore = "Restore the prediction log or the registry's database from a backup"
        expected = f"card {card[:12]} of {version.label}"
        findings.append(Finding(CHANGED, where, found, expected, restore))
        return None
    try:
        return servables.load(place.registry, version)
    except LoopbookError as error:
        code = getattr(error, "code", None)
        what = CHANGED if code in OF_BYTES else UNREPRODUCIBLE if code else MISSING
        restore = f"Restore the files of run {version.run_id} from a backup"
        expected = "the graph and the card that answered"
        findings.append(
            Finding(what, f"{version.label}, service files", _line(error), expected, restore)
        )
        return None


@dataclass(frozen=True)
class _Made:
    again: Recomputed
    facts: FactsBehind | None
    findings: list[Finding]


@dataclass(frozen=True)
class _Told:
    """One answer while it is made again."""

    place: Place
    logged: LoggedAnswer
    name: str

    def made(
        self, servable: Servable, given: Mapping[str, Any], states: list[tuple[datetime, State]]
    ) -> _Made:
        row = recomputed.read_row(self.logged, servable, given, self.name)
        facts, row = self._with_facts(servable, row)
        by_state = [state for _, state in states]
        again = recomputed.again(self.logged, servable, row, by_state, self.name)
        return _Made(again, facts, [*row.findings, *again.findings])

    def used(self, states: list[tuple[datetime, State]]) -> list[tuple[datetime, State]]:
        """Of several states of one instant, those whose shift the answer has; all where none has it."""
        shift = self.logged["shift"]
        same = [pair for pair in states if shift is not None and pair[1].shift == tuple(shift)]
        return same or states

    def _with_facts(self, servable: Servable, row: Row) -> tuple[FactsBehind | None, Row]:
        """The row with its trailing features, from facts where they can be read."""
        contract = servable.contract
        if contract.history is None:
            return None, replace(row, trailing={})
        nothing: dict[str, float | None] = dict.fromkeys(contract.trailing)
        if self.logged["facts_us"] is None and self._has_no_trailing(servable):
            return None, replace(row, trailing=nothing)  # the store was away, or never filled
        entity = row.record.get(contract.entity) if contract.entity else None
        if contract.entity in row.hidden:
            return None, row
        until = known_facts.filled_until(self.logged["facts_us"], row.at)
        try:
            facts = self._facts(contract, entity, row.at, until)
        except LoopbookError as error:
            expected = f"the facts that were known at {until:%Y-%m-%d %H:%M} UTC"
            restore = "Correct that; the facts are read from the source that contract.yaml names"
            self._say(row, UNREPRODUCIBLE, "earlier facts", _line(error), expected, restore)
            return None, row
        values = dict(facts.values)
        if row.at < until:  # a store keeps no past: before its first point it knows nothing
            values |= {n: None for n in values if self._is_empty(servable, n)}
        return facts, replace(row, trailing=values)

    def _facts(
        self, contract: Contract, entity: str | None, at: datetime, until: datetime
    ) -> FactsBehind:
        """From the facts themselves, or where these are many from the store.

        Raises
        ------
        LoopbookError
            If neither can tell.
        """
        where, which = self.place, (entity, at, until)
        most = known_facts.MOST_TRUTHS
        count = logged_answers.truth_count(self.place.log, most + 1)
        if where.walks_all or count <= most:
            return known_facts.behind(where.project, contract, *which)
        if found := known_facts.of_store(where.project, where.contract, *which):
            return found
        raise ProvenanceError(
            f"more than {most:,} served rows have ground truth, and the feature store was filled "
            f"again since. Walk them all, which takes its time: loopbook why {self.logged['id']} "
            "--facts"
        )

    def _is_empty(self, servable: Servable, name: str) -> bool:
        return bool(np.isnan(self.logged.features[servable.inputs.index(name)]))

    def _has_no_trailing(self, servable: Servable) -> bool:
        return all(self._is_empty(servable, name) for name in servable.contract.trailing)

    def states(self, findings: list[Finding]) -> list[tuple[datetime, State]]:
        """The states of the instant that the answer names; a finding where there is none."""
        state_us = self.logged["state_us"]
        if state_us is None:
            return []
        whose = (self.logged["model"], self.logged["version"], state_us)
        written = state_store.written(self.place.log.database, *whose)
        if not written:
            where = f"calibration state of v{self.logged['version']} as of {_iso(state_us)}"
            restore = "Restore the database of the prediction log from a backup"
            expected = "the state that moved this answer"
            findings.append(Finding(MISSING, where, "no such state", expected, restore))
        days = (self.logged["as_of_us"] - state_us) // DAY_US
        return [(at, state.aged(days)) for at, state in written]

    @staticmethod
    def _say(row: Row, what: str, where: str, found: str, expected: str, remedy: str) -> None:
        row.findings.append(Finding(what, where, found, expected, remedy))


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()).rstrip(".")


def _iso(micros: int) -> str:
    return from_micros(micros).isoformat()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
