"""The application: what it is put together from, and what runs beside it."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from loopbook.data import prediction_log
from loopbook.features import store as feature_store
from loopbook.project.contract import read_contract
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.registry import reader as registry_reader
from loopbook.registry.state_store import StateStore
from loopbook.serving import api_keys, extension, open_inference, origins
from loopbook.serving.administration import add_administration, add_causes
from loopbook.serving.admission import Admission
from loopbook.serving.documentation import Document
from loopbook.serving.feedback import add_feedback
from loopbook.serving.guard import Guard
from loopbook.serving.health import add_health, add_metrics
from loopbook.serving.metrics import Metrics
from loopbook.serving.predictions import add_predictions
from loopbook.serving.routing import Plain, add_error_handlers
from loopbook.serving.service import Service
from loopbook.serving.versions import Parts


def create_app(
    project: Project,
    *,
    needs_keys: bool,
    quiet: bool = False,
    pinned: str | None = None,
    extension_module: str | None = None,
    bound_to: str = "localhost",
) -> Guard:
    """The service of a project as an ASGI application.

    Parameters
    ----------
    needs_keys, quiet : bool
        Whether every caller needs a key (`/admin` always does); whether to leave
        out the log line of a request.
    pinned : str or None
        The version that answers; None: the champion.
    extension_module : str or None
        The project's module with `extend(app)`, such as `serving.routes`.
    bound_to : str
        The address that the server listens on: one of the names of this service.

    Raises
    ------
    LoopbookError
        If the contract, env.yaml or an own route is wrong, or the log cannot be opened.
    """
    contract, knobs = read_contract(project.contract), read_knobs(project.knobs)
    metrics = Metrics()
    log = prediction_log.connect(project, contract)
    parts = Parts(
        contract=contract,
        knobs=knobs,
        registry=registry_reader.connect(tracking_address(project)),
        log=log,
        states=StateStore(log.database),
        features=feature_store.connect(project, contract, must_be_there=False)
        if contract.history
        else None,
        metrics=metrics,
        signers=project.signers if knobs.require_signature else None,
    )
    app = _application(project, Service(parts, pinned=pinned))
    if extension_module:
        extension.extend(app, extension_module)
    return Guard(
        app,
        metrics=metrics,
        knobs=knobs,
        origins=origins.origins(bound_to),
        admission=Admission(
            _keys(project),
            metrics,
            needs_keys=needs_keys,
            requests_per_second=knobs.serve_requests_per_second,
        ),
        quiet=quiet,
    )


def _application(project: Project, service: Service) -> FastAPI:
    """The application with loopbook's routes."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.gather(service.watcher.begin(), service.lookups.look())
        gc.collect()
        gc.freeze()  # what is there now stays; looking through it again would stop every answer
        every_s = service.knobs.serve_watch_s
        beside = (service.watcher.watch(), service.lookups.watch(every_s), service.shadows.run())
        tasks = [asyncio.create_task(work) for work in beside]
        yield
        for task in tasks:
            task.cancel()
        service.log.close()

    app = FastAPIOffline(
        title=service.contract.name,
        description=service.contract.meaning,
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # such a redirect would repeat whatever Host a caller names
        swagger_ui_parameters={"defaultModelsExpandDepth": 0, "tryItOutEnabled": True},
    )
    app.state.service = service  # for a project's own routes
    app.router.route_class = Plain
    for add in (add_predictions, add_health):
        add(app, service)
    add_feedback(app, service, project)
    add_administration(app, service, project)
    add_causes(app, service, project)
    add_metrics(app, service, project)
    open_inference.add_routes(app, service)
    app.openapi = Document(app, service)
    add_error_handlers(app)
    return app


def _keys(project: Project) -> Callable[[], api_keys.KeyStore]:
    """The store of API keys, opened when a key is first asked for."""
    store: list[api_keys.KeyStore] = []

    def keys() -> api_keys.KeyStore:
        if not store:
            store.append(api_keys.connect(project))
        return store[0]

    return keys
