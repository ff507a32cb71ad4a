"""Backups: all that a project keeps comes back, on whatever store, and nothing is written over."""

import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import kept
import pytest
from conftest import new_database, new_prefix
from made_once import MANY_SIGNS, copied
from out_of_date import inside
from small_house import FULL, ROOT, give, loopbook, make_project

from loopbook.backups import restoring, taking
from loopbook.data import prediction_log, quarantine
from loopbook.features import store as feature_store
from loopbook.project.contract import read_contract
from loopbook.project.errors import BackupError, LoopbookError
from loopbook.project.paths import Project
from loopbook.provenance import verification
from loopbook.records import seals, turns
from loopbook.registry import state_store
from loopbook.serving import api_keys, scoring

pytestmark = pytest.mark.medium

SOON = datetime(2015, 3, 1, tzinfo=UTC)


@pytest.fixture
def project(everything, tmp_path) -> Iterator[Project]:
    with inside(copied(everything, tmp_path / "house")) as there:
        yield there


def clone(of: Project, folder: Path) -> Path:
    """The project's files without what its runs have made."""
    shutil.copytree(of.root, folder, symlinks=True, ignore=shutil.ignore_patterns("var"))
    return folder


def held(project: Project) -> dict[str, object]:
    """What each store says, by the code that others ask it with."""
    contract = read_contract(project.contract)
    log, store = prediction_log.connect(project, contract), feature_store.connect(project, contract)
    champion = scoring.champion(project, contract)
    row = {name: value for name, value in FULL.items() if name in contract.features}
    states = state_store.read_if_there(project, contract, "9")
    aside = quarantine.connect(project)
    said = {
        "answers": [part.to_dicts() for part in log.rows()],
        "states": [state.as_json() for state in states.every],
        "features": store.get("98115", SOON).values,
        "keys": [(key.id, key.owner, key.scopes) for key in api_keys.connect(project).listed()],
        "aside": [entry.row.id for entry in aside.entries()],
        "champion": (champion.version.label, champion.version.tags, champion.card_sha256),
        "answer": champion.predict(champion.matrix([row], [SOON])).tolist(),
        "turns": turns.listed(project),
        "ledger": seals.read(project).head,
    }
    for one in (log, store, aside):
        one.close()
    return said


@pytest.mark.parametrize("name", ["kept.tar", "kept.tar.gz"])
def test_everything_comes_back_at_another_place_and_verify_finds_nothing(name, project, tmp_path):
    api_keys.connect(project).create("a team", frozenset({"predict"}))
    before, file = held(project), tmp_path / name
    taken = taking.take(project, file)
    assert taken.left_out == []
    assert file.stat().st_mode & 0o077 == 0
    with inside(clone(project, tmp_path / MANY_SIGNS)) as other:
        restoring.restore(other, file)
        shutil.rmtree(project.var)  # whatever is read from the old place is missed
        assert held(other) == before
        assert verification.verify(other).findings == []


def test_a_lock_of_packages_and_what_a_run_logged_are_no_locks_of_a_process(project, tmp_path):
    """The lock that a version was built with was left out: it could not be reproduced from a backup."""
    kept = [
        "var/mlflow/artifacts/1/artifacts/origin/requirements.lock",
        "var/mlflow/artifacts/1/artifacts/uv.lock",
        "var/replay/year-week/loop/requirements.lock",
    ]
    passing = ["var/build.lock", "var/mlflow/mlflow.lock", "var/kept/train.kernel.json"]
    for name in kept + passing:
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).touch()
    taking.take(project, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = set(tar.getnames())
    assert names >= set(kept)
    assert not names & set(passing)


def test_a_restore_ends_with_what_to_type_and_its_trial_with_the_restore(project, tmp_path):
    file = tmp_path / "b.tar"
    taking.take(project, file)
    assert restoring.look(file)[-1].endswith(f"nothing yet: loopbook restore {file}")
    with inside(clone(project, tmp_path / "clone")) as other:
        assert restoring.restore(other, file)[-1].endswith("Next: loopbook verify, then make serve")


def on_servers(folder: Path, server: str, redis: str) -> dict[str, str]:
    """The variables that put every store of a project elsewhere, in new places of two servers."""
    tracking, database = new_database(server), new_database(server)
    return {
        "MLFLOW_TRACKING_URI": tracking.replace("postgresql://", "postgresql+psycopg://"),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (folder / "shared artifacts").as_uri(),
        "LOOPBOOK_PREDICTION_LOG": database,
        "LOOPBOOK_KEY_STORE": database,
        "LOOPBOOK_FEATURE_STORE": new_prefix(redis),
    }


@contextmanager
def standing_in(folder: Path, variables: dict[str, str]) -> Iterator[Project]:
    with inside(folder) as project, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield project


@pytest.mark.slow
def test_everything_on_postgresql_and_redis_comes_back_too(
    postgresql_server, redis_server, tmp_path
):
    """Registry, log and keys in PostgreSQL, features in Redis, artifacts on a shared disk."""
    variables = on_servers(tmp_path, postgresql_server, redis_server)
    folder = make_project(tmp_path / "house")
    give(folder, 1, "champion", "ridge", **variables)
    with standing_in(folder, variables) as project:
        filling = loopbook(folder, "features", "materialize", "--as-of", "2015-03-01", **variables)
        assert filling.returncode == 0, filling.stderr
        kept.fill(project)
        api_keys.connect(project).create("a team", frozenset({"predict"}))
        before = held(project)
        taken = taking.take(project, tmp_path / "kept.tar.gz")
        assert len(taken.stores) == 4
        assert taken.left_out == []
    shutil.rmtree(tmp_path / "shared artifacts")
    variables = on_servers(tmp_path / "new", postgresql_server, redis_server)
    with standing_in(clone(project, tmp_path / "other"), variables) as other:
        restoring.restore(other, tmp_path / "kept.tar.gz")
        assert held(other) == before
        assert verification.verify(other).findings == []
        kept.answers(other, range(kept.ANSWERS, kept.ANSWERS + 10))  # its numbers go on
        shutil.rmtree(other.var)
        with pytest.raises(BackupError, match="holds rows already"):
            restoring.restore(other, tmp_path / "kept.tar.gz")


@pytest.fixture
def backup(project, tmp_path) -> Path:
    return taking.take(project, tmp_path / "kept.tar").path


def test_a_service_that_writes_meanwhile_waits_for_nothing_and_no_answer_is_half(project, tmp_path):
    """What was in the log when the backup began is in it; of what came meanwhile a beginning."""
    contract, is_over = read_contract(project.contract), threading.Event()
    log = prediction_log.connect(project, contract)
    first, written = log.count(), []

    def go_on() -> None:
        while not is_over.is_set():
            number = kept.ANSWERS + len(written)
            log.append([kept.entry(number)])
            written.append(number)

    with_answers = threading.Thread(target=go_on)
    with_answers.start()
    try:
        taking.take(project, tmp_path / "kept.tar")
    finally:
        is_over.set()
        with_answers.join()
    with inside(clone(project, tmp_path / "other")) as other:
        restoring.restore(other, tmp_path / "kept.tar")
        ids = [
            int(i, 16)
            for part in prediction_log.connect(other, contract).rows()
            for i in part["id"]
        ]
        assert ids == list(range(len(ids)))
        assert first <= len(ids) < first + len(written)
        assert verification.verify(other).findings == []


def test_what_a_turn_writes_during_a_backup_is_in_it_with_its_seal(project, tmp_path, monkeypatch):
    """The databases are copied again when something was sealed after them."""
    copy, times = taking._Taking._databases, []

    def and_then_a_turn(self):
        columns = copy(self)
        times.append(None)
        if len(times) == 1:
            turns.keep(project, kept.TURN | {"turn": 2, "reason": "it is", "verdict": "healthy"})
        return columns

    monkeypatch.setattr(taking._Taking, "_databases", and_then_a_turn)
    monkeypatch.setattr(taking, "PAUSE_S", 0)
    taking.take(project, tmp_path / "kept.tar")
    assert len(times) == 2
    with inside(clone(project, tmp_path / "other")) as other:
        restoring.restore(other, tmp_path / "kept.tar")
        assert len(turns.listed(other)) == 2
        assert verification.verify(other).findings == []


def test_a_build_that_never_stops_writing_is_told_and_leaves_no_file(
    project, tmp_path, monkeypatch
):
    monkeypatch.setattr(taking, "PAUSE_S", 0)
    count = iter(range(99))
    monkeypatch.setattr(taking._Taking, "_sealed", lambda self: next(count))
    with pytest.raises(BackupError, match="during each of 6 attempts, so no backup was taken"):
        taking.take(project, tmp_path / "kept.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["house"]


def test_no_backup_is_put_over_anything(project, backup, tmp_path):
    before = held(project)
    with pytest.raises(BackupError, match=r"var: holds \d+ files already .*no backup is put over"):
        restoring.restore(project, backup)
    with pytest.raises(BackupError, match="is there already, and no backup is written over"):
        taking.take(project, backup)
    with pytest.raises(BackupError, match="which it would be a copy of"):
        taking.take(project, project.var / "kept.tar")
    assert held(project) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40_000])


def flip(path: Path) -> None:
    """Change a byte in the middle of the largest file that it holds."""
    with tarfile.open(path) as tar:
        member = max(tar, key=lambda one: one.size)
    content = bytearray(path.read_bytes())
    content[member.offset_data + member.size // 2] ^= 1
    path.write_bytes(content)


def drop(path: Path) -> None:
    """Leave one file out, and the list as it is."""
    shorter = path.with_name("shorter.tar")
    with tarfile.open(path) as tar, tarfile.open(shorter, "w") as other:
        for member in [one for one in tar if not one.name.endswith("keys.db")]:
            other.addfile(member, tar.extractfile(member))
    shorter.replace(path)


def climb(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("var/../contract.yaml"))


BROKEN = {
    cut: "cut off",
    flip: "1 of .* files are not as they were taken",
    drop: "keys.db: found nothing, expected",
    climb: r"holds 'var/../contract.yaml', which no backup",
    lambda path: path.write_text("hello"): "cannot be read as a backup",
    Path.unlink: "there is no such file",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=["cut", "flip", "drop", "climb", "text", "gone"])
def test_a_backup_that_is_not_whole_is_refused_before_anything_is_written(
    spoil, everything, tmp_path
):
    with inside(copied(everything, tmp_path / "house")) as project:
        api_keys.connect(project).create("a team", frozenset({"predict"}))
        backup = taking.take(project, tmp_path / "kept.tar").path
    spoil(backup)
    with inside(clone(project, tmp_path / "other")) as other:
        for read in (restoring.look, lambda path: restoring.restore(other, path)):
            with pytest.raises(BackupError, match=BROKEN[spoil]):
                read(backup)
        assert not other.var.exists() or list(other.var.iterdir()) == []


def test_a_backup_of_another_project_or_for_other_stores_is_refused(
    project, backup, tmp_path, monkeypatch
):
    with inside(clone(project, tmp_path / "other")) as other:
        text = other.contract.read_text()
        other.contract.write_text(text.replace("name: house-prices", "name: other-prices"))
        with pytest.raises(
            BackupError, match=r"is of 'house-prices' .* and this is 'other-prices'"
        ):
            restoring.restore(other, backup)
        other.contract.write_text(text)
        monkeypatch.setenv("LOOPBOOK_KEY_STORE", f"sqlite:///{tmp_path}/keys.db")
        said = "LOOPBOOK_KEY_STORE names sqlite here, and nothing when the backup was taken"
        with pytest.raises(BackupError, match=said):
            restoring.restore(other, backup)
        assert list(other.var.iterdir()) == []


def test_a_tracking_server_is_refused_with_the_address_to_give(project, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    with pytest.raises(BackupError, match=r"is a tracking server.*--backend-store-uri"):
        taking.take(project, tmp_path / "kept.tar")
    assert not (tmp_path / "kept.tar").exists()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "LOOPBOOK_PREDICTION_LOG"])
def test_a_database_that_is_away_is_told_and_leaves_no_file(
    variable, project, tmp_path, monkeypatch
):
    scheme = "postgresql+psycopg" if variable.startswith("MLFLOW") else "postgresql"
    monkeypatch.setenv(variable, f"{scheme}://nobody@127.0.0.1:9/none")
    with pytest.raises(LoopbookError, match=rf"{variable}.*127.0.0.1:9"):
        taking.take(project, tmp_path / "kept.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["house"]


def test_a_backup_is_named_as_what_it_is(tmp_path):
    """`backup x.zip` wrote a tar file of that name."""
    with pytest.raises(BackupError, match=r"x\.zip: expected a name that ends in \.tar or"):
        taking.take(Project(ROOT), tmp_path / "x.zip")
    assert not list(tmp_path.glob("*.zip"))
