"""The OpenAPI document: what the handlers check by themselves, written from the contract."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from loopbook.serving import open_inference
from loopbook.serving.admission import needs_admin
from loopbook.serving.exchange import JSON, PREDICTION_SET
from loopbook.serving.refusals import ErrorAnswer
from loopbook.serving.routing import Plain
from loopbook.serving.schemas import Schemas, Told, feedback_of
from loopbook.serving.service import Service


class Wish(BaseModel):
    """A retraining that somebody asks for."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Given(BaseModel):
    """Values of sensitive columns, which the log does not hold."""

    model_config = ConfigDict(extra="forbid")

    values: dict[str, str | float | bool]


class Document:
    """The document of one application, made anew only where it would be another one.

    It takes some 40 ms, in which nobody else is answered.
    """

    def __init__(self, app: FastAPI, service: Service):
        self.app, self.service = app, service
        self._of: tuple[Any, int] | None = None
        self._made: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        of = (self.service.versions.current, len(self.app.routes))
        if self._of != of:
            self._made, self._of = describe(self.app, self.service), of
        return self._made


def describe(app: FastAPI, service: Service) -> dict[str, Any]:
    """The OpenAPI document, true for the version that answers now.

    Without one, it is that of the project's contract. A project's own routes
    are as FastAPI describes them, with loopbook's keys and shape of errors.
    """
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    defined = _defined(service)
    document, theirs = _with_own_names(document, defined)
    document["components"] = {
        "schemas": theirs | defined,
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
    }
    plain = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Plain)
        for method in route.methods
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if (path, method) in plain:
                _describe(operation, path, method, defined, service.contract.name)
            else:
                operation["responses"] = _refusals() | operation["responses"] | _refusals("422")
            operation["security"] = _security(path)
    return document


def _defined(service: Service) -> dict[str, Any]:
    """The schemas of loopbook's routes."""
    largest = service.knobs.serve_batch_rows
    schemas = (
        service.versions.current.schemas
        if service.versions.current
        else Schemas(service.contract, largest)
    )
    models: dict[str, type[BaseModel]] = {
        "Row": schemas.Row,
        "Batch": schemas.Batch,
        "Answer": schemas.Answer,
        "Answers": schemas.Answers,
        "Feedback": feedback_of(service.contract),
        "Told": Told,
        "ErrorAnswer": ErrorAnswer,
        "Wish": Wish,
        "Given": Given,
        **open_inference.MODELS,
    }
    defined: dict[str, Any] = {}
    for name, model in models.items():
        one = model.model_json_schema(ref_template=REFERENCE + "{model}")
        defined |= one.pop("$defs", {})
        defined[name] = one
    return defined


def _with_own_names(
    document: dict[str, Any], defined: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the schemas of own routes, where one named like loopbook's is `Own…`."""
    theirs = document.get("components", {}).get("schemas", {})
    text = orjson.dumps(document).decode()
    for name in theirs.keys() & defined.keys():
        text = text.replace(f'"{REFERENCE}{name}"', f'"{REFERENCE}Own{name}"')
    document = orjson.loads(text)
    theirs = document.get("components", {}).get("schemas", {})
    return document, {f"Own{n}" if n in defined else n: schema for n, schema in theirs.items()}


REFERENCE = "#/components/schemas/"
STATUSES = (
    *("400", "401", "403", "404", "409", "413", "415", "421", "422", "429"),
    *("500", "503", "504"),
)
BODIES = {
    ("/predict", "post"): "Row",
    ("/predict/batch", "post"): "Batch",
    ("/feedback", "post"): "Feedback",
    ("/admin/retrain", "post"): "Wish",
    ("/metadata/why/{prediction_id}", "post"): "Given",
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


WITH_SET = {
    "name": PREDICTION_SET,
    "in": "query",
    "required": False,
    "schema": {"type": "boolean", "default": False},
    "description": "Also say which classes hold the truth as often as target.interval says.",
}


def _describe(
    operation: dict[str, Any], path: str, method: str, defined: Mapping[str, Any], model: str
) -> None:
    """Fill in what the handlers of loopbook's routes check by themselves."""
    operation["summary"] = operation.get("description", "").split(".")[0].split(";")[0]
    if name := BODIES.get((path, method)):
        operation["requestBody"] = {"required": True, "content": _content(name)}
    parameters = _parameters(path, method, defined, model)
    if parameters:
        operation["parameters"] = [*operation.get("parameters", []), *parameters]
    if path == "/metrics":
        good: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    elif name := ANSWERS.get((path, method)):
        good = _content(name)
    else:
        good = {JSON: {"schema": {"type": "object"}}}
    done = "202" if path == "/admin/retrain" else "200"
    operation["responses"] = {done: {"description": "Done.", "content": good}} | _refusals()
    if path == "/health/ready":
        not_ready = {"description": "Not ready, with the reason.", "content": good}
        operation["responses"]["503"] = not_ready


def _parameters(
    path: str, method: str, defined: Mapping[str, Any], model: str
) -> list[dict[str, Any]]:
    """The parameters of a route in its path and its query."""
    parameters = []
    if "{name}" in path:
        there_is = {"type": "string", "enum": [model]}
        about = {"description": "The model's name.", "schema": there_is}
        parameters.append({"name": "name", "in": "path", "required": True, **about})
    if "{prediction_id}" in path:
        about = {"description": "The id of an answer.", "schema": {"type": "string"}}
        parameters.append({"name": "prediction_id", "in": "path", "required": True, **about})
    if path == "/predict":
        parameters.append(EXPLAIN)
    if (
        path in ("/predict", "/predict/batch")
        and "probabilities" in defined["Answer"]["properties"]
    ):
        parameters.append(WITH_SET)
    if (path, method) == ("/predict", "get"):
        row = defined["Row"]
        required = row.get("required", [])
        parameters += [_field(n, s, n in required) for n, s in row["properties"].items()]
    return parameters


def _field(name: str, schema: Mapping[str, Any], is_required: bool) -> dict[str, Any]:
    """A field of a row as a parameter of the query."""
    return {
        "name": name,
        "in": "query",
        "required": is_required,
        "schema": {k: v for k, v in schema.items() if k not in ("title", "examples")},
        "description": schema.get("description", ""),
        **({"example": schema["examples"][0]} if "examples" in schema else {}),
    }


def _content(name: str) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": f"{REFERENCE}{name}"}}}


def _refusals(*statuses: str) -> dict[str, Any]:
    content = _content("ErrorAnswer")
    return {
        status: {"description": "Refused, with the reason.", "content": content}
        for status in statuses or STATUSES
    }


def _security(path: str) -> list[dict[str, list]]:
    return [{"key": []}] if needs_admin(path) else [{}, {"key": []}]
