"""The Open Inference Protocol (V2), so that clients of KServe, Seldon and Triton work.

Each input tensor is a column, by its name or alias, with one value a row; the
output tensor is the prediction: a number, or the class with the probabilities
of all classes beside it. A request may name `interval`, or for classes
`prediction_set`, among its outputs. docs/serving.md has an example.
https://github.com/open-inference/open-inference-protocol
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loopbook.project.contract import Feature
from loopbook.registry.servable import Servable
from loopbook.serving.exchange import answer_json, jobs_of, json_of, set_of
from loopbook.serving.refusals import Refusal, of_validation
from loopbook.serving.service import Answer, Service

OUTPUT, PROBABILITIES = "prediction", "probabilities"
INTERVAL, SET = "interval", "prediction_set"  # given where a request names them among its outputs
DATATYPES = {"integer": "INT64", "number": "FP64", "boolean": "BOOL", "category": "BYTES"}
INTEGERS = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
NUMBERS = {*INTEGERS, "FP16", "FP32", "FP64"}
# what a tensor's values mean is for `request_rows`: 3.0 is the integer 3, and 3.7 is none
ACCEPTED = {
    "integer": {*NUMBERS, "BYTES"},
    "number": {*NUMBERS, "BYTES"},
    "boolean": {*NUMBERS, "BYTES", "BOOL"},
    "category": {*NUMBERS, "BYTES", "BOOL"},
}


class Tensor(BaseModel):
    """One column."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(max_length=200)]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=2)]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class InferenceRequest(BaseModel):
    """Columns of the same length."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(max_length=200)] | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=200)]
    outputs: Annotated[list[dict[str, Any]], Field(max_length=200, fail_fast=True)] | None = None
    parameters: dict[str, Any] | None = None


class InferenceResponse(BaseModel):
    """The predictions as a tensor; `parameters` hold their ids."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


class TensorMetadata(BaseModel):
    """What a tensor is."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


MODELS: dict[str, type[BaseModel]] = {
    "InferenceRequest": InferenceRequest,
    "InferenceResponse": InferenceResponse,
    "ModelMetadata": ModelMetadata,
}


def add_routes(app: FastAPI, service: Service) -> None:
    """The protocol's health, metadata and inference."""
    _add_health(app, service)
    _add_models(app, service)


def _add_health(app: FastAPI, service: Service) -> None:
    """What the server is, and whether it runs and can answer."""

    @app.get("/v2/health/live", tags=["open inference protocol"])
    async def live(_: Request) -> Response:
        """Whether the process runs."""
        return answer_json({"live": True})

    @app.get("/v2/health/ready", tags=["open inference protocol"])
    async def ready(_: Request) -> Response:
        """Whether it can answer."""
        is_there = service.versions.current is not None
        return answer_json({"ready": is_there}, 200 if is_there else 503)

    @app.get("/v2", tags=["open inference protocol"])
    async def server(_: Request) -> Response:
        """What this server is."""
        return answer_json({"name": "loopbook", "version": "1", "extensions": []})


def _add_models(app: FastAPI, service: Service) -> None:
    """What the model takes and gives, and its answers."""

    @app.get("/v2/models/{name}/ready", tags=["open inference protocol"])
    async def model_ready(request: Request) -> Response:
        """Whether this model can answer."""
        servable = _named(service, request)
        return answer_json({"name": servable.version.name, "ready": True})

    @app.get("/v2/models/{name}", tags=["open inference protocol"])
    async def model(request: Request) -> Response:
        """What this model takes and gives."""
        servable = _named(service, request)
        inputs = [
            {"name": n, "datatype": DATATYPES[f.type], "shape": [-1]}
            for n, f in servable.contract.features.items()
        ]
        return answer_json(
            {
                "name": servable.version.name,
                "versions": [servable.number],
                "platform": "onnx",
                "inputs": inputs,
                "outputs": _described(servable),
            }
        )

    @app.post("/v2/models/{name}/infer", tags=["open inference protocol"])
    async def infer(request: Request) -> Response:
        """Answer rows that are given as columns."""
        _named(service, request)
        return await _infer(service, request)


def _described(servable: Servable) -> list[dict[str, Any]]:
    """What the tensors of an answer are; the classes stand in the order of the probabilities."""
    classes = servable.task.classes
    if classes is None:
        return [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}]
    about = {"parameters": {"classes": classes}}
    return [
        {"name": OUTPUT, "datatype": "BYTES", "shape": [-1]},
        {"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(classes)]} | about,
    ]


def _on_request(servable: Servable) -> dict[str, Any]:
    """The tensor that says how sure the answers are."""
    classes = servable.task.classes
    if classes is None:
        return {"name": INTERVAL, "datatype": "FP64", "shape": [-1, 2]}
    about = {"parameters": {"classes": classes}}
    return {"name": SET, "datatype": "BOOL", "shape": [-1, len(classes)]} | about


def _tensors(
    servable: Servable, answers: Sequence[Answer], asked: InferenceRequest
) -> list[dict[str, Any]]:
    """The answers as these tensors, row by row.

    A challenger may answer some of them, under another order of its classes.

    Raises
    ------
    Refusal
        409, if the interval or the set of classes is asked for, and a row has none.
    """
    data: dict[str, list[Any]] = {OUTPUT: [answer.value for answer in answers]}
    classes, described = servable.task.classes or [], _described(servable)
    likely = [answer.probabilities or {} for answer in answers]
    data[PROBABILITIES] = [row.get(name, 0.0) for row in likely for name in classes]
    more = _on_request(servable)
    if more["name"] in {output.get("name") for output in asked.outputs or ()}:
        described = [*described, more]
        if classes:
            sets = [_there(set_of(answer), SET) for answer in answers]
            data[SET] = [name in some for some in sets for name in classes]
        else:
            data[INTERVAL] = [end for a in answers for end in _there(a.interval, INTERVAL)]
    return [
        tensor | {"shape": [len(answers), *tensor["shape"][1:]], "data": data[tensor["name"]]}
        for tensor in described
    ]


def _there(some: list | None, name: str) -> list:
    if some is None:
        raise Refusal(
            409,
            "no_calibration_state",
            f"outputs: {name} is asked for, and no calibration state as of a row's instant has one",
            field="outputs",
            hint="ask without it, or make a state: loopbook features materialize",
        )
    return some


def _named(service: Service, request: Request) -> Servable:
    servable, name = service.ready().servable, request.path_params["name"]
    if name != servable.version.name:
        raise Refusal(
            404,
            "no_such_model",
            f"no model {name[:60]!r}; there is {servable.version.name!r}",
            field="name",
            hint=f"/v2/models/{servable.version.name}",
        )
    return servable


async def _infer(service: Service, request: Request) -> Response:
    if request.headers.get("inference-header-content-length"):
        raise Refusal(
            415,
            "binary_tensors",
            "binary tensors are not taken",
            hint="send the data as JSON (binary_data=False in Triton's client)",
        )
    deployment = service.ready()
    given = await json_of(request)
    try:
        asked = InferenceRequest.model_validate(given)
    except ValidationError as error:
        raise of_validation(error) from None
    rows = _rows(asked, deployment.schemas.names, deployment.servable.contract.features, service)
    jobs = await jobs_of(service, deployment, rows, request, route="infer", where="inputs")
    answers = await service.answer(jobs)
    version = answers[0].deployment.servable.version
    return answer_json(
        {
            "model_name": version.name,
            "model_version": version.number,
            "id": asked.id,
            "outputs": [
                *_tensors(deployment.servable, answers, asked),
                {
                    "name": "prediction_id",
                    "datatype": "BYTES",
                    "shape": [len(answers)],
                    "data": [answer.id for answer in answers],
                },
            ],
        }
    )


def _rows(
    asked: InferenceRequest,
    names: dict[str, str],
    features: dict[str, Feature],
    service: Service,
) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {}
    for tensor in asked.inputs:
        where = f"inputs.{tensor.name[:60]}"
        name = names.get(tensor.name)
        if name is None:
            raise Refusal(
                422, "unknown_field", f"{where}: is not a field of this model", field=where
            )
        if name in columns:
            raise Refusal(422, "given_twice", f"{where}: stands more than once", field=where)
        kind = features[name].type
        if tensor.datatype not in ACCEPTED[kind]:
            message = f"{where}: found datatype {tensor.datatype[:20]}, expected {DATATYPES[kind]}"
            raise Refusal(422, "invalid_value", message, field=where)
        length = tensor.shape[0]
        if tensor.shape[1:] not in ([], [1]) or length != len(tensor.data):
            message = f"{where}: found shape {tensor.shape} with {len(tensor.data)} values, expected [{len(tensor.data)}]"
            raise Refusal(422, "invalid_value", message, field=where)
        columns[name] = tensor.data
    lengths = {len(values) for values in columns.values()}
    largest = service.knobs.serve_batch_rows
    if len(lengths) != 1 or not 1 <= max(lengths) <= largest:
        raise Refusal(
            422,
            "wrong_batch_size",
            f"inputs: found lengths {sorted(lengths)}, expected one from 1 to {largest:,}",
            field="inputs",
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
