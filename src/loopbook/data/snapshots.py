"""Snapshots: immutable copies of source rows, named by what is in them.

It decides what a snapshot's name and record are, and which may be deleted. A
snapshot is never changed and never overwritten; its record lies beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from loopbook.project.clock import EVENT_TS, parse_instant
from loopbook.project.errors import SourceError
from loopbook.project.files import read_json, replacing, sha256_of, write_json
from loopbook.records import seals


@dataclass(frozen=True)
class Snapshot:
    """What is known of a snapshot without opening it; times are ISO 8601 in UTC.

    `pointer` is what DVC needs to bring the same bytes back elsewhere; empty
    where the snapshot was made without DVC.
    """

    sha256: str
    path: str
    rows: int
    bytes: int
    as_of: str | None
    first_event: str | None
    last_event: str | None
    made_at: str
    pointer: str

    @property
    def short(self) -> str:
        return self.sha256[:12]


def write_snapshot(
    rows: pl.DataFrame, folder: Path, as_of: datetime | None, *, now: datetime
) -> Snapshot:
    """Write rows to `folder` under the SHA-256 of the file; do nothing if they are there.

    The same rows in the same order give the same bytes, and so the same name.
    `now` is when: the clock on the wall, for the list of snapshots.
    """
    from loopbook.data import dataset_versions

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "incoming.parquet") as incoming:
        rows.write_parquet(incoming, compression="zstd", statistics=True)
        digest = sha256_of(incoming)
        path = folder / f"{digest}.parquet"
        if path.exists():
            incoming.unlink()
        else:
            incoming.replace(path)
    window = rows[EVENT_TS] if EVENT_TS in rows.columns else None
    record = folder / f"{digest}.json"
    if record.exists():
        now = parse_instant(read_json(record)["made_at"])
    snapshot = Snapshot(
        sha256=digest,
        path=str(path),
        rows=rows.height,
        bytes=path.stat().st_size,
        as_of=as_of.isoformat() if as_of else None,
        first_event=window.min().isoformat() if window is not None else None,
        last_event=window.max().isoformat() if window is not None else None,
        made_at=now.isoformat(),
        pointer=dataset_versions.keep(folder, path),
    )
    save_record(snapshot, record)
    seals.keep(path, record, why=f"snapshot {snapshot.short}")
    return snapshot


def listed(folder: Path) -> list[Snapshot]:
    """Every snapshot that is here, the newest first."""
    there = [
        replace(load_record(record), path=str(record.with_suffix(".parquet")))
        for record in folder.glob("*.json")
        if record.with_suffix(".parquet").exists()
    ]
    return sorted(there, key=lambda s: (s.made_at, s.sha256), reverse=True)


def prune(
    folder: Path, uses: Mapping[str, Sequence[str]]
) -> tuple[list[Snapshot], list[tuple[Snapshot, str]]]:
    """Delete the snapshots that nothing uses.

    Parameters
    ----------
    uses : mapping from SHA-256 to what uses it
        Registered versions, and the build that stands.

    Returns
    -------
    deleted, kept
        `kept` with the reason of each.
    """
    from loopbook.data import dataset_versions

    here = listed(folder)
    kept = [(s, f"used by {', '.join(uses[s.sha256])}") for s in here if uses.get(s.sha256)]
    deleted = [s for s in here if not uses.get(s.sha256)]
    if deleted:
        files = [Path(snapshot.path) for snapshot in deleted]
        dataset_versions.forget(folder, files)
        for file in files:
            file.with_suffix(".json").unlink(missing_ok=True)
        gone = [beside for file in files for beside in (file, file.with_suffix(".json"))]
        seals.forget(*gone, why="snapshots that nothing uses")
    return deleted, kept


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
        digest = sha256_of(path)
    except OSError as reason:
        raise SourceError(
            f"snapshot {snapshot.short}: {reason.strerror} ({path}). Run `loopbook build`."
        ) from None
    if digest != snapshot.sha256:
        raise SourceError(
            f"snapshot {snapshot.short}: the file's SHA-256 is {digest[:12]}…, so it was changed. "
            f"Delete {path} and run `loopbook build`."
        )
    return pl.read_parquet(path, glob=False)
