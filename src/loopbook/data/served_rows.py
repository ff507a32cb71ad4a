"""Served rows: what was asked and came true, as rows to learn from.

It decides which answered requests become rows of the table: those whose ground
truth is known, that name their key, and that keep the contract; each key once.
What was answered while inputs or ground truth were broken (a window with the
verdict `investigate`) is left out, so that no model learns from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from loopbook.data import formats, prediction_log, sources, validation
from loopbook.data.landing import KINDS
from loopbook.project.clock import EVENT_TS, KNOWN_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.paths import Project
from loopbook.records import roles
from loopbook.records import windows as window_records
from loopbook.records.verdicts import INVESTIGATE


@dataclass(frozen=True)
class Served:
    """Rows with the contract's columns and clock, and why others were left out.

    `rows` is None where nothing was served. `left_out` counts answers with
    ground truth by reason.
    """

    rows: pl.DataFrame | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What came back, for people."""
        count = 0 if self.rows is None else self.rows.height
        parts = [f"{count:,} served rows with ground truth came back"]
        parts += [f"{n:,} were left out ({why})" for why, n in self.left_out.items() if n]
        return "; ".join(parts)


def known_rows(
    project: Project,
    contract: Contract,
    rows_raw: pl.DataFrame,
    as_of: datetime | None,
    *,
    now: datetime,
) -> tuple[pl.DataFrame, datetime | None, Served]:
    """The grown table: the source's rows and the served ones, each key once, known at `as_of`.

    Where both have a key, the source's row is kept. See `sources.known_by`.
    """
    served = collect(project, contract, as_of)
    known, meant = sources.known_by(rows_raw, as_of, contract, now=now, served=served.rows)
    return known, meant, served


def collect(project: Project, contract: Contract, as_of: datetime | None) -> Served:
    """The served rows whose ground truth was known at `as_of` (None: by now)."""
    log = prediction_log.connect_if_there(project, contract)
    if log is None:
        return Served()
    try:
        # an answer to come back was given before its ground truth was known
        parts = [
            part.filter(pl.col("observed").is_not_null(), pl.col("role") != roles.SHADOW)
            for part in log.rows(until=as_of, known_until=as_of)
        ]
    finally:
        log.close()
    parts = [part for part in parts if not part.is_empty()]
    if not parts:
        return Served()
    names = ("received_ts", "as_of_ts", "known_ts", "request", "key", "observed", "out_of_range")
    return from_log(pl.concat([p.select(names) for p in parts]), contract, broken_spans(project))


def digest_of(project: Project, contract: Contract) -> str:
    """A text that changes when ground truth or a broken span comes or goes."""
    log = prediction_log.connect_if_there(project, contract)
    if log is None:
        return "none"
    try:
        count, last = log.truth_count()
    finally:
        log.close()
    spans = [f"{start:%Y%m%dT%H%M%S}-{end:%Y%m%dT%H%M%S}" for start, end in broken_spans(project)]
    return " ".join([f"{count} {last}", *spans]) if count else "none"


def broken_spans(project: Project) -> list[tuple[datetime, datetime]]:
    """Stretches of time `[start, end)` in which what came in was broken.

    A window that says `investigate` was broken since the window before was
    judged; the first one since it began.
    """
    spans, last = [], None
    for record in window_records.listed(project):
        end = parse_instant(record["as_of"])
        if record["verdict"]["level"] == INVESTIGATE:
            spans.append((last or parse_instant(record["current"][0]), end))
        last = end
    return spans


def from_log(
    answers: pl.DataFrame, contract: Contract, broken: Sequence[tuple[datetime, datetime]]
) -> Served:
    """Logged answers as rows of the contract.

    Parameters
    ----------
    answers : polars.DataFrame
        As `PredictionLog.rows` gives, all with ground truth, none of a shadow.
    broken : sequence of (start, end)
        Rows asked or known in these stretches are left out.
    """
    if any(feature.sensitive != "no" for feature in contract.features.values()):
        return Served(None, {"the log does not hold their sensitive values": answers.height})
    left_out = {}
    keyed = answers.filter(pl.col("key").is_not_null())
    left_out["without a key they may be in the source already"] = answers.height - keyed.height
    inside = [
        pl.col(clock).is_between(start, end, closed="left")
        for start, end in broken
        for clock in ("as_of_ts", "known_ts")
    ]
    sound = keyed.filter(~pl.any_horizontal(inside)) if inside else keyed
    left_out["inputs were broken then"] = keyed.height - sound.height
    once = sound.sort("received_ts").unique("key", keep="last", maintain_order=True)
    left_out["asked again"] = sound.height - once.height
    if once.is_empty():
        return Served(None, left_out)
    rows = _as_rows(once, contract)
    kept = rows.filter(validation.keeps_contract(rows, contract))
    left_out["they break the contract"] = rows.height - kept.height
    return Served(kept, left_out)


def _as_rows(once: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    requests = [orjson.loads(request) for request in once["request"]]
    kinds: dict[str, Any] = {name: KINDS[f.type] for name, f in contract.features.items()}
    columns = {contract.target.name: once["observed"]}
    for name in contract.columns:
        if name in columns:
            continue
        alias = contract.features[name].alias if name in contract.features else None
        values = [request.get(name, request.get(alias)) for request in requests]
        if kinds.get(name) == pl.String or name not in kinds:
            values = [None if value is None else str(value) for value in values]
        columns[name] = pl.Series(name, values, dtype=kinds.get(name, pl.String), strict=False)
    rows = pl.DataFrame(columns)
    if contract.event_time is None:
        return rows
    happened = once["as_of_ts"]
    said = rows[contract.event_time]
    if said.null_count() == 0:
        instants = formats.as_instants(said, contract)
        named = pl.DataFrame({contract.event_time: instants})
        happened = named.select(sources.instant(named, contract.event_time, contract)).to_series()
    rows = rows.with_columns(happened.alias(EVENT_TS), once["known_ts"].alias(KNOWN_TS))
    texts = [n for n in (contract.event_time, contract.known_time) if n]
    clock = {contract.event_time: EVENT_TS, contract.known_time: KNOWN_TS}
    rows = rows.with_columns(pl.col(clock[name]).alias(name) for name in texts)
    return rows.with_columns(pl.max_horizontal(KNOWN_TS, EVENT_TS).alias(KNOWN_TS))
