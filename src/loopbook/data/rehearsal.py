"""Rehearsal: what a build will say of the table, found out by the build's own steps before it runs.

It decides what is told: how many rows there are, which are left out and why,
and whether the parts are large enough. It writes nothing and fits nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from loopbook.data import quarantine, served_rows, sources, splits, usable_rows, validation
from loopbook.data.aside_rows import Reading
from loopbook.data.places import described
from loopbook.data.rules import SHOWN
from loopbook.data.usable_rows import Sifted
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.knobs import Knobs, read_as_of
from loopbook.project.paths import Project


@dataclass(frozen=True)
class Rehearsed:
    """The table as a build would take it.

    Attributes
    ----------
    read, usable : rows of the source, and those that a build would learn from
    left_out : sentences about the others
    parts : rows by part of the split
    hints : what will not stop the build, and may surprise
    parted : the usable rows, each with its part
    with_unlabelled : the usable rows, and those without a target
    """

    source: str
    read: int
    usable: int
    as_of: datetime | None
    parts: dict[str, int]
    left_out: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    parted: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False)
    with_unlabelled: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False)

    def lines(self) -> Iterator[str]:
        """For people."""
        moment = f" as of {self.as_of:%Y-%m-%d %H:%M} UTC" if self.as_of else ""
        yield f"{self.source}: {counted(self.read, 'row')}, {self.usable:,} usable{moment}."
        yield from (f"  {sentence}" for sentence in self.left_out)
        shown = ", ".join(f"{part} {self.parts[part]:,}" for part in splits.PARTS)
        yield f"  Parts: {shown}."
        yield from (f"  Note: {hint}" for hint in self.hints)


def rehearse(project: Project, contract: Contract, knobs: Knobs, *, now: datetime) -> Rehearsed:
    """Read, validate and split the table as a build would now.

    Raises
    ------
    LoopbookError
        What the build would stop with, in the same words.
    """
    share = knobs.quarantine_share
    with quarantine.looked_at():
        reading = sources.read(contract, project.root)
        readable = quarantine.readable(project, reading, share=share, now=now)
        known, as_of, served = served_rows.known_rows(
            project, contract, readable.rows, read_as_of(knobs.as_of), now=now
        )
        checked, faults = validation.without_known_faults(known, contract)
        found = quarantine.sifted(
            project, Reading(checked, contract), share=share, name=usable_rows.TABLE, now=now
        )
    quarantine.refuse_if_broken(found, contract)
    rows = sources.newest_versions(validation.typed(found.rows, contract), contract)
    parted, _ = splits.split(
        rows,
        contract,
        validation_days=knobs.validation_days,
        test_days=knobs.test_days,
        holdout_share=knobs.holdout_share,
        least_rows=knobs.gate_min_rows,
    )
    ours = 0 if served.rows is None else served.rows.height
    later = readable.rows.height + ours - known.height
    why = "not known yet, or in both places" if ours else "not known yet"
    told = [f"{counted(later, 'row')} {why}."] if later else []
    told += [f"{counted(f['rows'], 'row')} left out: {f['reason']}" for f in faults if f["rows"]]
    told += list(_set_aside(readable, found))
    told += [f"{served.sentence}."] if ours or any(served.left_out.values()) else []
    return Rehearsed(
        source=described(contract.source),
        read=reading.rows.height,
        usable=rows.height,
        as_of=as_of,
        parts=dict(parted[splits.PART].value_counts().iter_rows()),
        left_out=told,
        hints=list(_hints(parted, contract, knobs)),
        parted=parted,
        with_unlabelled=validation.with_unlabelled(rows, known, contract),
    )


def _set_aside(*sifted: Sifted) -> Iterator[str]:
    """What a build would set aside, with the first of them, and what people decided."""
    aside = [row for found in sifted for row in found.aside]
    if aside:
        first = "; ".join(f"{row.key}: {', '.join(row.reasons)}" for row in aside[:SHOWN])
        yield f"{counted(len(aside), 'row')} would be set aside; first: {first}"
    for count, what in (
        (sum(found.released for found in sifted), "used because a person let them in"),
        (sum(found.dropped for found in sifted), "dropped by a person"),
    ):
        if count:
            yield f"{counted(count, 'row')} {what}."


def _hints(parted: pl.DataFrame, contract: Contract, knobs: Knobs) -> Iterator[str]:
    teach = parted.filter(pl.col(splits.PART) == "train").select(list(contract.features))
    counts = teach.null_count().row(0, named=True)
    empty = [name for name, count in counts.items() if count == teach.height]
    if empty:
        yield f"no row that teaches has a value of {', '.join(empty)}: no model learns from that."
    tested = parted.filter(pl.col(splits.PART) == "test").height
    yield from (f"{note}." for note in splits.class_notes(parted, contract))
    if hint := _of_two_values(parted, contract):
        yield hint
    if tested < knobs.gate_min_rows:
        yield (
            f"the gate asks for {knobs.gate_min_rows:,} rows to judge a challenger and test has "
            f"{tested:,}, so it will promote none (gate_min_rows in env.yaml)."
        )


def _of_two_values(parted: pl.DataFrame, contract: Contract) -> str | None:
    """That a number which has two values only is rather a yes or no."""
    values = parted[contract.target.name].unique().sort()
    if contract.target.classes or values.len() != 2:
        return None
    low, high = (f"{value:.10g}" for value in values)
    return (
        f"the target {contract.target.name} is {low} or {high} and nothing else: as a number it "
        f"gets one between them. For the probability of {high} say task: binary and "
        f"target.classes: [{low}, {high}]."
    )
