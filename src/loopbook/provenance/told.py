"""Told: a lineage and an explained answer as sections, the same for text and page.

It decides the order and the words. Two clocks are never mixed: "done at" is the
clock on the wall, "as of" that of the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopbook.project.clock import from_micros
from loopbook.project.counts import counted
from loopbook.provenance.explained_answers import (
    DIFFERENT,
    IDENTICAL,
    ExplainedAnswer,
)
from loopbook.provenance.findings import Finding
from loopbook.provenance.lineage import Lineage

NO_VALUE = "no value"
FACTS = "Which facts stood behind them?"
DISAGREES = "What does not agree?"
Row = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of an explanation: a question, a sentence, a table."""

    title: str
    sentence: str = ""
    names: Row = ("", "")
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Told:
    """An explanation for people, and its record for programs.

    Attributes
    ----------
    is_well : nothing is missing and nothing was changed
    """

    title: str
    sentence: str
    sections: list[Section]
    record: dict[str, Any]
    is_well: bool


def of_answer(explained: ExplainedAnswer) -> Told:
    """An answer of the log, from the request to the environment."""
    logged = explained.logged
    said = logged["answered"] or _plain(logged["answer"])
    title = f"Answer {logged['id']}: {said}, by {logged['model']} v{logged['version']}"
    is_well = explained.verdict == IDENTICAL and not explained.findings
    return Told(title, _sentence(explained), answer(explained), explained.as_json(), is_well)


def of_version(lineage: Lineage) -> Told:
    """A version, from the gate's decision to the environment."""
    count = len(lineage.findings)
    sentence = (
        f"{counted(count, 'thing of it is', 'things of it are')} missing or changed."
        if count
        else "All of it is here, and agrees with its records."
    )
    title = f"Version {lineage.label}: {lineage.candidate}"
    return Told(title, sentence, version(lineage), lineage.as_json(), not lineage.findings)


def verdict(explained: ExplainedAnswer) -> str:
    """Whether the answer came out again, in a sentence."""
    if explained.verdict == IDENTICAL:
        return "computed again: identical, to the last bit"
    if explained.verdict == DIFFERENT:
        count = sum(finding.what == "changed" for finding in explained.findings)
        return f"computed again: different; {count} thing{'s' * (count != 1)} changed since"
    return f"it cannot be computed again: {explained.why_not}"


def _sentence(explained: ExplainedAnswer) -> str:
    text = verdict(explained).rstrip(".")
    return f"{text[0].upper()}{text[1:]}."


def answer(explained: ExplainedAnswer) -> list[Section]:
    """From the request to the environment, one section a step."""
    sections = [_findings(explained.findings), _request(explained), _features(explained)]
    if explained.facts or explained.logged["facts_us"]:
        sections.append(_facts(explained))
    sections += [_calibration(explained), _compared(explained)]
    if explained.lineage:
        sections += [one for one in version(explained.lineage) if one.title != DISAGREES]
    return [section for section in sections if section.sentence or section.rows]


def version(lineage: Lineage) -> list[Section]:
    """From the gate's decision to the environment, one section a step."""
    sections = [
        _findings(lineage.findings),
        _gate(lineage),
        _run(lineage),
        _notebooks(lineage),
        _snapshot(lineage),
        _code(lineage),
    ]
    return [section for section in sections if section.sentence or section.rows]


def _findings(findings: Sequence[Finding]) -> Section:
    rows = [(f.what, f.where, f.found, f.expected, f.remedy) for f in findings]
    return Section(DISAGREES, "", ("what", "where", "found", "expected", "what to do"), rows)


def _request(explained: ExplainedAnswer) -> Section:
    logged = explained.logged
    truths = [f"{o}, known {_at(known)}" for o, known in logged.truths]
    rows = [
        ("asked by", f"{logged['route']}, answered as {logged['role']}"),
        ("received at", _at(logged["received_us"])),
        ("as of", _at(logged["as_of_us"])),
        *([("key", logged["key"])] if logged["key"] else []),
        *([("shadow of", logged["shadow_of"])] if logged["shadow_of"] else []),
        *((name, _plain(value)) for name, value in logged.request.items()),
        *((name, ", ".join(columns)) for name, columns in logged.notes.items() if columns),
        ("observed since", "; ".join(truths) or "nothing"),
    ]
    return Section("What was asked?", "", ("", ""), rows)


def _features(explained: ExplainedAnswer) -> Section:
    rows = [
        (
            feature.name,
            NO_VALUE if feature.value is None else str(np.float32(feature.value)),
            feature.source,
            "" if feature.said is None else _plain(feature.said),
            {True: "yes", False: f"no: {_number(feature.computed)}", None: "not told"}[
                feature.agrees
            ],
        )
        for feature in explained.features
    ]
    names = ("feature", "as used", "from", "which is", "same")
    sentence = (
        "As the graph took them: float32, a category as its place in the card's list. Each was "
        "computed again; the last column says whether it is the same."
    )
    return Section("Which features were used?", sentence if rows else "", names, rows)


def _facts(explained: ExplainedAnswer) -> Section:
    facts = explained.facts
    if facts is None:
        return Section(FACTS, "They cannot be read; see above.")
    knew = explained.logged["facts_us"]
    until = (
        f"The feature store knew what was known by {_at(knew)}."
        if knew is not None
        else "The log does not say up to when the feature store knew facts; all that were known "
        "at the row's instant are taken."
    )
    if facts.is_of_store:
        many = "They are too many to be walked: the numbers are the store's own, as it stands."
        how = f"From the facts: loopbook why {explained.logged['id']} --facts"
        return Section(FACTS, f"{until} {many} {how}")
    counted = ", ".join(
        f"{count:,} {'of its entity' if scope == 'entity' else 'of all'}"
        for scope, count in facts.counts.items()
    )
    rows = [
        (
            "of its entity" if scope == "entity" else "of all",
            str(fact["entity"] or ""),
            f"{fact['event_ts']:%Y-%m-%d %H:%M}",
            f"{fact['known_ts']:%Y-%m-%d %H:%M}",
            _number(fact["value"]),
        )
        for scope, newest in facts.newest.items()
        for fact in newest
    ]
    names = ("the newest", "entity", "happened (UTC)", "known (UTC)", "value")
    sentence = f"{until} In reach were {counted}."
    return Section(FACTS, sentence, names, rows)


def _calibration(explained: ExplainedAnswer) -> Section:
    state = explained.state
    if state is None:
        told = "No calibration state moved it: the answer is the model's own, without an interval."
        if explained.logged["state_us"] is not None:
            told = "The state that moved it is not there; see above."
        return Section("How was it calibrated?", told)
    rows = [
        ("as of", f"{state.as_of:%Y-%m-%d %H:%M} UTC"),
        ("done at", f"{explained.state_written:%Y-%m-%d %H:%M} UTC"),
        ("shift", ", ".join(f"{number!r}" for number in state.shift)),
        ("truths behind it", f"{state.truths:,}"),
        ("why", state.reason),
        ("digest", state.digest),
    ]
    return Section("How was it calibrated?", "", ("", ""), rows)


def _compared(explained: ExplainedAnswer) -> Section:
    rows = [
        (part.name, _plain(part.logged), _plain(part.computed), "yes" if part.agrees else "no")
        for part in explained.parts
    ]
    names = ("", "in the log", "computed again", "the same bits")
    sentence = _sentence(explained)
    return Section("Does it come out again?", sentence, names, rows)


def _gate(lineage: Lineage) -> Section:
    gate = lineage.gate
    rows = [
        # the sentence begins with the outcome
        ("decided", gate.get("sentence") or gate.get("outcome") or "not known"),
        ("done at", _instant(gate.get("decided_at"))),
        ("as of", _instant(gate.get("as_of"))),
        *(
            (
                f"served {number}",
                f"as of {_instant(reign.as_of)}, done at {_instant(reign.at)}, "
                f"{reign.kind} by {reign.by}: {reign.reason}",
            )
            for number, reign in enumerate(lineage.reigns, 1)
        ),
        *(
            (check["name"], f"{'passed' if check['passed'] else 'FAILED'}: {check['reason']}")
            for check in gate.get("checks") or []
        ),
    ]
    return Section(
        f"Which version answered, and why did {lineage.label} serve?", "", ("", ""), rows
    )


def _run(lineage: Lineage) -> Section:
    rows = [
        ("candidate", lineage.candidate),
        ("run", lineage.run_id),
        *((f"{file} (SHA-256)", digest) for file, digest in lineage.files.items()),
        *sorted((n, value) for n, value in lineage.params.items() if n != "candidate"),
    ]
    return Section("Which run made it, with which parameters?", "", ("", ""), rows)


def _notebooks(lineage: Lineage) -> Section:
    rows = list(lineage.notebooks.items())
    return Section("Which notebooks ran?", "" if rows else "None is kept.", ("", ""), rows)


def _snapshot(lineage: Lineage) -> Section:
    data, fitted = lineage.data, lineage.fitted
    window = f"{_instant(data.window[0])} to {_instant(data.window[1])}" if data.window else "none"
    rows = [
        ("snapshot (SHA-256)", data.sha256),
        ("file", data.path or "not here"),
        ("rows", "unknown" if data.rows is None else f"{data.rows:,}"),
        ("as of", _instant(data.as_of)),
        ("events", window),
        ("fitted on", f"{fitted.get('rows', 0):,} rows, until {_instant(fitted.get('until'))}"),
    ]
    return Section("Which rows taught it?", "", ("", ""), rows)


def _code(lineage: Lineage) -> Section:
    commit, made = lineage.commit, lineage.environment
    here = "here" if commit.is_here else "not here"
    state = f"{commit.sha} ({here}{', with changes that no commit has' * commit.is_dirty})"
    rows = [
        ("commit", "none" if commit.sha == "none" else state),
        ("kept with the run", ", ".join(commit.kept) or "nothing"),
        ("contract (SHA-256)", f"{made.contract_sha256} ({_same(made.is_todays_contract)})"),
        ("lock (SHA-256)", f"{made.lock_sha256} ({_same(made.is_todays_lock)})"),
        ("Python", made.python),
    ]
    return Section("Which code, contract and environment?", "", ("", ""), rows)


def _same(is_todays: bool) -> str:
    return "today's" if is_todays else "today's is another one"


def _at(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m-%d %H:%M:%S} UTC"


def _instant(text: str | None) -> str:
    return f"{text[:16].replace('T', ' ')} UTC" if text and text != "none" else "none"


def _number(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value!r}"


def _plain(value: Any) -> str:
    if value is None:
        return NO_VALUE
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return ", ".join(map(repr, value)) if isinstance(value, list) else str(value)
