"""Bill of materials: what a version is made of, as CycloneDX 1.6 has it for models.

It decides where each fact of a dossier's record stands in the standard's words:
the model and its card, the snapshot, the packages of the lock. Every number is
the record's own. What only a person can say, such as who may use the model, is
left out and not invented.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from loopbook.registry.reader import CARD, ONNX
from loopbook.registry.service_files import DIGEST_TAGS

SPEC = "1.6"
MODEL, SNAPSHOT = "model", "snapshot"
PACKAGE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
Record = Mapping[str, Any]
Parts = list[dict[str, Any]]


def make(record: Record, lock: str | None) -> dict[str, Any]:
    """The bill of a version.

    Parameters
    ----------
    record : mapping
        A dossier's, as `dossiers.gather` makes it.
    lock : str or None
        The requirements.lock that the version was made by; without it the
        packages are said to be unknown.

    Returns
    -------
    dict
        CycloneDX JSON. The same record gives the same bill.
    """
    version, decision = record["version"], record["decision"]
    packages = _packages(lock or "")
    refs = [part["bom-ref"] for part in packages]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, version["run_id"]).urn,
        "version": 1,
        "metadata": {
            **({"timestamp": at} if (at := decision.get("decided_at")) else {}),
            "component": _model(record),
        },
        "components": [_snapshot(record), *packages],
        "dependencies": [{"ref": MODEL, "dependsOn": [SNAPSHOT, *refs]}],
        "compositions": [
            {"aggregate": "complete" if lock else "unknown", "dependencies": [MODEL]},
        ],
    }


def _model(record: Record) -> dict[str, Any]:
    version, card, tags = record["version"], record["card"], record["registered"]
    told = {"graph": DIGEST_TAGS[ONNX], "card": DIGEST_TAGS[CARD]}
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": version["name"],
        "version": version["number"],
        "description": card["contract"]["meaning"],
        "hashes": _sha256(tags.get(told["graph"])),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": card["task"],
                "modelArchitecture": card["candidate"],
                "datasets": [{"ref": SNAPSHOT}],
                "inputs": [
                    {"format": f"{name}: {feature['type']}"}
                    for name, feature in card["contract"]["features"].items()
                ],
                "outputs": [{"format": _output(card["target"])}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(record))},
            "considerations": {"technicalLimitations": list(_limits(record))},
        },
        "properties": [
            {"name": f"loopbook:{name}", "value": str(value)}
            for name, value in {**record["run"]["params"], **_origin(record)}.items()
        ],
    }


def _origin(record: Record) -> dict[str, Any]:
    told = ("git_commit", "git_dirty", "environment_sha256", "python", "contract_sha256")
    tags = record["run"]["tags"]
    found = {name: tags[name] for name in told if name in tags}
    return found | {"run_id": record["version"]["run_id"]} | _card_digest(record)


def _card_digest(record: Record) -> dict[str, str]:
    tag = DIGEST_TAGS[CARD]
    return {tag: record["registered"][tag]} if tag in record["registered"] else {}


def _output(target: Record) -> str:
    if target.get("classes"):
        return f"{target['name']}: a probability of each of {', '.join(target['classes'])}"
    return f"{target['name']}: a number" + (f" in {target['unit']}" if target["unit"] else "")


def _metrics(record: Record) -> Iterator[dict[str, Any]]:
    """What was measured: on validation, on the rows that judged, and by slice against others."""
    decision = record["decision"]
    for name, value in record["card"]["validation"].items():
        yield {"type": name, "value": str(value), "slice": "validation"}
    metric = decision.get("metric", "loss")
    for role, value in decision.get("errors", {}).items():
        yield {"type": f"{metric} of the {role}", "value": str(value), "slice": "judged rows"}
    for other, by_slice in decision.get("against", {}).items():
        for name, interval in by_slice.items():
            yield {
                "type": f"change of {metric} against the {other}",
                "value": str(interval["mean"]),
                "slice": name,
                "confidenceInterval": {
                    "lowerBound": str(interval["low"]),
                    "upperBound": str(interval["high"]),
                },
            }


def _limits(record: Record) -> Iterator[str]:
    """The ranges that it was made for, and what was found that may flatter its errors."""
    for name, feature in record["card"]["contract"]["features"].items():
        if ends := feature.get("range"):
            yield f"{name} from {ends[0]:.12g} to {ends[1]:.12g}"
    for leak in record["decision"].get("leaks", []):
        yield leak["evidence"]


def _snapshot(record: Record) -> dict[str, Any]:
    card, decision = record["card"], record["decision"]
    about = {
        "rows": decision.get("snapshot_rows"),
        "as_of": card["as_of"],
        "rows of the last fit": card["fitted"]["rows"],
    }
    features = card["contract"]["features"]
    return {
        "type": "data",
        "bom-ref": SNAPSHOT,
        "name": f"{card['name']} snapshot",
        "version": card["snapshot_sha256"],
        "hashes": _sha256(card["snapshot_sha256"]),
        "data": [
            {
                "type": "dataset",
                "contents": {
                    "properties": [
                        {"name": name, "value": str(value)}
                        for name, value in about.items()
                        if value is not None
                    ]
                },
                "sensitiveData": [n for n, f in features.items() if f["sensitive"] != "no"],
                "description": card["contract"]["meaning"],
            }
        ],
    }


def _sha256(digest: str | None) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}] if digest else []


def _packages(lock: str) -> Parts:
    """The packages of a lock; its digest, a property of the model, says which files they are."""
    named = {re.sub(r"[-_.]+", "-", name).lower(): pin for name, pin in PACKAGE.findall(lock)}
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{pin}",
            "name": name,
            "version": pin,
            "purl": f"pkg:pypi/{name}@{pin}",
        }
        for name, pin in sorted(named.items())
    ]
