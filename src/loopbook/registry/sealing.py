"""Sealing: what the registry and its runs hold, sealed where it is written.

It decides which facts of a run and of a version are sealed beside their files,
and under which names. MLflow's client is given; what MLflow itself adds to a
run is nobody's record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from loopbook.records import seals
from loopbook.records.seals import Seal
from loopbook.registry.reader import Version

RUN, MODEL, VERSION, NAME, FACTS = "run/", "model/", "version/", "name/", "#facts"
HEAD = "seals_"  # tag of a registered model: how long a ledger is, and how it ends
MLFLOWS_OWN = "mlflow."


@dataclass(frozen=True)
class RunFacts:
    """What a run says beside its files; `facts` is None where nobody asked."""

    artifacts: str
    facts: Mapping[str, Any] | None


def facts_of_run(run: Any) -> RunFacts:
    """Parameters, metrics and tags of a run as MLflow's client gives it."""
    own = {key: value for key, value in run.data.tags.items() if not key.startswith(MLFLOWS_OWN)}
    said = {"parameter": run.data.params, "metric": run.data.metrics, "tag": own}
    facts = {f"{kind} {k}": repr(v) for kind, every in said.items() for k, v in every.items()}
    return RunFacts(run.info.artifact_uri, facts)


def facts_of_version(registered: Any) -> dict[str, Any]:
    """The run and the tags of a registered version."""
    return {"run": registered.run_id} | {f"tag {k}": v for k, v in registered.tags.items()}


def facts_of_name(tags: Mapping[str, str]) -> dict[str, Any]:
    """The tags of a registered model, but for the ends of ledgers."""
    return {f"tag {key}": value for key, value in tags.items() if not key.startswith(HEAD)}


def seal_files(run_id: str, files: Mapping[str, Path]) -> None:
    """Seal the files of a run, by their paths in it."""
    sealed = {f"{RUN}{run_id}/{name}": Seal.of_file(path) for name, path in files.items()}
    seals.put_here(sealed, why="logged")


def seal_run(client: Any, run_id: str) -> None:
    """Seal what a run says beside its files."""
    said = facts_of_run(client.get_run(run_id)).facts
    seals.put_here({f"{RUN}{run_id}/{FACTS}": Seal.of_parts(said)}, why="logged")


def seal_model(client: Any, model_id: str) -> None:
    """Seal the files of a fitted pipeline, where they lie on a disk that is seen from here."""
    folder = local(client.get_logged_model(model_id).artifact_location)
    if folder is not None:
        files = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
        named = {f"{MODEL}{model_id}/{name}": Seal.of_file(path) for name, path in files.items()}
        seals.put_here(named, why="logged")


def seal_version(client: Any, name: str, number: str) -> None:
    """Seal what the registry says of a version."""
    facts = facts_of_version(client.get_model_version(name, number))
    seals.put_here({f"{VERSION}{name}/{number}": Seal.of_parts(facts)}, why="registered")


def seal_name(client: Any, name: str) -> None:
    """Seal what the registry says of a model: who served, and by whose decision."""
    facts = facts_of_name(client.get_registered_model(name).tags)
    seals.put_here({f"{NAME}{name}": Seal.of_parts(facts)}, why="registered")


def local(address: str) -> Path | None:
    """The folder that an address of artifacts names on this machine; None where it is elsewhere."""
    parts = urlsplit(address)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme == "file" else address)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Logged:
    """What MLflow holds of a project's experiments.

    Attributes
    ----------
    runs : by their ids
    models : where the files of each fitted pipeline are, by its id
    """

    runs: Mapping[str, RunFacts]
    models: Mapping[str, str]


def logged_of(versions: Sequence[Version]) -> Logged:
    """The runs of versions alone, without what they say: what the registry tells at once."""
    return Logged({one.run_id: RunFacts(one.artifacts, None) for one in versions}, {})


def logged(client: Any, name: str) -> Logged:
    """The runs and fitted pipelines of builds, windows and turns; deleted ones are not among them."""
    names = (name, f"{name}-monitor", f"{name}-loop")
    found = [client.get_experiment_by_name(one) for one in names]
    ids = [one.experiment_id for one in found if one is not None]
    if not ids:
        return Logged({}, {})
    runs = _paged(lambda token: client.search_runs(ids, max_results=1000, page_token=token))
    models = _paged(lambda token: client.search_logged_models(ids, page_token=token))
    return Logged(
        {run.info.run_id: facts_of_run(run) for run in runs},
        {model.model_id: model.artifact_location for model in models},
    )


def _paged(ask: Callable[[str | None], Any]) -> list[Any]:
    every, token = [], None
    while True:
        page = ask(token)
        every += page
        token = page.token
        if not token:
            return every
