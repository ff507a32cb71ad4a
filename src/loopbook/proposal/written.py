"""Written: a proposal as the text of a contract.yaml, with comments that say what to check.

It decides the order and the words. What was guessed is marked so, and what was
seen stands beside what is asked of every row.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from loopbook.project.counts import counted
from loopbook.proposal import wording
from loopbook.proposal.columns import GUESS, LIKELY, Column
from loopbook.proposal.proposals import Proposal
from loopbook.proposal.sources import is_queried

MOST_LISTED = 12  # categories that the contract lists
LEAST_OF_EACH = 5
HEAD = """\
# Proposed by `loopbook init` from what the table holds. Lines with GUESSED say what nobody
# told and no value proves; lines with CHECK want your eye. docs/contract.md explains each key.
"""
MEANINGS = {
    "hour_of_day": "Hour of the day.",
    "day_of_week": "Day of the week, from 1 (Monday) to 7 (Sunday).",
    "month_of_year": "Month of the year.",
}


def contract_text(proposal: Proposal, name: str) -> str:
    """A proposal as YAML."""
    return "\n".join([HEAD, *_lines(proposal, name)]) + "\n"


def _lines(p: Proposal, name: str) -> Iterator[str]:
    yield f"name: {_scalar(name)}"
    yield from _told(
        "meaning",
        f"One row of {p.table.opened.told.rstrip('/').rsplit('/', 1)[-1]}.",
        "CHECK: what is a row?",
    )
    yield f"task: {p.aim.task}{_comment(p.aim.why)}"
    yield ""
    yield from _mapping("source", p.source)
    yield ""
    if p.null_values:
        yield f"null_values: {_scalar(p.null_values)}"
    if p.target.missing:
        rows = counted(p.target.values.null_count(), "row has", "rows have")
        yield f"unlabelled: drop{_comment(f'{rows} no {p.target.header}; they teach nothing')}"
    yield from _headers(p)
    yield f"key: {_scalar(list(p.key.names))}{_marked(p, 'key')}"
    yield from _clock(p)
    yield ""
    yield from _target(p)
    yield ""
    yield "# Columns that are known when a prediction is asked for, and no others."
    yield "# CHECK: is each known then, and not only afterwards?"
    yield "features:"
    for feature in p.roles.features:
        yield from _feature(p, feature)
    places = p.coordinates
    if places:
        yield ""
        yield "# The place of a row: adds distances along eleven more directions."
        yield f"coordinates: {_scalar(places)}"
    if p.roles.derived:
        yield ""
        yield "# Read off the event time; a request reads it off its as_of."
        yield "derived:"
        for derived, part in p.roles.derived.items():
            meaning = MEANINGS.get(derived, f"The {part} of the event time.")
            yield f"  {derived}: {_scalar({'calendar': part, 'meaning': meaning})}"
    yield from _ignored(p)
    if p.notes:
        yield ""
        yield "# CHECK:"
        yield from (f"# - {_plain(note)}" for note in p.notes)


def _ignored(p: Proposal) -> Iterator[str]:
    ignored = p.roles.ignored
    if is_queried(p.source):  # which leaves out what has no header
        ignored = {header: reason for header, reason in ignored.items() if header}
    if ignored:
        yield ""
        yield "ignored:"
        for header, reason in ignored.items():
            yield f"  - {_scalar(header)}{_comment(reason)}"


def _headers(p: Proposal) -> Iterator[str]:
    """What the file calls columns that are neither features nor the target."""
    kept = {f.header for f in p.roles.features} | {p.target.header}
    own = [p.table.columns[h] for h in p.key.headers if h not in kept]
    if (
        p.clock
        and len(p.clock.headers) == 1
        and p.clock.name == p.table.columns[p.clock.headers[0]].name
    ):
        # a query names it as the contract does
        own += [] if p.clock.sql else [p.table.columns[p.clock.headers[0]]]
    told = {c.name: c.header for c in own if c.name != c.header and c.header not in p.key.names}
    if told:
        yield f"headers: {_scalar(told)}"


def _clock(p: Proposal) -> Iterator[str]:
    if p.clock is None:
        return
    yield f"event_time: {p.clock.name}{_marked(p, 'event_time', f'; {p.clock.told}')}"
    if p.clock.needs_zone:
        why = "GUESSED: the times name no zone; whose clocks showed them? Such as Europe/Paris"
        yield f"time_zone: UTC{_comment(why)}"
    delay = _scalar(int(p.delay_days) if float(p.delay_days).is_integer() else p.delay_days)
    asked = "; from the event until its target is known"
    yield f"label_delay_days: {delay}{_marked(p, 'label_delay_days', asked)}"
    if p.entity is not None:
        yield f"entity: {p.entity.name}{_marked(p, 'entity')}"


def _target(p: Proposal) -> Iterator[str]:
    target = p.target
    yield f"target:{_marked(p, 'target')}"
    yield f"  name: {target.name}"
    if target.name != target.header:
        yield f"  column: {_scalar(target.header)}"
    if p.aim.task == "regression":
        unit = wording.unit_of(target.header, target.form.unit)
        if unit:
            yield f"  unit: {_scalar(unit)}"
        yield from _range(p, target, "  ", "; outside it a row is set aside")
    for key, value in p.aim.keys.items():
        note = ""
        if key == "positive":
            note = _comment("CHECK: the class that is the yes")
        yield f"  {key}: {_scalar(value)}{note}"
    if p.aim.task == "binary":
        if p.wishes.costs:
            costs = dict(zip(("false_positive", "false_negative"), p.wishes.costs, strict=True))
            yield f"  costs: {_scalar(costs)}"
        else:
            yield "  # costs: {false_positive: 1, false_negative: 1}  # CHECK: what a wrong answer costs"
    meaning = f"Whether {p.made.told}." if p.made else wording.meaning_of(target.header)
    yield f"  meaning: {_scalar(meaning)}"


def _feature(p: Proposal, column: Column) -> Iterator[str]:
    doubt = column.why if column.sure in (LIKELY, GUESS) else ""
    yield f"  {column.name}:{_comment(f'CHECK: {doubt}' if doubt else '')}"
    if column.name != column.header:
        yield f"    column: {_scalar(column.header)}"
    yield f"    type: {column.kind}"
    if column.is_number:
        unit = wording.unit_of(column.header, column.form.unit)
        if unit:
            yield f"    unit: {_scalar(unit)}"
        yield from _range(p, column, "    ")
    listed = listed_categories(column)
    if listed:
        yield f"    categories: {_scalar(listed)}"
    if column.header in p.roles.calendar:
        yield "    calendar: true"
    missing = f"{100 * column.missing:.1f} % missing" if column.missing else ""
    yield f"    example: {_scalar(example_of(column, p))}{_comment(missing)}"
    yield f"    meaning: {_scalar(wording.meaning_of(column.header))}"


def _range(p: Proposal, column: Column, indent: str, more: str = "") -> Iterator[str]:
    believable = p.ranges.get(column.header)
    if believable is not None:
        ends = [_number(believable.low), _number(believable.high)]
        yield f"{indent}range: {_scalar(ends)}{_comment(believable.told + more)}"


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() and abs(value) < 1e15 else value


def example_of(column: Column, p: Proposal) -> bool | int | float | str:
    """A usual value: the middle of numbers, the commonest of others."""
    values = column.values.drop_nulls()
    if column.kind == "integer":
        return int(values.quantile(0.5, interpolation="nearest"))
    if column.kind == "number":
        believable = p.ranges.get(column.header)
        middle = float(f"{values.median():.6g}")
        if believable is not None and not believable.low <= middle <= believable.high:
            middle = values.quantile(0.5, interpolation="nearest")
        return middle
    value = values.value_counts(sort=True)[values.name][0]
    return bool(value) if column.kind == "boolean" else str(value)


def listed_categories(column: Column) -> list[str] | None:
    """A category's values, where they are few and each is there often; else what occurs is taken."""
    if column.kind != "category" or column.distinct > MOST_LISTED or column.sure == LIKELY:
        return None
    counts = column.values.drop_nulls().value_counts()
    if counts["count"].min() < LEAST_OF_EACH:
        return None
    return sorted(counts[counts.columns[0]].to_list())


def _marked(p: Proposal, key: str, more: str = "") -> str:
    why = p.guesses.get(key)
    return _comment(f"GUESSED: {why}{more}" if why else more.removeprefix("; "))


def _told(key: str, value: Any, comment: str) -> Iterator[str]:
    yield f"{key}: {_scalar(value)}{_comment(comment)}"


def _comment(text: str) -> str:
    return f"  # {_plain(text)}" if text else ""


def _plain(text: str) -> str:
    """A text on one line, without signs that no comment can hold."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _mapping(key: str, content: dict[str, Any], indent: str = "") -> Iterator[str]:
    yield f"{indent}{key}:"
    for name, value in content.items():
        if name == "query" and "\n" in value:
            yield f"{indent}  query: |"
            yield from (f"{indent}    {line}" for line in value.splitlines())
        elif isinstance(value, dict) and name in ("parts", "source"):
            yield from _mapping(name, value, f"{indent}  ")
        else:
            yield f"{indent}  {name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False
    )
    return text.removesuffix("\n...\n").rstrip("\n")
