"""Lineage events: each run begins and ends in OpenLineage's words, and nobody is kept waiting."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import lineage
import pytest
from jsonschema import ValidationError
from small_house import ROOT

from loopbook.pipeline import lineage_events
from loopbook.pipeline.tasks import Task
from loopbook.project.files import sha256_of, write_json
from loopbook.project.paths import Project
from loopbook.records import seals


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    for name in ("contract.yaml", "env.yaml", "pipeline.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for variable in ("URL", "API_KEY", "NAMESPACE", "DISABLED"):
        monkeypatch.delenv(getattr(lineage_events, variable), raising=False)
    return Project(tmp_path)


def task(project: Project, name: str, upstream=(), **products: str) -> Task:
    files = {key: str(project.var / "build" / file) for key, file in products.items()}
    source = {} if upstream else {"source": "0123abcd"}
    needs = {one.name: one.products for one in upstream}
    return Task(name, f"notebooks/{name}.ipynb", {"depends_on": source}, needs, files)


def run(parent, one: Task, **content) -> None:
    with lineage_events.of_task(parent, one):
        for key, path in one.products.items():
            write_json(path, content or {"sha256": "f" * 64, "of": key})


def tasks(project: Project) -> list[Task]:
    ingest = task(project, "ingest", snapshot="snapshot.json")
    split = task(project, "split", [ingest], rows="rows.json", bounds="bounds.json")
    return [ingest, split, task(project, "train-0", [ingest, split], run="run.json")]


def test_every_task_starts_and_completes_as_the_schema_wants_it_below_its_build(project):
    with lineage_events.told(project, "turn"), lineage_events.told(project, "build") as build:
        for one in tasks(project):
            run(build, one)
    told = lineage.events(project.root)
    for event in told:
        lineage.check(event)
    names = ["turn", "build", "build.ingest", "build.split", "build.train-0"]
    assert lineage.ended(told) == {name: ["START", "COMPLETE"] for name in names}
    parent = told[2]["run"]["facets"]["parent"]
    assert (parent["job"]["name"], parent["root"]["job"]["name"]) == ("build", "turn")
    assert parent["root"]["run"]["runId"] == told[0]["run"]["runId"]


def test_the_graph_is_told_by_datasets_whose_versions_are_those_of_their_bytes(project):
    with lineage_events.told(project, "build") as build:
        for one in tasks(project):
            run(build, one)
    told = lineage.events(project.root)
    needs = {"build.ingest": set(), "build.split": {"build.ingest"}}
    assert lineage.graph(told) == needs | {"build.train-0": {"build.ingest", "build.split"}}
    train = next(e for e in told if e["job"]["name"] == "build.train-0")
    rows = project.var / "build" / "rows.json"
    snapshot = {"var/build/snapshot.json": "f" * 64, "var/build/rows.json": sha256_of(rows)}
    assert lineage.versions(train, "inputs").items() >= snapshot.items()
    ingest = next(e for e in told if e["job"]["name"] == "build.ingest")
    assert lineage.versions(ingest, "inputs") == {"source": "0123abcd"}


def test_a_task_that_fails_and_the_build_around_it_say_why(project):
    (one, *_) = tasks(project)
    with (
        pytest.raises(RuntimeError),
        lineage_events.told(project, "build") as build,
        lineage_events.of_task(build, one),
    ):
        raise RuntimeError("the lights went out")
    told = lineage.events(project.root)
    assert lineage.ended(told) == {name: ["START", "FAIL"] for name in ("build", "build.ingest")}
    for event in told:
        lineage.check(event)
    assert (
        told[-2]["run"]["facets"]["errorMessage"]["message"] == "RuntimeError: the lights went out"
    )


WRONG = {
    "a time without a zone": lambda e: e | {"eventTime": "2025-01-01T00:00:00"},
    "a producer that is no address": lambda e: e | {"producer": "loopbook"},
    "a run without a number": lambda e: e | {"run": e["run"] | {"runId": "1"}},
    "datasets that are none": lambda e: e | {"inputs": None},
    "a state of another kind": lambda e: e | {"eventType": "ENDED"},
    "a facet of nobody": lambda e: e | {
        "job": e["job"] | {"facets": {"documentation": {"description": "A task."}}}
    },
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_an_event_that_is_not_as_the_standard_wants_it_is_seen(what, project):
    with lineage_events.told(project, "build") as build:
        run(build, tasks(project)[0])
    for event in lineage.events(project.root):
        lineage.check(event)
        with pytest.raises(ValidationError):
            lineage.check(WRONG[what](event))


def test_the_events_of_a_run_are_one_file_that_is_sealed(project):
    with lineage_events.told(project, "turn") as turn:
        turn.failure = "it is so"
    (file,) = (project.var / "lineage").glob("*-turn-*.jsonl")
    assert json.loads(file.read_text().splitlines()[-1])["eventType"] == "FAIL"
    assert file.relative_to(project.root).as_posix() in seals.read(project).seals


class _Heard(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.heard.append((self.path, self.headers, json.loads(self.rfile.read(length))))
        self.send_response(self.server.answers)
        self.end_headers()

    def log_message(self, *_): ...


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), _Heard)
    made.heard, made.answers = [], 201
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.mark.medium
def test_a_server_gets_each_event_with_its_key(project, server, monkeypatch):
    monkeypatch.setenv(lineage_events.URL, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv(lineage_events.API_KEY, "secret")
    monkeypatch.setenv(lineage_events.NAMESPACE, "ours")
    with lineage_events.told(project, "build") as build:
        run(build, tasks(project)[0])
    assert [event for _, _, event in server.heard] == lineage.events(project.root)
    path, headers, event = server.heard[0]
    assert (path, headers["Authorization"]) == ("/api/v1/lineage", "Bearer secret")
    assert event["job"]["namespace"] == "ours"


@pytest.mark.medium
@pytest.mark.parametrize("answers", [500, None])
def test_a_server_that_takes_no_events_is_told_of_once_and_stops_nothing(
    answers, project, server, monkeypatch, capsys
):
    server.answers = answers
    port = server.server_port if answers else 9  # where nobody listens
    monkeypatch.setenv(lineage_events.URL, f"http://user:password@127.0.0.1:{port}")
    with lineage_events.told(project, "build") as build:
        run(build, tasks(project)[0])
    said = capsys.readouterr().out
    assert said.count("takes no events") == 1
    assert "password" not in said
    assert len(server.heard) == (1 if answers else 0)
    assert len(lineage.events(project.root)) == 4


def test_without_the_package_that_is_said_once_and_nothing_is_written(project, monkeypatch, capsys):
    monkeypatch.setattr(lineage_events, "find_spec", lambda name: None)
    for _ in range(2):
        with lineage_events.told(project, "build") as build:
            run(build, tasks(project)[0])
    assert capsys.readouterr().out.count("pip install 'loopbook[openlineage]'") == 1
    assert lineage.events(project.root) == []
    monkeypatch.setenv(lineage_events.URL, "http://127.0.0.1:9")
    with lineage_events.told(project, "build"):
        pass
    assert "loopbook[openlineage]" in capsys.readouterr().out


def test_who_wants_no_events_gets_none(project, monkeypatch):
    monkeypatch.setenv(lineage_events.DISABLED, "true")
    with lineage_events.told(project, "build") as build:
        run(build, tasks(project)[0])
    assert not (project.var / "lineage").exists()
    assert Path(project.var / "build" / "snapshot.json").exists()
