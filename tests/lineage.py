"""OpenLineage events as they were told, held against the standard: version 2-0-2 of its core.

No package has its schema, so what it says of the fields that are told stands here
(each type and format, and what may not be absent), beside the classes of its Python client.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attr
from jsonschema import Draft202012Validator
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
TEXT = {"type": "string", "minLength": 1}
ADDRESS = {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$"}
INSTANT = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}
NUMBERED = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}


def _of(fields: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An object that has all of these fields, perhaps the optional ones, and no others."""
    every = {**fields, **(optional or {})}
    return {"type": "object", "properties": every, "required": list(fields)} | {
        "additionalProperties": False
    }


def _faceted(fields: Mapping[str, Any], **facets: Mapping[str, Any]) -> dict[str, Any]:
    """An object with facets, each of which says who made it and by which schema."""
    made_by = {"_producer": ADDRESS, "_schemaURL": ADDRESS}
    return _of(fields, {"facets": _of({}, {n: _of({**made_by, **f}) for n, f in facets.items()})})


JOB = {"namespace": TEXT, "name": TEXT}
# who is named as a parent may say more of itself, and its client sends that it says nothing
MORE = {"facets": {"type": "object"}}
PLACE = {"run": _of({"runId": NUMBERED}, MORE), "job": _of(JOB, MORE)}
DATASET = _faceted(JOB, version={"datasetVersion": TEXT})
DATASET["properties"] |= {"inputFacets": _of({}), "outputFacets": _of({})}
DATASETS = {"type": "array", "items": DATASET}
EVENT = Draft202012Validator(
    _of(
        {
            **{"eventTime": INSTANT, "producer": ADDRESS, "schemaURL": ADDRESS},
            "eventType": {"enum": ["START", "COMPLETE", "FAIL"]},
            "run": _faceted(
                {"runId": NUMBERED},
                parent={**PLACE, "root": _of(PLACE)},
                errorMessage={"message": TEXT, "programmingLanguage": TEXT},
                processing_engine={"version": TEXT, "name": TEXT},
            ),
            "job": _faceted(
                JOB,
                jobType={"processingType": TEXT, "integration": TEXT, "jobType": TEXT},
                documentation={"description": TEXT},
            ),
        },
        {"inputs": DATASETS, "outputs": DATASETS},
    )
)


def events(folder: Path) -> list[dict[str, Any]]:
    """All that was told in a project, in the order of time."""
    files = sorted((folder / "var" / "lineage").glob("*.jsonl"))
    every = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(every, key=lambda event: event["eventTime"])


def check(event: Mapping[str, Any]) -> None:
    """Raise if an event is not as the standard and its client's classes have it, each facet too."""
    EVENT.validate(event)
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
