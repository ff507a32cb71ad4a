"""Contract faults: names in one part of a contract that another part does not bear out.

It decides what is wrong with a contract whose keys and types are right, and
says so in sentences with a remedy. It never looks at data.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

from loopbook.project.formulas import EVENT_YEAR, FUNCTIONS, called_names, formula_names, uncomputed
from loopbook.project.names import ATTRIBUTES, OF_A_KEY, OF_HISTORY, OWN, REQUESTS, plain_header
from loopbook.project.target_faults import target_faults

if TYPE_CHECKING:
    from loopbook.project.contract import Contract


def disagreements(c: "Contract") -> list[str]:
    """Names in one part of the contract that another part does not bear out."""
    faults = [*_role_faults(c), *target_faults(c), *_clock_faults(c)]
    faults += [*_alias_faults(c), *_history_faults(c)]
    faults += _reserved_faults(c)
    taken = {*c.columns, *c.trailing}
    for name in sorted(set(c.derived) & taken):
        faults.append(f"derived.{name}: a column of that name exists; choose another")
    known = {*c.numbers, *c.trailing, *c.calendar, *([EVENT_YEAR] if c.event_time else [])}
    for name, derived in c.derived.items():
        if derived.formula is None:
            continue
        wrong = _formula_faults(derived.formula, known)
        if not wrong and not formula_names(derived.formula):
            wrong = [f"{derived.formula!r} names no column, so it is the same everywhere; name one"]
        faults += [f"derived.{name}.formula: {fault}" for fault in wrong]
    unplaced = [
        f"coordinates: {name!r} is not a numeric feature with a range; name one"
        for name in (vars(c.coordinates).values() if c.coordinates else ())
        if name not in c.numbers or c.features[name].range is None
    ]
    faults += unplaced
    for name in sorted(set(() if unplaced else c.made) & {*taken, *c.derived}):
        faults.append(
            f"{name}: is what loopbook adds for target.per or coordinates; choose another name"
        )
    for name, edges in c.slices.items():
        faults += _slice_faults(name, edges, c)
    for fault in c.known_faults:
        for name in sorted(set(fault.where) - set(c.key)):
            faults.append(f"known_faults: {name!r} is not in key {c.key}; use key columns")
    return faults + _header_faults(c)


def _header_faults(c: "Contract") -> list[str]:
    """Headers that lead to no column, or to two."""
    faults = []
    described = {n for n, f in c.features.items() if f.column}
    described |= {c.target.name} if c.target.column else set()
    for name in c.headers:
        if name not in c.columns:
            faults.append(f"headers.{name}: no column of that name; it names {_some(c.columns)}")
        elif name in described:
            faults.append(f"headers.{name}: has a column of its own below; remove one of the two")
    owners: dict[str, list[str]] = {}
    called = [*c.header_of.items(), *((name, alias) for alias, name in c.aliases.items())]
    for name, text in dict.fromkeys([(name, name) for name in c.columns] + called):
        owners.setdefault(plain_header(text), []).append(name)
    for text, names in owners.items():
        if len(set(names)) > 1:
            faults.append(
                f"column {text!r}: means {_some(dict.fromkeys(names))} alike; "
                "let a name, an alias or a header lead to one column only"
            )
    taken = {plain_header(text) for text in (*c.header_of, *c.header_of.values(), *c.aliases)}
    for header in c.ignored_headers:
        if plain_header(header) in taken:
            faults.append(
                f"ignored: {header!r} is in use elsewhere in the contract; remove it here"
            )
    return faults


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")


def _reserved_faults(c: "Contract") -> list[str]:
    """Names that mean something else at a place that a column of theirs gets to.

    What the file calls the column may stay: `column` and `headers` say it.
    """
    ours = "is a column of loopbook's own"
    answer, scored = c.target.answer_column, "is added to a file that is scored"
    likely = {*c.target.probability_columns.values()}
    likely |= {*c.target.interval_columns, *c.target.set_columns}
    columns = {*c.features, *c.trailing, *c.derived, c.target.name}
    clock = {n for n in (c.event_time, c.known_time) if n}
    keys = {*c.key, *clock} - columns
    taken = dict.fromkeys(columns & {*OWN, answer}, ours)
    taken |= dict.fromkeys(keys & ({*OWN, answer} - OF_A_KEY), ours)
    taken |= dict.fromkeys(set(c.trailing) & OF_HISTORY, ours)
    aliases = {*c.aliases, *c.header_of.values()} - {*columns, *keys}
    taken |= dict.fromkeys(aliases & {"model_version", answer, *likely}, scored)
    taken |= dict.fromkeys({*columns, *keys} & likely, scored)
    asked = {*c.features, *c.key, *c.aliases}
    taken |= dict.fromkeys(asked & REQUESTS, "has a meaning in requests")
    taken |= dict.fromkeys({*c.features, *c.key} & ATTRIBUTES, "has a meaning in the service")
    kept = "; choose another (column or headers can say that the file calls it so)"
    return [
        f"features: {name!r} {why}{kept if name in c.columns else '; choose another'}"
        for name, why in sorted(taken.items())
    ]


def _role_faults(c: "Contract") -> list[str]:
    """What the target, the clock, the entity and the key do not bear out."""
    faults = []
    for part, name in (("target.name", c.target.name), ("event_time", c.event_time)):
        if name in c.features:
            faults.append(f"{part}: {name!r} is a feature too; take it out of features")
    if c.target.name in {*c.key, c.event_time}:
        faults.append(
            f"target.name: {c.target.name!r} is in key or event_time too; take it out there"
        )
    if c.entity and c.entity not in c.categories:
        faults.append(f"entity: {c.entity!r} is not a feature of type category; describe it as one")
    if c.target.per and c.target.per not in c.numbers:
        faults.append(f"target.per: {c.target.per!r} is not a numeric feature; name one")
    if len(set(c.key)) < len(c.key):
        faults.append(f"key: {c.key} names a column twice; name each once")
    for name in c.leaks:
        if name not in c.features:
            faults.append(
                f"leaks.{name}: no feature of that name, so no model sees it; name one, or remove it"
            )
    return faults + _group_faults(c)


def _group_faults(c: "Contract") -> list[str]:
    """A group that no row shows, or that parts nothing."""
    if c.group and c.event_time:
        return ["group: with an event_time the newest rows judge; remove one of the two"]
    if c.group and c.group not in {*c.features, *c.key}:
        return [f"group: {c.group!r} is neither a feature nor in key; name one of them"]
    return []


def _clock_faults(c: "Contract") -> list[str]:
    """What the times do not bear out."""
    faults = []
    if c.label_delay_days and not c.event_time:
        faults.append("label_delay_days: needs event_time; name it, or remove the delay")
    if c.known_time and not c.event_time:
        faults.append("known_time: needs event_time; name it, or remove known_time")
    if c.known_time and c.label_delay_days:
        faults.append("known_time: says itself when a row was known; remove label_delay_days")
    if c.known_time and c.known_time in {*c.features, *c.key, c.event_time, c.target.name}:
        faults.append(f"known_time: {c.known_time!r} is in use elsewhere; name another column")
    for name in c.calendar:
        if not c.event_time:
            faults.append(f"derived.{name}.calendar: needs event_time; name it, or remove {name}")
    if c.time_zone and c.time_zone not in available_timezones():
        faults.append(f"time_zone: found {c.time_zone!r}, expected a name such as Europe/Paris")
    return faults


def _history_faults(c: "Contract") -> list[str]:
    """What the trailing features need and do not find."""
    faults = []
    if c.history is None:
        return faults
    if c.event_time is None:
        faults.append("history: needs event_time; name it, or remove history")
    for name in sorted(set(c.trailing) & set(c.columns)):
        faults.append(f"history.features.{name}: a column of that name exists; choose another")
    if c.entity is None and any(t.over == "entity" for t in c.trailing.values()):
        faults.append("history: needs entity; name it, or say over: all")
    return [*faults, *_fact_faults(c)]


def _fact_faults(c: "Contract") -> Iterator[str]:
    """Aggregates and classes that the facts do not have."""
    classes, value = c.target.classes, c.history.value
    suited = ("count", "rate") if classes else ("count", "mean", "median", "min", "max")
    for name, about in c.trailing.items():
        where = f"history.features.{name}"
        if about.aggregate == "rate" and not classes:
            yield (
                f"{where}: rate is the share of a class; for a share of numbers let history.value "
                "be a comparison and use aggregate: mean"
            )
        elif about.aggregate not in suited:
            yield f"{where}: {about.aggregate} is not for task {c.task}; use {_some(suited)}"
        elif about.of is not None and about.aggregate != "rate":
            yield f"{where}.of: is for aggregate: rate; remove it"
        elif about.of is not None and about.of not in classes:
            yield f"{where}.of: {about.of!r} is not one of target.classes; name one of them"
        elif about.aggregate == "rate" and about.of is None and len(classes) != 2:
            yield f"{where}: a rate is of one class; add of: with one of target.classes"
    if classes and value:
        yield "history.value: the facts are classes and have no number; remove it"
    elif value:
        known = {*c.numbers, c.target.name}
        yield from (f"history.value: {fault}" for fault in _formula_faults(value, known))


def _alias_faults(c: "Contract") -> list[str]:
    taken = {*c.features, *c.derived, *c.trailing, *c.key, c.target.name}
    aliases = [f.alias for f in c.features.values() if f.alias]
    twice = dict.fromkeys(a for a in aliases if a in taken or aliases.count(a) > 1)
    return [f"alias {a!r}: used twice, or a column's name; choose another" for a in twice]


def _formula_faults(formula: str, known: set[str]) -> list[str]:
    unknown = sorted(called_names(formula) - known)
    try:
        unknown = unknown or sorted(formula_names(formula) - known)
    except SyntaxError as reason:
        return [f"{formula!r} is no formula ({reason.msg}); correct it"]
    if not unknown and (why := uncomputed(formula)):
        return [f"{formula!r} cannot be computed ({why}); correct it"]
    return [
        f"{name!r} is neither a number that is known here nor one of the functions "
        f"{', '.join(sorted(FUNCTIONS))}"
        for name in unknown
    ]


def _slice_faults(name: str, edges: list[float] | None, c: "Contract") -> list[str]:
    if name not in c.features:
        return [f"slices.{name}: not a feature; name one"]
    if edges is None and c.features[name].type in ("integer", "number"):
        return [f"slices.{name}: a number needs edges, such as [10, 20]; add them"]
    if edges is not None and c.features[name].type in ("boolean", "category"):
        return [f"slices.{name}: a {c.features[name].type} has no edges; leave them empty"]
    if edges is not None and (not edges or sorted(set(edges)) != edges):
        return [f"slices.{name}: found {edges}, expected ascending edges"]
    return []
