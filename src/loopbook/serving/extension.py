"""The extension: a project's own routes and middleware, added to those of loopbook.

It decides what may be added, and refuses the rest when the service starts: a
route that shadows one of loopbook's, a WebSocket, which the guard cannot watch,
and code that raises. It never looks at a request.
"""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute, Mount, WebSocketRoute, compile_path

from loopbook.project.errors import ExtensionError
from loopbook.serving.exchange import answered, check_size, jobs_of

EXTEND = "extend"  # the function of the project's module
PARAMETER = re.compile(r"\{[^}]*\}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


async def predict_rows(request: Request, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Predictions for rows, as `POST /predict/batch` gives them, for a project's own route.

    Each row is checked by the contract, and its prediction is in the prediction
    log, with the route `own`, before this returns.

    Raises
    ------
    Refusal
        As for `/predict/batch`: 422 for a row that breaks the contract, 503
        without a version. A route lets it pass; the service answers with it.
    """
    service = request.app.state.service
    deployment = service.ready()
    check_size(service, rows)
    jobs = await jobs_of(service, deployment, rows, request, route="own", where="rows")
    return [answered(answer) for answer in await service.answer(jobs)]


def extend(app: FastAPI, name: str) -> None:
    """Let the module `name` of the project add routes and middleware.

    Its function `extend(app)` is called once. Its routes are FastAPI's usual ones.

    Raises
    ------
    ExtensionError
        If the module is missing or raises, or adds what may not be added.
    """
    before = list(app.routes)
    plain, app.router.route_class = app.router.route_class, APIRoute
    module: ModuleType | None = None
    try:
        module = importlib.import_module(name)
        getattr(module, EXTEND)(app)
        app.middleware_stack = app.build_middleware_stack()
        added = [route for route in app.routes if not any(route is b for b in before)]
        _check(app, before, added, name)
        if added:
            app.openapi()
    except ExtensionError:
        raise
    except (Exception, SystemExit) as error:
        raise ExtensionError(_sentence(error, name, module)) from None
    finally:
        app.router.route_class = plain


@dataclass(frozen=True)
class _Route:
    """What a route answers: its methods, and the paths that match `pattern`."""

    path: str
    methods: frozenset[str]
    pattern: re.Pattern[str]

    @property
    def sample(self) -> str:
        """A path that it answers."""
        return PARAMETER.sub("1", self.path)

    def meets(self, other: "_Route") -> bool:
        """Whether some request would be answered by either."""
        return bool(self.methods & other.methods) and bool(
            self.pattern.match(other.sample) or other.pattern.match(self.sample)
        )


def _routes(routes: Sequence[BaseRoute]) -> Iterator[_Route]:
    """HTTP routes with those of included routers; a mounted application answers all methods."""
    for route in iter_route_contexts(routes):
        is_mount = isinstance(route.original_route, Mount)
        path = f"{route.path}/{{path:path}}" if is_mount else (route.path or "")
        methods = METHODS if is_mount else frozenset(route.methods or ())
        yield _Route(path, methods, compile_path(path)[0])


def _check(app: FastAPI, ours: Sequence[BaseRoute], added: Sequence[BaseRoute], name: str) -> None:
    """Refuse what would not be answered, or not be guarded."""
    for route in iter_route_contexts(added):
        if isinstance(route.original_route, WebSocketRoute):
            raise ExtensionError(
                f"{name}: {route.path} is a WebSocket, which the guard cannot check (keys, limits, "
                "log lines). Use an HTTP route."
            )
    if app.router.on_startup or app.router.on_shutdown:
        raise ExtensionError(
            f"{name}: a handler of the event startup or shutdown would never be called. Do it in "
            f"{EXTEND}(app), which is called once before the first request."
        )
    taken = list(_routes(ours))
    clashes = [(o, t) for o in _routes(added) for t in taken if o.meets(t)]
    if clashes:
        faults = "\n".join(
            f"  {_named(own)} meets loopbook's {_named(theirs)}" for own, theirs in clashes[:5]
        )
        raise ExtensionError(
            f"{name}: {len(clashes)} of loopbook's routes would be shadowed, or shadow yours:\n"
            f"{faults}\nGive your route a path of its own, such as /own/…; all paths of loopbook "
            "are in docs/serving.md."
        )


def _named(route: _Route) -> str:
    return f"{', '.join(sorted(route.methods)) if route.methods != METHODS else '*'} {route.path}"


def _sentence(error: BaseException, name: str, module: ModuleType | None) -> str:
    """What went wrong in the project's module, and where, without a traceback."""
    remedy = f"Correct it and start the service again; without own routes, {EXTEND}(app) is empty."
    if isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "-"):
        file = Path(*name.split(".")).with_suffix(".py")
        return (
            f"{file}: is missing. Write it with a function {EXTEND}(app); docs/how-to.md has one."
        )
    if module and isinstance(error, AttributeError) and not hasattr(module, EXTEND):
        return f"{module.__file__}: has no function {EXTEND}(app). {remedy}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}. {remedy}"
    spec = sys.modules[name] if name in sys.modules else importlib.util.find_spec(name)
    origin = getattr(spec, "__file__", None) or getattr(spec, "origin", None) or name
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent == Path(origin).parent]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else origin
    return f"{where}: {type(error).__name__}: {error}. {remedy}"
