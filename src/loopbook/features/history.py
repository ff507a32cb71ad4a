"""History: what a row may know of the rows before it, computed once for both sides.

A *fact* is one version of an earlier row: its entity, when it happened
(`event_ts`), when it became known (`known_ts`), its value. At an instant t a
trailing feature sees the facts that happened in `[t - window, t)`, were known
by t, and had not been corrected by then. So a fact that comes in late, or a
correction, changes what rows after that moment see and nothing before.

Between two *change points* (a fact enters, leaves or is corrected) a feature
stands still. `timeline` lists them; training joins rows to it (`joined`), and
the feature store keeps its newest end for serving. Pure: no file, no clock.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from loopbook.features.aggregates import counts_at, means_at, ordered_at
from loopbook.project.clock import EVENT_TS, KNOWN_TS, to_micros
from loopbook.project.computed import Trailing
from loopbook.project.contract import Contract
from loopbook.project.formulas import compiled

ENTITY, VALUE, LEAVE, VALID_FROM = "entity", "value", "superseded", "valid_from"
NEVER = np.iinfo(np.int64).max
MICROS_A_DAY = 86_400_000_000
INSTANT = pl.Datetime("us", "UTC")
SCOPES = ("entity", "all")
Asked = tuple[Trailing, float | None]  # what is computed; of a rate, the place of its class


def names_over(contract: Contract, scope: str) -> list[str]:
    """The trailing features over `entity` or over `all`, in the contract's order."""
    return [name for name, about in contract.trailing.items() if about.over == scope]


def reach(contract: Contract) -> timedelta:
    """How far back any trailing feature looks."""
    days = [max(t.window_days, t.maximum_age_days or 0) for t in contract.trailing.values()]
    return timedelta(days=max(days, default=0))


def facts(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Every version of every row as a fact.

    Parameters
    ----------
    rows : polars.DataFrame
        Valid rows with their clock; a key may stand more than once, with
        another `known_ts` each time: then the later ones correct the earlier.

    Returns
    -------
    polars.DataFrame
        `entity`, `event_ts`, `known_ts`, `value` (Float64; of classes the
        place among them), and `superseded`, the instant at which a correction
        became known (microseconds, or the largest integer). Facts without a
        finite value are left out: such a correction takes the fact back.
    """
    entity = pl.col(contract.entity) if contract.entity else pl.lit(None, dtype=pl.String)
    # of names that no contract can give, since rows may have a column `value` of their own
    keys = [f"_{place}" for place in range(len(contract.key))]
    if contract.known_time:
        later = pl.col(KNOWN_TS).shift(-1).over(contract.key, order_by=KNOWN_TS)
        superseded = later.dt.epoch("us").fill_null(NEVER)
    else:
        superseded = pl.lit(NEVER, dtype=pl.Int64)
    valued = rows.select(
        entity.alias(ENTITY),
        EVENT_TS,
        KNOWN_TS,
        pl.Series(VALUE, _values(rows, contract), dtype=pl.Float64),
        superseded.alias(LEAVE),
        *(pl.col(name).alias(own) for name, own in zip(contract.key, keys, strict=True)),
    )
    kept = valued.filter(pl.col(VALUE).is_finite()).sort(EVENT_TS, *keys, KNOWN_TS)
    return kept.drop(keys)


def _values(rows: pl.DataFrame, contract: Contract) -> np.ndarray:
    """The value of each row as a fact; NaN where it has none."""
    if contract.target.classes:
        known = rows[contract.target.name].cast(pl.String)
        place = known.replace_strict(_places(contract), default=None, return_dtype=pl.Float64)
        return place.fill_null(np.nan).to_numpy()
    formula, used = compiled(contract.history.value or contract.target.name)
    columns = (rows[n].cast(pl.Float64).fill_null(np.nan).to_numpy() for n in used)
    return np.broadcast_to(np.asarray(formula(*columns), np.float64), rows.height)


def _places(contract: Contract) -> dict[str, float]:
    return {name: float(place) for place, name in enumerate(contract.target.classes)}


def timeline(
    known_facts: pl.DataFrame,
    contract: Contract,
    scope: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pl.DataFrame:
    """The change points of the features over `entity` or over `all`.

    Parameters
    ----------
    since, until : datetime in UTC or None
        Only change points in `(since, until]`. Facts older than `since` less
        the `reach` may then be left out of `known_facts`.

    Returns
    -------
    polars.DataFrame
        `entity` (over `entity` only), `valid_from` and a Float64 column a
        feature, by entity and time. A feature that has too few facts, or none
        young enough, is null; a count is never null.
    """
    names = names_over(contract, scope)
    asked = [
        (
            contract.trailing[name],
            _places(contract)[of] if (of := contract.rates.get(name)) else None,
        )
        for name in names
    ]
    first = to_micros(since) if since else np.iinfo(np.int64).min
    last = to_micros(until) if until else NEVER
    parts = []
    for entity, group in _groups(known_facts, scope) if names else ():
        times, values = _steps(group, asked, first, last)
        part = pl.DataFrame(values, schema=dict.fromkeys(names, pl.Float64), orient="row")
        columns = [pl.Series(VALID_FROM, times, dtype=pl.Int64).cast(INSTANT)]
        if scope == "entity":
            columns.insert(0, pl.Series(ENTITY, [entity] * len(times), dtype=pl.String))
        parts.append(pl.DataFrame(columns).hstack(part.fill_nan(None)))
    if parts:
        return pl.concat(parts)
    key = {ENTITY: pl.String} if scope == "entity" else {}
    return pl.DataFrame(schema=key | {VALID_FROM: INSTANT} | dict.fromkeys(names, pl.Float64))


def _groups(known_facts: pl.DataFrame, scope: str) -> Iterator[tuple[str | None, pl.DataFrame]]:
    if scope == "all":
        if known_facts.height:
            yield None, known_facts
        return
    whose = known_facts.filter(pl.col(ENTITY).is_not_null()).sort(ENTITY, maintain_order=True)
    for (entity,), group in whose.group_by(ENTITY, maintain_order=True):
        yield entity, group


def _steps(
    group: pl.DataFrame, asked: list[Asked], first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """The change points in `(first, last]` of one group, and the features from each on."""
    about = [one for one, _ in asked]
    event = group[EVENT_TS].dt.epoch("us").to_numpy()
    known = group[KNOWN_TS].dt.epoch("us").to_numpy()
    enter = np.maximum(known, event + 1)
    superseded, value = group[LEAVE].to_numpy(), group[VALUE].to_numpy()

    def window(days: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        leave = np.minimum(event + round(days * MICROS_A_DAY) + 1, superseded)
        there = (enter < leave) & (leave > first) & (enter <= last)
        return enter[there], leave[there], value[there]

    spans = {t.window_days for t in about} | {t.maximum_age_days or t.window_days for t in about}
    windows = {days: window(days) for days in sorted(spans)}
    points = np.concatenate([np.concatenate(w[:2]) for w in windows.values()])
    times = np.unique(points[(points > first) & (points <= last)])
    answer = np.full((times.size, len(about)), np.nan)
    for place, (one, of) in enumerate(asked):
        enters, leaves, values = windows[one.window_days]
        count = counts_at(times, enters, leaves)
        if one.aggregate == "count":
            answer[:, place] = count
            continue
        enough = count >= one.minimum_count
        if one.maximum_age_days:
            enough &= counts_at(times, *windows[one.maximum_age_days][:2]) > 0
        if one.aggregate == "rate":
            ours = values == of
            aggregates = counts_at(times, enters[ours], leaves[ours]) / np.maximum(count, 1)
        elif one.aggregate == "mean":
            aggregates = means_at(times, enters, leaves, values)
        else:
            aggregates = ordered_at(times, enters, leaves, values, one.aggregate)
        answer[:, place] = np.where(enough, aggregates, np.nan)
    return times, answer


def joined(
    rows: pl.DataFrame, timelines: dict[str, pl.DataFrame], contract: Contract
) -> pl.DataFrame:
    """Rows with their trailing features: the point-in-time join.

    Every row gets the newest change point that is not after its `event_ts`.
    Rows in are rows out, in their order. Before the first fact, and for an
    entity without any, a count is 0 and the rest is null.
    """
    order = pl.int_range(rows.height, dtype=pl.UInt32).alias("_order")
    answer = rows.with_columns(order).sort(EVENT_TS, maintain_order=True)
    for scope in SCOPES:
        names = names_over(contract, scope)
        if not names:
            continue
        by = {"by_left": contract.entity, "by_right": "_entity"} if scope == "entity" else {}
        own = {ENTITY: "_entity", VALID_FROM: "_valid_from"}
        answer = answer.join_asof(
            timelines[scope].sort(VALID_FROM).rename(own, strict=False),
            left_on=EVENT_TS,
            right_on="_valid_from",
            strategy="backward",
            check_sortedness=False,
            **by,
        ).drop("_valid_from", "_entity", strict=False)
    counts = [name for name, t in contract.trailing.items() if t.aggregate == "count"]
    return answer.with_columns(pl.col(counts).fill_null(0.0)).sort("_order").drop("_order")


def with_history(rows: pl.DataFrame, known_facts: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows with the trailing features that the contract declares, or as they are."""
    if contract.history is None:
        return rows
    timelines = {scope: timeline(known_facts, contract, scope) for scope in SCOPES}
    return joined(rows, timelines, contract)
