"""Snapshots: immutable copies of source rows, named by what is in them.

It decides what a snapshot's name and record are. A snapshot is never changed
and never overwritten.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from loopbook.errors import SourceError
from loopbook.files import read_json, replacing, write_json
from loopbook.sources import EVENT_TS


@dataclass(frozen=True)
class Snapshot:
    """What is known of a snapshot without opening it; times are ISO 8601 in UTC."""

    sha256: str
    path: str
    rows: int
    bytes: int
    as_of: str | None
    first_event: str | None
    last_event: str | None

    @property
    def short(self) -> str:
        return self.sha256[:12]


def write_snapshot(rows: pl.DataFrame, folder: Path, as_of: datetime | None) -> Snapshot:
    """Write rows to `folder` under the SHA-256 of the file; do nothing if they are there.

    The same rows in the same order give the same bytes, and so the same name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "incoming.parquet") as incoming:
        rows.write_parquet(incoming, compression="zstd", statistics=True)
        with incoming.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path = folder / f"{digest}.parquet"
        if path.exists():
            incoming.unlink()
        else:
            incoming.replace(path)
    window = rows[EVENT_TS] if EVENT_TS in rows.columns else None
    return Snapshot(
        sha256=digest,
        path=str(path),
        rows=rows.height,
        bytes=path.stat().st_size,
        as_of=as_of.isoformat() if as_of else None,
        first_event=window.min().isoformat() if window is not None else None,
        last_event=window.max().isoformat() if window is not None else None,
    )


def save_record(snapshot: Snapshot, path: Path) -> None:
    """Write the record of a snapshot as JSON."""
    write_json(path, asdict(snapshot))


def load_record(path: Path) -> Snapshot:
    """Read what `save_record` wrote."""
    return Snapshot(**read_json(path))


def read_snapshot(snapshot: Snapshot) -> pl.DataFrame:
    """The rows of a snapshot, after a check that they are still the same bytes.

    Raises
    ------
    SourceError
        If the file is gone or was changed.
    """
    path = Path(snapshot.path)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as reason:
        raise SourceError(
            f"snapshot {snapshot.short}: {reason.strerror} ({path}). Run `loopbook build`."
        ) from None
    if found != snapshot.sha256:
        raise SourceError(
            f"snapshot {snapshot.short}: the file's SHA-256 is {found[:12]}…, so it was changed. "
            f"Delete {path} and run `loopbook build`."
        )
    return pl.read_parquet(path)
