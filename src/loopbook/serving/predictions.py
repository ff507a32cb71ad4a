"""Predictions over HTTP: one row as a query or as JSON, or many."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response

from loopbook.registry.explanations import explain
from loopbook.serving.exchange import (
    PREDICTION_SET,
    answer_json,
    answered,
    body_of,
    check_size,
    checked,
    flag,
    in_detail,
    jobs_of,
    query_of,
    wants_set,
    with_set,
)
from loopbook.serving.refusals import Refusal
from loopbook.serving.service import Answer, Job, Service

MOST_EXPLAINED = 32  # at once: each waits for those before it, and takes some 50 ms


def add_predictions(app: FastAPI, service: Service) -> None:
    """One row as a query or as JSON, or many."""
    reasons = Reasons()

    @app.get("/predict", tags=["predictions"])
    async def predict(request: Request) -> Response:
        """Answer one row, given as a query."""
        given = query_of(request)
        shown = _shown(service, given.pop(PREDICTION_SET, None))
        if flag(given.pop("explain", None)):
            return await _explained(service, request, given, reasons, shown)
        answer, _ = await _answer(service, request, given)
        return answer_json(shown(answer))

    @app.post("/predict", tags=["predictions"])
    async def predict_body(request: Request) -> Response:
        """Answer one row, given as JSON."""
        query = query_of(request)
        shown = _shown(service, query.get(PREDICTION_SET))
        with_reasons, given = flag(query.get("explain")), await body_of(request)
        if with_reasons:
            return await _explained(service, request, given, reasons, shown)
        answer, _ = await _answer(service, request, given)
        return answer_json(shown(answer))

    @app.post("/predict/batch", tags=["predictions"])
    async def predict_batch(request: Request) -> Response:
        """Answer many rows; all of them, or none if one is wrong."""
        deployment = service.ready()
        shown = _shown(service, query_of(request).get(PREDICTION_SET))
        given = await body_of(request)
        rows = given.get("rows") if isinstance(given, dict) else None
        if not isinstance(rows, list) or set(given) != {"rows"}:
            raise Refusal(422, "invalid_value", 'expected {"rows": [row, …]}', field="rows")
        check_size(service, rows)
        jobs = await jobs_of(service, deployment, rows, request, route="batch", where="rows")
        return answer_json({"predictions": [shown(a) for a in await service.answer(jobs)]})


class Reasons:
    """Explanations, one after the other in a thread of their own, and only so many at once.

    Each computes some 600 rows of the graph, so that a few callers who ask for
    nothing else would keep all others waiting.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explanations")
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait; refused (503) where there is none, before any work."""
        if self._waiting >= MOST_EXPLAINED:
            raise Refusal(
                503,
                "too_many_explanations",
                f"{MOST_EXPLAINED} explanations are waiting",
                hint="ask again, or without explain",
                headers={"Retry-After": "1"},
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def of(self, answer: Answer, job: Job) -> dict[str, Any]:
        """What each feature contributed to an answer."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool,
            explain,
            answer.deployment.servable,
            job.record,
            job.at,
            answer.state and answer.state.shift,
        )


def _shown(service: Service, text: str | None) -> Callable[[Answer], dict[str, Any]]:
    """What an answer looks like: with the set of classes, where the query asks for it."""
    return with_set if wants_set(service, text) else answered


async def _explained(
    service: Service,
    request: Request,
    given: Any,
    reasons: Reasons,
    shown: Callable[[Answer], dict[str, Any]],
) -> Response:
    with reasons.place():
        answer, job = await _answer(service, request, given)
        explained = {"explanation": await reasons.of(answer, job)}
        return answer_json(shown(answer) | explained | in_detail(answer))


async def _answer(service: Service, request: Request, given: Any) -> tuple[Answer, Job]:
    deployment = service.ready()
    row = checked(deployment, given)
    started = request.scope["state"]["started"]
    job = service.job(deployment, row, given, "predict", started)
    (answer,) = await service.answer([job])
    return answer, job
