"""Routing: how a request reaches its handler, and how an error becomes an answer."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from loopbook.serving.exchange import JSON
from loopbook.serving.refusals import Refusal, of_validation


class Plain(APIRoute):
    """A route whose handler reads the request itself.

    The contract is known when a version is loaded and not when the code is
    written, so FastAPI's signatures cannot check a row. What it would do all
    the same (parse the query, solve dependencies) takes longer than the answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


def add_error_handlers(app: FastAPI) -> None:
    """One shape for every error, in loopbook's routes and in a project's own."""
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(Exception, _broken)


async def refused(request: Request, refusal: Refusal) -> Response:
    state = request.scope["state"]
    state["refused"] = refusal.code
    body = refusal.body(state["request_id"])
    return Response(body, refusal.status, headers=refusal.headers, media_type=JSON)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    code = {404: "no_such_page", 405: "wrong_method"}.get(error.status_code, "refused")
    headers = dict(error.headers or {})
    refusal = Refusal(error.status_code, code, str(error.detail), hint="see /docs", headers=headers)
    return await refused(request, refusal)


async def _broken(request: Request, _: Exception) -> Response:
    refusal = Refusal(500, "internal_error", "something went wrong here", hint="see the log")
    return await refused(request, refusal)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """A parameter or body of a project's own route that FastAPI refused."""
    return await refused(request, of_validation(error))
