"""The reference: the rows that a version learned from and was judged on, frozen with it.

It decides what monitoring later compares with. The rows are stored in the
version's own run, beside the graph and the card, and the registry has their
digest: "drift" never means a comparison with something that moves along.
"""

from io import BytesIO

import numpy as np
import polars as pl

from loopbook.data.splits import PART
from loopbook.models import margins
from loopbook.models.margins import Scale
from loopbook.models.task import task_of
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import Contract
from loopbook.project.errors import MonitorError
from loopbook.registry.reader import REFERENCE, Registry, Version
from loopbook.registry.service_files import DIGEST_TAGS, digest_mismatch

MOST_ROWS = 20_000
TAG = DIGEST_TAGS[REFERENCE]
COMMAND = "loopbook build --force"


def monitored(contract: Contract) -> list[str]:
    """The inputs that are watched: every feature that is not sensitive."""
    return [name for name, feature in contract.features.items() if feature.sensitive == "no"]


def column_types(contract: Contract) -> dict[str, type[pl.DataType]]:
    """How watched inputs and trailing features are held, for the reference and the window alike."""
    kinds = {"category": pl.String, "boolean": pl.Boolean}
    watched = {n: kinds.get(contract.features[n].type, pl.Float64) for n in monitored(contract)}
    return watched | dict.fromkeys(contract.trailing, pl.Float64)


def freeze(rows: pl.DataFrame, answers: np.ndarray, contract: Contract, *, seed: int) -> bytes:
    """The reference as a Parquet file.

    Parameters
    ----------
    rows : polars.DataFrame
        The rows of `split`, with their part; those of `test` the model has not seen.
    answers : array of shape (rows,), or (rows, K) for classes
        What the promoted graph says about them.

    Returns
    -------
    bytes
        The monitored inputs and trailing features (see `column_types`), with
        `observed`, `answer`, `part` and the event time; at most 20,000 rows:
        all of `test` up to three quarters of these, and a random sample of the rest.
    """
    kinds, task = column_types(contract), task_of(contract)
    kept = rows.select(
        *([EVENT_TS] if EVENT_TS in rows.columns else []),
        PART,
        *[pl.col(name).cast(kind) for name, kind in kinds.items()],
        pl.col(contract.target.name).cast(task.observed_type).alias("observed"),
    ).with_columns(task.column(answers))
    draw = np.random.default_rng(seed)
    rest = kept.filter(pl.col(PART) != "test")
    # without rows that taught, nobody could say how inputs have moved
    room = max(MOST_ROWS - rest.height, MOST_ROWS * 3 // 4)
    tested = _sample(kept.filter(pl.col(PART) == "test"), room, draw)
    rest = _sample(rest, MOST_ROWS - tested.height, draw)
    written = BytesIO()
    pl.concat([rest, tested]).write_parquet(written)
    return written.getvalue()


def _sample(rows: pl.DataFrame, most: int, draw: np.random.Generator) -> pl.DataFrame:
    """At most so many rows, in their order."""
    if rows.height <= most:
        return rows
    return rows[np.sort(draw.choice(rows.height, most, replace=False))]


def thaw(registry: Registry, version: Version, contract: Contract) -> pl.DataFrame:
    """A version's reference, if it is what the registry says and fits the contract.

    Raises
    ------
    MonitorError
        If the version has none, if it was changed, or if the contract has
        other features by now.
    RegistryError
        If the file cannot be fetched.
    """
    if TAG not in version.tags:
        raise MonitorError(f"{version.label} has no reference window. Make one: {COMMAND}")
    content = registry.content(version, REFERENCE)
    if mismatch := digest_mismatch(version, REFERENCE, content):
        raise MonitorError(f"{mismatch} It was changed; restore it, or build: {COMMAND}")
    rows = pl.read_parquet(BytesIO(content))
    absent = [n for n in (*monitored(contract), *contract.trailing) if n not in rows.columns]
    if absent:
        raise MonitorError(
            f"{version.label} was built under another contract; its reference lacks "
            f"{', '.join(absent)}. Build with today's: {COMMAND}"
        )
    return rows


def scale(version: Version, frozen: pl.DataFrame, contract: Contract) -> Scale | None:
    """What a version's margins are shares of, as it was registered with.

    One that an earlier loopbook registered has it from its reference: how far
    one answer to all is from the rows that it was judged on. None where the
    reference has none of them.
    """
    if kept := margins.from_tags(version.tags):
        return kept
    task = task_of(contract)
    observed, is_tested = task.observed(frozen["observed"]), frozen[PART].to_numpy() == "test"
    sound = task.is_measurable(observed, task.of_column(frozen["answer"]))
    learned, judged = observed[sound & ~is_tested], observed[sound & is_tested]
    if not judged.size:
        return None
    return margins.of_constant(task, learned if learned.size else judged, judged)
