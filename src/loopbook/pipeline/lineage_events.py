"""Lineage events: what ran, what it read and what came of it, in OpenLineage's words.

It decides what a run, a job and a dataset are called, and where events go: to a
file below `var/lineage`, and to the server that `OPENLINEAGE_URL` names. A job
is a task, a build, a window or a turn; a dataset is a product by its path from
the project's folder, and its version the digest of its bytes, or that of the
snapshot. Events tell and never stop: what cannot be told is said once. The only
importer of OpenLineage, which is an extra.
"""

import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loopbook.pipeline.failures import reason_of
from loopbook.pipeline.tasks import Task
from loopbook.project.contract import read_contract
from loopbook.project.database import shown
from loopbook.project.files import read_json, sha256_of
from loopbook.project.paths import Project
from loopbook.records import seals

URL, API_KEY, NAMESPACE = "OPENLINEAGE_URL", "OPENLINEAGE_API_KEY", "OPENLINEAGE_NAMESPACE"
DISABLED = "OPENLINEAGE_DISABLED"
PRODUCER = "urn:loopbook"
START, COMPLETE, FAIL = "START", "COMPLETE", "FAIL"
TIMEOUT_S = 5.0
LONGEST = 2_000  # characters of an error
ABSENT = (
    "OpenLineage events are not written: openlineage-python is not installed. "
    "For them: pip install 'loopbook[openlineage]'"
)
SNAPSHOT = "snapshot"  # the product that is a snapshot's record


def _new_id() -> str:
    if find_spec("openlineage") is None:
        return str(uuid.uuid4())
    from openlineage.client.uuid import generate_new_uuid

    return str(generate_new_uuid())


@dataclass(frozen=True)
class Dataset:
    """What a job reads or writes; `version` is None where it is not known."""

    name: str
    version: str | None = None


@dataclass
class Run:
    """A run of a job; `outputs` may come until it ends, and so may `failure`."""

    telling: "Telling"
    job: str
    kind: str
    inputs: Sequence[Dataset] = ()
    outputs: Sequence[Dataset] = ()
    failure: str | None = None
    parent: "Run | None" = None
    about: str = ""
    id: str = field(default_factory=_new_id)

    @property
    def root(self) -> "Run":
        return self.parent.root if self.parent else self


class Telling:
    """Where the events of one run and of those below it go; nowhere without the package."""

    def __init__(self, project: Project, job: str):
        self.project = project
        self.lock, self.transports = threading.Lock(), []
        self.namespace, self.file = "", None
        if os.environ.get(DISABLED, "").lower() in ("true", "1"):
            return
        if find_spec("openlineage") is None:
            _say_once(project)
            return
        self.namespace = os.environ.get(NAMESPACE) or read_contract(project.contract).name
        started = datetime.now(UTC)
        self.file = (
            project.var / "lineage" / f"{started:%Y%m%dT%H%M%S}-{job}-{_new_id()[-8:]}.jsonl"
        )
        try:
            self.transports = _transports(self.file)
        except OSError as reason:  # the build will say it better, if it cannot write either
            print(f"OpenLineage: no events are written ({reason}); the run goes on.")

    def tell(self, run: Run, state: str) -> None:
        """Write an event and send it; who is away is told of once and asked no more."""
        if not self.transports:
            return
        event = _event(run, state, self.namespace)
        with self.lock:
            for where, transport in list(self.transports):
                try:
                    transport.emit(event)
                except Exception as reason:  # a server may answer anything, and events stop nothing
                    self.transports.remove((where, transport))
                    # never its text: it may hold the address with a password
                    answer = getattr(getattr(reason, "response", None), "status_code", None)
                    why = f"it answered {answer}" if answer else type(reason).__name__
                    print(f"OpenLineage: {where} takes no events ({why}); the run goes on.")

    def close(self) -> None:
        if self.file is not None and self.file.exists():
            with suppress(OSError):  # what ends the run is told, and not this
                seals.keep(self.file, why="lineage")


_CURRENT: ContextVar[Run | None] = ContextVar("current_run", default=None)


@contextmanager
def told(project: Project, job: str, kind: str = "DAG") -> Iterator[Run]:
    """Tell of a run that has others below it; one within another is that one's child.

    It has failed if the block raises, or if `failure` is set in it.
    """
    parent = _CURRENT.get()
    telling = parent.telling if parent else Telling(project, job)
    run = Run(telling, job, kind, parent=parent)
    before = _CURRENT.set(run)
    try:
        with _ended(run):
            yield run
    finally:
        _CURRENT.reset(before)
        if parent is None:
            telling.close()


@contextmanager
def of_task(parent: Run, task: Task) -> Iterator[Run]:
    """Tell of a task of the graph; `parent` is the run of the graph."""
    with _told_of(parent.telling, f"{parent.job}.{task.name}", task, parent) as run:
        yield run


@contextmanager
def alone(project: Project, graph: str, task: Task) -> Iterator[Run]:
    """Tell of a task of a graph that another engine runs, task by task."""
    name = f"{graph}.{task.name}"
    telling = Telling(project, name)
    try:
        with _told_of(telling, name, task, None) as run:
            yield run
    finally:
        telling.close()


@contextmanager
def _told_of(telling: Telling, name: str, task: Task, parent: Run | None) -> Iterator[Run]:
    if not telling.transports:
        yield Run(telling, "", "TASK")
        return
    inputs = [
        dataset
        for products in task.needs.values()
        for dataset in datasets(telling.project, products)
    ]
    depends_on = task.parameters.get("depends_on")
    if isinstance(depends_on, Mapping) and "source" in depends_on:
        inputs.insert(0, Dataset("source", depends_on["source"]))
    run = Run(telling, name, "TASK", inputs, parent=parent)
    run.about = f"The notebook {Path(task.notebook).name}."
    with _ended(run):
        yield run
        run.outputs = datasets(telling.project, task.products)


@contextmanager
def _ended(run: Run) -> Iterator[None]:
    run.telling.tell(run, START)
    try:
        yield
    except BaseException as error:
        run.failure = reason_of(error)
        raise
    finally:
        run.telling.tell(run, FAIL if run.failure else COMPLETE)


def datasets(project: Project, products: Mapping[str, str]) -> list[Dataset]:
    """Products as datasets."""
    return [
        Dataset(_name(project, project.root / path), _version(key, project.root / path))
        for key, path in products.items()
    ]


def _name(project: Project, path: Path) -> str:
    path = path.resolve()
    is_ours = path.is_relative_to(project.root)
    return path.relative_to(project.root).as_posix() if is_ours else path.as_posix()


def _version(key: str, path: Path) -> str | None:
    try:
        if key == SNAPSHOT and path.suffix == ".json":
            return read_json(path)["sha256"]
        return sha256_of(path)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _say_once(project: Project) -> None:
    """Say that the package is absent: each time to who wants a server, else once for a project."""
    mark = project.var / "lineage" / "not-written.txt"
    if os.environ.get(URL) or not mark.exists():
        print(ABSENT)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(ABSENT + "\n", encoding="utf-8")


def _transports(file: Path) -> list[tuple[str, Any]]:
    """The transports themselves: a client of OpenLineage's would read further settings of a person."""
    from openlineage.client.transport.file import FileConfig, FileTransport

    file.parent.mkdir(parents=True, exist_ok=True)
    found: list[tuple[str, Any]] = [
        (file.name, FileTransport(FileConfig(log_file_path=str(file), append=True)))
    ]
    if address := os.environ.get(URL):
        found.append((shown(address), _server(address)))
    return found


def _server(address: str) -> Any:
    from openlineage.client.transport.http import (
        ApiKeyTokenProvider,
        HttpConfig,
        HttpTransport,
        TokenProvider,
    )

    key = os.environ.get(API_KEY)
    who = ApiKeyTokenProvider({"apiKey": key}) if key else TokenProvider({})
    # asked once for each event: a server that is away must not keep a build waiting
    retry = {"total": 0, "read": 0, "connect": 0}
    parts = urlsplit(address)
    url = address if parts.scheme else f"http://{address}"
    return HttpTransport(HttpConfig(url=url, timeout=TIMEOUT_S, auth=who, retry=retry))


def _event(run: Run, state: str, namespace: str) -> Any:
    from openlineage.client import event_v2

    return event_v2.RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        producer=PRODUCER,
        eventType=event_v2.RunState[state],
        run=event_v2.Run(runId=run.id, facets=_run_facets(run, namespace)),
        job=event_v2.Job(namespace=namespace, name=run.job, facets=_job_facets(run)),
        inputs=[
            event_v2.InputDataset(namespace, one.name, facets=_dataset_facets(one))
            for one in run.inputs
        ],
        outputs=[
            event_v2.OutputDataset(namespace, one.name, facets=_dataset_facets(one))
            for one in run.outputs
        ],
    )


def _run_facets(run: Run, namespace: str) -> dict[str, Any]:
    from importlib.metadata import version

    from openlineage.client.facet_v2 import error_message_run, parent_run, processing_engine_run

    engine = processing_engine_run.ProcessingEngineRunFacet(
        version=version("loopbook"), name="loopbook", producer=PRODUCER
    )
    facets: dict[str, Any] = {"processing_engine": engine}
    if run.parent:
        root = run.root
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=run.parent.id),
            job=parent_run.Job(namespace=namespace, name=run.parent.job),
            root=parent_run.Root(
                run=parent_run.RootRun(runId=root.id),
                job=parent_run.RootJob(namespace=namespace, name=root.job),
            ),
            producer=PRODUCER,
        )
    if run.failure:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=run.failure[:LONGEST], programmingLanguage="PYTHON", producer=PRODUCER
        )
    return facets


def _job_facets(run: Run) -> dict[str, Any]:
    from openlineage.client.facet_v2 import documentation_job, job_type_job

    facets: dict[str, Any] = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="LOOPBOOK", jobType=run.kind, producer=PRODUCER
        )
    }
    if run.about:
        facets["documentation"] = documentation_job.DocumentationJobFacet(
            description=run.about, producer=PRODUCER
        )
    return facets


def _dataset_facets(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    if dataset.version is None:
        return {}
    version = dataset_version_dataset.DatasetVersionDatasetFacet(
        datasetVersion=dataset.version, producer=PRODUCER
    )
    return {"version": version}
