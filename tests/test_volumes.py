"""A folder that cannot be written to, and a package that is not there, are told in a sentence."""

import errno
import os
import subprocess
import sys

import pytest
from small_house import ROOT, environment

from loopbook.project import volumes
from loopbook.project.database import connect_database
from loopbook.project.errors import PredictionLogError
from loopbook.project.paths import Project
from loopbook.serving import command

WITHOUT = """
import sys
sys.modules["duckdb"] = None  # as in the service's image
sys.argv = ["loopbook", "check"]
from loopbook.cli import main
main.main()
"""


def test_a_folder_of_somebody_else_is_named_with_both_users_and_the_way_out(tmp_path):
    tmp_path.chmod(0o750)
    about = tmp_path.stat()
    fault = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "none" / "keys.db"))
    told = volumes.told(fault, None)
    assert f"user {os.geteuid()} has no right to it; {tmp_path} belongs to" in told
    assert "(mode 750)" in told
    assert f"--user {about.st_uid}:{about.st_gid}" in told


def test_a_full_volume_and_a_read_only_one_are_told_apart_and_a_fault_of_ours_is_none(tmp_path):
    project = Project(tmp_path)
    full = volumes.told(OSError(errno.ENOSPC, "No space left on device"), project)
    assert full.startswith(f"{project.var}: no space is left there")
    assert "read-only" in volumes.told(OSError(errno.EROFS, "Read-only", "/x"), project)
    assert volumes.told(FileNotFoundError(errno.ENOENT, "No such file", "/x"), project) is None


def test_a_log_in_a_folder_without_rights_is_told_by_the_folder_and_not_by_its_driver(
    tmp_path, monkeypatch
):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("loopbook.project.database.make_private", refuse)
    with pytest.raises(PredictionLogError, match=r"^/.*log.db: user .* has no right to it"):
        connect_database(f"sqlite:///{tmp_path / 'log.db'}", "X", PredictionLogError)


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("LOOPBOOK_PORT", text)
    with pytest.raises(SystemExit, match="Expected a whole number from 1 to 65535"):
        command._set_port()


@pytest.mark.medium
def test_a_command_whose_package_is_missing_says_where_to_run_it(tmp_path):
    """With the contract of an example whose source is a query."""
    example = ROOT / "examples" / "penguins"
    for path in (example / "contract.yaml", ROOT / "env.yaml", ROOT / "pipeline.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    for name, there in (("data", example / "data"), ("notebooks", ROOT / "notebooks")):
        (tmp_path / name).symlink_to(there)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    assert "This needs the package duckdb" in done.stderr
    assert "workbench image" in done.stderr
    assert "Traceback" not in done.stderr
