"""Tracking: runs, versions and aliases, in MLflow. The only module that imports it.

It decides what a run and a registered version hold. A version has the fitted
scikit-learn pipeline for people, and for the service an ONNX graph and a JSON
card whose SHA-256 stand in the registry as tags; whoever loads them checks.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import sqlalchemy as sa
from filelock import FileLock
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from loopbook.data.snapshots import Snapshot
from loopbook.project.addresses import sqlite_file
from loopbook.project.errors import TrackingError
from loopbook.project.files import write_json
from loopbook.project.paths import Project, current, tracking_address
from loopbook.records.roles import CHALLENGER, CHAMPION, PREVIOUS
from loopbook.registry import moved_files, notes, sealing, weights_and_biases
from loopbook.registry.owners import tag_of
from loopbook.registry.reader import CARD, ONNX, SERVICE, Version
from loopbook.registry.service_files import FILE_TAGS, digest_mismatch, file_tags

if TYPE_CHECKING:  # most commands read and move versions, and fit and draw nothing
    from matplotlib.figure import Figure
    from sklearn.base import BaseEstimator

    from loopbook.registry.candidate_run import CandidateRun

NOTE = "mlflow.note.content"  # tag of a run or an experiment: what MLflow's pages say of it
# without it MLflow's pages ask whoever comes first what kind of experiment it is
OF_MODELS = {"mlflow.experimentKind": "custom_model_development"}
OF_BUILDS = "Each run is a candidate of a build. Its description says how the build went."


def connect(project: Project) -> MlflowClient:
    """A client of the project's tracking server or store.

    The address is `MLFLOW_TRACKING_URI`; by default SQLite below `var/`. A
    SQLite file is made by one process only: eight that start on a missing file
    break it for good. One that was moved is told where its files are now.
    """
    return connect_to(tracking_address(project))


def connect_to(address: str) -> MlflowClient:
    """A client of the tracking server or store at an address."""
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    if database := sqlite_file(address):
        _make_database_once(address, database)
        moved_files.follow(database)
    elif address.startswith("postgresql"):
        _make_tables_once(address)
    return MlflowClient()


def _make_database_once(address: str, database: Path) -> None:
    """Let one process make the tables; the mark tells the others that they are all there.

    MLflow would put the artifacts of its own first experiment into the folder
    that it was called in, and fails there if that one's name has both quotes.
    """
    mark = database.with_suffix(".ready")
    if database.exists() and mark.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_suffix(".lock")):
        if not database.exists():
            mark.unlink(missing_ok=True)  # of one that somebody deleted
        SqlAlchemyStore(address, (database.parent / "artifacts").as_uri())
        mark.touch()


@cache
def _make_tables_once(address: str) -> None:
    """Let one process make PostgreSQL's tables, while the others wait for it.

    Side by side each finds a table missing that the other has just made, and fails.
    """
    with sa.create_engine(address, poolclass=sa.pool.NullPool).connect() as database:
        database.execute(sa.text("SELECT pg_advisory_lock(hashtext('loopbook registry'))"))
        if not sa.inspect(database).has_table("alembic_version"):  # MLflow makes it last
            SqlAlchemyStore(address, os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT", "mlruns"))


def tables_of_mlflow() -> tuple[str, ...]:
    """The tables of MLflow's database, each after the ones that it refers to."""
    return tuple(table.name for table in Base.metadata.sorted_tables)


def experiment_id(client: MlflowClient, name: str, about: str = OF_BUILDS) -> str:
    """The experiment of that name, made where it is not there yet.

    `about` is what MLflow's pages say of one that is made now.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return experiment.experiment_id
    location = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    # a server knows its own place; without one MLflow would take a folder of whoever asks
    is_server = mlflow.get_tracking_uri().startswith(("http:", "https:"))
    try:
        return client.create_experiment(
            name,
            artifact_location=None if is_server else location,
            tags={NOTE: about} | OF_MODELS,
        )
    except MlflowException:  # another candidate was quicker
        return client.get_experiment_by_name(name).experiment_id


def log_candidate(
    client: MlflowClient, experiment: str, candidate: CandidateRun, snapshot: Snapshot
) -> dict[str, str]:
    """Log a candidate as one finished run.

    Returns
    -------
    dict
        `run_id`, `model_uri`, and the digests and sizes of the service's files.
    """
    card = json.dumps(candidate.card, indent=2, sort_keys=True).encode()
    digests = file_tags({ONNX: candidate.onnx, CARD: card})
    tags = {**candidate.tags, **digests, "candidate": candidate.name}
    with mlflow.start_run(experiment_id=experiment, run_name=candidate.name) as run:
        run_id = run.info.run_id
        now = run.info.start_time
        client.log_batch(
            run_id,
            metrics=[Metric(k, v, now, 0) for k, v in candidate.metrics.items()],
            params=[Param(k, str(v)) for k, v in candidate.params.items()],
            tags=[RunTag(k, v) for k, v in (tags | {NOTE: candidate.note}).items()],
        )
        _log_dataset(snapshot)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / ONNX, Path(folder) / CARD]
            for path, content in zip(files, (candidate.onnx, card), strict=True):
                path.write_bytes(content)
            log_files(client, run_id, files, SERVICE)
        log_figures(client, run_id, candidate.figures)
        model = mlflow.sklearn.log_model(
            candidate.model,
            name=candidate.name,
            serialization_format="skops",
            skops_trusted_types=_types_of(candidate.model),
            pip_requirements=[
                f"{package}=={installed_version(package)}"
                for package in ("scikit-learn", "numpy", "scipy", "skops")
            ],
            **_examples(candidate),
        )
    sealing.seal_run(client, run_id)
    sealing.seal_model(client, model.model_id)
    weights_and_biases.tell(current(), candidate, run_id, tags)
    return {"run_id": run_id, "model_uri": model.model_uri, **digests}


def _examples(candidate: CandidateRun) -> dict[str, Any]:
    """What the fitted model takes and gives, and made-up rows to try it with; nothing without these."""
    X = candidate.shown_input()
    if X is None:
        return {}
    signature = infer_signature(X, candidate.model.predict(X))
    inputs = {"inputs": list(candidate.card["inputs"])}  # an array has no names
    return {"input_example": X, "signature": signature, "metadata": inputs}


def _log_dataset(snapshot: Snapshot) -> None:
    """Name a snapshot as the dataset of the active run.

    MLflow looks whether it knows the dataset and inserts it if not. Of two
    candidates that do so at one moment the second fails, and finds it when it
    looks again.
    """
    try:
        mlflow.log_input(_dataset(snapshot), context="training")
    except MlflowException:
        mlflow.log_input(_dataset(snapshot), context="training")


def _types_of(model: BaseEstimator) -> list[str]:
    """The types that skops would refuse to read back; this process has just made the model of them."""
    import skops.io  # it walks through all of scikit-learn

    from loopbook.models.fitted_parts import with_one_tree

    return sorted(skops.io.get_untrusted_types(data=skops.io.dumps(with_one_tree(model))))


def _dataset(snapshot: Snapshot) -> MetaDataset:
    source = LocalArtifactDatasetSource(Path(snapshot.path).as_uri())
    # MLflow keeps at most 36 characters of a digest; the tag has all 64.
    return MetaDataset(source=source, name="snapshot", digest=snapshot.sha256[:36])


def log_window(
    client: MlflowClient, name: str, record: Mapping[str, Any], shown: Sequence[Path]
) -> str:
    """Log a monitored window as a finished run of its own, with its files; the run's id."""
    about = f"Each run is a window of {name} that was monitored."
    experiment = experiment_id(client, f"{name}-monitor", about)
    verdict = record["verdict"]
    with mlflow.start_run(experiment_id=experiment, run_name=record["as_of"][:16]) as run:
        mlflow.log_metrics({k: v for k, v in record["numbers"].items() if v is not None})
        mlflow.set_tags(
            {
                "as_of": record["as_of"],
                "verdict": verdict["level"],
                "reason": verdict["reasons"][0][:5000],
                "model_version": record["champion"].get("version", "none"),
                NOTE: _note(verdict["level"], verdict["reasons"]),
            }
        )
        _log_record(client, run.info.run_id, record)
        log_files(client, run.info.run_id, shown)
    return run.info.run_id


def log_turn(client: MlflowClient, name: str, record: Mapping[str, Any]) -> str:
    """Log a turn of the loop as a finished run of its own; the run's id."""
    about = f"Each run is a turn of the loop of {name}."
    experiment = experiment_id(client, f"{name}-loop", about)
    with mlflow.start_run(experiment_id=experiment, run_name=record["as_of"][:16]) as run:
        mlflow.log_metrics({k: v for k, v in record.get("numbers", {}).items() if v is not None})
        tags = {
            key: record.get(key) or "none" for key in ("as_of", "verdict", "outcome", "champion")
        }
        note = _note(tags["outcome"], [record["reason"]])
        mlflow.set_tags(tags | {"reason": record["reason"][:5000], NOTE: note})
        _log_record(client, run.info.run_id, record)
    return run.info.run_id


def _note(word: str, reasons: Sequence[str]) -> str:
    """A verdict or an outcome with its reasons, as Markdown."""
    return f"**{word}**\n\n" + "\n".join(f"- {reason}" for reason in reasons)


def note_build(client: MlflowClient, decision: Mapping[str, Any]) -> None:
    """Say in MLflow's own pages of each run of a build how it did, and where they are compared."""
    if not notes.runs_of(decision):
        return
    experiment = client.get_run(decision["challenger"]["run_id"]).info.experiment_id
    for run_id, text in notes.of_build(decision, experiment).items():
        client.set_tag(run_id, NOTE, text)


def comparison_page(client: MlflowClient, run_id: str, runs: Sequence[str]) -> str:
    """The page that compares a run with others of its experiment, within MLflow's own pages."""
    return notes.comparison(client.get_run(run_id).info.experiment_id, runs)


def _log_record(client: MlflowClient, run_id: str, record: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        write_json(path, record)
        log_files(client, run_id, [path])


def log_files(
    client: MlflowClient, run_id: str, files: Sequence[Path], folder: str | None = None
) -> None:
    """Add files to a run, each under its own name, and seal them."""
    for file in files:
        client.log_artifact(run_id, str(file), folder)
    beside = f"{folder}/" if folder else ""
    sealing.seal_files(run_id, {f"{beside}{file.name}": file for file in files})


def told_of_run(client: MlflowClient, run_id: str) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters and the tags of a run; none of one that is gone."""
    try:
        told = client.get_run(run_id).data
    except MlflowException as reason:
        if reason.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}, {}
        raise
    return dict(told.params), dict(told.tags)


def downloaded(client: MlflowClient, run_id: str, folder: str, into: Path) -> list[Path]:
    """The files that a run has in a folder, brought to `into`; none where these are gone."""
    try:
        if not client.list_artifacts(run_id, folder):
            return []
        there = Path(client.download_artifacts(run_id, folder, str(into)))
    except (MlflowException, OSError):
        return []
    return [path for path in there.iterdir() if path.is_file()]


def run_of(client: MlflowClient, version: Version) -> Run:
    """The run that made a version.

    Raises
    ------
    TrackingError
        If it was deleted for good.
    """
    try:
        return client.get_run(version.run_id)
    except MlflowException as reason:
        raise TrackingError(
            f"{version.label}: its run {version.run_id} cannot be read "
            f"({str(reason).splitlines()[0]}). Restore the registry from a copy."
        ) from None


def log_figures(client: MlflowClient, run_id: str, figures: Mapping[str, Figure]) -> None:
    """Add figures to a run."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.png" for name in figures]
        for path, figure in zip(files, figures.values(), strict=True):
            figure.savefig(path)
        log_files(client, run_id, files, "figures")


def log_metrics(client: MlflowClient, run_id: str, values: Mapping[str, float]) -> None:
    """Add metrics to a run, at the time at which it started."""
    at = client.get_run(run_id).info.start_time
    client.log_batch(run_id, metrics=[Metric(k, v, at, 0) for k, v in values.items()])
    sealing.seal_run(client, run_id)


def _as_version(registered: Any) -> Version:
    return Version(
        registered.name, str(registered.version), registered.run_id, dict(registered.tags)
    )


def register(
    client: MlflowClient, name: str, logged: Mapping[str, str], tags: Mapping[str, str]
) -> Version:
    """Register a run's model as the next version and give it the alias `challenger`.

    The champion gets no second alias.

    A run that is registered already keeps its version, so that a task that is
    run again registers nothing twice.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as reason:
        if reason.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    run_id = logged["run_id"]
    registered = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if registered:
        version = registered[0]
    else:
        digests = {key: logged[key] for key in FILE_TAGS if key in logged}
        commit = client.get_run(run_id).data.tags.get("git_commit", "none")
        digests["git_commit"] = commit
        version = client.create_model_version(
            name,
            logged["model_uri"],
            run_id=run_id,
            tags={**digests, **tags, **tag_of(current())},
            # a tracking server refuses a source without the model that it belongs to
            model_id=logged["model_uri"].removeprefix("models:/"),
        )
    champion = holder(client, name, CHAMPION)
    if champion is None or champion.number != str(version.version):
        client.set_registered_model_alias(name, CHALLENGER, version.version)
    sealing.seal_version(client, name, version.version)
    return _as_version(client.get_model_version(name, version.version))


def holder(client: MlflowClient, name: str, alias: str) -> Version | None:
    """The version that has an alias now, or None."""
    try:
        return _as_version(client.get_model_version_by_alias(name, alias))
    except MlflowException as reason:
        if reason.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def versions(client: MlflowClient, name: str) -> list[Version]:
    """Every registered version of a model, the newest first."""
    registered: list[Version] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
        registered += [_as_version(version) for version in page]
        token = page.token
        if not token:
            return sorted(registered, key=lambda version: -int(version.number))


def version_of(client: MlflowClient, name: str, number: str) -> Version:
    """A version by its number, as the registry has it now."""
    return _as_version(client.get_model_version(name, number))


def describe(client: MlflowClient, name: str, text: str, number: str | None = None) -> None:
    """Say in MLflow's own pages what a model is, or one of its versions."""
    if number is None:
        client.update_registered_model(name, description=text)
    else:
        client.update_model_version(name, number, description=text)


def artifacts_page(client: MlflowClient, version: Version) -> str:
    """The page of a version's files, as a link within MLflow's own pages; empty if its run is gone."""
    try:
        info = run_of(client, version).info
    except TrackingError:
        return ""
    return f"#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts"


def make_champion(
    client: MlflowClient, version: Version, tags: Mapping[str, str]
) -> Version | None:
    """Move the alias `champion`; keep the previous holder under an alias of its own.

    A challenger that serves challenges nobody, so its other alias goes.

    Returns
    -------
    Version or None
        The previous holder. Calling again for the version that holds the
        alias changes nothing.
    """
    before = holder(client, version.name, CHAMPION)
    if before and before.number == version.number:
        challenges_nobody(client, version)
        return holder(client, version.name, PREVIOUS)
    for key, value in tags.items():
        client.set_model_version_tag(version.name, version.number, key, value)
    if before:
        client.set_registered_model_alias(version.name, PREVIOUS, before.number)
    client.set_registered_model_alias(version.name, CHAMPION, version.number)
    challenges_nobody(client, version)
    sealing.seal_version(client, version.name, version.number)
    return before


def challenges_nobody(client: MlflowClient, champion: Version) -> None:
    """Take the alias `challenger` from the version that serves, if it has it."""
    challenger = holder(client, champion.name, CHALLENGER)
    if challenger and challenger.number == champion.number:
        client.delete_registered_model_alias(champion.name, CHALLENGER)


def model_tags(client: MlflowClient, name: str) -> dict[str, str]:
    """The tags of a registered model; none if it is not there."""
    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException as reason:
        if reason.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def set_model_tag(client: MlflowClient, name: str, key: str, value: str) -> None:
    client.set_registered_model_tag(name, key, value)
    sealing.seal_name(client, name)


def set_version_tag(client: MlflowClient, version: Version, key: str, value: str) -> None:
    client.set_model_version_tag(version.name, version.number, key, value)
    sealing.seal_version(client, version.name, version.number)


def unset_version_tag(client: MlflowClient, version: Version, key: str) -> None:
    """Take a tag away; nothing if it is not there."""
    if key in version.tags:
        client.delete_model_version_tag(version.name, version.number, key)
        sealing.seal_version(client, version.name, version.number)


def set_alias(client: MlflowClient, version: Version, alias: str) -> None:
    client.set_registered_model_alias(version.name, alias, version.number)


def drop_alias(client: MlflowClient, name: str, alias: str) -> None:
    """Take an alias away; nothing if nobody has it."""
    if holder(client, name, alias):
        client.delete_registered_model_alias(name, alias)


def load_service_files(client: MlflowClient, version: Version) -> tuple[bytes, dict[str, Any]]:
    """The ONNX graph and the card of a version, if they are what the registry says.

    Raises
    ------
    TrackingError
        If a file is missing or its SHA-256 is not the registry's.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = Path(client.download_artifacts(version.run_id, SERVICE, folder))
            content = {name: (local / name).read_bytes() for name in (ONNX, CARD)}
        except (MlflowException, OSError) as reason:
            raise TrackingError(
                f"{version.label}: its files cannot be read ({str(reason).splitlines()[0]}). "
                "Restore the artifacts of its run, or roll back."
            ) from None
    for name in (ONNX, CARD):
        if mismatch := digest_mismatch(version, name, content[name]):
            raise TrackingError(f"{mismatch} The file was changed; restore it, or roll back.")
    return content[ONNX], json.loads(content[CARD])
