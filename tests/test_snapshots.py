"""Snapshots: the rows of a version can be had again, here and on another machine."""

import hashlib
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopbook.data import dataset_versions, snapshots
from loopbook.project.errors import SourceError

NOW = datetime(2025, 1, 1, tzinfo=UTC)
DVC = str(Path(sys.executable).with_name("dvc"))


def rows(count: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(count)})


def dvc(folder: Path, *words: str) -> None:
    subprocess.run([DVC, *words], cwd=folder, check=True, capture_output=True)


def test_a_team_pushes_and_pulls_the_same_bytes_with_dvcs_own_commands(tmp_path):
    """Two machines, one local remote; what crosses is the pointer that the run keeps."""
    here, there = tmp_path / "here/snapshots", tmp_path / "there/snapshots"
    made = snapshots.write_snapshot(rows(1000), here, None, now=NOW)
    dvc(here, "remote", "add", "-d", "team", str(tmp_path / "remote"))
    dvc(here, "push")
    with pytest.raises(SourceError, match=r"no remote gives it .*dvc remote add -d team"):
        dataset_versions.restore(there, made.sha256, made.pointer)
    assert not list(there.glob("*.parquet*"))
    dvc(there, "remote", "add", "-d", "team", str(tmp_path / "remote"))
    path = dataset_versions.restore(there, made.sha256, made.pointer)
    assert path.read_bytes() == Path(made.path).read_bytes()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == made.sha256


def test_a_remote_that_gives_another_file_is_found_out(tmp_path):
    here = tmp_path / "snapshots"
    made = snapshots.write_snapshot(rows(10), here, None, now=NOW)
    other = snapshots.write_snapshot(rows(11), here, None, now=NOW)
    dvc(here, "remote", "add", "-d", "team", str(tmp_path / "remote"))
    dvc(here, "push")
    pointer = other.pointer.replace(other.sha256, made.sha256)
    dataset_versions.forget(here, [Path(made.path)])
    with pytest.raises(SourceError, match="so it is another one"):
        dataset_versions.restore(here, made.sha256, pointer)


def test_pruning_deletes_only_what_nothing_uses_and_its_place_on_the_disk(tmp_path):
    made = [
        snapshots.write_snapshot(rows(n), tmp_path, None, now=NOW + timedelta(days=n))
        for n in (10, 20, 30)
    ]
    assert [s.rows for s in snapshots.listed(tmp_path)] == [30, 20, 10]
    deleted, kept = snapshots.prune(tmp_path, {made[1].sha256: ["v1", "v2"]})
    assert {s.rows for s in deleted} == {10, 30}
    assert [(s.rows, why) for s, why in kept] == [(20, "used by v1, v2")]
    assert [s.rows for s in snapshots.listed(tmp_path)] == [20]
    cached = [p for p in (tmp_path / ".dvc/cache/files").rglob("*") if p.is_file()]
    assert len(cached) == 1
    assert cached[0].stat().st_ino == Path(made[1].path).stat().st_ino


def test_a_snapshot_that_is_made_again_keeps_its_first_date(tmp_path):
    first = snapshots.write_snapshot(rows(10), tmp_path, None, now=NOW)
    assert snapshots.write_snapshot(rows(10), tmp_path, None, now=NOW + timedelta(days=9)) == first


def test_a_folder_that_is_moved_still_has_its_snapshots(tmp_path):
    """A record names its file by its place beside it, not by where it was made."""
    made = snapshots.write_snapshot(rows(10), tmp_path / "a", None, now=NOW)
    shutil.move(tmp_path / "a", tmp_path / "b")
    (found,) = snapshots.listed(tmp_path / "b")
    assert found.sha256 == made.sha256
    assert snapshots.read_snapshot(found).equals(rows(10))
