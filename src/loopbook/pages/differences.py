"""Differences page: two versions beside each other, in words and tables.

It decides the sections, their order and the form of each value: one content for
the terminal, for a pull request and for the page. Pure: nothing is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopbook.models.measures import Measure
from loopbook.pages import metrics
from loopbook.pages.formats import Amount, asked, changed, number
from loopbook.pages.rendering import render
from loopbook.project.counts import counted
from loopbook.provenance.answer_changes import AnswerChanges, ChangedAnswer
from loopbook.provenance.code_changes import CodeChange
from loopbook.provenance.differences import CAME_OUT, MADE_OF, Differences, Side
from loopbook.provenance.field_changes import FieldChange, written
from loopbook.provenance.row_changes import RowChanges

MOST_ROWS = 30  # of one table
LONGEST = 160  # of one value
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """Rows under names; `more` are rows that are not shown."""

    names: tuple[str, ...]
    rows: list[Row]
    more: int = 0


@dataclass(frozen=True)
class Lines:
    """Lines of code that differ, under what they are of."""

    title: str
    lines: list[str]


@dataclass(frozen=True)
class Section:
    """What is said of one part of two versions."""

    title: str
    sentence: str
    tables: list[Table] = field(default_factory=list)
    code: list[Lines] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def page(found: Differences) -> str:
    """The HTML of two versions beside each other."""
    told = {"title": title(found), "sections": sections(found)}
    return render("differences", is_identical=found.is_identical, **told)


def title(found: Differences) -> str:
    return f"{found.before.label} and {found.after.label}"


def sections(found: Differences) -> list[Section]:
    """Everything that is said, what the versions were made of first."""
    told = [_overview(found), *_made_of(found), *_came_out(found)]
    if found.findings:
        told.append(_findings(found))
    return told


def _overview(found: Differences) -> Section:
    sides = (found.before, found.after)
    one, other = (_about(side) for side in sides)
    rows = [(name, one[name], other[name]) for name in one]
    if found.before.processor != found.after.processor:
        rows.append(("processor", found.before.processor, found.after.processor))
    states = [(part, found.states[part]) for part in (*MADE_OF, *CAME_OUT)]
    tables = [
        Table(("", *(side.label for side in sides)), rows),
        Table(("part", "state"), states),
    ]
    return Section("Both versions", found.sentence, tables)


def _about(side: Side) -> dict[str, Any]:
    commit = side.commit[:12] + (", and changes that it does not have" if side.is_dirty else "")
    return {
        "candidate": side.candidate,
        "data as of": side.as_of[:16].replace("T", " ") + " UTC" if side.as_of else "no time",
        "rows fitted on": f"{side.rows:,}",
        "snapshot": side.snapshot_sha256[:12],
        "contract": side.contract_sha256[:12],
        "commit": commit,
        "graph": side.onnx_sha256[:12],
    }


def _made_of(found: Differences) -> Iterator[Section]:
    state = found.states
    if state["rows"] != "same":
        yield _rows(found.rows)
    for part, words in (("cells", "cells of notebooks"), ("modules", "modules")):
        changes: list[CodeChange] = getattr(found, part)
        if changes:
            yield _code(words, changes)
    for part in ("pipeline", "contract", "knobs", "lock"):
        fields: list[FieldChange] = getattr(found, part)
        if fields:
            yield _fields(part, fields)
        elif state[part] == "differs":
            yield Section(part.capitalize(), "Their digests differ, and what differs was not kept.")


def _rows(rows: RowChanges | None) -> Section:
    if rows is None:
        said = "The snapshots are not the same, and not both of them are here."
        return Section("Rows", said)
    said = (
        f"{counted(rows.before, 'row')} and {rows.after:,}: {rows.added:,} added, {rows.removed:,} removed, "
        f"{rows.corrected:,} corrected."
    )
    notes = [
        f"{words}: {', '.join(names)}"
        for words, names in (
            ("columns that are new", rows.added_columns),
            ("columns that are gone", rows.removed_columns),
        )
        if names
    ]
    if rows.are_none:
        notes.append("The same rows with the same values, in another order or another form.")
    tables = []
    if rows.columns:
        counts = [(name, Amount(f"{count:,}")) for name, count in rows.columns.items()]
        tables.append(_table(("column", "rows corrected"), counts))
    shown = [("added", _key(key), "", "", "") for key in rows.added_keys]
    shown += [("removed", _key(key), "", "", "") for key in rows.removed_keys]
    shown += [
        ("corrected", _key(c.key), c.column, *_apart(c.before, c.after)) for c in rows.corrections
    ]
    if shown:
        tables.append(_table(("", "key", "column", "before", "after"), shown))
    return Section("Rows", said, tables, notes=notes)


def _apart(before: Any, after: Any) -> tuple[str, str]:
    """A value of a row before and after; numbers in as few digits, from six on, as tell them apart."""
    for digits in range(6, 18):
        one, other = (
            number(value, digits).replace(",", "") if isinstance(value, float) else _short(value)
            for value in (before, after)
        )
        if one != other:
            break
    return one, other


def _key(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _code(words: str, changes: Sequence[CodeChange]) -> Section:
    mattering = sum(change.can_matter for change in changes)
    said = f"{len(changes):,} {words} differ{'s' if len(changes) == 1 else ''}"
    said += "." if mattering == len(changes) else f", {mattering:,} in more than words or layout."
    if len(changes) == 1:
        said = said.replace("cells of notebooks", "cell of a notebook").replace("modules", "module")
    rows = [
        (
            change.file,
            change.part,
            change.kind,
            "yes" if change.can_matter else "no: words or layout",
        )
        for change in changes
    ]
    code = [Lines(f"{c.file}: {c.part}", c.lines) for c in changes if c.lines]
    title = "Notebooks" if "cells" in words else "Modules"
    return Section(title, said, [_table(("file", "part", "", "can change a result"), rows)], code)


def _fields(part: str, changes: Sequence[FieldChange]) -> Section:
    rows = [(c.path, c.kind, _short(c.before), _short(c.after)) for c in changes]
    what = {"lock": "packages", "knobs": "knobs"}.get(part, "fields")
    said = f"{len(changes):,} {what if len(changes) > 1 else what.removesuffix('s')} differ"
    said += "." if len(changes) > 1 else "s."
    first = {"lock": "package", "knobs": "knob"}.get(part, "field")
    return Section(part.capitalize(), said, [_table((first, "", "before", "after"), rows)])


def _came_out(found: Differences) -> Iterator[Section]:
    if found.candidate:
        yield _fields("candidate", found.candidate)
    if found.distributions:
        rows = [
            (c.column, Amount(f"{c.distance:.3g}"), Amount(f"{c.threshold:.3g}"))
            for c in found.distributions
        ]
        said = "In the rows that each learned from, these columns moved by more than chance."
        yield Section("Distributions", said, [_table(("column", "distance", "threshold"), rows)])
    if found.answers is not None:
        yield from _answers(found, found.answers)


def _answers(found: Differences, told: AnswerChanges) -> Iterator[Section]:
    if told.obstacle is not None:
        said = f"They cannot be compared: {told.obstacle}."
        yield Section("Answers", said, notes=told.notes)
        return
    measure, bias = Measure(**told.measure), Measure(**told.bias_measure)
    of_metrics = (told.metric, (measure, bias), told.unit)
    sides = [dict(metrics.rows(m, *of_metrics)) for m in told.errors.values()]
    rows = [(name, *(side.get(name) for side in sides)) for name in sides[0]]
    slices = [
        (name, *(changed(value, measure) for value in (i.mean, i.low, i.high)), i.n)
        for name, i in told.loss.items()
    ]
    said = (
        f"Both answered the {told.rows:,} rows of {told.of} that neither was fitted on, without "
        f"calibration. Below, the {measure.title} of {found.after.label} minus that of "
        f"{found.before.label}, on the same rows: below 0 {found.after.label} is better."
    )
    tables = [
        _table(("metric", *told.errors), rows),
        _table(("rows", "mean", "from", "to", "n"), slices),
    ]
    yield Section("Metrics", said, tables, notes=told.notes)
    said = (
        f"{told.changed:,} of {told.rows:,} answers changed, by up to {number(told.largest)} "
        f"{told.apart_words}."
        if told.changed
        else f"No answer changed, of {told.rows:,}."
    )
    yield Section("Answers", said, [_most(found, told.most)] if told.most else [])


def _most(found: Differences, most: Sequence[ChangedAnswer]) -> Table:
    """The answers that changed most, each with the inputs of its row."""
    names = ("as of", found.before.label, found.after.label, "observed", "inputs")
    rows = [
        (
            one.at[:16].replace("T", " ") if one.at else "",
            *(_answer(value) for value in (one.before, one.after)),
            asked(one.observed),
            _short(", ".join(f"{n} {asked(v)}" for n, v in one.inputs.items() if v is not None)),
        )
        for one in most
    ]
    return Table(names, rows)


def _answer(value: Any) -> Any:
    if isinstance(value, Mapping):
        return f"{value['class']} ({value['probability']:.1%})".replace("%", " %")
    return asked(value)


def _findings(found: Differences) -> Section:
    rows = [(f.what, f.where, f.found, f.expected, f.remedy) for f in found.findings]
    said = "Nothing stands in for what is missing here."
    return Section(
        "What is missing", said, [_table(("", "where", "found", "expected", "what to do"), rows)]
    )


def _table(names: tuple[str, ...], rows: list[Row]) -> Table:
    return Table(names, rows[:MOST_ROWS], max(0, len(rows) - MOST_ROWS))


def _short(value: Any) -> str:
    text = "" if value is None else written(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
