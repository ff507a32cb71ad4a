"""Real sales as the service would have answered and logged them, without HTTP."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import orjson
import polars as pl

from loopbook.data import prediction_log, sources, validation
from loopbook.data.prediction_log import Entry, Truth
from loopbook.features import history, materialize
from loopbook.project import clock, contract, paths
from loopbook.records import roles
from loopbook.serving import scoring


def sales(since: datetime, until: datetime) -> pl.DataFrame:
    """The real sales of `[since, until)` with their trailing features."""
    here = paths.current()
    table = contract.read_contract(here.contract)
    known, _ = sources.known_by(
        sources.read_source(table, here.root), None, table, now=clock.utc_now()
    )
    kept, _ = validation.without_known_faults(known, table)
    rows = validation.conform(kept, table)
    asked = rows.filter(pl.col(clock.EVENT_TS).is_between(since, until, closed="left"))
    facts, _ = materialize.known_facts(here, table, until)
    return history.with_history(asked, facts, table)


def answer(
    rows: pl.DataFrame,
    change: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows,
    truth: Callable[[np.ndarray], np.ndarray] = lambda observed: observed,
    *,
    keyed: bool = False,
) -> int:
    """Log the champion's answers to sales, and their ground truth a label delay later.

    If `keyed`, a request names its row's key, as a client's does that wants it back.
    """
    here = paths.current()
    table = contract.read_contract(here.contract)
    servable = scoring.champion(here, table)
    rows = change(rows)
    observed = truth(rows[table.target.name].to_numpy()).tolist()
    matrix = servable.matrix(rows.to_dicts(), rows[clock.EVENT_TS].to_list())
    log = prediction_log.connect(here, table)
    log.know_inputs(servable.card_sha256, servable.inputs, servable.task.classes)
    entries, truths = [], []
    said = servable.logged(servable.predict(matrix))
    for place, (row, held) in enumerate(zip(rows.to_dicts(), said, strict=True)):
        request = {n: row[n] for n in table.features if row[n] is not None}
        if keyed:
            request |= {n: str(row[n]) for n in table.key}
        key, at = log.keys.text(row) if keyed else None, row[clock.EVENT_TS]
        name, now = f"{time.time_ns():020x}{place:012x}", time.time_ns() // 1000
        entries.append(
            Entry(
                *(name, now, round(at.timestamp() * 1e6), servable.version.name),
                *(servable.number, roles.CHAMPION, None, "predict", key),
                *(orjson.loads(orjson.dumps(request)), matrix[place], servable.card_sha256),
                notes=servable.notes(row),
                latency_us=1000,
                **held,
            )
        )
        known = at + timedelta(days=table.label_delay_days)
        truths.append(Truth(name, None, observed[place], round(known.timestamp() * 1e6), now))
    log.append(entries)
    log.tell(truths)
    log.close()
    return len(entries)
