"""The application: its routes, and what it is put together from."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from loopbook.data import prediction_log
from loopbook.data.prediction_log import Truth, key_text
from loopbook.features import store as feature_store
from loopbook.project.clock import utc_now
from loopbook.project.contract import read_contract
from loopbook.project.errors import PredictionLogError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.records import builds
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.registry import reader as registry_reader
from loopbook.registry.explanations import explain
from loopbook.serving import api_keys, open_inference
from loopbook.serving.documentation import describe
from loopbook.serving.exchange import (
    JSON,
    answer_json,
    answered,
    body_of,
    checked,
    flag,
    jobs_of,
    query_of,
)
from loopbook.serving.guard import Guard
from loopbook.serving.metrics import Metrics
from loopbook.serving.refusals import Refusal, of_validation
from loopbook.serving.schemas import Feedback, Told
from loopbook.serving.service import Service


def create_app(
    project: Project, *, needs_keys: bool, quiet: bool = False, pinned: str | None = None
) -> Guard:
    """The service of a project as an ASGI application.

    Parameters
    ----------
    needs_keys : bool
        Whether every caller needs a key. `/admin` always does.
    quiet : bool
        Whether to leave out the log line of a request.
    pinned : str or None
        The version that answers, whoever is champion; None: the champion.

    Raises
    ------
    LoopbookError
        If the contract or env.yaml is wrong, or the log cannot be opened.
    """
    contract, knobs = read_contract(project.contract), read_knobs(project.knobs)
    metrics = Metrics()
    service = Service(
        contract=contract,
        knobs=knobs,
        registry=registry_reader.connect(tracking_address(project)),
        log=prediction_log.connect(project, contract),
        features=feature_store.connect(project, contract) if contract.history else None,
        metrics=metrics,
        pinned=pinned,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.refresh()
        gc.collect()
        gc.freeze()  # what is there now stays; looking through it again would stop every answer
        tasks = [asyncio.create_task(watch(service)), asyncio.create_task(service.run_shadow())]
        yield
        for task in tasks:
            task.cancel()
        service.log.close()

    app = FastAPIOffline(
        title=contract.name,
        description=contract.meaning,
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0, "tryItOutEnabled": True},
    )
    app.router.route_class = Plain
    for add in (add_predictions, add_feedback, add_health):
        add(app, service)
    add_administration(app, service, project)
    add_metrics(app, service, project)
    open_inference.add_routes(app, service)
    app.openapi = lambda: describe(app, service)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _broken)
    store: list[api_keys.KeyStore] = []

    def keys() -> api_keys.KeyStore:
        if not store:
            store.append(api_keys.connect(project))
        return store[0]

    guard = Guard(app, metrics=metrics, knobs=knobs, keys=keys, needs_keys=needs_keys, quiet=quiet)
    guard.service = service
    return guard


class Plain(APIRoute):
    """A route whose handler reads the request itself.

    The contract is known when a version is loaded and not when the code is
    written, so FastAPI's signatures cannot check a row. What it would do all
    the same (parse the query, solve dependencies) takes longer than the answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


async def watch(service: Service) -> None:
    """Follow the aliases in the background, in a thread, for as long as the service runs."""
    while True:
        await asyncio.sleep(service.knobs.serve_watch_s)
        await asyncio.to_thread(service.refresh)


async def _refused(request: Request, refusal: Refusal) -> Response:
    state = request.scope["state"]
    state["refused"] = refusal.code
    body = refusal.body(state["request_id"])
    return Response(body, refusal.status, headers=refusal.headers, media_type=JSON)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    code = {404: "no_such_page", 405: "wrong_method"}.get(error.status_code, "refused")
    headers = dict(error.headers or {})
    told = Refusal(error.status_code, code, str(error.detail), hint="see /docs", headers=headers)
    return await _refused(request, told)


async def _broken(request: Request, _: Exception) -> Response:
    told = Refusal(500, "internal_error", "something went wrong here", hint="see the log")
    return await _refused(request, told)


def add_predictions(app: FastAPI, service: Service) -> None:
    """One row as a query or as JSON, or many."""

    async def one(request: Request, given: Any, *, with_reasons: bool, texts: bool) -> Response:
        deployment = service.ready()
        row = checked(deployment, given, texts=texts)
        started = request.scope["state"]["started"]
        job = service.job(deployment, row, given, "predict", started)
        (answer,) = await service.answer([job])
        told = answered(answer)
        if with_reasons:
            told["explanation"] = await asyncio.to_thread(
                explain, answer.deployment.servable, job.record, job.at
            )
        return answer_json(told)

    @app.get("/predict", tags=["predictions"])
    async def predict(request: Request) -> Response:
        """Answer one row, given as a query."""
        given = query_of(request)
        return await one(request, given, with_reasons=flag(given.pop("explain", None)), texts=True)

    @app.post("/predict", tags=["predictions"])
    async def predict_body(request: Request) -> Response:
        """Answer one row, given as JSON."""
        reasons = flag(query_of(request).get("explain"))
        return await one(request, await body_of(request), with_reasons=reasons, texts=False)

    @app.post("/predict/batch", tags=["predictions"])
    async def predict_batch(request: Request) -> Response:
        """Answer many rows; all of them, or none if one is wrong."""
        deployment, given = service.ready(), await body_of(request)
        rows = given.get("rows") if isinstance(given, dict) else None
        if not isinstance(rows, list) or set(given) != {"rows"}:
            raise Refusal(422, "invalid_value", 'expected {"rows": [row, …]}', field="rows")
        largest = service.knobs.serve_batch_rows
        if not 1 <= len(rows) <= largest:
            raise Refusal(
                422,
                "wrong_batch_size",
                f"rows: found {len(rows):,}, expected 1 to {largest:,}",
                field="rows",
                hint="send fewer at a time, or use loopbook score for a file",
            )
        jobs = jobs_of(service, deployment, rows, request, route="batch", where="rows")
        return answer_json({"predictions": [answered(a) for a in await service.answer(jobs)]})


def add_feedback(app: FastAPI, service: Service) -> None:
    """Ground truth."""

    @app.post("/feedback", tags=["feedback"])
    async def feedback(request: Request) -> Response:
        """Take observed targets, late, again or corrected."""
        given = await body_of(request)
        many = isinstance(given, dict) and "truths" in given
        try:
            asked = Feedback.model_validate(given if many else {"truths": [given]})
        except ValidationError as error:
            raise of_validation(error) from None
        now = time.time_ns() // 1000
        truths = [_truth(service, place, t, now) for place, t in enumerate(asked.truths)]
        try:
            outcomes = await asyncio.to_thread(service.log.tell, truths)
        except PredictionLogError as error:
            service.metrics.log_errors.inc()
            raise Refusal(
                503,
                "log_unavailable",
                "the prediction log cannot be written, so nothing was taken",
                hint=str(error),
            ) from None
        told = {name: outcomes.count(name) for name in Told.model_fields if name != "outcomes"}
        if told["unknown"] == len(outcomes):
            first = asked.truths[0]
            named = first.prediction_id or first.key
            raise Refusal(
                404,
                "no_such_prediction",
                f"no prediction has the id or key {str(named)[:100]}",
                field="prediction_id" if first.prediction_id else "key",
                hint="use the prediction_id of an answer, or the key that was sent with the row",
            )
        return answer_json(told | {"outcomes": outcomes})


def add_health(app: FastAPI, service: Service) -> None:
    """Whether it runs, whether it can answer, with what, and how it went."""

    @app.get("/health/live", tags=["health"])
    async def live(_: Request) -> Response:
        """Whether the process runs."""
        return answer_json({"live": True})

    @app.get("/health/ready", tags=["health"])
    async def is_ready(_: Request) -> Response:
        """Whether it can answer, and the reason if not."""
        ready = service.current is not None
        return answer_json({"ready": ready, "reason": service.reason}, 200 if ready else 503)

    @app.get("/metadata", tags=["health"])
    async def metadata(_: Request) -> Response:
        """Which version answers, and where it comes from."""
        servable = service.ready().servable
        tags, card = servable.version.tags, servable.card
        return answer_json(
            {
                "model": servable.version.name,
                "version": servable.number,
                "candidate": card["candidate"],
                "run_id": servable.version.run_id,
                "snapshot_sha256": card["snapshot_sha256"],
                "contract_sha256": card["contract_sha256"],
                "as_of": card["as_of"],
                "git_commit": tags.get("git_commit"),
                "gate": tags.get("gate_reason"),
                "promoted_at": tags.get("promoted_at"),
                "onnx_sha256": tags.get("onnx_sha256"),
                "fitted": card["fitted"],
                "previous_version": service.previous and service.previous.servable.number,
                "challenger_version": service.challenger and service.challenger.servable.number,
                "challenger_role": service.knobs.serve_challenger,
                "predecessor_version": service.predecessor and service.predecessor.servable.number,
            }
        )


def add_metrics(app: FastAPI, service: Service, project: Project) -> None:
    """What is counted here, and what the last monitoring run, turn of the loop and build said."""

    def tell() -> bytes:
        age = service.feature_age()
        if age is not None:
            service.metrics.feature_age.set(age.total_seconds())
        service.metrics.tell_window(window_records.newest(project))
        service.metrics.tell_loop(turn_records.state(project, now=utc_now()))
        service.metrics.build_failed.set(builds.has_failed(project))
        return service.metrics.page()

    @app.get("/metrics", tags=["health"])
    async def metrics(_: Request) -> Response:
        """All counts, for Prometheus."""
        page = await asyncio.to_thread(tell)
        return Response(page, media_type="text/plain; version=0.0.4")


def add_administration(app: FastAPI, service: Service, project: Project) -> None:
    """What only an administrator may do."""

    @app.post("/admin/reload", tags=["administration"])
    async def reload(_: Request) -> Response:
        """Follow the alias now."""
        swapped = await asyncio.to_thread(service.refresh, by_hand=True)
        return answer_json({"swapped": swapped, "version": service.ready().servable.number})

    @app.post("/admin/retrain", tags=["administration"])
    async def retrain(request: Request) -> Response:
        """Ask the loop for a retraining at its next turn; it may still refuse, and says why."""
        given = await body_of(request)
        reason = given.get("reason") if isinstance(given, dict) else None
        if not isinstance(reason, str) or not 0 < len(reason) <= 500 or set(given) != {"reason"}:
            raise Refusal(
                422,
                "invalid_value",
                'expected {"reason": "…"}, up to 500 characters',
                field="reason",
                hint="say why; it is kept with the turn",
            )
        asked = await asyncio.to_thread(turn_records.ask, project, "the service", reason)
        return answer_json(asked | {"next": "loopbook loop --once"}, 202)

    @app.post("/admin/rollback", tags=["administration"])
    async def rollback(_: Request) -> Response:
        """Answer with the previous version again, at once."""
        deployment = service.roll_back()
        return answer_json({"version": deployment.servable.number})


def _truth(service: Service, place: int, truth: Any, now_us: int) -> Truth:
    if (truth.prediction_id is None) == (truth.key is None):
        raise Refusal(
            422,
            "invalid_value",
            f"truths.{place}: expected either prediction_id or key",
            field="prediction_id",
        )
    key = None
    if truth.key is not None:
        names = list(service.contract.key)
        key = key_text(service.contract, truth.key)
        if key is None or set(truth.key) != set(names):
            raise Refusal(
                422,
                "invalid_value",
                f"truths.{place}.key: expected {', '.join(names)}, and nothing else",
                field="key",
            )
    known = truth.known_at
    if known is not None:
        known = known.replace(tzinfo=UTC) if known.tzinfo is None else known
    known_us = round(known.timestamp() * 1e6) if known else now_us
    return Truth(truth.prediction_id, key, truth.observed, known_us, now_us)
