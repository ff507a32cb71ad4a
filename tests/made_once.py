"""Projects that one worker makes and every test of the run may copy, and the order of the tests."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from _pytest.nodeid import coerce_node_id
from filelock import FileLock

from loopbook.project import new

# These modules take minutes, the longest first: so that no worker is left with one at the end.
LONGEST_FIRST = (
    *("test_examples", "test_images", "test_compose", "test_build", "test_serving", "test_loop"),
    *("test_scenarios", "test_airflow", "test_monitor", "test_faults", "test_your_table"),
    *("test_dvc_engine", "test_back_ends", "test_scoring", "test_champions", "test_workers"),
    *("test_lab", "test_loop_dashboard"),
)
# A folder's name, of signs that mean something in an address, a shell, a page or a pattern.
# Decoded, it would be another folder; as a pattern, it would match another one.
MANY_SIGNS = """a project's [x] #1 100%41 wh?t "q"; & + ü*"""
ARTIFACTS = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri")),
    *(("logged_models", "artifact_location"), ("model_versions", "storage_location")),
)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills for the first test that asks; the other workers wait for it.

    It is to be read or copied, and never to be changed.
    """
    base = factory.getbasetemp()
    of_the_run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = of_the_run / "made once" / name
    folder.parent.mkdir(exist_ok=True)
    is_made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not is_made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            is_made.touch()
    return folder


def new_project(folder: Path, wheel: Path, *, name: str, example: str) -> Path:
    """What `loopbook new` makes, of a wheel that is built already."""

    def put(into: Path) -> Path:
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, into))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new, "put_own_wheel", put)
        return new.make_project(folder, name=name, example=example)


def copied(source: Path, target: Path) -> Path:
    """A copy of a project that has its own files throughout, the artifacts of its runs too."""
    shutil.copytree(source, target, symlinks=True)
    registry = target / "var" / "mlflow" / "mlflow.db"
    if registry.exists():
        with closing(sqlite3.connect(registry)) as database, database:
            for table, column in ARTIFACTS:
                change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
                database.execute(change, (source.as_uri(), target.as_uri()))
    if (
        "mlflow" in sys.modules
    ):  # it remembers by run where artifacts are, and a copy has the same runs
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()
    return target


def _join(item: pytest.Item, group: str) -> None:
    """Put a test into a group that one worker runs.

    xdist 3.8 writes the group into `_nodeid`, which pytest 9.2 does not read,
    and deals every test out alone without a word.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and not item.nodeid.endswith(f"@{group}"):
        item._id = coerce_node_id(f"{item.nodeid}@{group}")
        assert item.nodeid.endswith(f"@{group}")


def in_order(items: list[pytest.Item]) -> None:
    """Say which tests one worker has to run, and put the longest first.

    Tests that share a fixture of their module are one group; every other test
    goes to whichever worker is free.
    """
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs
        shared = [d for d in fixtures.values() if d[-1].scope == "module"]
        mark = item.get_closest_marker("xdist_group")
        group = mark.args[0] if mark else item.path.stem if shared else None
        if item.path.parent.name == "project":  # what a new project has: one build for all
            group = "the tests of a project"
        if (
            "containers" in fixtures
        ):  # a build beside it would lose a layer: one storage, one worker
            group = "the tests with containers"
        if group:
            _join(item, group)
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
