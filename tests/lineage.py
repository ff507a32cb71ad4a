"""OpenLineage events as they were told, checked against what their package makes of the schema."""

import importlib
import json
import pkgutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attr
from openlineage.client import event_v2, generated

MODULES = [
    importlib.import_module(f"{generated.__name__}.{found.name}")
    for found in pkgutil.iter_modules(generated.__path__)
]
CLASSES = {
    made._get_schema(): made
    for module in MODULES
    for made in vars(module).values()
    if isinstance(made, type) and hasattr(made, "_get_schema")
}
ENDS = {"COMPLETE", "FAIL"}


def events(folder: Path) -> list[dict[str, Any]]:
    """All that was told in a project, in the order of time."""
    files = sorted((folder / "var" / "lineage").glob("*.jsonl"))
    every = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(every, key=lambda event: event["eventTime"])


def check(event: Mapping[str, Any]) -> None:
    """Raise if an event is not as the schema's own classes have it: each name, each type, each facet."""
    UUID(event["run"]["runId"])
    assert datetime.fromisoformat(event["eventTime"]).tzinfo
    made = _made(event_v2.RunEvent, event)
    assert made["eventType"] in event_v2.RunState.__members__
    for part, kind in (("run", event_v2.Run), ("job", event_v2.Job)):
        _facets(_made(kind, event[part]))
    for part, kind in (("inputs", event_v2.InputDataset), ("outputs", event_v2.OutputDataset)):
        for dataset in event.get(part, []):
            _facets(_made(kind, dataset))


def _made(kind: type, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was told, if the class takes it and asks for no more."""
    known = {field.name: field for field in attr.fields(kind)}
    assert told.keys() <= known.keys(), (kind.__name__, told.keys() - known.keys())
    kind(**{known[n].alias: v for n, v in told.items() if known[n].init})
    return told


def _facets(told: Mapping[str, Any]) -> None:
    for facet in told.get("facets", {}).values():
        _made(CLASSES[facet["_schemaURL"]], facet)
        assert facet["_producer"]


def ended(told: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The states of each job's run, in their order."""
    states: dict[str, list[str]] = {}
    for event in told:
        states.setdefault(event["job"]["name"], []).append(event["eventType"])
    return states


def graph(told: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """What each task needs, from who wrote the datasets that it read; turns and builds are no task."""
    last = {
        event["job"]["name"]: event
        for event in told
        if event["eventType"] in ENDS and _kind(event) == "TASK"
    }
    wrote = {d["name"]: job for job, event in last.items() for d in event.get("outputs", [])}
    return {
        job: {wrote[d["name"]] for d in event.get("inputs", []) if d["name"] in wrote}
        for job, event in last.items()
    }


def _kind(event: Mapping[str, Any]) -> str:
    return event["job"]["facets"]["jobType"]["jobType"]


def versions(event: Mapping[str, Any], part: str) -> dict[str, str]:
    """The versions of an event's datasets, by their names."""
    return {
        d["name"]: d["facets"]["version"]["datasetVersion"]
        for d in event.get(part, [])
        if d.get("facets")
    }
