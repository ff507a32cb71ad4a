"""Change points: the steps of a timeline as the store keeps them, computed in parts.

It decides which parts of the facts can be computed apart, here or on workers,
and how values are packed. Every part gives the same bits wherever it is
computed, because no entity is divided.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from loopbook.features import history
from loopbook.features.backends import Point
from loopbook.features.history import ENTITY, VALID_FROM
from loopbook.project import waits
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract

EVERYONE = ""  # the key of what is over all: no entity has an empty name
GROUPS = 16  # of entities, which workers compute side by side


@dataclass(frozen=True)
class Span:
    """Change points after `since` (None: the one that holds at `as_of`, and on) up to `until`."""

    since: datetime | None
    as_of: datetime
    until: datetime


Part = tuple[Contract, str, pl.DataFrame, Span]  # of a scope, some facts
# From a function and what it is called with to the place of each call and what it gives.
Spread = Callable[[Callable, list[Part]], Iterator[tuple[int, list[Point]]]]


def code(names: list[str]) -> struct.Struct:
    """How the values of so many features are packed."""
    return struct.Struct(f"<{len(names)}d")


def parts(
    contract: Contract,
    known_facts: pl.DataFrame,
    changed: list[str] | None,
    span: Span,
    *,
    is_whole: bool,
) -> Iterator[Part]:
    """The facts in parts, each scope whole or the entities in `GROUPS` groups.

    Parameters
    ----------
    changed : list of str or None
        The entities to compute; None: all of them.
    """
    if span.since is not None:
        horizon = span.since - history.reach(contract)
        known_facts = known_facts.filter(pl.col(EVENT_TS) >= horizon)
    if history.names_over(contract, "all"):  # first: nobody else can help with it
        yield contract, "all", known_facts, span
    if not history.names_over(contract, "entity"):
        return
    if changed is not None:
        known_facts = known_facts.filter(pl.col(ENTITY).is_in(changed))
    if is_whole:
        yield contract, "entity", known_facts, span
        return
    entities = known_facts[ENTITY].drop_nulls().unique().sort()
    for first in range(min(GROUPS, len(entities))):
        some = entities.gather_every(GROUPS, first)
        yield contract, "entity", known_facts.filter(pl.col(ENTITY).is_in(some.implode())), span


def of_parts(some: Iterator[Part], spread: Spread | None) -> list[Point]:
    """The change points of every part: here, or as `workers.results` has them computed."""
    every = list(some)
    if spread is None:
        return [point for part in every for point in of_part(*part)]
    done = {}
    waits.expect(len(every), "groups of entities")
    for place, points in spread(of_part, every):
        done[place] = points
        waits.advance()
    return [point for place in range(len(every)) for point in done[place]]


def of_part(contract: Contract, scope: str, facts: pl.DataFrame, span: Span) -> list[Point]:
    """The change points of some facts."""
    names = history.names_over(contract, scope)
    steps = history.timeline(facts, contract, scope, since=span.since, until=span.until)
    key = pl.col(ENTITY) if scope == "entity" else pl.lit(EVERYONE)
    steps = steps.with_columns(key.alias(ENTITY))
    if span.since is None:
        at = span.as_of
        newest = pl.col(VALID_FROM).filter(pl.col(VALID_FROM) <= at).max().over(ENTITY)
        steps = steps.filter((pl.col(VALID_FROM) >= newest) | newest.is_null())
    packed = code(names)
    micros = steps[VALID_FROM].dt.epoch("us").to_list()
    values = steps.select(names).fill_null(float("nan")).rows()
    return [
        (entity, instant, packed.pack(*row))
        for entity, instant, row in zip(steps[ENTITY], micros, values, strict=True)
    ]
