"""Windows: what was answered in a stretch of time, with the ground truth known by then.

It decides which answers are looked at, how they become columns again, and
what is said where there is nothing to look at. It reads the log in bounded pieces.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl

from loopbook.data import aside_truths, logged_answers, loop_clock, prediction_log, quarantine
from loopbook.data.single_values import reader
from loopbook.features import history
from loopbook.features.materialize import known_facts
from loopbook.models.task import task_of
from loopbook.monitoring.findings import IS_CURRENT, IS_JUDGED
from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.contract import Contract
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project, tracking_address
from loopbook.records import roles
from loopbook.registry import reader as registry_reader
from loopbook.registry import reference
from loopbook.registry.reference import column_types, thaw
from loopbook.registry.servable import load
from loopbook.registry.state_store import StateStore
from loopbook.registry.used_inputs import unused

SKEW_ROWS = 1_000
SKEW_TOLERANCE = 1e-4
LOGGED = {
    "id": pl.String,
    "as_of_ts": pl.Datetime("us", "UTC"),
    "version": pl.String,
    "role": pl.String,
    "known_ts": pl.Datetime("us", "UTC"),
    "low": pl.Float64,
    "high": pl.Float64,
    "least": pl.Float64,
}  # what an answer has under any contract, beside itself and its ground truth


@dataclass(frozen=True)
class Span:
    """The stretches of time of one monitoring run, each `[start, end)` in UTC.

    Inputs are judged on the newest answers; errors on those whose ground truth
    should be known, `label_delay_days` earlier.
    """

    as_of: datetime
    days: float
    delay_days: float

    @property
    def current(self) -> tuple[datetime, datetime]:
        return _before(self.as_of, self.days), self.as_of

    @property
    def due(self) -> tuple[datetime, datetime]:
        end = _before(self.as_of, self.delay_days)
        return _before(end, self.days), end

    @property
    def whole(self) -> tuple[datetime, datetime]:
        return self.due[0], self.as_of

    def as_dict(self) -> dict[str, Any]:
        """The stretches as a record has them."""
        return {
            "as_of": self.as_of.isoformat(),
            "current": [moment.isoformat() for moment in self.current],
            "due": [moment.isoformat() for moment in self.due],
            "label_delay_days": self.delay_days,
        }


def _before(moment: datetime, days: float) -> datetime:
    """Some days earlier, or the beginning of the calendar."""
    try:
        return moment - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """Which window is asked for. `as_of` None: just after the newest answer by the loop's clock."""

    as_of: datetime | None
    now: datetime
    window_days: float


def collect(
    project: Project, contract: Contract, asked: Asked, *, most_rows: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """The window's answers, the champion's reference, and the facts about both.

    Parameters
    ----------
    most_rows : int
        Of more answers a sample is taken, stratified by time.

    Returns
    -------
    rows, reference : polars.DataFrame
        See `as_columns` and `reference.freeze`; empty where there is nothing.
    facts : dict
        The spans, the champion, counts, and `wanting`: a sentence for each
        thing that is not there, with the command that brings it; `otherwise`:
        how many requests are dated after the window's end and move it not;
        `set_aside`: how many rows wait in the quarantine; `calibration`: the
        champion's state as of the window's end, or None.
    """
    log = prediction_log.connect(project, contract)
    try:
        newest = loop_clock.newest(log, asked.now)
        is_log_empty = newest is None and not log.count()
        as_of = asked.as_of or (newest + timedelta(microseconds=1) if newest else asked.now)
        span = Span(as_of, asked.window_days, contract.label_delay_days)
        states = StateStore(log.database)
        answers, count = log.sample(
            *span.whole, most_rows=most_rows, seed=seed, known_until=span.as_of
        )
        # as of a day in the past, what came later is dated well; what has not come is not
        otherwise = log.count_from(as_of if asked.as_of is None else max(as_of, asked.now))
        wanting, champion, frozen = _champion(project, contract)
        state = states.at(contract.name, champion.get("version", ""), span.as_of)
        state = state and state.aged((span.as_of - state.as_of).days)
        if answers is not None and (answers["role"] == roles.SHADOW).any():
            count -= logged_answers.count_of(log, roles.SHADOW, *span.whole)  # are no requests
    finally:
        log.close()
    if answers is not None:
        released = quarantine.decisions_of(project).released
        answers = aside_truths.without(answers, contract, released)
    rows = as_columns(answers, contract, champion.get("version"), span)
    wanting += _missing_requests(rows, span, is_log_empty=is_log_empty)
    facts = {"logged": count, "looked_at": rows.height, "champion": champion, "wanting": wanting}
    facts |= {"calibration": state and state.as_json()}
    facts |= {"otherwise": otherwise, "set_aside": quarantine.waiting_count(project)}
    return rows, frozen, span.as_dict() | facts


def asides(facts: Mapping[str, Any]) -> list[str]:
    """What is in no window and no model, as sentences; nothing where nothing is."""
    told = []
    if count := facts.get("otherwise"):
        told.append(
            f"{count:,} request{'s are' if count != 1 else ' is'} dated otherwise, after "
            f"{facts['as_of'][:16].replace('T', ' ')} UTC: counted here, in no window"
        )
    if count := facts.get("set_aside"):
        told.append(
            f"{count:,} row{'s wait' if count != 1 else ' waits'} in the quarantine: "
            "loopbook quarantine"
        )
    return told


def _missing_requests(rows: pl.DataFrame, span: Span, *, is_log_empty: bool) -> list[str]:
    """That nothing was asked, ever or in the current window, and what to type."""
    if is_log_empty:
        return ["nothing was ever asked of the service; start it: make serve"]
    if not rows.filter(pl.col(IS_CURRENT)).is_empty():
        return []
    return [
        f"nothing was asked from {span.current[0]:%Y-%m-%d} to {span.current[1]:%Y-%m-%d}; "
        "choose another --as-of, or look whether the service is reached: make status"
    ]


def _champion(
    project: Project, contract: Contract
) -> tuple[list[str], dict[str, Any], pl.DataFrame]:
    """What is wanting, the champion and its reference (empty if it is wanting)."""
    store = registry_reader.connect(tracking_address(project))
    try:
        held = store.held(contract.name, roles.CHAMPION)
        if held is None:
            return ["there is no champion yet; make one: make build"], {}, pl.DataFrame()
        promoted, servable = held.tags.get("promoted_as_of", "none"), load(store, held)
        card = servable.card
        champion = {
            "name": held.name,
            "version": held.number,
            "run_id": held.run_id,
            "candidate": held.tags.get("candidate", "unknown"),
            "promoted_at": held.tags.get("promoted_at"),
            "promoted_as_of": None if promoted == "none" else promoted,
            "fitted": card["fitted"],
            "decision": card.get("decision"),
            "unused": unused(servable),
        }
        frozen = thaw(store, held, contract)
        scale = reference.scale(held, frozen, contract)
        return [], champion | {"scale": scale and asdict(scale)}, frozen
    except LoopbookError as error:
        return [str(error).rstrip(".")], {}, pl.DataFrame()


def as_columns(
    answers: pl.DataFrame | None, contract: Contract, version: str | None, span: Span
) -> pl.DataFrame:
    """Logged answers as columns of the contract.

    Returns
    -------
    polars.DataFrame
        `id`, `as_of_ts`, `version`, `role`, `answer`, `raw` (before any level
        moved it), `low` and `high` (the interval that was said), `least` (of classes, the least
        probability in the set), `observed`, `known_ts`,
        the watched inputs and trailing features (`reference.column_types`), and
        the flags `is_current` and `is_judged` (of the champion, and due).
        Answers of a shadow are left out: nobody acted on them.
    """
    if answers is None or answers.is_empty():
        flags = {IS_CURRENT: pl.Boolean, IS_JUDGED: pl.Boolean}
        return pl.DataFrame(schema=_logged(contract) | column_types(contract) | flags)
    answers = answers.filter(pl.col("role") != roles.SHADOW)
    rows = answers.select(*_logged(contract)).with_columns(_features(answers, contract))
    at = pl.col("as_of_ts")
    is_ours = (pl.col("role") == roles.CHAMPION) & (pl.col("version") == (version or ""))
    return rows.with_columns(
        ((at >= span.current[0]) & (at < span.current[1])).alias(IS_CURRENT),
        (is_ours & (at >= span.due[0]) & (at < span.due[1])).alias(IS_JUDGED),
        pl.when(pl.col("known_ts") <= span.as_of).then(pl.col("observed")).alias("observed"),
    )


def _logged(contract: Contract) -> dict[str, Any]:
    """What an answer has in a window, by name and type."""
    task = task_of(contract)
    return LOGGED | {
        "answer": task.frame_type,
        "raw": task.frame_type,
        "observed": task.observed_type,
    }


def _features(answers: pl.DataFrame, contract: Contract) -> list[pl.Series]:
    """Watched inputs and trailing features; nulls where the log does not have one."""
    requests = [orjson.loads(request) for request in answers["request"]]
    # the log has what was sent: `""` and "NA" are no category, nor is " Clear" another one
    read, columns = reader("category", contract.null_values), []
    for name, kind in column_types(contract).items():
        if name in contract.categories:
            alias = contract.features[name].alias
            values = [read(r.get(name, r.get(alias))) for r in requests]
        elif f"feature_{name}" in answers.columns:
            values = answers[f"feature_{name}"].cast(kind)
        else:
            values = [None] * answers.height
        columns.append(pl.Series(name, values, dtype=kind))
    return columns


def champion_age_days(champion: Mapping[str, Any], as_of: datetime) -> float | None:
    """For how long the champion has served at `as_of`: by the clock of the data, if it has one."""
    since = champion.get("promoted_as_of") or champion.get("promoted_at")
    return (as_of - parse_instant(since)).total_seconds() / 86_400 if since else None


def skew(
    project: Project, contract: Contract, rows: pl.DataFrame, *, as_of: datetime, seed: int
) -> dict[str, Any]:
    """How often a trailing feature was served otherwise than training would see it today.

    The newest answers (a sample of at most 1,000) are joined point-in-time with
    the facts that are known at `as_of`. Differences are facts that became known
    between the feature store's last materialisation and the request.

    Returns
    -------
    dict
        `rows`, `share` (of rows in which any feature differs) and `features`,
        the share by feature; empty if the contract has no trailing features,
        or an entity that is not logged; `why` alone if the facts cannot be read.
    """
    if not contract.trailing or rows.is_empty():
        return {}
    if contract.entity and contract.entity not in rows.columns:  # it is sensitive
        return {}
    if rows.height > SKEW_ROWS:
        picked = np.random.default_rng(seed).choice(rows.height, SKEW_ROWS, replace=False)
        rows = rows[np.sort(picked)]
    try:
        facts, _ = known_facts(project, contract, as_of)
    except LoopbookError as error:  # the answers can be judged without the source
        return {"why": str(error)}
    differs = _differences(rows, facts, contract)
    return {
        "rows": rows.height,
        "share": float(np.any(list(differs.values()), axis=0).mean()),
        "features": {name: float(off.mean()) for name, off in differs.items()},
    }


def _differences(
    rows: pl.DataFrame, facts: pl.DataFrame, contract: Contract
) -> dict[str, np.ndarray]:
    """By trailing feature, whether a row was served another value than the join gives."""
    asked = rows.select(
        *([contract.entity] if contract.entity else []),
        pl.col("as_of_ts").alias(EVENT_TS),
    )
    offline = history.with_history(asked, facts, contract)
    return {
        name: ~np.isclose(
            rows[name].fill_null(np.nan).to_numpy(),
            offline[name].cast(pl.Float64).fill_null(np.nan).to_numpy(),
            rtol=SKEW_TOLERANCE,
            equal_nan=True,
        )
        for name in contract.trailing
    }
