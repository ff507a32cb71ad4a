"""The registry from the writing side: two that log at one moment, and addresses that are none."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from conftest import free_port
from small_house import ROOT
from sqlalchemy import event
from sqlalchemy.orm import Session

from loopbook.data.snapshots import Snapshot
from loopbook.pipeline import digests
from loopbook.project.errors import RegistryError
from loopbook.project.paths import Project
from loopbook.registry import candidate_run, code_state, environments, tracking
from loopbook.registry.reachable import refuse_unusable

SNAPSHOT = Snapshot("0" * 64, "/none", 1, 1, None, None, None, "2015-03-01", "")
TRAIN = "notebooks/05_train.ipynb"


@pytest.mark.medium
def test_of_two_runs_that_log_one_dataset_at_one_moment_both_have_it(tmp_path, monkeypatch):
    """The second inserts it after the first has looked, and before the first inserts it."""
    project = Project(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.environment()["MLFLOW_TRACKING_URI"])
    client = tracking.connect(project)
    experiment = tracking.experiment_id(client, "rents")
    second, moments = client.create_run(experiment).info.run_id, []

    def meanwhile(session, *_):
        if not moments and any(type(new).__name__ == "SqlDataset" for new in session.new):
            moments.append("a look")
            with mlflow.start_run(run_id=second, nested=True):
                tracking._log_dataset(SNAPSHOT)

    event.listen(Session, "before_flush", meanwhile)
    try:
        with mlflow.start_run(experiment_id=experiment) as first:
            tracking._log_dataset(SNAPSHOT)
    finally:
        event.remove(Session, "before_flush", meanwhile)
    both = [client.get_run(run).inputs.dataset_inputs for run in (first.info.run_id, second)]
    assert [[i.dataset.digest for i in inputs] for inputs in both] == [["0" * 36]] * 2
    assert moments == ["a look"]


def test_the_mark_of_a_database_that_was_deleted_does_not_vouch_for_the_next(tmp_path, monkeypatch):
    """Whoever comes while its tables are being made has to wait, and must not find the mark."""
    database, marked = tmp_path / "mlflow.db", []

    def made(*_):
        database.touch()
        marked.append(database.with_suffix(".ready").exists())

    monkeypatch.setattr(tracking, "SqlAlchemyStore", made)
    tracking._make_database_once("sqlite:///mlflow.db", database)
    database.unlink()
    tracking._make_database_once("sqlite:///mlflow.db", database)
    tracking._make_database_once("sqlite:///mlflow.db", database)
    assert marked == [False, False]


@contextmanager
def server(*answers: tuple[int, str]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers in turn, the last for ever, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers[min(len(asked), len(answers) - 1)]
            asked.append(f"{self.command} {self.path.partition('?')[0].rpartition('/')[2]}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


KNOWN = (200, json.dumps({"experiment": {"experiment_id": "3"}}))
UNKNOWN = (404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"}))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([(200, "<html>It works!</html>")], "answered 200 and not as MLflow does"),
        ([(404, "404 page not found")], "answered 404 and not as MLflow does"),
        ([(200, "[]")], "answered 200 and not as MLflow does"),
        ([(502, "Bad Gateway")], "answered 502 and not as MLflow does"),
        ([(401, "You are not authenticated")], "answered 401 Unauthorized"),
        ([UNKNOWN, (403, "Permission denied")], "answered 403 Forbidden"),
        ([KNOWN, (403, "Permission denied")], "answered 403 Forbidden"),
    ],
)
def test_what_is_no_tracking_server_or_gives_no_rights_is_told_before_a_build(answers, reason):
    with server(*answers) as (address, _), pytest.raises(RegistryError) as told:
        refuse_unusable(address, "rents")
    assert f"MLFLOW_TRACKING_URI {address}: {reason}, so nothing was run" in str(told.value)


@pytest.mark.medium
@pytest.mark.parametrize(("known", "writes"), [(UNKNOWN, "create"), (KNOWN, "update")])
def test_a_tracking_server_is_asked_for_the_right_to_write(known, writes):
    with server(known, (200, "{}")) as (address, asked):
        refuse_unusable(address, "rents")
    assert asked == ["GET get-by-name", f"POST {writes}"]


def test_a_server_that_is_away_is_told_without_its_password():
    address = f"http://ada:secret@127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError, match=r"is away \(ConnectError\)") as told:
        refuse_unusable(address, "rents")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("address", ["./mlruns", "file:///tmp/mlruns", "sqlite://"])
def test_an_address_of_nothing_is_refused(address):
    with pytest.raises(RegistryError, match=r"is no address of an MLflow server or database"):
        refuse_unusable(address, "rents")


def test_a_file_that_is_no_database_is_refused_and_a_missing_one_is_not_made(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be read as one")
    with pytest.raises(RegistryError, match=r"notes\.txt: is no SQLite file, so nothing was run"):
        refuse_unusable(f"sqlite:///{tmp_path}/notes.txt", "rents")
    refuse_unusable(f"sqlite:///{tmp_path}/later/mlflow.db", "rents")
    assert not (tmp_path / "later").exists()
    with pytest.raises(RegistryError, match="cannot be made in"):
        refuse_unusable("sqlite:////proc/1/mlflow.db/x/y", "rents")


def test_a_task_that_logs_depends_on_where_and_no_other_does(monkeypatch):
    monkeypatch.chdir(ROOT)
    own = Project(ROOT).environment()["MLFLOW_TRACKING_URI"]
    addresses = {own: "own", "http://ada:secret@there:5000": "http://there:5000"}
    for address, shown in addresses.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert digests.depends_on(TRAIN)["tracking"] == shown
        assert "tracking" not in digests.depends_on("notebooks/03_build_features.ipynb")


@pytest.fixture
def decided(tmp_path, line) -> Project:
    """A project whose last build registered the version that its registry has."""
    folder = tmp_path / "var" / "build"
    (folder / "train").mkdir(parents=True)
    (tmp_path / "var" / "mlflow").symlink_to(line / "var" / "mlflow")
    contract = digests.read_contract(line / "contract.yaml")
    store = digests.connect(Project(tmp_path).environment()["MLFLOW_TRACKING_URI"])
    made = store.versions(contract.name)[0]
    decision = {"challenger": {"version": made.number, "run_id": made.run_id}}
    (folder / "decision.json").write_text(json.dumps(decision))
    stamp = {"params": {"depends_on": {"tracking": "own"}}}
    (folder / ".decision.json.metadata").write_text(json.dumps(stamp))
    for name in ("train/.ridge-1.json.metadata", ".evidence.json.metadata", ".split.json.metadata"):
        (folder / name).touch()
    return Project(tmp_path)


def stamps(project: Project) -> set[str]:
    return {path.name.split(".")[1] for path in (project.var / "build").rglob(".*.metadata")}


@pytest.mark.medium
def test_what_was_logged_to_a_registry_that_is_gone_is_logged_again(decided, line, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", decided.environment()["MLFLOW_TRACKING_URI"])
    contract = digests.read_contract(line / "contract.yaml")
    digests._forget_what_the_registry_lost(decided, contract)
    assert stamps(decided) == {"decision", "ridge-1", "evidence", "split"}
    Path(decided.var / "mlflow").unlink()
    digests._forget_what_the_registry_lost(decided, contract)
    assert stamps(decided) == {"split"}


@pytest.mark.medium
def test_a_look_at_another_registry_forgets_nothing(decided, line, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/another.db")
    digests._forget_what_the_registry_lost(decided, digests.read_contract(line / "contract.yaml"))
    assert stamps(decided) == {"decision", "ridge-1", "evidence", "split"}


def test_a_run_names_its_document_as_its_source_and_begins_with_an_error(tmp_path, monkeypatch):
    """MLflow's comparison opens with the first metric; it was the number of rows, alike in all."""
    assert list(candidate_run.loggable("test", {"n": 9, "mae": 1.0})) == ["test_mae", "test_n"]
    for module, name in ((code_state, "of"), (environments, "lock_digest")):
        monkeypatch.setattr(
            module, name, lambda project: SimpleNamespace(commit="c", is_dirty=False, sha256="s")
        )
    tags = candidate_run.provenance(
        Project(tmp_path), str(tmp_path / "var/build/train/ridge-1.ipynb")
    )
    assert tags["mlflow.source.name"] == "notebooks/ridge-1.ipynb"
    assert "mlflow.source.name" not in candidate_run.provenance(Project(tmp_path))
