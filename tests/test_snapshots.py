"""Snapshots: the rows of a version can be had again, here and on another machine."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from loopbook.cli import snapshot_uses
from loopbook.data import dataset_versions, snapshots
from loopbook.project import paths
from loopbook.project.errors import SourceError

ROOT = Path(__file__).parents[1]
NOW = datetime(2025, 1, 1, tzinfo=UTC)


def rows(count: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(count)})


@pytest.fixture
def dvc() -> Callable[..., None]:
    """DVC's own command, or a skip that says what to type."""
    if not dataset_versions.is_installed():
        pytest.skip("DVC is not here; type: make dvc")
    program = str(Path(sys.executable).with_name("dvc"))

    def run(folder: Path, *words: str) -> None:
        subprocess.run([program, *words], cwd=folder, check=True, capture_output=True)

    return run


@pytest.fixture
def without_dvc(monkeypatch):
    """Python finds no DVC, as where only `loopbook` was installed."""
    monkeypatch.setitem(sys.modules, "dvc", None)


@pytest.mark.medium
def test_a_team_pushes_and_pulls_the_same_bytes_with_dvcs_own_commands(tmp_path, dvc):
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


@pytest.mark.medium
def test_a_remote_that_gives_another_file_is_found_out(tmp_path, dvc):
    here = tmp_path / "snapshots"
    made = snapshots.write_snapshot(rows(10), here, None, now=NOW)
    other = snapshots.write_snapshot(rows(11), here, None, now=NOW)
    dvc(here, "remote", "add", "-d", "team", str(tmp_path / "remote"))
    dvc(here, "push")
    pointer = other.pointer.replace(other.sha256, made.sha256)
    dataset_versions.forget(here, [Path(made.path)])
    with pytest.raises(SourceError, match="so it is another one"):
        dataset_versions.restore(here, made.sha256, pointer)


@pytest.mark.medium
def test_pruning_deletes_only_what_nothing_uses_and_its_place_on_the_disk(tmp_path, dvc):
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


def test_without_dvc_a_snapshot_is_made_and_pruned_and_has_no_pointer(tmp_path, without_dvc):
    made = [
        snapshots.write_snapshot(rows(n), tmp_path, None, now=NOW + timedelta(days=n))
        for n in (10, 20)
    ]
    assert [s.pointer for s in made] == ["", ""]
    assert snapshots.read_snapshot(made[1]).equals(rows(20))
    deleted, kept = snapshots.prune(tmp_path, {made[1].sha256: ["v1"]})
    assert ([s.rows for s in deleted], [s.rows for s, _ in kept]) == ([10], [20])
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".parquet"]


def test_without_dvc_a_restore_says_what_to_install(tmp_path, without_dvc):
    with pytest.raises(
        SourceError, match=r"DVC is not installed\. Type: pip install 'loopbook\[dvc"
    ):
        dataset_versions.restore(tmp_path, "0" * 64, "outs: []")
    assert not list(tmp_path.iterdir())


def test_without_dvc_nothing_is_pruned_that_dvc_holds(tmp_path, dvc, monkeypatch):
    """Its cache would keep the rows on the disk, and nobody would know."""
    made = snapshots.write_snapshot(rows(10), tmp_path, None, now=NOW)
    monkeypatch.setitem(sys.modules, "dvc", None)
    with pytest.raises(SourceError, match=r"nothing was deleted, and DVC is not installed"):
        snapshots.prune(tmp_path, {})
    assert Path(made.path).exists()
    again = snapshots.write_snapshot(rows(10), tmp_path, None, now=NOW)
    assert again == made


@pytest.mark.parametrize(
    ("here", "line"),
    [
        (True, "Share them: cd var/snapshots && dvc remote add"),
        (False, "pip install 'loopbook[dvc"),
    ],
)
def test_the_list_of_snapshots_says_how_to_share_them(tmp_path, monkeypatch, here, line):
    project = paths.Project(tmp_path)
    monkeypatch.setattr(dataset_versions, "is_installed", lambda: False)
    snapshots.write_snapshot(rows(10), project.snapshots, None, now=NOW)
    monkeypatch.setattr(dataset_versions, "is_installed", lambda: here)
    monkeypatch.setattr(snapshot_uses, "uses", lambda _: {})
    assert line in snapshot_uses.lines(snapshot_uses.record(project))[-1]


def test_a_version_that_was_registered_without_dvc_cannot_be_restored_and_says_so(
    tmp_path, monkeypatch
):
    shutil.copy(ROOT / "contract.yaml", tmp_path)
    version = SimpleNamespace(tags={"snapshot_sha256": "ab" * 32, "snapshot_pointer": ""})
    monkeypatch.setattr(snapshot_uses.tracking, "connect", lambda _: None)
    monkeypatch.setattr(snapshot_uses.tracking, "versions", lambda *_: [version])
    with pytest.raises(SourceError, match=r"registered without DVC.* Copy abab\w+\.parquet from"):
        snapshot_uses.restore(paths.Project(tmp_path), "abab")
