"""Scoring: a file of rows through the champion, whatever its size.

It decides how rows are streamed, resumed and written: some thousand at a time,
each part kept as it is done, the output put together at the end, whole or not
at all. The numbers are the service's: the same graph, features and encoding.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from loopbook.data import formats, landing, sources
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.features.materialize import known_facts
from loopbook.pipeline.progress import counted
from loopbook.project import clock as clock_module
from loopbook.project.contract import Contract, Source, read_contract
from loopbook.project.errors import ScoringError
from loopbook.project.files import replacing
from loopbook.project.paths import Project, tracking_address
from loopbook.records.roles import CHAMPION
from loopbook.registry.reader import connect
from loopbook.registry.servable import Servable, load

PART_ROWS = 50_000


@dataclass(frozen=True)
class Scored:
    """What was done."""

    rows: int
    version: str
    path: Path
    resumed_rows: int


def champion(project: Project, contract: Contract) -> Servable:
    """The version that serves, checked as the service checks it.

    Raises
    ------
    ScoringError
        If there is none.
    """
    registry = connect(tracking_address(project))
    held = registry.held(contract.name, CHAMPION)
    if held is None:
        raise ScoringError(f"{contract.name}: there is no champion yet. Make one: make build")
    return load(registry, held)


def file_of(rows: str, project: Project, contract: Contract) -> Path:
    """The file to score: a path from the project's folder, or `source`.

    `source` stands for the rows that the contract names. Where they are not one
    Parquet file, they are written into one in `var/scoring` first, with the
    types of the contract, once for each content.
    """
    if rows != sources.THE_SOURCE:
        return project.root / rows
    files = sources.source_files(contract, project.root)
    if contract.source.path and len(files) == 1 and files[0].suffix == ".parquet":
        return files[0]
    digest = sources.source_digest(contract, project.root)
    whole = project.var / "scoring" / f"source-{digest[:16]}.parquet"
    if not whole.exists():
        for earlier in whole.parent.glob("source-*.parquet"):
            earlier.unlink()
        with replacing(whole) as path:
            sources.read_source(contract, project.root).write_parquet(path)
    return whole


def score(
    project: Project,
    contract: Contract,
    source: Path,
    target: Path,
    *,
    as_of: datetime | None = None,
    scheduler: str | None = None,
) -> Scored:
    """Score a Parquet, CSV or JSON lines file into a Parquet or CSV file.

    Parameters
    ----------
    as_of : datetime in UTC or None
        The instant to answer for. None: each row's event time, where the file
        has it, or now.
    scheduler : str or None
        The address of a Dask scheduler, or `local`: parts are computed there.

    Returns
    -------
    Scored
        The output has the rows of the input in their order, with
        `predicted_<target>` and `model_version`.

    Raises
    ------
    ScoringError
        If a required feature is missing or a value has the wrong type. Finished
        parts stay in `var/scoring` and are reused by the next call.
    """
    work, total = _begun(project, contract, source, as_of)
    todo = [place for place in range(0, total, PART_ROWS) if not work.part(place).exists()]
    resumed = total - sum(min(PART_ROWS, total - place) for place in todo)
    with counted("scoring", total, resumed) as advance:
        for done in _computed(work, todo, scheduler):
            advance(done)
    _put_together(work.folder, target)
    shutil.rmtree(work.folder)
    return Scored(total, work.version, target, resumed)


@dataclass(frozen=True)
class Work:
    """What a worker needs to score a part, wherever it runs: paths of a shared disk."""

    root: Path
    folder: Path
    version: str
    as_of: datetime | None

    @property
    def rows(self) -> Path:
        return self.folder / "rows" / "all.parquet"

    @property
    def facts(self) -> Path:
        return self.folder / "rows" / "facts.parquet"

    def part(self, place: int) -> Path:
        return self.folder / f"{place:012d}.parquet"


def _begun(
    project: Project, contract: Contract, source: Path, as_of: datetime | None
) -> tuple[Work, int]:
    """The work on a file, begun now or by an earlier call, and how many rows it has."""
    servable = champion(project, contract)
    rows = _opened(source, contract)
    _check_columns(rows, contract, source)
    folder = project.var / "scoring" / _work_name(source, servable, as_of)
    work = Work(project.root, folder, servable.number, as_of)
    total = _keep_rows(work, rows)
    if total == 0:
        raise ScoringError(f"{source}: found 0 rows, expected at least one.")
    if contract.history:
        _keep_facts(work, project, contract)
    _ready.cache_clear()  # the champion may be another one than at the last call
    return work, total


def _keep_rows(work: Work, rows: pl.LazyFrame) -> int:
    """Keep the input as Parquet, which can be entered in the middle as text cannot; its height."""
    if not work.rows.exists():
        with replacing(work.rows) as path:
            rows.sink_parquet(path, compression="zstd")
    return pl.scan_parquet(work.rows).select(pl.len()).collect().item()


def _keep_facts(work: Work, project: Project, contract: Contract) -> None:
    """Keep the facts that the trailing features are computed from."""
    if not work.facts.exists():
        with replacing(work.facts) as path:
            facts, _ = known_facts(project, contract, work.as_of or datetime.now(UTC))
            facts.write_parquet(path)


@lru_cache(maxsize=1)
def _ready(work: Work) -> tuple[Contract, Servable, dict[str, pl.DataFrame] | None]:
    """The contract, the version and the change points of its features, once a process."""
    project = Project(work.root)
    contract = read_contract(project.contract)
    servable = champion(project, contract)
    if servable.number != work.version:
        raise ScoringError(
            f"{contract.name}: the champion changed from v{work.version} to v{servable.number} "
            "while a file was scored. Score it again."
        )
    if contract.history is None:
        return contract, servable, None
    facts = pl.read_parquet(work.facts)
    return contract, servable, {s: history.timeline(facts, contract, s) for s in history.SCOPES}


def score_part(work: Work, place: int) -> int:
    """Score the rows from `place` on, keep the part, and say how many they were."""
    contract, servable, timelines = _ready(work)
    some = pl.scan_parquet(work.rows).slice(place, PART_ROWS).collect()
    answered = _answered(some, timelines, servable, contract, work.as_of)
    with replacing(work.part(place)) as path:
        answered.write_parquet(path)
    return some.height


def _opened(source: Path, contract: Contract) -> pl.LazyFrame:
    if not source.is_file():
        raise ScoringError(f"{source}: there is no such file.")
    asked = contract.model_copy(update={"source": Source(path=str(source.resolve()))})
    try:
        rows = sources.scan(asked)
        rows.collect_schema()
    except pl.exceptions.PolarsError as reason:
        raise ScoringError(f"{source}: cannot be read ({str(reason).splitlines()[0]}).") from None
    return rows


def _check_columns(rows: pl.LazyFrame, contract: Contract, source: Path) -> None:
    names = {f.alias: n for n, f in contract.features.items() if f.alias}
    given = {names.get(n, n) for n in rows.collect_schema().names()}
    absent = [n for n, f in contract.features.items() if f.required and n not in given]
    if absent:
        raise ScoringError(
            f"{source}: lacks {', '.join(absent)}, which every row needs. Add the column."
        )


def _work_name(source: Path, servable: Servable, as_of: datetime | None) -> str:
    """Another file, another version or another moment is other work."""
    stat = source.stat()
    parts = [str(source.resolve()), stat.st_size, stat.st_mtime_ns, servable.number, str(as_of)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _answered(
    rows: pl.DataFrame,
    timelines: dict[str, pl.DataFrame] | None,
    servable: Servable,
    contract: Contract,
    as_of: datetime | None,
) -> pl.DataFrame:
    """A part with its predictions."""
    prepared = prepare(rows, contract, as_of)
    if timelines is not None:
        prepared = history.joined(prepared, timelines, contract)
    prepared = row_features.with_derived(prepared, contract)
    matrix = row_features.encode(prepared, servable.inputs, servable.card["categories"])
    return rows.with_columns(
        pl.Series(f"predicted_{contract.target.name}", servable.predict(matrix)),
        pl.lit(servable.number).alias("model_version"),
    )


def prepare(rows: pl.DataFrame, contract: Contract, as_of: datetime | None) -> pl.DataFrame:
    """Rows with every feature by its column, of one type a kind, and their `event_ts`.

    Raises
    ------
    ScoringError
        If a value is not of its feature's type.
    """
    columns = []
    for name, feature in contract.features.items():
        given = next((n for n in (name, feature.alias) if n in rows.columns), None)
        kind = landing.KINDS[feature.type]
        if given and kind == pl.Boolean and rows.schema[given] == pl.String:
            rows = rows.with_columns(formats.as_truth(rows[given], contract))
        column = pl.lit(None, dtype=kind) if given is None else pl.col(given).cast(kind)
        columns.append(column.alias(name))
    try:
        prepared = rows.select(columns)
    except pl.exceptions.PolarsError as reason:
        raise ScoringError(
            f"a value is not of its feature's type ({str(reason).splitlines()[0]}). Correct it."
        ) from None
    moment = as_of or datetime.now(UTC)
    if as_of is None and contract.event_time in rows.columns:
        clock = contract.model_copy(update={"known_time": None})
        if rows.schema[contract.event_time] == pl.String:
            rows = rows.with_columns(formats.as_instants(rows[contract.event_time], contract))
        when = sources.with_clock(rows, clock)[clock_module.EVENT_TS]
    else:
        when = pl.Series(np.full(rows.height, round(moment.timestamp() * 1e6)))
    return prepared.with_columns(when.cast(history.INSTANT).alias(clock_module.EVENT_TS))


def _computed(work: Work, todo: list[int], scheduler: str | None) -> Iterator[int]:
    """Each part's number of rows as it is done, here or on Dask."""
    if scheduler is None:
        yield from (score_part(work, place) for place in todo)
        return
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ScoringError("--scheduler: needs Dask: pip install 'loopbook[dask]'") from None
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with Client(**options) if scheduler == "local" else Client(scheduler) as client:
        futures = [client.submit(score_part, work, place, pure=False) for place in todo]
        for future in as_completed(futures):
            yield future.result()


def _put_together(folder: Path, target: Path) -> None:
    parts = sorted(folder.glob("*.parquet"))
    with replacing(target) as path:
        if target.suffix == ".csv":
            pl.scan_parquet(parts).sink_csv(path)
            return
        writer = None
        try:
            for part in parts:
                table = pq.read_table(part)
                if writer is None:
                    writer = pq.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table.cast(writer.schema))
        finally:
            if writer is not None:
                writer.close()
