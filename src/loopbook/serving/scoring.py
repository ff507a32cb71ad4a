"""Scoring: a file of rows through the champion, whatever its size.

It decides how rows are streamed, resumed and written: some thousand at a time,
each part kept as it is done, the output put together at the end, whole or not
at all. The numbers are the service's: the same graph, features and encoding.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import polars as pl
import pyarrow.parquet as pq

from loopbook.data import sources
from loopbook.data.places import THE_SOURCE
from loopbook.data.source_files import source_digest
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.features.materialize import known_facts
from loopbook.models.calibration_states import State
from loopbook.project import waits, workers
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract, read_contract
from loopbook.project.errors import LoopbookError, ScoringError
from loopbook.project.files import replacing, write_json
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.records.roles import CHAMPION
from loopbook.registry import calibrated_answers, state_store
from loopbook.registry.reader import connect
from loopbook.registry.servable import Servable, load
from loopbook.registry.state_store import States
from loopbook.serving import rows_to_score, scored_columns
from loopbook.serving.rows_to_score import Shape, Unknown

PART_ROWS = 50_000


@dataclass(frozen=True)
class How:
    """How a file is scored.

    Attributes
    ----------
    scheduler : the address of a Dask scheduler, or `local`: parts are computed there
    prediction_set : whether classes come with the set that holds the truth
    """

    scheduler: str | None = None
    prediction_set: bool = False


@dataclass(frozen=True)
class Scored:
    """What was done, and in which columns stood categories that the model has not seen."""

    rows: int
    version: str
    path: Path
    resumed_rows: int
    unknown: list[Unknown]


def champion(project: Project, contract: Contract, tracking: str = "") -> Servable:
    """The version that serves, checked as the service checks it.

    Parameters
    ----------
    tracking : str
        Where the registry is, if this process was started for another project.

    Raises
    ------
    ScoringError
        If there is none.
    """
    registry = connect(tracking or tracking_address(project))
    held = registry.held(contract.name, CHAMPION)
    if held is None:
        raise ScoringError(f"{contract.name}: there is no champion yet. Make one: make build")
    if read_knobs(project.knobs).require_signature:
        from loopbook.provenance import statements  # cryptography: only where it is asked for

        statements.require(registry, held, project.signers)
    return load(registry, held)


def file_of(rows: str, project: Project, contract: Contract) -> Path:
    """The file to score: a path from the project's folder, or `source`.

    `source` stands for the rows that the contract names. Where they are not one
    Parquet file, they are written into one in `var/scoring` first, with the
    types of the contract, once for each content.
    """
    if rows != THE_SOURCE:
        return project.root / rows
    files = sources.source_files(contract, project.root)
    if contract.source.path and len(files) == 1 and files[0].suffix == ".parquet":
        return files[0]
    digest = source_digest(contract, project.root)
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
    how: How = How(),
) -> Scored:
    """Score a Parquet, CSV or JSON lines file into a Parquet or CSV file.

    Parameters
    ----------
    as_of : datetime in UTC or None
        The instant to answer for. None: each row's event time, where the file
        has it, or now. Each row is answered by the calibration state of its instant.

    Returns
    -------
    Scored
        The output has the rows of the input in their order, with
        `predicted_<target>`, its interval (`…_low`, `…_high`), or for classes
        `probability_<class>` of each, on request `predicted_<target>_set`, and
        `model_version`.

    Raises
    ------
    ScoringError
        If the service would refuse a row, the output can hold no table, or a set is
        asked for where the target is a number;
        nothing is computed then. Of a scoring that was interrupted, finished
        parts stay in `var/scoring` and are reused by the next call.
    """
    form = scored_columns.set_form(contract, target) if how.prediction_set else ""
    with workers.connected(how.scheduler, shared=project.root) as client:
        work, total, unknown = _begun(project, contract, source, target, (as_of, form))
        todo = [place for place in work.places(total) if not work.part(place).exists()]
        resumed = total - sum(min(work.part_rows, total - place) for place in todo)
        waits.at("computing")
        waits.expect(total, "rows", resumed)
        for _, done in workers.results(client, score_part, [(work, place) for place in todo]):
            waits.advance(done)
    waits.at(f"writing {target.name}")
    _put_together(work.folder, target)
    shutil.rmtree(work.folder)
    return Scored(total, work.version, target, resumed, unknown)


@dataclass(frozen=True)
class Work:
    """What a worker needs to score a part, wherever it runs: paths of a shared disk.

    `call` differs from call to call: a worker of a scheduler lives on, and must not
    take the facts of an earlier call for those of this one.
    """

    root: Path
    tracking: str
    folder: Path
    version: str
    as_of: datetime | None
    shape: Shape
    set_form: str
    part_rows: int
    call: str

    @property
    def rows(self) -> Path:
        return self.folder / "rows" / "all.parquet"

    @property
    def facts(self) -> Path:
        return self.folder / "rows" / "facts.parquet"

    @property
    def states(self) -> Path:
        return self.folder / "rows" / "states.json"

    def places(self, total: int) -> range:
        return range(0, total, self.part_rows)

    def part(self, place: int) -> Path:
        return self.folder / f"{place:012d}.parquet"


def _begun(
    project: Project,
    contract: Contract,
    source: Path,
    target: Path,
    asked: tuple[datetime | None, str],
) -> tuple[Work, int, list[Unknown]]:
    """The work on a file, begun now or by an earlier call, its height, and unknown categories."""
    as_of, set_form = asked
    servable = champion(project, contract)
    rows, shape = rows_to_score.opened(source, contract)
    scored_columns.check_target(rows.collect_schema(), source, target)
    folder = project.var / "scoring" / _work_name(source, servable, asked)
    work = Work(
        *(project.root, tracking_address(project), folder, servable.number),
        *(as_of, shape, set_form, PART_ROWS, uuid4().hex),
    )
    try:
        waits.at(f"reading {source.name}")
        total = _keep_rows(work, rows, source)
        if total == 0:
            raise ScoringError(f"{source}: found 0 rows, expected at least one.")
        parts = ((place, _part_of(work, place)) for place in work.places(total))
        vocabulary, with_time = servable.card["categories"], as_of is None
        unknown = rows_to_score.check(
            parts, shape, contract, vocabulary, source=source, with_time=with_time
        )
        if contract.history:
            _keep_facts(work, project, contract)
        if not work.states.exists():
            states = state_store.read_if_there(project, contract, servable.number)
            write_json(work.states, [state.as_json() for state in states.every])
    except LoopbookError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return work, total, unknown


def _keep_rows(work: Work, rows: pl.LazyFrame, source: Path) -> int:
    """Keep the input as Parquet, which can be entered in the middle as text cannot; its height."""
    try:
        if not work.rows.exists():
            with replacing(work.rows) as path:
                rows.sink_parquet(path, compression="zstd")
        return pl.scan_parquet(work.rows, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as reason:
        raise rows_to_score.unread(source, reason) from None


def _part_of(work: Work, place: int) -> pl.DataFrame:
    return pl.scan_parquet(work.rows, glob=False).slice(place, work.part_rows).collect()


def _keep_facts(work: Work, project: Project, contract: Contract) -> None:
    """Keep the facts that the trailing features are computed from."""
    if not work.facts.exists():
        with replacing(work.facts) as path:
            facts, _ = known_facts(project, contract, work.as_of or datetime.now(UTC))
            facts.write_parquet(path)


@dataclass(frozen=True)
class Ready:
    """The version with its calibration states, and the change points of its features, if any."""

    contract: Contract
    servable: Servable
    states: States
    timelines: dict[str, pl.DataFrame] | None


@lru_cache(maxsize=1)
def _ready(work: Work) -> Ready:
    """What every part needs, once a process."""
    project = Project(work.root)
    contract = read_contract(project.contract)
    servable = champion(project, contract, work.tracking)
    if servable.number != work.version:
        raise ScoringError(
            f"{contract.name}: the champion changed from v{work.version} to v{servable.number} "
            "while a file was scored. Score it again."
        )
    records = json.loads(work.states.read_text(encoding="utf-8"))
    states = States.of([State.of_json(record) for record in records])
    if contract.history is None:
        return Ready(contract, servable, states, None)
    facts = pl.read_parquet(work.facts, glob=False)
    timelines = {s: history.timeline(facts, contract, s) for s in history.SCOPES}
    return Ready(contract, servable, states, timelines)


def score_part(work: Work, place: int) -> int:
    """Score the rows from `place` on, keep the part, and say how many they were."""
    some = _part_of(work, place)
    answered = _answered(some, _ready(work), work, place)
    with replacing(work.part(place)) as path:
        answered.write_parquet(path)
    return some.height


def _work_name(source: Path, servable: Servable, asked: tuple[datetime | None, str]) -> str:
    """Another file, another version, another moment or another form of sets is other work."""
    stat = source.stat()
    parts = [
        str(source.resolve()),
        stat.st_size,
        stat.st_mtime_ns,
        servable.number,
        *map(str, asked),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _answered(rows: pl.DataFrame, ready: Ready, work: Work, before: int) -> pl.DataFrame:
    """A part with its predictions; `before` is the number of rows before it."""
    contract, servable, timelines = ready.contract, ready.servable, ready.timelines
    typed, _ = rows_to_score.read(rows, work.shape, contract, with_time=work.as_of is None)
    prepared = rows_to_score.prepare(typed, contract, work.as_of)
    if timelines is not None:
        prepared = history.joined(prepared, timelines, contract)
    prepared = row_features.with_derived(prepared, contract)
    matrix = row_features.encode(prepared, servable.inputs, servable.card["categories"])
    at_us = prepared[EVENT_TS].dt.epoch("us").to_list()
    calibrated = calibrated_answers.answer(servable, matrix, [ready.states.at(us) for us in at_us])
    scored_columns.refuse_no_answers(calibrated.answers, before)
    said = [*scored_columns.of_answers(servable, contract, calibrated)]
    if work.set_form:
        said.append(scored_columns.of_sets(servable, contract, calibrated, work.set_form))
    return rows_to_score.as_output(rows, work.shape, contract).with_columns(said)


def _put_together(folder: Path, target: Path) -> None:
    parts = sorted(folder.glob("*.parquet"))
    with replacing(target) as path:
        if target.suffix == ".csv":
            pl.scan_parquet(parts, glob=False).sink_csv(path)
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
