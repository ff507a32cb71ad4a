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

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

import numpy as np
import polars as pl
from sortedcontainers import SortedList

from loopbook.project.clock import EVENT_TS, KNOWN_TS, to_micros
from loopbook.project.computed import Trailing
from loopbook.project.contract import Contract
from loopbook.project.formulas import compiled

ENTITY, VALUE, LEAVE, VALID_FROM = "entity", "value", "superseded", "valid_from"
NEVER = np.iinfo(np.int64).max
MICROS_A_DAY = 86_400_000_000
INSTANT = pl.Datetime("us", "UTC")
SCOPES = ("entity", "all")


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
        `entity`, `event_ts`, `known_ts`, `value` (Float64), and `superseded`,
        the instant at which a correction became known (microseconds, or the
        largest integer). Facts without a finite value are left out: such a
        correction takes the fact back.
    """
    formula, used = compiled(contract.history.value)
    columns = (rows[n].cast(pl.Float64).fill_null(np.nan).to_numpy() for n in used)
    value = np.broadcast_to(np.asarray(formula(*columns), np.float64), rows.height)
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
        pl.Series(VALUE, value),
        superseded.alias(LEAVE),
        *(pl.col(name).alias(own) for name, own in zip(contract.key, keys, strict=True)),
    )
    kept = valued.filter(pl.col(VALUE).is_finite()).sort(EVENT_TS, *keys, KNOWN_TS)
    return kept.drop(keys)


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
    about = [contract.trailing[name] for name in names]
    first = to_micros(since) if since else np.iinfo(np.int64).min
    last = to_micros(until) if until else NEVER
    parts = []
    for entity, group in _groups(known_facts, scope) if names else ():
        times, values = _steps(group, about, first, last)
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
    group: pl.DataFrame, about: list[Trailing], first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """The change points in `(first, last]` of one group, and the features from each on."""
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
    for place, one in enumerate(about):
        enters, leaves, values = windows[one.window_days]
        count = _count_at(times, enters, leaves)
        if one.aggregate == "count":
            answer[:, place] = count
            continue
        enough = count >= one.minimum_count
        if one.maximum_age_days:
            enough &= _count_at(times, *windows[one.maximum_age_days][:2]) > 0
        aggregates = _ordered_at(times, enters, leaves, values, one.aggregate)
        answer[:, place] = np.where(enough, aggregates, np.nan)
    return times, answer


def _count_at(times: np.ndarray, enters: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """How many of the half-open spans `[enter, leave)` hold each instant."""
    came = np.searchsorted(np.sort(enters), times, "right")
    return came - np.searchsorted(np.sort(leaves), times, "right")


def _ordered_at(
    times: np.ndarray, enters: np.ndarray, leaves: np.ndarray, values: np.ndarray, aggregate: str
) -> np.ndarray:
    """The median, least or greatest value that is there at each instant; NaN where none is.

    One pass over the spans in time, with the present values kept in order: the
    answer depends on which values are there and not on how they came, so a
    pass that starts later gives the same numbers to the last bit. Where many
    facts share an instant (days, and not seconds) they are merged in at once.
    """
    one_pass = in_batches if values.size > MANY * times.size else one_by_one
    return np.array(list(one_pass(times, enters, leaves, values, PICKS[aggregate])))


def one_by_one(times, enters, leaves, values, pick) -> Iterator[float]:
    """The pass for facts that each have an instant of their own."""
    coming, going = np.argsort(enters, kind="stable"), np.argsort(leaves, kind="stable")
    entering, entered = enters[coming].tolist(), values[coming].tolist()
    leaving, left = leaves[going].tolist(), values[going].tolist()
    present: SortedList = SortedList()
    i = j = 0
    for instant in times.tolist():
        if not present and i == j == 0:
            there = (enters <= instant) & (leaves > instant)
            present.update(values[there].tolist())
            i = int(np.searchsorted(enters[coming], instant, "right"))
            j = int(np.searchsorted(leaves[going], instant, "right"))
        while i < len(entering) and entering[i] <= instant:
            present.add(entered[i])
            i += 1
        while j < len(leaving) and leaving[j] <= instant:
            present.remove(left[j])
            j += 1
        yield pick(present) if present else np.nan


def in_batches(times, enters, leaves, values, pick) -> Iterator[float]:
    """The pass for many facts an instant: a merge into one sorted array."""
    coming, going = np.argsort(enters, kind="stable"), np.argsort(leaves, kind="stable")
    came = np.searchsorted(enters[coming], times, "right")
    went = np.searchsorted(leaves[going], times, "right")
    present, i, j = np.empty(0), 0, 0
    for place in range(times.size):
        entered = np.sort(values[coming[i : came[place]]])
        present = np.insert(present, np.searchsorted(present, entered), entered)
        left = np.sort(values[going[j : went[place]]])
        # the n-th of some equal values that leave stands n places after the first
        nth = np.arange(left.size) - np.searchsorted(left, left)
        present = np.delete(present, np.searchsorted(present, left) + nth)
        i, j = came[place], went[place]
        yield float(pick(present)) if present.size else np.nan


def _middle(present: Sequence[float]) -> float:
    middle = len(present) // 2
    if len(present) % 2:
        return present[middle]
    return (present[middle - 1] + present[middle]) / 2


PICKS = {"median": _middle, "min": itemgetter(0), "max": itemgetter(-1)}
MANY = 8


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
