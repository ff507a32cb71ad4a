"""Predictions over HTTP: one row as a query or as JSON, or many."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from loopbook.registry.explanations import explain
from loopbook.serving.exchange import (
    answer_json,
    answered,
    body_of,
    check_size,
    checked,
    flag,
    jobs_of,
    query_of,
)
from loopbook.serving.refusals import Refusal
from loopbook.serving.service import Service


def add_predictions(app: FastAPI, service: Service) -> None:
    """One row as a query or as JSON, or many."""

    @app.get("/predict", tags=["predictions"])
    async def predict(request: Request) -> Response:
        """Answer one row, given as a query."""
        given = query_of(request)
        with_reasons = flag(given.pop("explain", None))
        return await _one(service, request, given, with_reasons=with_reasons)

    @app.post("/predict", tags=["predictions"])
    async def predict_body(request: Request) -> Response:
        """Answer one row, given as JSON."""
        with_reasons, given = flag(query_of(request).get("explain")), await body_of(request)
        return await _one(service, request, given, with_reasons=with_reasons)

    @app.post("/predict/batch", tags=["predictions"])
    async def predict_batch(request: Request) -> Response:
        """Answer many rows; all of them, or none if one is wrong."""
        deployment, given = service.ready(), await body_of(request)
        rows = given.get("rows") if isinstance(given, dict) else None
        if not isinstance(rows, list) or set(given) != {"rows"}:
            raise Refusal(422, "invalid_value", 'expected {"rows": [row, …]}', field="rows")
        check_size(service, rows)
        jobs = jobs_of(service, deployment, rows, request, route="batch", where="rows")
        return answer_json({"predictions": [answered(a) for a in await service.answer(jobs)]})


async def _one(service: Service, request: Request, given: Any, *, with_reasons: bool) -> Response:
    deployment = service.ready()
    row = checked(deployment, given)
    started = request.scope["state"]["started"]
    job = service.job(deployment, row, given, "predict", started)
    (answer,) = await service.answer([job])
    content = answered(answer)
    if with_reasons:
        content["explanation"] = await asyncio.to_thread(
            explain, answer.deployment.servable, job.record, job.at
        )
    return answer_json(content)
