"""The OpenAPI document: what the handlers check by themselves, written from the contract."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from loopbook.serving import open_inference
from loopbook.serving.exchange import JSON
from loopbook.serving.refusals import ErrorAnswer
from loopbook.serving.schemas import Feedback, Schemas, Told
from loopbook.serving.service import Service


def describe(app: FastAPI, service: Service) -> dict[str, Any]:
    """The OpenAPI document, true for the version that answers now.

    Without one, it is that of the project's contract.
    """
    largest = service.knobs.serve_batch_rows
    schemas = service.current.schemas if service.current else Schemas(service.contract, largest)
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    models: dict[str, type[BaseModel]] = {
        "Row": schemas.Row,
        "Batch": schemas.Batch,
        "Answer": schemas.Answer,
        "Answers": schemas.Answers,
        "Feedback": Feedback,
        "Told": Told,
        "ErrorAnswer": ErrorAnswer,
        **open_inference.MODELS,
    }
    defined: dict[str, Any] = {}
    for name, model in models.items():
        one = model.model_json_schema(ref_template="#/components/schemas/{model}")
        defined |= one.pop("$defs", {})
        defined[name] = one
    document["components"] = {
        "schemas": defined,
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(operation, path, method, defined)
    return document


BODIES = {
    ("/predict", "post"): "Row",
    ("/predict/batch", "post"): "Batch",
    ("/feedback", "post"): "Feedback",
    ("/v2/models/{name}/infer", "post"): "InferenceRequest",
}
ANSWERS = {
    ("/predict", "get"): "Answer",
    ("/predict", "post"): "Answer",
    ("/predict/batch", "post"): "Answers",
    ("/feedback", "post"): "Told",
    ("/v2/models/{name}/infer", "post"): "InferenceResponse",
    ("/v2/models/{name}", "get"): "ModelMetadata",
}
EXPLAIN = {
    "name": "explain",
    "in": "query",
    "required": False,
    "schema": {"type": "boolean", "default": False},
    "description": "Also say what each feature contributes.",
}


def _describe(operation: dict, path: str, method: str, defined: Mapping[str, Any]) -> None:
    """Fill in what the handlers check by themselves."""
    operation["summary"] = operation.get("description", "").split(".")[0].split(";")[0]

    def of(name: str) -> dict[str, Any]:
        return {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    if name := BODIES.get((path, method)):
        operation["requestBody"] = {"required": True, "content": of(name)}
    if "{name}" in path:
        about = {"description": "The model's name.", "schema": {"type": "string"}}
        name_there = {"name": "name", "in": "path", "required": True, **about}
        operation.setdefault("parameters", []).append(name_there)
    if path == "/predict":
        operation.setdefault("parameters", []).append(EXPLAIN)
    if (path, method) == ("/predict", "get"):
        row = defined["Row"]
        for field, schema in row["properties"].items():
            about = {k: v for k, v in schema.items() if k not in ("title", "examples")}
            operation["parameters"].append(
                {
                    "name": field,
                    "in": "query",
                    "required": field in row.get("required", []),
                    "schema": about,
                    "description": schema.get("description", ""),
                    **({"example": schema["examples"][0]} if "examples" in schema else {}),
                }
            )
    if path == "/metrics":
        good: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    elif name := ANSWERS.get((path, method)):
        good = of(name)
    else:
        good = {JSON: {"schema": {"type": "object"}}}
    statuses = ["400", "401", "403", "404", "409", "413", "415", "422", "429", "503"]
    operation["responses"] = {"200": {"description": "Done.", "content": good}} | {
        status: {"description": "Refused, with the reason.", "content": of("ErrorAnswer")}
        for status in statuses
    }
    if path == "/health/ready":
        operation["responses"]["503"] = {
            "description": "Not ready, with the reason.",
            "content": good,
        }
    operation["security"] = [{}, {"key": []}] if not path.startswith("/admin") else [{"key": []}]
