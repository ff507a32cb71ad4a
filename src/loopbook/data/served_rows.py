"""Served rows: what was asked and came true, as rows to learn from.

It decides which answered requests become rows of the table: those whose ground
truth is known, that name their key, and that keep the contract; each key once.
Rows that break it are set aside, however many they are: they stop nothing.
What was answered while inputs or ground truth were broken (a window with the
verdict `investigate`) is left out, so that no model learns from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import orjson
import polars as pl

from loopbook.data import (
    instants,
    logged_answers,
    loop_clock,
    prediction_log,
    quarantine,
    rules,
    sources,
    usable_rows,
    validation,
    values,
)
from loopbook.data.aside_rows import SERVED, Reading, Row
from loopbook.data.single_values import text_of
from loopbook.data.usable_rows import Decisions
from loopbook.project.clock import EVENT_TS, KNOWN_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.counts import counted
from loopbook.project.paths import Project
from loopbook.records import roles
from loopbook.records import windows as window_records
from loopbook.records.verdicts import INVESTIGATE

ASKED = "_asked_ts"  # when a served row was asked; a name that no contract can give
MOMENT = timedelta(microseconds=1)
NOTHING_DECIDED = Decisions()


@dataclass(frozen=True)
class Served:
    """Rows with the contract's columns and clock, and why others were left out.

    `rows` is None where nothing was served. `left_out` counts answers with
    ground truth by reason; those that a person may let in are `aside`.
    """

    rows: pl.DataFrame | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    aside: list[Row] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """What came back, for people."""
        count = 0 if self.rows is None else self.rows.height
        told = counted(count, "served row", "served rows") if count else "No served row"
        parts = [f"{told} with ground truth came back"]
        parts += [
            f"{counted(n, 'was', 'were')} left out ({why})" for why, n in self.left_out.items() if n
        ]
        return "; ".join(parts)


def known_rows(
    project: Project,
    contract: Contract,
    rows_raw: pl.DataFrame,
    as_of: datetime | None,
    *,
    now: datetime,
    is_build: bool = False,
) -> tuple[pl.DataFrame, datetime | None, Served]:
    """The grown table: the source's rows and the served ones, each key once, known at `as_of`.

    Where both have a key, the source's row is kept. See `sources.known_by`.
    Served rows that break the contract are kept in the quarantine; those of a
    build are all that there are.
    """
    served = fitting(rows_raw, collect(project, contract, as_of, now=now), contract, as_of)
    quarantine.keep(project, served.aside, reading=SERVED, now=now, is_whole=is_build)
    known, meant = sources.known_by(rows_raw, as_of, contract, now=now, served=served.rows)
    return known, meant, served


def fitting(
    rows_raw: pl.DataFrame, served: Served, contract: Contract, as_of: datetime | None
) -> Served:
    """Served rows that may stand beside those of the source: of the same types, and not later."""
    return _not_later(_keyed_like(rows_raw, served, contract), rows_raw, contract, as_of)


def collect(
    project: Project,
    contract: Contract,
    as_of: datetime | None,
    *,
    now: datetime,
    since: datetime | None = None,
) -> Served:
    """The served rows whose ground truth was known at `as_of` (None: by now).

    Without an `as_of`, answers count up to the clock of the loop: what is dated
    otherwise (see `loop_clock`) is left out and counted. With `since`, only what
    was asked for then or later is looked at.
    """
    log = prediction_log.connect_if_there(project, contract)
    if log is None:
        return Served()
    try:
        until = as_of or loop_clock.newest(log, now)
        after = until and until + MOMENT
        # an answer to come back was given before its ground truth was known
        every = (
            log.rows(until=after, known_until=as_of)
            if since is None
            else logged_answers.with_truth(log, since, after, known_until=as_of)
        )
        parts = [
            part.filter(pl.col("observed").is_not_null(), pl.col("role") != roles.SHADOW)
            for part in every
        ]
        later = log.count_from(until + MOMENT) if until and not as_of else 0
    finally:
        log.close()
    left_out = {"they are dated otherwise": later}
    parts = [part for part in parts if not part.is_empty()]
    if not parts:
        return Served(None, left_out)
    names = ("received_ts", "as_of_ts", "known_ts", "request", "key", "observed", "out_of_range")
    answers = pl.concat([p.select(names) for p in parts])
    decisions = quarantine.decisions_of(project)
    served = from_log(answers, contract, broken_spans(project), decisions=decisions, now=now)
    return replace(served, left_out=left_out | served.left_out)


def _keyed_like(rows_raw: pl.DataFrame, served: Served, contract: Contract) -> Served:
    """Served rows with their keys, which are text, as the source stores them."""
    names = [n for n in contract.key if n not in (contract.event_time, contract.known_time)]
    if served.rows is None or not names:
        return served
    casts = [pl.col(name).cast(rows_raw.schema[name], strict=False) for name in names]
    rows = served.rows.with_columns(casts)
    fitting = rows.drop_nulls(names)
    why = "their key is of another type than the source's"
    left_out = served.left_out | {why: rows.height - fitting.height}
    return replace(served, rows=fitting, left_out=left_out)


def _not_later(
    served: Served, rows_raw: pl.DataFrame, contract: Contract, as_of: datetime | None
) -> Served:
    """Without an `as_of`, no served row may say that it happened after all others did.

    The newest event is the moment that such a build means: a wrong day in one
    request would move it.
    """
    if served.rows is None or served.rows.is_empty() or as_of or contract.event_time is None:
        return served
    asked = served.rows[ASKED].max()
    newest = sources.newest_event(sources.with_clock(rows_raw, contract))
    limit = max(moment for moment in (asked, newest) if moment) + timedelta(days=1)
    kept = served.rows.filter(pl.col(EVENT_TS) <= limit)
    why = "they say that they happened after they were asked"
    left_out = served.left_out | {why: served.rows.height - kept.height}
    return replace(served, rows=kept, left_out=left_out)


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
    answers: pl.DataFrame,
    contract: Contract,
    broken: Sequence[tuple[datetime, datetime]],
    *,
    now: datetime,
    decisions: Decisions = NOTHING_DECIDED,
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
    rows_raw, as_asked, unreadable = _as_rows(once, contract)
    rows, failures = validation.checked(
        rows_raw, contract, columns=contract.columns, kinds=rules.OF_A_ROW
    )
    reading = Reading(rows, contract, SERVED, raw=as_asked)
    failures += [*unreadable, *usable_rows.clock_failures(reading, now)]
    sifted = usable_rows.sift_broken(reading, decisions, failures, share=1)
    left_out["they break the contract"] = len(sifted.aside)
    left_out["a person dropped them"] = sifted.dropped
    return Served(sifted.rows, left_out, sifted.aside)


def _as_rows(
    once: pl.DataFrame, contract: Contract
) -> tuple[pl.DataFrame, pl.DataFrame, list[rules.Failure]]:
    """What was asked and observed, in the contract's columns and with its clock.

    Then the same without the clock, and the times in it that cannot be read.
    """
    requests = [orjson.loads(request) for request in once["request"]]
    columns = {contract.target.name: once["observed"]}
    for name in contract.columns:
        if name in columns:
            continue
        alias = contract.features[name].alias if name in contract.features else None
        found = [request.get(name, request.get(alias)) for request in requests]
        texts = [v if v is None or isinstance(v, str) else text_of(v) for v in found]
        columns[name] = pl.Series(name, texts, dtype=pl.String)
    rows = pl.DataFrame(columns)
    if contract.event_time is None:
        return rows, rows, []
    asked, known = once["as_of_ts"], once["known_ts"]
    # a request may say when it happened by another column than `as_of`
    said, unreadable = values.converted(rows, contract, [contract.event_time])
    happened = instants.in_utc(said[contract.event_time], contract.time_zone)
    happened = happened.zip_with(happened.is_not_null(), asked)
    times = [happened.alias(EVENT_TS), happened.alias(contract.event_time)]
    if contract.known_time:
        times.append(known.alias(contract.known_time))
    both = pl.max_horizontal(known, happened).alias(KNOWN_TS)
    return rows.with_columns(*times, both, asked.alias(ASKED)), rows, unreadable
