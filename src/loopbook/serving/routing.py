"""Routing: how a request reaches its handler, and how an error becomes an answer."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

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
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _broken)


async def refused(request: Request, refusal: Refusal) -> Response:
    state = request.scope["state"]
    state["refused"], state["cause"] = refusal.code, refusal.cause
    body = refusal.body(state["request_id"])
    return Response(body, refusal.status, headers=refusal.headers, media_type=JSON)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    code = {404: "no_such_page", 405: "wrong_method"}.get(error.status_code, "refused")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_of(request))
    refusal = Refusal(error.status_code, code, str(error.detail), hint="see /docs", headers=headers)
    return await refused(request, refusal)


def _methods_of(request: Request) -> list[str]:
    """The methods that some route has for the path of a request; Starlette names the first's."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and compile_path(route.path or "")[0].match(request.scope["path"]):
            methods |= set(route.methods)
    return sorted(methods)


async def _broken(request: Request, _: Exception) -> Response:
    refusal = Refusal(500, "internal_error", "something went wrong here", hint="see the log")
    return await refused(request, refusal)


async def _gone(request: Request, _: Exception) -> Response:
    """Nobody reads this: for the log line and the counts, which would else tell of an error here."""
    return await refused(request, Refusal(499, "client_gone", "the client ended the connection"))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """A parameter or body of a project's own route that FastAPI refused."""
    return await refused(request, of_validation(error))
