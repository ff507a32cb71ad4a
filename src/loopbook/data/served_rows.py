"""Served rows: what was asked and came true, as rows to learn from.

It decides which answered requests become rows of the table: those whose ground
truth is known, that name their key, and that keep the contract; each key once.
What was answered while inputs or ground truth were broken (a window with the
verdict `investigate`) is left out, so that no model learns from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson
import polars as pl

from loopbook.data import instants, prediction_log, rules, sources, validation, values
from loopbook.data.single_values import text_of
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
    served = _keyed_like(rows_raw, collect(project, contract, as_of), contract)
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


def _keyed_like(rows_raw: pl.DataFrame, served: Served, contract: Contract) -> Served:
    """Served rows with their keys, which are text, as the source stores them."""
    names = [n for n in contract.key if n not in (contract.event_time, contract.known_time)]
    if served.rows is None or not names:
        return served
    casts = [pl.col(name).cast(rows_raw.schema[name], strict=False) for name in names]
    rows = served.rows.with_columns(casts)
    fitting = rows.drop_nulls(names)
    why = "their key is of another type than the source's"
    return Served(fitting, served.left_out | {why: rows.height - fitting.height})


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
    rows, broken_rules = validation.checked(
        _as_rows(once, contract), contract, columns=contract.columns, kinds=rules.OF_A_ROW
    )
    kept = rows.filter(rules.kept(broken_rules, rows.height))
    left_out["they break the contract"] = rows.height - kept.height
    return Served(kept, left_out)


def _as_rows(once: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """What was asked and observed, in the contract's columns and as its types; see `values`."""
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
        return rows
    asked, known = once["as_of_ts"], once["known_ts"]
    # a request may say when it happened by another column than `as_of`
    said, _ = values.converted(rows, contract, [contract.event_time])
    happened = instants.in_utc(said[contract.event_time], contract.time_zone)
    happened = happened.zip_with(happened.is_not_null(), asked)
    times = [happened.alias(EVENT_TS), happened.alias(contract.event_time)]
    if contract.known_time:
        times.append(known.alias(contract.known_time))
    return rows.with_columns(times, pl.max_horizontal(known, happened).alias(KNOWN_TS))
