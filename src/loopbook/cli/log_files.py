"""The prediction log as files: what `loopbook log` does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from loopbook.data import logged_answers, prediction_log
from loopbook.project.contract import read_contract
from loopbook.project.counts import counted
from loopbook.project.errors import KnobError, PredictionLogError
from loopbook.project.files import replacing
from loopbook.project.knobs import read_instant
from loopbook.project.paths import Project
from loopbook.provenance import kept_rows


def export(project: Project, path: str, since: str, until: str) -> list[str]:
    """Write the log to Parquet, some thousand rows at a time, whole or not at all."""
    log = prediction_log.connect(project, read_contract(project.contract))
    start = read_instant(since, "--since") if since else None
    end = read_instant(until, "--until") if until else None
    count, writer = 0, None
    try:
        with replacing(Path(path)) as target:
            for part in logged_answers.received(log, start, end):
                arrow = part.to_arrow()
                if writer is None:
                    writer = pq.ParquetWriter(target, arrow.schema, compression="zstd")
                writer.write_table(arrow.cast(writer.schema))
                count += part.height
            if writer is None:
                raise PredictionLogError(
                    "prediction log: nothing was answered in that time, so no file was written. "
                    "Ask something first: make serve"
                )
            writer.close()
    finally:
        log.close()
    return [f"Wrote {counted(count, 'answer')} to {path}."]


def prune(project: Project, older_than: str) -> list[str]:
    """Delete what was received before a day, or more than so many days ago."""
    if older_than.isdigit():
        before = datetime.now(UTC) - timedelta(days=int(older_than))
    else:
        try:
            before = read_instant(older_than, "--older-than")
        except KnobError:
            raise KnobError(
                f"--older-than {older_than}: expected days such as 90, or a day such as 2025-01-01."
            ) from None
    log = prediction_log.connect(project, read_contract(project.contract))
    try:
        count = kept_rows.prune(project, log, before)
    finally:
        log.close()
    return [f"Deleted {counted(count, 'answer')} received before {before:%Y-%m-%d %H:%M} UTC."]
